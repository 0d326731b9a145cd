"""Parses a body: a page of a list with its next cursor, or a single row. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from unify_source.api.brackets import cut, is_balanced, repeated
from unify_source.api.outline import NEXT_CURSOR, Version, outline
from unify_source.api.responses import OK
from unify_source.common.errors import ApiError, BrokenPage
from unify_source.common.resources import CURSOR, KEY
from unify_source.common.settings.limits import USUAL, Limits

_KINDS = {bool: "true or false", dict: "an object", list: "a list"}
_KINDS |= dict.fromkeys((int, float), "a number")
# What `surrogateescape` puts in place of such bytes.
_NO_UTF8 = re.compile("[\udc80-\udcff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_API_CHANGED = (
    "Nothing is lost: run it again. If it happens again, the API has changed: please report it."
)


@dataclass(frozen=True)
class Page:
    """One page of a list: its body, the cursor of the next page, None at the end, and its `Date`.

    `versions` has one item for each row with an `updated_at`. `is_known`: see `page_of`.
    """

    body: bytes
    next_cursor: str | None
    list_key: str
    versions: Sequence[Version] = ()
    date: str = ""
    is_known: bool = False

    @cached_property
    def rows(self) -> list[Any]:
        """The rows, for inspection; the body is what is loaded. Raises BrokenPage."""
        page = _page_object(self.body, self.list_key, is_known=self.is_known)
        return page[self.list_key]  # type: ignore[no-any-return]


def page_of(
    body: bytes, list_key: str, limits: Limits = USUAL, date: str = "", *, is_known: bool = False
) -> Page:
    """Read a page whose list is under `list_key`. Raises BrokenPage.

    A body `is_known` if an earlier response had the same: then an odd row in it was not damaged on
    the way, and concerns that row alone.
    """
    # Parsing every page here as well would take a tenth of a whole run; this only skims its rows.
    try:
        versions, cursor, may_repeat = outline(body, list_key)
    except (ValueError, RecursionError):
        _refuse_repeated(body, list_key)
        page = _page_object(body, list_key, is_known=is_known)
        rows = page[list_key]
        if not is_known:
            _refuse_damaged(body, rows)
        return Page(body, _next_cursor(page, limits), list_key, _versions(rows), date, is_known)
    if may_repeat:
        _refuse_repeated(body, list_key)
    return Page(body, _usable(cursor, limits), list_key, versions, date)


def _refuse_repeated(body: bytes, list_key: str) -> None:
    if twice := repeated(body, (list_key, NEXT_CURSOR)):
        what = f"The API sent a page with {twice} twice; only one would be read."
        raise BrokenPage(what, _API_CHANGED, status=OK)


def _refuse_damaged(body: bytes, rows: list[Any]) -> None:
    """Raise BrokenPage if invalid UTF-8 is in what identifies a row.

    Anywhere else it concerns that row alone. But a row whose id was damaged on the way would go to
    the quarantine under another id, or none, and no run would ask for it again.
    """
    texts = (text for row in rows if isinstance(row, dict) for text in _identifying(row))
    if any(map(_NO_UTF8.search, texts)) and not _is_utf8(body):
        raise BrokenPage(
            "The API answered 200 with a row whose id or updated_at is not UTF-8.",
            "Nothing is lost: run it again. If it happens again, please report it to Unify.",
            status=OK,
        )


def _identifying(row: dict[str, Any]) -> Iterator[str]:
    names = (KEY, CURSOR)
    yield from (str(row[name]) for name in names if name in row)
    if not all(name in row for name in names):
        # The damage may be in the name.
        yield from row


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _versions(rows: list[Any]) -> list[Version]:
    pairs = ((row.get(KEY), row.get(CURSOR)) for row in rows if isinstance(row, dict))
    return [Version(str(key), updated) for key, updated in pairs if isinstance(updated, str)]


def _page_object(body: bytes, list_key: str, *, is_known: bool = False) -> dict[str, Any]:
    try:
        page = _parsed(body)
    except (RecursionError, ValueError) as error:
        is_odd = is_known or isinstance(error, RecursionError)
        page = _parsed_by_rows(body, list_key) if is_odd else None
        if page is None:
            raise _no_json(body, error) from None
    if not isinstance(page, dict) or not isinstance(page.get(list_key), list):
        raise BrokenPage(
            f"The API answered 200 with a page that has no list of {list_key}.",
            "Nothing is lost: run it again. If it happens again, check base_url; otherwise the API"
            " has changed.",
            status=OK,
        )
    return page


def is_row(body: bytes, name: str, key: str) -> bool:
    """Tell whether a body is the object whose key, under `name`, is `key`. Raises BrokenPage."""
    try:
        row = _parsed(body)
    except RecursionError:
        row = _flat(body)
    except ValueError as error:
        raise _no_json(body, error) from None
    return isinstance(row, dict) and row.get(name) == key


def _parsed(body: bytes) -> Any:
    """Parse a body, accepting some invalid JSON in its rows.

    A lone surrogate, NaN, a number of a thousand digits, a line break within a text or invalid
    UTF-8 concerns its row alone, and is no reason to refuse the page.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body.decode("utf-8-sig", errors="surrogateescape")
        return json.loads(text, parse_int=str, strict=False)


def _parsed_by_rows(body: bytes, list_key: str) -> Any:
    """Parse a page row by row; None if not even the text around its rows is JSON.

    A row that is too deep, or not JSON, is read without what it nests, if it can be.
    """
    if not is_balanced(body):
        return None
    around, rows = cut(body, 2)
    try:
        page = _parsed(around)
    except (RecursionError, ValueError):
        return None
    listed = page.get(list_key) if isinstance(page, dict) else None
    if not isinstance(listed, list) or listed.count([]) != len(rows):
        return None
    texts = iter(rows)
    return {**page, list_key: [_flat(next(texts)) if row == [] else row for row in listed]}


def _flat(row: bytes) -> Any:
    for text in (row, cut(row, 1)[0]):
        with suppress(ValueError, RecursionError):
            return _parsed(text)
    return None


def _no_json(body: bytes, error: Exception) -> BrokenPage:
    why = "nested too deeply" if isinstance(error, RecursionError) else error
    return BrokenPage(
        f"The API answered 200 with a body that is not JSON ({why}; {len(body)} bytes).",
        "Nothing is lost: run it again. If it happens again, a proxy may be answering instead.",
        status=OK,
    )


def _next_cursor(page: dict[str, Any], limits: Limits) -> str | None:
    cursor = page.get(NEXT_CURSOR)
    if NEXT_CURSOR not in page:
        raise _odd_cursor("has no next_cursor")
    if not isinstance(cursor, (str, type(None))):
        raise _odd_cursor(f"has a next_cursor that is {_KINDS[type(cursor)]}, not text")
    return _usable(cursor, limits)


def _odd_cursor(what: str) -> BrokenPage:
    return BrokenPage(
        f"The API sent a page that {what}, so it is unknown whether more pages follow.",
        _API_CHANGED,
        status=OK,
    )


def _usable(cursor: str | None, limits: Limits) -> str | None:
    if cursor == "":
        # Some servers end a list like this, others continue under `cursor=`: either guess could
        # lose rows.
        raise _no_cursor("is empty, so it is unknown whether more pages follow")
    if cursor and _SURROGATE.search(cursor):
        raise _no_cursor("is not Unicode, so no address can carry it")
    if cursor and len(cursor) > limits.max_cursor_length:
        raise _no_cursor(
            f"has {len(cursor):,} characters, more than an address can carry (max_cursor_length)"
        )
    return cursor


def _no_cursor(what: str) -> ApiError:
    # Not a BrokenPage, which is retried: this was not damaged on the way.
    return ApiError(
        f"The API sent a page whose next_cursor {what}.",
        "The page was not loaded. Please report it to Unify: after the last page it is null.",
        status=OK,
    )
