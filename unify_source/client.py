"""Speaks HTTP: the key, retries, the request budget, and a status turned into an error."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

import orjson
import requests
from dlt.sources.helpers.requests import Session
from requests.auth import AuthBase
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_before_delay,
    wait_exponential_jitter,
)

from unify_source.errors import (
    ApiError,
    BrokenPage,
    KeyRefused,
    NotFound,
    RateLimited,
    RequestRefused,
    ServerFailed,
    Unreachable,
)
from unify_source.settings import ENROLLMENTS_PATH, Settings

Parameters = Sequence[tuple[str, str]]

BUDGET_SECONDS = 300.0
_OK, _FOUND, _BAD_REQUEST, _REFUSED, _TOO_MANY, _FAILED = 200, 300, 400, (401, 403), 429, 500
_NOT_FOUND = 404
_RETRIED = (RateLimited, ServerFailed, Unreachable, BrokenPage)
_BACKOFF = wait_exponential_jitter(initial=0.5, max=60, jitter=0.5)

# A quote inside a JSON string is always escaped, so these bytes are a key and never text.
_NEXT_CURSOR = re.compile(rb'"next_cursor"\s*:\s*(null|"(?:[^"\\]|\\.)*")')


class RequestBudget:
    """At most `limit` requests in any five minutes, shared by all threads that `wait` on it."""

    def __init__(self, limit: int) -> None:
        self._sent: deque[float] = deque(maxlen=limit)
        self._lock = threading.Lock()
        self._paused_until = 0.0

    def wait(self) -> None:
        """Return when the next request may be sent."""
        while (seconds := self._seconds_to_wait()) > 0:
            time.sleep(min(seconds, 1.0))

    def pause(self, seconds: float) -> None:
        """Let no request start for so many seconds: the server asked for it."""
        with self._lock:
            self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    def _seconds_to_wait(self) -> float:
        with self._lock:
            now = time.monotonic()
            free_at = self._paused_until
            if len(self._sent) == self._sent.maxlen:
                free_at = max(free_at, self._sent[0] + BUDGET_SECONDS)
            if free_at <= now:
                self._sent.append(now)
            return free_at - now


class Client:
    """Asks the list and single-enrollment endpoints, safely from many threads.

    Waits out 429, 5xx, broken connections and broken bodies with backoff and jitter, as
    `Retry-After` says where it is sent, until the retry budget is spent. Counts `requests`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._url = settings.base_url + ENROLLMENTS_PATH
        self._auth = _KeyAuth(settings.api_key)
        self._local = threading.local()
        self._budget = RequestBudget(settings.requests_per_5min)
        self._counted = threading.Lock()
        self.requests = 0

    def page(self, parameters: Parameters) -> tuple[bytes, str | None]:
        """Return one page's body and the cursor of the next page, None at the end.

        Raises an ApiError, or KeyRefused.
        """
        return self._retried(lambda: _page(self._answer("", parameters).content))

    def enrollment(self, enrollment_id: str) -> bytes | None:
        """Return one enrollment's JSON body, None where the API no longer has it."""
        try:
            return self._retried(lambda: self._answer(f"/{enrollment_id}", ()).content)
        except NotFound:
            return None

    def server_time(self) -> datetime:
        """Return the server's clock, in whole seconds rounded down, from the `Date` header.

        Raises BrokenPage where the header is missing: no window can be closed without it.
        """
        answer = self._retried(lambda: self._answer("", (("limit", "1"),)))
        sent = answer.headers.get("Date", "")
        try:
            return parsedate_to_datetime(sent).astimezone(timezone.utc)
        except ValueError:
            raise BrokenPage(
                f"The API's answer has no readable Date header ({sent!r}), so the window of"
                " changes to read cannot be closed at the server's clock.",
                "If a proxy stands between, let it pass the Date header.",
            ) from None

    def _retried(self, call: Any) -> Any:
        return Retrying(
            retry=retry_if_exception_type(_RETRIED),
            stop=stop_before_delay(self._settings.retry_budget),
            wait=self._pause,
            reraise=True,
        )(call)

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = getattr(error, "retry_after", None)
        if asked is None:
            return _BACKOFF(state)
        self._budget.pause(asked)
        return float(asked)

    def _answer(self, path: str, parameters: Parameters) -> requests.Response:
        self._budget.wait()
        with self._counted:
            self.requests += 1
        session = self._session()
        request = session.prepare_request(
            requests.Request("GET", self._url + path, params=list(parameters), auth=self._auth)
        )
        try:
            # A redirect would carry the key to another host: requests strips only Authorization.
            answer = session.send(request, allow_redirects=False, **self._local.environment)
        except requests.RequestException as error:
            raise _unreachable(error, self._settings) from None
        if answer.status_code != _OK:
            raise _error(answer)
        return answer

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            timeout = self._settings.request_timeout
            session = Session(timeout=(timeout, timeout), raise_for_status=False)
            session.headers["Accept"] = "application/json"
            self._local.environment = dict(
                session.merge_environment_settings(self._url, {}, None, None, None)
            )
            self._local.session = session
        return self._local.session  # type: ignore[no-any-return]


class _KeyAuth(AuthBase):
    # dlt and urllib3 print headers= when they log at DEBUG, but never an auth object.
    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["x-api-key"] = self._key
        return request


def _page(body: bytes) -> tuple[bytes, str | None]:
    cursors = _NEXT_CURSOR.findall(body)
    if len(cursors) == 1 and body.endswith(b"}"):
        return body, orjson.loads(cursors[0])
    return body, _next_cursor(_parsed_page(body))


def _parsed_page(body: bytes) -> dict[str, Any]:
    try:
        page = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BrokenPage(
            f"The API answered 200 with a body that is not JSON ({error}; {len(body)} bytes).",
            "Nothing is lost: run it again. If it stays so, a proxy may be answering instead.",
            status=_OK,
        ) from None
    if not isinstance(page, dict) or not isinstance(page.get("enrollments"), list):
        raise BrokenPage(
            "The API answered 200 with a page that has no list of enrollments.",
            "Nothing is lost: run it again. If it stays so, check base_url, or the API changed.",
            status=_OK,
        )
    return page


def _next_cursor(page: dict[str, Any]) -> str | None:
    cursor = page.get("next_cursor")
    if "next_cursor" not in page or not isinstance(cursor, (str, type(None))):
        raise BrokenPage(
            f"The API sent a page whose next_cursor is {type(cursor).__name__}, so there is no"
            " telling whether more pages follow.",
            "Nothing is lost: run it again. If it stays so, the API changed: please report it.",
            status=_OK,
        )
    return cursor


def _error(answer: requests.Response) -> Exception:
    status, said = answer.status_code, _said(answer)
    if status in _REFUSED:
        return KeyRefused(
            f"The API refused the key (HTTP {status}{said}).",
            "Check api_key: it may be mistyped, revoked, or of another workspace.",
        )
    if status == _TOO_MANY:
        return _with_retry_after(
            RateLimited(
                f"The API's rate limit was hit (HTTP 429{said}) and stayed so.",
                "Run it again later, or lower requests_per_5min: other programs share the quota.",
                status=status,
            ),
            answer,
        )
    if status >= _FAILED:
        return _with_retry_after(
            ServerFailed(
                f"The API failed (HTTP {status}{said}) and kept failing.",
                "Nothing is lost: run it again later.",
                status=status,
            ),
            answer,
        )
    if status < _BAD_REQUEST:
        return ApiError(
            f"The API answered HTTP {status} where 200 was expected.",
            "Check base_url: redirects are not followed, so that the key reaches no other host.",
            status=status,
        )
    return _refused(answer, said)


def _refused(answer: requests.Response, said: str) -> RequestRefused:
    codes = tuple(code for code, _ in _server_errors(answer))
    details = "; ".join(
        f"{code} at {path}" if path else code for code, path in _server_errors(answer)
    )
    kind = NotFound if answer.status_code == _NOT_FOUND else RequestRefused
    next_step = "Check the filters and times that were given."
    if any("cursor" in f"{code} {path}".lower() for code, path in _server_errors(answer)):
        next_step = "The cursor was refused on the way: run it again, the window is read anew."
    elif kind is NotFound:
        next_step = "Check base_url."
    return kind(
        f"The API refused the request (HTTP {answer.status_code}{said}"
        f"{': ' + details if details else ''}).",
        next_step,
        status=answer.status_code,
        codes=codes,
    )


def _server_errors(answer: requests.Response) -> list[tuple[str, str]]:
    errors = _json_object(answer).get("errors")
    found = [item for item in errors if isinstance(item, dict)] if isinstance(errors, list) else []
    return [
        (_short(item.get("code", "error")), _short(".".join(map(str, item.get("path") or ()))))
        for item in found[:5]
    ]


def _said(answer: requests.Response) -> str:
    message = _json_object(answer).get("message")
    return f", {_short(message)!r}" if isinstance(message, str) and message else ""


def _json_object(answer: requests.Response) -> dict[str, Any]:
    try:
        body = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _short(text: object) -> str:
    return " ".join(str(text).split())[:200]


def _with_retry_after(error: ApiError, answer: requests.Response) -> ApiError:
    error.retry_after = _retry_after(answer)
    return error


def _retry_after(answer: requests.Response) -> float | None:
    text = answer.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text):
        return float(text)
    try:
        at = parsedate_to_datetime(text)
        now = parsedate_to_datetime(answer.headers["Date"])
    except (ValueError, KeyError):
        return None
    return max(0.0, (at - now).total_seconds())


def _unreachable(error: requests.RequestException, settings: Settings) -> Unreachable:
    if isinstance(error, requests.Timeout):
        what = f"The API was silent for {settings.request_timeout:g} seconds"
        next_step = "Run it again, or raise request_timeout."
    elif isinstance(error, requests.exceptions.SSLError):
        what = "The API's certificate could not be verified"
        next_step = "Check base_url and this machine's certificates and clock."
    elif isinstance(error, requests.exceptions.ProxyError):
        what = "The proxy did not let the request through"
        next_step = "Check the environment variables HTTPS_PROXY and NO_PROXY."
    elif isinstance(error, requests.exceptions.ChunkedEncodingError):
        what = "The connection broke within an answer"
        next_step = "Nothing is lost: run it again."
    else:
        what = "There is no connection to the API"
        next_step = "Check base_url and this machine's network, then run it again."
    return Unreachable(f"{what} ({settings.base_url}).", next_step)
