"""Rows that break the API's promises, kept whole. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from unify_source.common.resources import CURSOR, KEY
from unify_source.common.times import parse_instant
from unify_source.flatten.decode.json_text import parsed
from unify_source.flatten.decode.pages import RawRow, top_level


@dataclass(frozen=True)
class Unreadable:
    """A row that its table cannot hold: `raw` is its whole JSON text, as the API sent it.

    `plain_reason` is the reason without a value of the row. `digest` identifies the original `raw`
    if that was changed.
    """

    id: str | None
    updated_at: datetime | None
    reason: str
    raw: str
    plain_reason: str = ""
    digest: str = ""

    @classmethod
    def of(cls, row: RawRow, reason: str, plain_reason: str = "") -> Unreadable:
        """Set a row aside, with its id and time if they can be read."""
        own = _known(row)
        key, changed = own.get(KEY), own.get(CURSOR)
        return cls(
            # An id with a lone surrogate, or a byte that is not UTF-8, can neither be stored nor be
            # part of an address.
            id=key if isinstance(key, str) and key and _is_unicode(key) else None,
            updated_at=parse_instant(changed) if isinstance(changed, str) else None,
            reason=reason,
            # The column holds only Unicode, and a person will want to see which bytes were sent.
            raw=row.text.decode(errors="backslashreplace"),
            plain_reason=plain_reason or reason,
        )

    @property
    def key(self) -> str:
        """The row's id, or a hash of `raw` if it has none."""
        return self.id or self.digest or hashlib.sha256(self.raw.encode()).hexdigest()


def _known(row: RawRow) -> dict[str, Any]:
    try:
        # A row may be unreadable because of something deep within it. Its id and time, at the top,
        # still tell where it belongs.
        value = parsed(top_level(row).decode(errors="surrogateescape"))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
