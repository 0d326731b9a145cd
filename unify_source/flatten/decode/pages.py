"""Cuts a page into the texts of its rows, so that each row can be read by itself. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from unify_source.api.brackets import OPENING, brackets, cut
from unify_source.common.errors import BrokenPage

_BOM = b"\xef\xbb\xbf"
_LIST, _ROW = 2, 3


@dataclass(frozen=True)
class RawRow:
    """The text of one item of a page's list, and how many levels it is nested."""

    text: bytes
    levels: int


def raw_rows(body: bytes, list_key: str) -> list[RawRow]:
    """Cut a page into its rows, whatever they contain.

    Raises BrokenPage unless the body without its rows is a JSON object with that list.
    """
    body = body.removeprefix(_BOM)
    spans = _row_spans(body, f'"{list_key}"'.encode())
    # Without its rows the page is short and flat, and its commas and brackets can be checked.
    ends = [0, *(end for _, end, _ in spans)]
    starts = [*(start for start, _, _ in spans), len(body)]
    between = [body[end:start] for end, start in zip(ends, starts, strict=True)]
    try:
        items = orjson.loads(b"{}".join(between))[list_key]
        if not isinstance(items, list) or items.count({}) != len(spans):
            raise TypeError(f"{list_key} is not one list")  # noqa: TRY301 - reported like the others
    except (ValueError, TypeError, KeyError) as error:
        raise BrokenPage(
            f"The API sent a page that cannot be read ({type(error).__name__}: {error}).",
            "Nothing is lost: run it again. If it happens again, the API has changed: please report"
            " it.",
        ) from None
    rows = (RawRow(body[start:end], levels) for start, end, levels in spans)
    # An item that is not an object, such as null or a number, has no brackets to find it by.
    return [next(rows) if item == {} else RawRow(orjson.dumps(item), 0) for item in items]


def top_level(row: RawRow) -> bytes:
    """Return the text of a row with an empty list in place of each nested value."""
    return cut(row.text, 1)[0]


def _row_spans(body: bytes, quoted_key: bytes) -> list[tuple[int, int, int]]:
    """Return the start, the end and the levels of each row that has brackets."""
    spans: list[tuple[int, int, int]] = []
    depth, start, deepest, is_listed = 0, 0, 0, False
    for at in brackets(body):
        if body[at] in OPENING:
            depth += 1
            deepest = max(deepest, depth)
            if depth == _LIST and _follows(body, at, quoted_key):
                is_listed = True
            elif depth == _ROW and is_listed:
                start, deepest = at, depth
            continue
        if depth == _ROW and is_listed:
            spans.append((start, at + 1, deepest - _LIST))
        elif depth == _LIST:
            is_listed = False
        depth -= 1
    return spans


def _follows(body: bytes, at: int, quoted_key: bytes) -> bool:
    # Only the few characters before the bracket, not a copy of all that precedes it.
    before = body[max(0, at - len(quoted_key) - 64) : at].rstrip()
    return body[at] in b"[" and before.endswith(b":") and before[:-1].rstrip().endswith(quoted_key)
