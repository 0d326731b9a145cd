"""How much a run takes before it refuses a response or sets a row aside: each limit is a setting.

A server that means harm, or is broken, may send without end. Where an honest response is beyond a
limit, the error names the setting to raise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypedDict

from unify_source.values import Seconds, Setting, Whole


@dataclass(frozen=True)
class Limits:
    """The limits of one run; those of a row and of a table decide where a row's values go."""

    # A page of a hundred rows has some 60 kB.
    max_body_bytes: int = 32 << 20
    # None stands for three times the timeout: one that is raised raises this as well.
    max_response_seconds: float | None = None
    # More than most servers take as an address.
    max_cursor_length: int = 4_096
    # A server that filters after it has cut its list into pages sends empty ones, and rows that
    # change meanwhile leave the window: neither makes this many pages in a row without a new row.
    max_idle_pages: int = 100
    # A listed row has some 600 bytes. One of this size is broken, and parsing it would hold it in
    # memory several times over.
    max_row_bytes: int = 16 << 20
    # Far below the depth at which any parser on a row's way gives up: orjson stops at 1,024 levels,
    # recursive ones at whatever their stack holds.
    max_depth: int = 64
    # Postgres stops at 1,600 columns, and a merge takes the longer the more there are.
    max_new_columns: int = 200


USUAL = Limits()


def _whole(low: int, high: int, usual: int, meaning: str) -> Setting:
    return Setting(Whole(low, high), meaning, default=str(usual))


class LimitArguments(TypedDict, total=False):
    """How much is taken before a response is refused, or a row is set aside."""

    max_body_bytes: Annotated[
        int | str | None,
        _whole(1 << 10, 1 << 30, USUAL.max_body_bytes, "Bytes of a response's body, unpacked."),
    ]
    max_response_seconds: Annotated[
        float | str | None,
        Setting(Seconds(), "Seconds for a response; three times `request_timeout` unless set."),
    ]
    max_cursor_length: Annotated[
        int | str | None,
        _whole(64, 1 << 16, USUAL.max_cursor_length, "Characters of a `next_cursor`."),
    ]
    max_idle_pages: Annotated[
        int | str | None,
        _whole(2, 1_000_000, USUAL.max_idle_pages, "Pages in a row without a new row."),
    ]
    max_row_bytes: Annotated[
        int | str | None,
        _whole(
            1 << 10,
            1 << 28,
            USUAL.max_row_bytes,
            "Bytes of a row; a longer one goes to quarantine.",
        ),
    ]
    max_depth: Annotated[
        int | str | None,
        _whole(
            4, 250, USUAL.max_depth, "Levels of a row, {0.limits}; a deeper one goes to quarantine."
        ),
    ]
    max_new_columns: Annotated[
        int | str | None,
        _whole(
            0,
            1_000,
            USUAL.max_new_columns,
            "Columns of a table for fields that the API does not document, {0.limits}; further"
            " fields go to `more_fields`.",
        ),
    ]
