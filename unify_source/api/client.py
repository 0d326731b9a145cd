"""Speaks HTTP: the key, retries, the request budget, and a status turned into an error."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import requests
from dlt.sources.helpers.requests import Session
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
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
from urllib3 import BaseHTTPResponse, Timeout
from urllib3.exceptions import HTTPError

from unify_source.api.budget import RequestBudget
from unify_source.api.responses import OK, TOO_MANY, error_of, next_cursor, retry_after, unreachable
from unify_source.errors import (
    BrokenPage,
    ConfigurationError,
    NotFound,
    RateLimited,
    ServerFailed,
    UnifyError,
    Unreachable,
)
from unify_source.settings import ENROLLMENTS_PATH, Settings

Parameters = Sequence[tuple[str, str]]
Page = tuple[bytes, str | None]
Answer = TypeVar("Answer")

_RETRIED = (RateLimited, ServerFailed, Unreachable, BrokenPage)
_TOLD_EVERY = 15.0
_HEARTBEAT_SECONDS = 0.5
_log = logging.getLogger(__name__)
_BACKOFF = wait_random_exponential(multiplier=1, max=60)
_LEAST_ASKED = 1.0


class Client:
    """Asks the list and single-enrollment endpoints, safely from many threads.

    Waits out 429, 5xx, broken connections and broken bodies with backoff and jitter, as
    `Retry-After` says where it is sent, until the retry budget is spent. Counts `requests`.
    `heartbeat` is called at least twice a second while one waits, and may end the wait by raising.
    Raises ConfigurationError for a proxy or certificates of the environment that cannot be used.
    """

    def __init__(self, settings: Settings, heartbeat: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._heartbeat = heartbeat
        self._line = _Line(settings)
        self._patience = stop_before_delay(settings.retry_budget)
        self._retrying = Retrying(
            retry=retry_if_exception_type(_RETRIED),
            stop=self._patience,
            wait=_pause,
            before_sleep=self._tell,
            reraise=True,
        )
        self._budget = RequestBudget(settings.requests_per_5min)
        self._counted = threading.Lock()
        self._told = time.monotonic() - _TOLD_EVERY
        self.requests = 0

    def page(self, parameters: Parameters) -> Page:
        """Return one page's body and the cursor of the next page, None at the end.

        Raises an ApiError, or KeyRefused.
        """
        return self._attended(lambda: self._page(parameters))

    def pages(self, stopped: threading.Event) -> Callable[[Parameters], Page]:
        """Return `page` for workers that may be stopped: once they are, nothing is tried again."""
        retrying = self._retrying_until(stopped)
        return lambda parameters: retrying(self._page, parameters)

    def enrollment(self, enrollment_id: str) -> bytes | None:
        """Return one enrollment's JSON body, None where the API no longer has it."""
        try:
            path = f"/{quote(enrollment_id, safe='')}"
            return self._attended(lambda: self._answer(path, ()).data)
        except NotFound:
            return None

    def server_time(self) -> datetime:
        """Return the server's clock, in whole seconds rounded down, from the `Date` header.

        Raises BrokenPage where the header is missing: no window can be closed without it.
        """
        return self._attended(self._time)

    def _attended(self, ask: Callable[[], Answer]) -> Answer:
        """Ask in a thread of its own: nothing else ends the wait for a server that is silent."""
        stopped = threading.Event()
        retrying = self._retrying_until(stopped)
        answer: Future[Answer] = Future()

        def work() -> None:
            try:
                answer.set_result(retrying(ask))
            except Exception as error:  # noqa: BLE001 - raised again where the answer is waited for
                answer.set_exception(error)

        self._heartbeat()
        threading.Thread(target=work, name="asking", daemon=True).start()
        try:
            while not wait([answer], _HEARTBEAT_SECONDS).done:
                self._heartbeat()
            return answer.result()
        finally:
            stopped.set()

    def _retrying_until(self, stopped: threading.Event) -> Retrying:
        return self._retrying.copy(
            stop=stop_any(self._patience, stop_when_event_set(stopped)),
            sleep=sleep_using_event(stopped),
        )

    def _time(self) -> datetime:
        sent = self._answer("", (("limit", "1"),)).headers.get("Date", "")
        try:
            return parsedate_to_datetime(sent).astimezone(timezone.utc)
        except ValueError:
            raise BrokenPage(
                f"The API's answer has no readable Date header ({sent!r}), so the window of"
                " changes to read cannot be closed at the server's clock.",
                "If a proxy stands between, let it pass the Date header.",
            ) from None

    def _page(self, parameters: Parameters) -> Page:
        body = self._answer("", parameters).data
        return body, next_cursor(body)

    def _tell(self, state: RetryCallState) -> None:
        now, error = time.monotonic(), _error_in(state)
        if isinstance(error, UnifyError) and state.next_action and now >= self._told + _TOLD_EVERY:
            self._told = now
            _log.warning("%s Trying again in %.0f s.", error.what, state.next_action.sleep)

    def _answer(self, path: str, parameters: Parameters) -> BaseHTTPResponse:
        self._budget.wait()
        with self._counted:
            self.requests += 1
        try:
            answer = self._line.get(path, parameters)
        except HTTPError as error:
            timeout = self._settings.request_timeout
            raise unreachable(error, self._settings.base_url, timeout) from None
        if answer.status == TOO_MANY:
            self._budget.refused(retry_after(answer))
        if answer.status != OK:
            raise error_of(answer, self._settings.api_key)
        self._budget.answered()
        return answer


class _Line(HTTPAdapter):
    """A connection for each worker, kept from window to window, all with settings found once."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(pool_maxsize=settings.workers)
        url = settings.base_url + ENROLLMENTS_PATH
        session = Session(raise_for_status=False)
        session.headers["Accept"] = "application/json"
        request = session.prepare_request(
            requests.Request("GET", url, auth=_KeyAuth(settings.api_key))
        )
        how = session.merge_environment_settings(url, {}, False, None, None)
        verify, cert, proxies = how["verify"], how["cert"], how["proxies"]
        try:
            self._pool: Any = self.get_connection_with_tls_context(request, verify, proxies, cert)
            self.cert_verify(self._pool, url, verify, cert)  # type: ignore[no-untyped-call]
        except (requests.RequestException, HTTPError, TypeError, UnicodeError):
            # A TypeError for one without a host. The error may hold the password of its address.
            raise ConfigurationError(
                "The proxy that the environment names has no host, or is of a kind that is not"
                " supported.",
                "Check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY; SOCKS needs requests[socks].",
            ) from None
        except OSError as error:
            raise ConfigurationError(
                f"{error}.",
                "Check the environment variables REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE.",
            ) from None
        self._url = self.request_url(request, proxies)
        self._headers = dict(request.headers)
        self._timeout = Timeout(connect=settings.request_timeout, read=settings.request_timeout)

    def get(self, path: str, parameters: Parameters) -> BaseHTTPResponse:
        """Send one GET and read the whole answer."""
        # A session would add cookies, hooks, and redirects, which carry the key to other hosts; it
        # takes longer for a page than the server, and reads it in steps of 10 kB.
        answer: BaseHTTPResponse = self._pool.urlopen(
            "GET",
            f"{self._url}{path}?{urlencode(parameters)}",
            headers=self._headers,
            retries=False,
            redirect=False,
            timeout=self._timeout,
        )
        return answer


def _pause(state: RetryCallState) -> float:
    asked: float = getattr(_error_in(state), "retry_after", None) or 0.0
    # Some servers send a 0, or a date that has passed.
    if asked < _LEAST_ASKED:
        return max(asked, _BACKOFF(state))
    return asked + wait_random(0, min(asked / 10, 1.0))(state)


def _error_in(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


class _KeyAuth(AuthBase):
    # dlt and urllib3 print headers= when they log at DEBUG, but never an auth object.
    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["x-api-key"] = self._key
        return request
