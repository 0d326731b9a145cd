"""The limits beyond which a run refuses a response or quarantines a row; each is a setting.

A malicious or broken server may send without end. If an honest response exceeds a limit, the error
names the setting to raise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypedDict

from unify_source.common.settings.values import Seconds, Setting, Whole

LARGEST_PAGE = 100
"""The most rows that the API puts on a page."""


@dataclass(frozen=True)
class Limits:
    """The limits of one run; those of a row and of a table decide where a row's values go."""

    # A page of a hundred rows has some 60 kB.
    max_body_bytes: int = 32 << 20
    # None means three times the request timeout, so that raising the timeout raises this too.
    max_response_seconds: float | None = None
    # Most servers accept no longer address.
    max_cursor_length: int = 4_096
    # A server that filters after paging sends empty pages, and rows that change meanwhile leave
    # the window: neither causes this many consecutive pages without a new row.
    max_idle_pages: int = 100
    # A listed row has some 600 bytes. One of this size is broken, and parsing it would take
    # several times its size in memory.
    max_row_bytes: int = 16 << 20
    # Far below the depth at which any parser that sees a row gives up: orjson at 1,024 levels,
    # recursive ones when their stack is full.
    max_depth: int = 64
    # Postgres allows 1,600 columns, and every further column slows a merge.
    max_new_columns: int = 200


USUAL = Limits()


def _whole(low: int, high: int, usual: int, meaning: str) -> Setting:
    return Setting(Whole(low, high), meaning, default=str(usual))


class LimitArguments(TypedDict, total=False):
    """The limits of responses, rows and tables."""

    max_body_bytes: Annotated[
        int | str | None,
        _whole(
            1 << 10,
            1 << 30,
            USUAL.max_body_bytes,
            "Most bytes of a response's body, unpacked, and of the whole list of sequences.",
        ),
    ]
    max_response_seconds: Annotated[
        float | str | None,
        Setting(
            Seconds(), "Most seconds for one response; three times `request_timeout` unless set."
        ),
    ]
    max_cursor_length: Annotated[
        int | str | None,
        _whole(64, 1 << 16, USUAL.max_cursor_length, "Most characters of a `next_cursor`."),
    ]
    max_idle_pages: Annotated[
        int | str | None,
        _whole(2, 1_000_000, USUAL.max_idle_pages, "Most consecutive pages without a new row."),
    ]
    max_row_bytes: Annotated[
        int | str | None,
        _whole(
            1 << 10,
            1 << 28,
            USUAL.max_row_bytes,
            "Most bytes of a row; a longer one goes to quarantine.",
        ),
    ]
    max_depth: Annotated[
        int | str | None,
        _whole(
            4,
            250,
            USUAL.max_depth,
            "Most levels of a row, {0.limits}; a deeper one goes to quarantine.",
        ),
    ]
    max_new_columns: Annotated[
        int | str | None,
        _whole(
            0,
            1_000,
            USUAL.max_new_columns,
            "Most columns that a table gets for fields that the API does not document, {0.limits};"
            " further fields go to `more_fields`.",
        ),
    ]


# A merge in DuckDB holds vectors of 2,048 rows, several at a time. A row of this size makes one of
# 32 MB, so of longer rows only what exceeds it counts.
_NARROW_ROW = 16 << 10


def wide_bytes(size: int, rows: int) -> int:
    """Return how many of these bytes make rows wide: those beyond 16 kB a row."""
    return max(0, size - rows * _NARROW_ROW)
