"""The API's endpoints as an ASGI application: each list, and each of its rows by id."""

import asyncio
import contextlib
import hmac
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import parse_qsl

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from unify_source.sandbox.account.account import Account
from unify_source.sandbox.account.instants import http_date
from unify_source.sandbox.account.query import Query
from unify_source.sandbox.http import answers, faults, parameters
from unify_source.sandbox.invent.drift import Reshape
from unify_source.sandbox.invent.rows import decode, encode

_LISTS = {f"/sequences/v1/{listing}": listing for listing in parameters.PARAMETERS}
# Unify documents a budget for five minutes. A limit per second is reached far sooner, so a test
# shows how a client handles its 429.
_BURST = 0.1
_LEAST_BURST = 5.0


@dataclass
class Request:
    """A request that arrived; `status` is 0 until it is answered, and stays 0 if it is cut off."""

    path: str
    query: list[tuple[str, str]]
    at: datetime
    status: int = 0

    @property
    def cursor(self) -> str | None:
        """The cursor of the request."""
        return next((value for name, value in self.query if name == "cursor"), None)


@dataclass(frozen=True)
class Behaviour:
    """How the server behaves towards its clients. Times in seconds."""

    key: str = "sandbox-key"
    order: str = "updated"
    cursor: str = "keyset"
    latency: float = 0.0
    on_request: Callable[[Request], None] | None = None
    rate_limit: float | None = None
    reshape: Mapping[str, Reshape] = field(default_factory=dict)


class Bucket:
    """A budget of requests per second, which stores a tenth of a second's worth, at least 5."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rate = rate
        self._size = max(_LEAST_BURST, rate * _BURST)
        self._left = self._size
        self._at = clock()

    def wait(self) -> float:
        """Take one request and return 0, or return the seconds until there is one."""
        now = self._clock()
        self._left = min(self._size, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return (1 - self._left) / self._rate
        self._left -= 1
        return 0.0


class App:
    """Answers as the API does, but breaks responses as the `armed` faults demand."""

    def __init__(self, account: Account, behaviour: Behaviour) -> None:
        self.requests: list[Request] = []
        self.armed: Sequence[faults.Armed] = ()
        self._account = account
        self._behaviour = behaviour
        self._bucket = Bucket(behaviour.rate_limit) if behaviour.rate_limit else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        clock = self._account.clock
        clock.count_request()
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        request = Request(scope["path"], query, clock.now())
        self.requests.append(request)
        if self._behaviour.on_request:
            self._behaviour.on_request(request)
        hit = faults.strike(self.armed, request.cursor)
        wait = self._behaviour.latency + faults.delay(hit)
        if wait and await _has_left(receive, within=wait):
            return
        answer = self._answer(scope, request)
        answer = faults.spoiled(answer, hit, faults.Situation(request.cursor, clock.now()))
        if not any(fault.kind == "no_date" for fault in hit):
            answer.headers["date"] = http_date(clock.now())
        request.status = 0 if isinstance(answer, answers.CutResponse) else answer.status_code
        await answer(scope, receive, send)

    def _answer(self, scope: Scope, request: Request) -> Response:
        key = dict(scope["headers"]).get(b"x-api-key", b"")
        # Before the rate limit and all other checks, so that a wrong key reveals nothing.
        if not hmac.compare_digest(key, self._behaviour.key.encode()):
            return answers.error(401)
        if self._bucket and (wait := self._bucket.wait()):
            refusal = answers.error(429)
            # In whole seconds, as HTTP requires, so a client that obeys it waits longer than
            # necessary. The API documents no other header about its quota.
            refusal.headers["retry-after"] = str(math.ceil(wait))
            return refusal
        try:
            return self._route(scope["method"], request)
        except parameters.RefusedError as refused:
            return answers.error(400, errors=refused.problems)

    def _route(self, method: str, request: Request) -> Response:
        start, _, name = request.path.rpartition("/")
        listing = _LISTS.get(request.path) or (_LISTS.get(start) if name else None)
        if not listing:
            return answers.error(404)
        if method != "GET":
            return answers.error(405)
        if request.path in _LISTS:
            return self._page(listing, request)
        row = self._account.json(parameters.listed_id(name), listing)
        return answers.single(self._reshaped(listing, row)) if row else answers.error(404)

    def _page(self, listing: str, request: Request) -> Response:
        start = Query(listing, self._behaviour.order, self._behaviour.cursor)
        rows, cursor = self._account.page(parameters.query(request.query, start))
        return answers.page(listing, [self._reshaped(listing, row) for row in rows], cursor)

    def _reshaped(self, listing: str, row: bytes) -> bytes:
        reshape = self._behaviour.reshape.get(listing)
        return encode(reshape(decode(row))) if reshape else row


async def _has_left(receive: Receive, *, within: float) -> bool:
    """Wait, and tell whether the client has hung up meanwhile."""
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(_departure(receive), within)
        return True
    return False


async def _departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
