"""What goes wrong between a client and an API, on demand."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus

from starlette.responses import Response

from unify_source.sandbox.account.instants import http_date
from unify_source.sandbox.http.answers import CutResponse, error
from unify_source.sandbox.invent.chance import dice

_HTML = "<html><body><h1>502 Bad Gateway</h1></body></html>"
_RETRY_DATE = timedelta(seconds=1)


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with requests, in the order of their arrival.

    The first `after` requests that it concerns are spared; each of the others is hit with
    probability `rate` (deterministic in `seed`), but at most `times` of them. `value` is the
    Retry-After of "429" (seconds, "date", or None for no header) or the seconds of "slow". Raises
    `ValueError` for an unknown kind (see `KINDS`), or a rate that is no probability.
    """

    kind: str
    rate: float = 1.0
    times: int | None = None
    after: int = 0
    seed: int = 0
    value: float | str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no such fault: {self.kind!r}; there are {', '.join(KINDS)}")
        if not 0 <= self.rate <= 1:
            raise ValueError(f"no such probability: {self.rate}; it is from 0 to 1")


@dataclass(frozen=True)
class Situation:
    """What a fault knows about the request that it breaks: its cursor, and the server's time."""

    cursor: str | None
    now: datetime


Spoil = Callable[[Response, Fault, Situation], Response]


class Armed:
    """An active fault: counts the requests that it has seen and hit."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._rng = dice("fault", fault.kind, fault.seed)
        self._seen = 0
        self._hit = 0

    def hits(self, cursor: str | None) -> bool:
        """Tell whether this request is hit."""
        fault = self.fault
        if fault.kind in _CURSOR_ONLY and cursor is None:
            return False
        self._seen += 1
        is_due = self._seen > fault.after and self._rng.random() < fault.rate
        if not is_due or self._hit == fault.times:
            return False
        self._hit += 1
        return True


def strike(armed: Sequence[Armed], cursor: str | None) -> list[Fault]:
    """Return the faults that hit a request: all that delay or alter it, the first that replaces."""
    hit = [one.fault for one in armed if one.hits(cursor)]
    # A response cannot be two errors; it can be both late and an error.
    replacing = [fault for fault in hit if fault.kind not in _ALTERING]
    return [fault for fault in hit if fault.kind in _ALTERING] + replacing[:1]


def delay(hit: Sequence[Fault]) -> float:
    """Return the seconds by which faults delay a response."""
    return sum(float(fault.value or 0) for fault in hit if fault.kind == "slow")


def spoiled(answer: Response, hit: Sequence[Fault], situation: Situation) -> Response:
    """Return what arrives instead of the response."""
    for fault in hit:
        answer = KINDS[fault.kind](answer, fault, situation)
    return answer


def _too_many(_answer: Response, fault: Fault, situation: Situation) -> Response:
    refusal = error(429)
    if fault.value == "date":
        refusal.headers["retry-after"] = http_date(situation.now + _RETRY_DATE)
    elif fault.value is not None:
        refusal.headers["retry-after"] = str(fault.value)
    return refusal


def _failed(_answer: Response, fault: Fault, _situation: Situation) -> Response:
    return error(int(fault.kind))


def _bad_gateway(_answer: Response, _fault: Fault, _situation: Situation) -> Response:
    return Response(_HTML, 502, media_type="text/html")


def _cut_before(answer: Response, _fault: Fault, _situation: Situation) -> Response:
    return CutResponse(answer, None)


def _cut_within(answer: Response, _fault: Fault, _situation: Situation) -> Response:
    return CutResponse(answer, 0.5)


def _truncated(answer: Response, _fault: Fault, _situation: Situation) -> Response:
    # With the matching Content-Length: HTTP sees nothing wrong, but the JSON ends too soon.
    half = bytes(answer.body[: len(answer.body) // 2])
    return Response(half, answer.status_code, media_type="application/json")


def _not_json(_answer: Response, _fault: Fault, _situation: Situation) -> Response:
    # As from a captive portal or a company's proxy, with status 200.
    return Response("<html><body>Please log in</body></html>", media_type="text/html")


def _no_list(_answer: Response, _fault: Fault, _situation: Situation) -> Response:
    return Response(b'{"next_cursor":null}', media_type="application/json")


def _repeat_cursor(answer: Response, _fault: Fault, situation: Situation) -> Response:
    if answer.status_code != HTTPStatus.OK:
        return answer
    # An endless list, as other APIs have had: their clients made 170,000 requests in a minute.
    body = json.loads(bytes(answer.body)) | {"next_cursor": situation.cursor}
    return Response(json.dumps(body), answer.status_code, media_type="application/json")


def _bad_cursor(_answer: Response, _fault: Fault, _situation: Situation) -> Response:
    return error(400, errors=[{"code": "invalid_cursor", "path": ["cursor"]}])


def _untouched(answer: Response, _fault: Fault, _situation: Situation) -> Response:
    return answer


KINDS: dict[str, Spoil] = {
    "429": _too_many,
    "500": _failed,
    "400": _failed,
    "401": _failed,
    "502_html": _bad_gateway,
    "cut_before": _cut_before,
    "cut_within": _cut_within,
    "truncated_json": _truncated,
    "not_json": _not_json,
    "no_list": _no_list,
    "repeat_cursor": _repeat_cursor,
    "bad_cursor": _bad_cursor,
    "slow": _untouched,
    "no_date": _untouched,
}
_CURSOR_ONLY = ("repeat_cursor", "bad_cursor")
_ALTERING = ("repeat_cursor", "slow", "no_date")
