"""Explains why there was no response, and where to look."""

from __future__ import annotations

import re
import socket
import ssl
from http.client import HTTPException, IncompleteRead, RemoteDisconnected

from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from unify_source.common.errors import Unreachable

_RUN_AGAIN = "Nothing is lost: run it again."


class ForeignEncoding(DecodeError):
    """A response is compressed in a way that was not asked for."""


def unreachable(error: HTTPError, base_url: str, timeout: float) -> Unreachable:
    """Return the error for a connection that failed. Never quotes an address with a password."""
    what, next_step = _no_connection(error, timeout) or _broken(error, timeout)
    return Unreachable(f"{what} ({base_url}).", next_step)


def too_slow(seconds: float) -> Unreachable:
    """Return the error for a response that trickles."""
    return Unreachable(
        f"The API had not sent its whole response after {seconds:g} seconds.",
        "Run it again, or raise max_response_seconds (three times request_timeout unless set).",
    )


def _no_connection(error: HTTPError, timeout: float) -> tuple[str, str] | None:
    if isinstance(error, ProxyError):
        return (
            f"The proxy did not let the request through: {_why(error.original_error, timeout)}",
            "Check the environment variables HTTPS_PROXY and NO_PROXY.",
        )
    if isinstance(error, SSLError):
        cause = error.args[0] if error.args else None
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"The API's certificate could not be verified: {cause.verify_message}",
                "Check base_url and this machine's certificates and clock.",
            )
        reason = str(getattr(cause, "reason", None) or "it broke off").replace("_", " ").lower()
        return (
            f"There is no TLS connection to the API: {reason}",
            "Check base_url: the server at that address may not speak https.",
        )
    if isinstance(error, (NewConnectionError, ConnectTimeoutError)):
        return (
            f"There is no connection to the API: {_why(error, timeout)}",
            "Check base_url and this machine's network, then run it again.",
        )
    return None


def _broken(error: HTTPError, timeout: float) -> tuple[str, str]:
    if isinstance(error, ReadTimeoutError):
        return (
            f"The API was silent for {timeout:g} seconds",
            "Run it again, or raise request_timeout.",
        )
    if isinstance(error, ForeignEncoding):
        return (
            f"The API's response came with Content-Encoding {error}, but only gzip was asked for",
            "Check base_url and HTTPS_PROXY: the server there must send gzip, or no encoding.",
        )
    if isinstance(error, DecodeError):
        return f"The API's response could not be unpacked as gzip: {error}", _RUN_AGAIN
    cause = error.args[1] if isinstance(error, ProtocolError) and len(error.args) > 1 else None
    if isinstance(cause, HTTPException) and not isinstance(
        cause, (IncompleteRead, RemoteDisconnected)
    ):
        # The error's text may quote the response.
        return f"What the API sent is not HTTP ({type(cause).__name__})", "Check base_url."
    return "The connection broke before the whole response arrived", _RUN_AGAIN


def _why(error: BaseException, timeout: float) -> str:
    cause = error.__cause__
    if isinstance(error, NameResolutionError):
        is_unanswered = getattr(cause, "errno", None) == socket.EAI_AGAIN
        return "no name server answered" if is_unanswered else "the host name is unknown"
    if isinstance(cause, ConnectionRefusedError):
        return "it was refused, so nothing listens there"
    if isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError):
        return f"none was established within {timeout:g} seconds"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    if tunnel := re.match(r"Tunnel connection failed: (\d{3})", str(error)):
        return f"it answered HTTP {tunnel[1]}"
    return "the connection broke"
