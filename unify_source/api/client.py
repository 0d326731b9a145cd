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
from unify_source.api.responses import (
    FORBIDDEN,
    GONE,
    OK,
    TOO_MANY,
    Page,
    error_of,
    is_row,
    page_of,
    retry_after,
    unreachable,
)
from unify_source.errors import (
    ApiError,
    BrokenPage,
    ConfigurationError,
    RateLimited,
    RowUnavailable,
    ServerFailed,
    UnifyError,
    Unreachable,
)
from unify_source.resources import KEY, Resource
from unify_source.settings import Settings

Parameters = Sequence[tuple[str, str]]
Answer = TypeVar("Answer")

_RETRIED = (RateLimited, ServerFailed, Unreachable, BrokenPage)
_TOLD_EVERY = 15.0
_HEARTBEAT_SECONDS = 0.5
_log = logging.getLogger(__name__)
_BACKOFF = wait_random_exponential(multiplier=1, max=60)
_LEAST_ASKED = 1.0
_ROW_SECONDS = 5.0
_LEFT_ALONE = "It is left as it is, and the next run asks for it again."


class Client:
    """Asks for pages of a list and for single rows, safely from many threads.

    Waits out 429, 5xx, broken connections and broken bodies with backoff and jitter, as
    `Retry-After` says where it is sent, until the retry budget is spent. Counts `requests`.
    `heartbeat` is called at least twice a second while one waits, and may end the wait by raising.
    Raises ConfigurationError for a proxy or certificates of the environment that cannot be used.
    """

    def __init__(self, settings: Settings, heartbeat: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._heartbeat = heartbeat
        self._line = _Line(settings)
        self._budget = RequestBudget(settings.requests_per_5min)
        self._counted = threading.Lock()
        self._told = time.monotonic() - _TOLD_EVERY
        self.requests = 0

    def page(self, resource: Resource, parameters: Parameters) -> Page:
        """Return one page of a list. Raises an ApiError, or KeyRefused."""
        return self._attended(lambda: self._page(resource, parameters))

    def pages(self, resource: Resource, stopped: threading.Event) -> Callable[[Parameters], Page]:
        """Return `page` for workers that may be stopped: once they are, nothing is tried again."""
        retrying = self._retrying_until(stopped, self._settings.retry_budget)
        return lambda parameters: retrying(self._page, resource, parameters)

    def row(self, resource: Resource, key: str) -> bytes | None:
        """Return the JSON of the row with an id, None where the API no longer has it.

        Takes seconds, whatever the retry budget. Raises RowUnavailable where this row cannot be
        had, for any reason but a refused key: KeyRefused.
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

    def _attended(self, ask: Callable[[], Answer], budget: float | None = None) -> Answer:
        """Ask in a thread of its own: nothing else ends the wait for a server that is silent."""
        stopped = threading.Event()
        retrying = self._retrying_until(stopped, budget or self._settings.retry_budget)
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

    def _retrying_until(self, stopped: threading.Event, budget: float) -> Retrying:
        return Retrying(
            retry=retry_if_exception_type(_RETRIED),
            stop=stop_any(stop_before_delay(budget), stop_when_event_set(stopped)),
            wait=_pause,
            sleep=sleep_using_event(stopped),
            before_sleep=self._tell,
            reraise=True,
        )

    def _time(self, resource: Resource) -> datetime:
        answer = self._accepted(self._answer(resource.path, (("limit", "1"),)))
        sent = answer.headers.get("Date", "")
        try:
            return parsedate_to_datetime(sent).astimezone(timezone.utc)
        except ValueError:
            raise BrokenPage(
                f"The API's answer has no readable Date header ({sent!r}), so the window of"
                " changes to read cannot be closed at the server's clock.",
                "If a proxy stands between, let it pass the Date header.",
            ) from None

    def _page(self, resource: Resource, parameters: Parameters) -> Page:
        answer = self._accepted(self._answer(resource.path, parameters))
        return page_of(answer.data, resource.list_key)

    def _row(self, resource: Resource, key: str) -> bytes | None:
        if not key.strip("."):
            # As a step of a path it would be another address.
            raise _unavailable(resource, key, "No address can be made of its id.")
        timeout = min(_ROW_SECONDS, self._settings.request_timeout)
        answer = self._answer(f"{resource.path}/{quote(key, safe='')}", (), timeout)
        if answer.status in GONE:
            return None
        if answer.status == FORBIDDEN:
            # The list is open to the key: it is this row that is not.
            raise _unavailable(resource, key, "The API answered HTTP 403.", FORBIDDEN)
        body = self._accepted(answer).data
        if not is_row(body, KEY, key):
            raise BrokenPage(
                "The API answered 200 with something other than the row.", _LEFT_ALONE, status=OK
            )
        return body

    def _tell(self, state: RetryCallState) -> None:
        now, error = time.monotonic(), _error_in(state)
        if isinstance(error, UnifyError) and state.next_action and now >= self._told + _TOLD_EVERY:
            self._told = now
            _log.warning("%s Trying again in %.0f s.", error.what, state.next_action.sleep)

    def _accepted(self, answer: BaseHTTPResponse) -> BaseHTTPResponse:
        if answer.status != OK:
            raise error_of(answer, self._settings.api_key)
        return answer

    def _answer(
        self, path: str, parameters: Parameters, timeout: float | None = None
    ) -> BaseHTTPResponse:
        timeout = timeout or self._settings.request_timeout
        self._budget.wait()
        with self._counted:
            self.requests += 1
        try:
            answer = self._line.get(path, parameters, timeout)
        except HTTPError as error:
            raise unreachable(error, self._settings.base_url, timeout) from None
        if answer.status == TOO_MANY:
            self._budget.refused(retry_after(answer))
        elif answer.status == OK:
            self._budget.answered()
        return answer


class _Line(HTTPAdapter):
    """A connection for each worker, kept from window to window, all with settings found once."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(pool_maxsize=settings.workers)
        url = settings.base_url
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
        self._url = self.request_url(request, proxies).rstrip("/")
        self._headers = dict(request.headers)

    def get(self, path: str, parameters: Parameters, timeout: float) -> BaseHTTPResponse:
        """Send one GET and read the whole answer."""
        # A session would add cookies, hooks, and redirects, which carry the key to other hosts; it
        # takes longer for a page than the server, and reads it in steps of 10 kB.
        answer: BaseHTTPResponse = self._pool.urlopen(
            "GET",
            f"{self._url}{path}?{urlencode(parameters)}",
            headers=self._headers,
            retries=False,
            redirect=False,
            timeout=Timeout(connect=timeout, read=timeout),
        )
        return answer


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


class _KeyAuth(AuthBase):
    # dlt and urllib3 print headers= when they log at DEBUG, but never an auth object.
    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["x-api-key"] = self._key
        return request
