"""What an HTTP response means: a page and its next cursor, or an error with its next step. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import msgspec
import orjson

from unify_source.api.http_dates import http_date
from unify_source.errors import (
    ApiError,
    BrokenPage,
    KeyRefused,
    NotFound,
    RateLimited,
    RequestRefused,
    ServerFailed,
)
from unify_source.limits import USUAL, Limits

OK, BAD_REQUEST, FORBIDDEN, NOT_FOUND, TOO_MANY, FAILED = 200, 400, 403, 404, 429, 500
REFUSED = (401, FORBIDDEN)
GONE = (NOT_FOUND, 410)
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[][{}]', re.DOTALL)


class Response(NamedTuple):
    """A whole response; its `headers` are found in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Page:
    """One page of a list: its body, and the cursor of the next page, None at the end."""

    body: bytes
    next_cursor: str | None
    list_key: str

    @cached_property
    def rows(self) -> list[Any]:
        """The rows, to look at; the body is what is loaded. Raises BrokenPage."""
        return _page_object(self.body, self.list_key)[self.list_key]  # type: ignore[no-any-return]


def page_of(body: bytes, list_key: str, limits: Limits = USUAL) -> Page:
    """Read a page whose list stands under `list_key`. Raises BrokenPage."""
    # Parsing every page here as well costs a tenth of a whole run; this only walks over its rows.
    try:
        page = _outline(list_key).decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return Page(body, _next_cursor(_page_object(body, list_key), limits), list_key)
    return Page(body, _usable(page.next_cursor, limits), list_key)


@cache
def _outline(list_key: str) -> msgspec.json.Decoder[Any]:
    rows = (list_key, list[msgspec.Raw])
    return msgspec.json.Decoder(msgspec.defstruct("Outline", [rows, ("next_cursor", str | None)]))


def _page_object(body: bytes, list_key: str) -> dict[str, Any]:
    page = _parsed(body)
    if not isinstance(page, dict) or not isinstance(page.get(list_key), list):
        raise BrokenPage(
            f"The API answered 200 with a page that has no list of {list_key}.",
            "Nothing is lost: run it again. If it stays so, check base_url, or the API changed.",
            status=OK,
        )
    return page


def is_row(body: bytes, name: str, key: str) -> bool:
    """Tell whether a body is the object whose key, under `name`, is `key`. Raises BrokenPage."""
    row = _parsed(body)
    return isinstance(row, dict) and row.get(name) == key


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    # A single row may hold half a surrogate, NaN or a number of a thousand digits. Those are the
    # row's own trouble, and no reason to refuse its page.
    try:
        try:
            return json.loads(body, parse_int=str)
        except RecursionError:
            return json.loads(_shallow(body), parse_int=str)
    except (ValueError, RecursionError) as error:
        raise BrokenPage(
            f"The API answered 200 with a body that is not JSON ({error}; {len(body)} bytes).",
            "Nothing is lost: run it again. If it stays so, a proxy may be answering instead.",
            status=OK,
        ) from None


def _shallow(body: bytes) -> bytes:
    """Return a JSON object with an empty list for each list and object in it: none is too deep."""
    kept, depth, start = [], 0, 0
    for token in _TOKEN.finditer(body):
        opens, closes = token[0] in (b"[", b"{"), token[0] in (b"]", b"}")
        if opens and depth == 1:
            kept.append(body[start : token.start()])
        depth += opens - closes
        if closes and depth == 1:
            kept.append(b"[]")
            start = token.end()
    return b"".join(kept) + body[start:]


def _next_cursor(page: dict[str, Any], limits: Limits) -> str | None:
    cursor = page.get("next_cursor")
    if "next_cursor" not in page or not isinstance(cursor, (str, type(None))):
        raise BrokenPage(
            f"The API sent a page whose next_cursor is {type(cursor).__name__}, so there is no"
            " telling whether more pages follow.",
            "Nothing is lost: run it again. If it stays so, the API changed: please report it.",
            status=OK,
        )
    return _usable(cursor, limits)


def _usable(cursor: str | None, limits: Limits) -> str | None:
    if cursor == "":
        # Some servers end a list so, others go on under `cursor=`: both guesses lose something.
        raise _no_cursor("is empty, so there is no telling whether more pages follow")
    if cursor and len(cursor) > limits.max_cursor_length:
        raise _no_cursor(
            f"has {len(cursor):,} characters, more than an address can carry (max_cursor_length)"
        )
    return cursor


def _no_cursor(what: str) -> ApiError:
    # Not a BrokenPage, which is asked for again: this is no damage on the way.
    return ApiError(
        f"The API sent a page whose next_cursor {what}.",
        "The page was not loaded. Please report it to Unify: after the last page it is null.",
        status=OK,
    )


def error_of(response: Response, key: str, *, is_quoted: bool = True) -> Exception:
    """Return the error that a status other than 200 stands for; `key` is kept out of it.

    The server's message is left out unless it `is_quoted`; its codes never are.
    """
    # A proxy may echo what it was sent.
    status, message = response.status, _message(response, key) if is_quoted else ""
    if status in REFUSED:
        return KeyRefused(
            f"The API refused the key (HTTP {status}{message}).",
            "Check api_key: it may be mistyped, revoked, or of another workspace.",
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
    if status >= FAILED:
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
            "Check base_url: redirects are not followed, so that the key reaches no other host.",
            status=status,
        )
    return _refused(response, message, key)


def _refused(response: Response, message: str, key: str) -> RequestRefused:
    errors = _server_errors(response, key)
    details = "; ".join(f"{code} at {path}" if path else code for code, path in errors)
    kind = NotFound if response.status == NOT_FOUND else RequestRefused
    next_step = "Check the filters and times that were given."
    if any("cursor" in f"{code} {path}".lower() for code, path in errors):
        next_step = "The cursor was refused on the way: run it again, the window is read anew."
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
    """Return the code and the path of the server's errors, the first five, whatever they are."""
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
    return " ".join(str(text).replace(key, "…").split())[:200]


def _with_retry_after(error: ApiError, response: Response) -> ApiError:
    error.retry_after = retry_after(response)
    return error


def retry_after(response: Response) -> float | None:
    """Return the wait in seconds that the server asks for, in seconds or as a date, if it does."""
    text = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text):
        return float(text)
    at, now = http_date(text), http_date(response.headers.get("Date", ""))
    return max(0.0, (at - now).total_seconds()) if at and now else None
