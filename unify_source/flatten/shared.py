"""Finds the rows to read again when a row that several of them carry loses its owner. Pure.

The owner of a reply is the enrollment that showed it last. When that one no longer has it, the
merge deletes it, although another enrollment, which has not changed, may carry the same reply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from unify_source.common.resources import DELETED, KEY


class Carried(NamedTuple):
    """A stored row, by its table and key, its owner, and another row that carries it as well."""

    table: str
    key: str
    owner: str
    carrier: str


class Shared:
    """Notes what a load writes, and tells which carriers must be read again.

    `stored` is called once, and only if a row is written that may have been stored before.
    """

    def __init__(self, stored: Callable[[], Iterable[Carried]]) -> None:
        self._stored = stored
        self._carried: list[Carried] | None = None
        self._written: set[str] = set()
        self._kept: set[tuple[str, str]] = set()

    def note(self, rows: pa.Table, new: pa.Array, tables: Mapping[str, pa.Table]) -> None:
        """Note listed rows, whether each is new, and the tables that they were split into."""
        if self._carried is None:
            if pc.all(new).as_py():
                return
            self._carried = list(self._stored())
        if not self._carried:
            return
        listed = {key for each in self._carried for key in (each.owner, each.carrier)}
        self._written |= _among(rows, listed)
        for name in {each.table for each in self._carried} & tables.keys():
            stays = tables[name].filter(pc.is_null(tables[name][DELETED]))
            keys = {each.key for each in self._carried if each.table == name}
            self._kept |= {(name, key) for key in _among(stays, keys)}

    def left_behind(self) -> list[str]:
        """Return the unwritten rows that carry something that its owner no longer has."""
        return sorted(
            {
                each.carrier
                for each in self._carried or ()
                if each.owner in self._written
                and each.carrier not in self._written
                and (each.table, each.key) not in self._kept
            }
        )


def _among(rows: pa.Table, keys: set[str]) -> set[str]:
    is_known = pc.is_in(rows[KEY], value_set=pa.array(sorted(keys), rows.schema.field(KEY).type))
    return set(rows[KEY].filter(is_known).to_pylist())
