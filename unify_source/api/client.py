"""The API's client: retries within a time budget, all requests within the request budget."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from datetime import datetime
from typing import TypeVar
from urllib.parse import quote

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_any,
    stop_before_delay,
    stop_when_event_set,
    wait_random,
    wait_random_exponential,
)

from unify_source.api.budget import RequestBudget
from unify_source.api.connection import Connection, Parameters
from unify_source.api.http_dates import http_date
from unify_source.api.pages import Page, is_row, page_of
from unify_source.api.responses import (
    GONE,
    OK,
    REFUSED,
    TOO_MANY,
    Response,
    error_of,
    retry_after,
)
from unify_source.common.errors import (
    ApiError,
    BrokenPage,
    RateLimited,
    RowUnavailable,
    ServerFailed,
    UnifyError,
    Unreachable,
)
from unify_source.common.resources import KEY, Resource
from unify_source.common.settings import Settings
from unify_source.common.settings.privacy import KEEP

Result = TypeVar("Result")

_RETRIED = (RateLimited, ServerFailed, Unreachable, BrokenPage)
_WARN_EVERY = 15.0
_HEARTBEAT_SECONDS = 0.5
_log = logging.getLogger(__name__)
_BACKOFF = wait_random_exponential(multiplier=1, max=60)
_LEAST_ASKED = 1.0
_ROW_SECONDS = 5.0
_LEFT_ALONE = "It is left as it is, and the next run asks for it again."


class Client:
    """Requests pages of a list and single rows, safely from many threads.

    Retries 429, 5xx, broken connections and broken bodies with backoff and jitter, or as
    `Retry-After` says, until the retry budget is spent. Counts `requests`, how many of them were
    `retries`, and how many the API answered with 429 (`rate_limited`). Calls `heartbeat` at least
    twice a second while it waits; raising there ends the wait. Raises ConfigurationError if the
    environment's proxy or certificates cannot be used.
    """

    def __init__(self, settings: Settings, heartbeat: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._heartbeat = heartbeat
        self._connection = Connection(settings)
        self._budget = RequestBudget(settings.requests_per_5min)
        self._counted = threading.Lock()
        self._warned_at = time.monotonic() - _WARN_EVERY
        self._broken: set[int] = set()
        self.requests = self.retries = self.rate_limited = 0

    def page(self, resource: Resource, parameters: Parameters, budget: float | None = None) -> Page:
        """Return one page of a list, retried for `budget` seconds, or for the retry budget.

        Raises an ApiError, or KeyRefused.
        """
        return self._attended(lambda: self._page(resource, parameters), budget)

    def pages(self, resource: Resource, stopped: threading.Event) -> Callable[[Parameters], Page]:
        """Return `page` for workers that may be stopped: then nothing is retried."""
        retrying = self._retrying_until(stopped, self._settings.retry_budget)
        return lambda parameters: retrying(self._page, resource, parameters)

    def row(self, resource: Resource, key: str) -> bytes | None:
        """Return the JSON of the row with an id, None where the API no longer has it.

        Takes seconds, whatever the retry budget. Raises RowUnavailable if this row cannot be read,
        for any reason.
        """
        try:
            return self._attended(
                lambda: self._row(resource, key), min(_ROW_SECONDS, self._settings.retry_budget)
            )
        except RowUnavailable:
            raise
        except ApiError as error:
            raise _unavailable(resource, key, error.what, error.status) from None

    def server_time(self, resource: Resource) -> datetime:
        """Return the server's clock, in whole seconds rounded down, from the `Date` header.

        Raises BrokenPage where the header is missing: no window can be closed without it.
        """
        return self._attended(lambda: self._time(resource))

    def _attended(self, ask: Callable[[], Result], budget: float | None = None) -> Result:
        """Ask in another thread: nothing else could end the wait for a silent server."""
        stopped = threading.Event()
        retrying = self._retrying_until(stopped, budget or self._settings.retry_budget)
        result: Future[Result] = Future()

        def work() -> None:
            try:
                result.set_result(retrying(ask))
            except Exception as error:  # noqa: BLE001 - raised again in the waiting thread
                result.set_exception(error)

        self._heartbeat()
        threading.Thread(target=work, name="request", daemon=True).start()
        try:
            while not wait([result], _HEARTBEAT_SECONDS).done:
                self._heartbeat()
            return result.result()
        finally:
            stopped.set()

    def _retrying_until(self, stopped: threading.Event, budget: float) -> Retrying:
        return Retrying(
            retry=retry_if_exception_type(_RETRIED),
            stop=stop_any(stop_before_delay(budget), stop_when_event_set(stopped)),
            wait=_pause,
            sleep=sleep_using_event(stopped),
            before_sleep=self._note_retry,
            reraise=True,
        )

    def _time(self, resource: Resource) -> datetime:
        response = self._accepted(self._send(resource.path, (("limit", "1"),)))
        sent = response.headers.get("Date", "")
        now = http_date(sent)
        if now is None:
            raise BrokenPage(
                f"The API's response has no readable Date header ({sent[:100]!r}), so the window of"
                " changes to read cannot be closed at the server's clock.",
                "If a proxy is in between, let it pass the Date header.",
            )
        return now

    def _page(self, resource: Resource, parameters: Parameters) -> Page:
        response = self._accepted(self._send(resource.path, parameters))
        date, limits = response.headers.get("Date", ""), self._settings.limits
        # Damage on the way does not come twice, letter by letter. Only a broken body is hashed.
        is_known = bool(self._broken) and hash(response.body) in self._broken
        try:
            return page_of(response.body, resource.list_key, limits, date, is_known=is_known)
        except BrokenPage:
            self._broken.add(hash(response.body))
            raise

    def _row(self, resource: Resource, key: str) -> bytes | None:
        if not key.strip("."):
            # In a path, "." and ".." lead to another address.
            raise _unavailable(resource, key, "Its id cannot be part of an address.")
        timeout = min(_ROW_SECONDS, self._settings.request_timeout)
        response = self._send(f"{resource.path}/{quote(key, safe='')}", (), timeout)
        if response.status in GONE:
            return None
        if response.status in REFUSED:
            # The key may read the list, so only this row is refused. If the key has just been
            # revoked, the next page of the list is refused too.
            what = f"The API answered HTTP {response.status}."
            raise _unavailable(resource, key, what, response.status)
        body = self._accepted(response).body
        if not is_row(body, KEY, key):
            raise BrokenPage(
                "The API answered 200 with something other than the row.", _LEFT_ALONE, status=OK
            )
        return body

    def _note_retry(self, state: RetryCallState) -> None:
        now, error = time.monotonic(), _error_in(state)
        with self._counted:
            self.retries += 1
        if (
            isinstance(error, UnifyError)
            and state.next_action
            and now >= self._warned_at + _WARN_EVERY
        ):
            self._warned_at = now
            seconds = math.ceil(state.next_action.sleep)
            _log.warning("%s Trying again in %d s.", error.what, seconds)

    def _accepted(self, response: Response) -> Response:
        if response.status != OK:
            # The server's own words may name a person.
            is_quoted = self._settings.pii == KEEP
            raise error_of(response, self._settings.api_key, is_quoted=is_quoted)
        return response

    def _send(self, path: str, parameters: Parameters, timeout: float | None = None) -> Response:
        timeout = timeout or self._settings.request_timeout
        self._budget.wait()
        with self._counted:
            self.requests += 1
        response = self._connection.get(path, parameters, timeout)
        if response.status == TOO_MANY:
            with self._counted:
                self.rate_limited += 1
            # All workers pause, no longer than the retry budget: a server may ask for a year.
            asked = min(retry_after(response) or 0.0, self._settings.retry_budget)
            self._budget.refused(asked)
        elif response.status == OK:
            self._budget.answered()
        return response


def _unavailable(
    resource: Resource, key: str, reason: str, status: int | None = None
) -> RowUnavailable:
    what = f"The row {key[:100]!r} of {resource.name} could not be read: {reason}"
    return RowUnavailable(what, _LEFT_ALONE, status=status)


def _pause(state: RetryCallState) -> float:
    asked: float = getattr(_error_in(state), "retry_after", None) or 0.0
    # Some servers send a 0, or a date that has passed.
    if asked < _LEAST_ASKED:
        return max(asked, _BACKOFF(state))
    return asked + wait_random(0, min(asked / 10, 1.0))(state)


def _error_in(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
