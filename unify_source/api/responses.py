"""Maps an HTTP response to an error with its next step. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from unify_source.api.http_dates import http_date
from unify_source.common.errors import (
    ApiError,
    KeyRefused,
    NotFound,
    RateLimited,
    RequestRefused,
    ServerFailed,
)

OK, REDIRECT, BAD_REQUEST, FORBIDDEN, NOT_FOUND, TOO_MANY, FAILED = (
    200,
    300,
    400,
    403,
    404,
    429,
    500,
)
REFUSED = (401, FORBIDDEN)
GONE = (NOT_FOUND, 410)
# A proxy answers these if a request did not reach the server in time: it may be sent again.
TOO_SLOW, TOO_EARLY = 408, 425


class Response(NamedTuple):
    """A whole response; its `headers` ignore case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def error_of(response: Response, key: str, *, is_quoted: bool = True) -> Exception:
    """Return the error for a status other than 200, without `key`.

    The server's message is included only if it `is_quoted`, its codes always.
    """
    status, message = response.status, _message(response, key) if is_quoted else ""
    if status in REFUSED:
        return KeyRefused(
            f"The API refused the key (HTTP {status}{message}).",
            "Check api_key: it may be mistyped, revoked, or from another workspace.",
        )
    if status == TOO_MANY:
        return _with_retry_after(
            RateLimited(
                f"The API's rate limit was hit (HTTP 429{message}).",
                "Run it again later, or lower requests_per_5min: other programs share the quota.",
                status=status,
            ),
            response,
        )
    if status >= FAILED or status in (TOO_SLOW, TOO_EARLY):
        return _with_retry_after(
            ServerFailed(
                f"The API failed (HTTP {status}{message}).",
                "Nothing is lost: run it again later.",
                status=status,
            ),
            response,
        )
    if status < BAD_REQUEST:
        return ApiError(
            f"The API answered HTTP {status} where 200 was expected.",
            "Check base_url: redirects are not followed, so that the key reaches no other host."
            if status >= REDIRECT
            else "Check base_url: a proxy may be answering instead.",
            status=status,
        )
    return _refused(response, message, key)


def _refused(response: Response, message: str, key: str) -> RequestRefused:
    errors = _server_errors(response, key)
    details = "; ".join(f"{code} at {path}" if path else code for code, path in errors)
    kind = NotFound if response.status == NOT_FOUND else RequestRefused
    next_step = "Check the filters and times that were given."
    if any("cursor" in f"{code} {path}".lower() for code, path in errors):
        next_step = "The page cursor was refused: run it again, which reads the window again."
    elif kind is NotFound:
        next_step = "Check base_url."
    return kind(
        f"The API refused the request (HTTP {response.status}{message}"
        f"{': ' + details if details else ''}).",
        next_step,
        status=response.status,
        codes=tuple(code for code, _ in errors),
    )


def _server_errors(response: Response, key: str) -> list[tuple[str, str]]:
    """Return the codes and paths of the server's first five errors, however they are written."""
    errors = _json_object(response).get("errors")
    items = [item for item in errors if isinstance(item, dict)] if isinstance(errors, list) else []
    return [
        (_short(item.get("code", "error"), key), _short(_path(item.get("path")), key))
        for item in items[:5]
    ]


def _path(path: object) -> object:
    return ".".join(map(str, path)) if isinstance(path, list) else path or ""


def _message(response: Response, key: str) -> str:
    message = _json_object(response).get("message")
    return f", {_short(message, key)!r}" if isinstance(message, str) and message else ""


def _json_object(response: Response) -> dict[str, Any]:
    try:
        body = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _short(text: object, key: str) -> str:
    # A proxy may echo the request, and the key with it.
    return " ".join(str(text).replace(key, "…").split())[:200]


def _with_retry_after(error: ApiError, response: Response) -> ApiError:
    error.retry_after = retry_after(response)
    return error


def retry_after(response: Response) -> float | None:
    """Return the wait in seconds that the server asks for, if it does, in seconds or as a date."""
    text = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text):
        return float(text)
    at, now = http_date(text), http_date(response.headers.get("Date", ""))
    return max(0.0, (at - now).total_seconds()) if at and now else None
