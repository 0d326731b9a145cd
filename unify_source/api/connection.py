"""One connection for each worker: TLS, proxies, the key, and the limits of a response.

The head of a response is limited to 256 kB, its body and its time by the settings: a malicious or
broken server may send without end.
"""

from __future__ import annotations

import io
import time
import zlib
from collections.abc import Sequence
from http.client import CONTINUE, OK, SWITCHING_PROTOCOLS, HTTPException, HTTPResponse
from typing import Any, ClassVar
from urllib.parse import urlencode

import requests
from dlt.sources.helpers.requests import Session
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3 import BaseHTTPResponse, Timeout
from urllib3.exceptions import DecodeError, HTTPError, ProtocolError

from unify_source.api.responses import Response
from unify_source.api.unreachable import ForeignEncoding, too_slow, unreachable
from unify_source.common.errors import ApiError, ConfigurationError, TooLarge, Unreachable
from unify_source.common.settings import Settings
from unify_source.common.settings.values import is_loopback

Parameters = Sequence[tuple[str, str]]

HEAD_LIMIT = 256 << 10
# A whole response may take this many times the longest silence between two bytes.
_PATIENCE = 3
_STEP = 1 << 20


class Connection(HTTPAdapter):
    """Sends GETs from many threads; the environment names the proxy and the certificates.

    Raises ConfigurationError if they cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(pool_maxsize=settings.workers)
        self._base_url = settings.base_url
        session = Session(raise_for_status=False)
        session.headers.update({"Accept": "application/json", "Accept-Encoding": "gzip"})
        request = session.prepare_request(
            requests.Request("GET", settings.base_url, auth=_KeyAuth(settings.api_key))
        )
        self._headers = dict(request.headers)
        self._pool = self._open(session, request)
        self._path = request.path_url.rstrip("/")
        self._most = settings.limits.max_body_bytes
        longest = settings.limits.max_response_seconds
        own = {
            "retry_budget": settings.retry_budget,
            "patience": longest / settings.request_timeout if longest else _PATIENCE,
            "most": self._most,
        }
        reply = type("Reply", (_Reply,), own)
        kind = self._pool.ConnectionCls
        self._pool.ConnectionCls = type("Bounded", (kind,), {"response_class": reply})

    def _open(self, session: Session, request: requests.PreparedRequest) -> Any:
        url = request.url or ""
        how = session.merge_environment_settings(url, {}, False, None, None)
        verify, cert, proxies = how["verify"], how["cert"], how["proxies"]
        if is_loopback(url):
            # A proxy would take "localhost" for its own machine, and see the key in plain http.
            proxies = {}
        try:
            pool = self.get_connection_with_tls_context(request, verify, proxies, cert)
            self.cert_verify(pool, url, verify, cert)  # type: ignore[no-untyped-call]
        except (requests.RequestException, HTTPError, TypeError, UnicodeError):
            # A TypeError means an address without a host. The error may quote its password.
            raise ConfigurationError(
                "The environment names a proxy without a host, or of an unsupported kind.",
                "Check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY; SOCKS needs requests[socks].",
            ) from None
        except OSError as error:
            raise ConfigurationError(
                f"{error}.",
                "Check the environment variables REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE.",
            ) from None
        return pool

    def get(self, path: str, parameters: Parameters, timeout: float) -> Response:
        """Send one GET and read the whole response. Raises Unreachable, or an ApiError."""
        # From 2.8 on, urllib3 sends a query without percent signs as it is. It encodes any other
        # again, byte by byte, which takes a tenth of the time of a page.
        query = urlencode(parameters, safe=":")
        # A session would add cookies, hooks, and redirects, which would send the key elsewhere.
        try:
            response: BaseHTTPResponse = self._pool.urlopen(
                "GET",
                f"{self._path}{path}?{query}",
                headers=self._headers,
                retries=False,
                redirect=False,
                preload_content=False,
                timeout=Timeout(connect=timeout, read=timeout),
            )
            return Response(response.status, response.headers, _body(response, self._most))
        except HTTPError as error:
            raise unreachable(error, self._base_url, timeout) from None
        except ValueError as error:
            # Of http.client: a chunk may claim a negative length.
            broken = ProtocolError("", HTTPException(error))
            raise unreachable(broken, self._base_url, timeout) from None
        except Unreachable as error:
            # Raised while reading bytes, where the address is not known.
            raise Unreachable(f"{error.what[:-1]} ({self._base_url}).", error.next_step) from None


def _body(response: BaseHTTPResponse, most: int) -> bytes:
    steps = []
    while step := response.read(_STEP, decode_content=False):
        steps.append(step)
    body = b"".join(steps)
    # Its first bytes may have come with the head, uncounted.
    if len(body) > most:
        raise _too_large("body", most)
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    return body if encoding in ("", "identity") else _unpacked(body, encoding, most)


def _unpacked(body: bytes, encoding: str, most: int) -> bytes:
    """Decompress gzip up to a limit: a few kB may expand to gigabytes.

    urllib3 would decompress without a limit, nested encodings too, and some input forever.
    """
    if encoding not in ("gzip", "x-gzip"):
        raise ForeignEncoding(repr(encoding[:30]))
    unpacking = zlib.decompressobj(zlib.MAX_WBITS + 16)
    try:
        unpacked = unpacking.decompress(body, most + 1)
    except zlib.error as error:
        raise DecodeError(error) from None
    if len(unpacked) > most:
        raise _too_large("body", most)
    if not unpacking.eof or unpacking.unused_data:
        raise DecodeError("it is cut off, or more follows")
    return unpacked


def _too_large(part: str, limit: int) -> ApiError:
    kind = TooLarge if part == "body" else ApiError
    return kind(
        f"The API sent a response whose {part} is larger than {limit >> 10:,} kB, and was cut off.",
        "Lower page_size, or raise max_body_bytes if the rows are that long."
        if part == "body"
        else "Check base_url: no API sends headers of that size.",
    )


class _Reply(HTTPResponse):
    """A response that is read from its socket within limits."""

    retry_budget: ClassVar[float]
    patience: ClassVar[float]
    most: ClassVar[int]

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        silence = sock.gettimeout()
        seconds = min(self.patience * silence, max(silence, self.retry_budget))
        self._limited = _Limited(self.fp.detach(), sock, silence, seconds)
        self.fp = io.BufferedReader(self._limited)

    def begin(self, **limits: Any) -> None:
        """Read the head, within one limit for all that precedes it, such as "100 Continue"."""
        # Newer Pythons pass a limit of their own here.
        super().begin(**limits)
        self._limited.allow("body", self.most)

    def _read_status(self) -> tuple[str, int, str]:
        # Python skips "100 Continue" alone, and takes "103 Early Hints" of a proxy for the answer.
        version, status, reason = super()._read_status()  # type: ignore[misc]
        is_interim = CONTINUE < status < OK and status != SWITCHING_PROTOCOLS
        return version, CONTINUE if is_interim else status, reason


class _Limited(io.RawIOBase):
    """A socket's bytes, until they are too many or too late.

    The socket's own timeout starts again with every byte.
    """

    def __init__(self, raw: io.RawIOBase, sock: Any, silence: float, seconds: float) -> None:
        self._raw = raw
        self._sock = sock
        self._silence = silence
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self.allow("head", HEAD_LIMIT)

    def allow(self, part: str, limit: int) -> None:
        """Allow `limit` bytes from now on."""
        self._part, self._limit, self._left = part, limit, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise too_slow(self._seconds)
        if left < self._silence:
            self._sock.settimeout(left)
        try:
            count = self._raw.readinto(buffer) or 0
        except TimeoutError:
            if left < self._silence:
                raise too_slow(self._seconds) from None
            raise
        self._left -= count
        if self._left < 0:
            raise _too_large(self._part, self._limit)
        return int(count)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _KeyAuth(AuthBase):
    # dlt and urllib3 print headers= when they log at DEBUG, but never an auth object.
    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["x-api-key"] = self._key
        return request
