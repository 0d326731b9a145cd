"""Names the columns of source keys: the same in every run, and never shared. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from unify_source.common.resources import AS_OF, DELETED, Path, Table
from unify_source.common.settings.limits import USUAL
from unify_source.flatten.decode.json_text import text_of

MORE_FIELDS = "more_fields"
"""The column for fields that have no column of their own, as one JSON object a row."""

_UNNAMED = "unnamed"
# Postgres has these columns in every table, and dlt owns all that begin with its prefix.
_SYSTEM = ("ctid", "tableoid", "xmin", "cmin", "xmax", "cmax", "oid")
_DLT = "_dlt"
_PLAIN = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


class KnownColumn(NamedTuple):
    """A column that exists in the warehouse: its type in dlt, and the keys that lead to it.

    `path` is None if it was not recorded. A variant holds values that the path's main column
    cannot.
    """

    type: str
    path: Path | None = None
    is_variant: bool = False


@dataclass(frozen=True)
class Splitting:
    """How to split: the destination's spelling of names, and the columns that it already has.

    Without `json_columns`, JSON is stored in text columns. A table that `discards_variants` gets no
    further column for values that do not fit their column, so that these take no room.
    """

    normalize: Callable[[str], str] = lambda name: name
    columns: Callable[[str], Mapping[str, KnownColumn]] = lambda _table: {}
    json_columns: bool = True
    max_new_columns: int = USUAL.max_new_columns
    reserved: frozenset[str] = frozenset()
    discards_variants: Callable[[str], bool] = lambda _table: False


class Names:
    """The new columns of one table: those that exist, and those that a batch adds."""

    def __init__(self, table: Table, how: Splitting) -> None:
        self._normalize = how.normalize
        self._known = how.columns(table.name)
        self.rest = self._normal(MORE_FIELDS)
        promised = [self._normal(column.name) for column in table.columns]
        reserved = {*promised, AS_OF, DELETED, *_SYSTEM, self.rest, *how.reserved}
        # DuckDB and others ignore case: to them `Score` and `score` are the same column.
        self._taken = {name.casefold() for name in reserved}
        new = {
            name: column
            for name, column in self._known.items()
            if name.casefold() not in self._taken and not name.casefold().startswith(_DLT)
        }
        self._room = how.max_new_columns - len(new)
        self._discards_variants = how.discards_variants(table.name)
        # Created by hand, or by a version that recorded no path. The first key with such a name
        # gets it; otherwise its values would move to a new column.
        self._unclaimed = {name for name, column in new.items() if column.path is None}
        self._taken |= {name.casefold() for name in new.keys() - self._unclaimed}
        self._types = {
            column.path: column.type
            for column in new.values()
            if column.path is not None and not column.is_variant
        }
        self._names: dict[tuple[Path, str], str] = {
            (column.path, column.type if column.is_variant else ""): name
            for name, column in new.items()
            if column.path is not None
        }

    @property
    def types(self) -> dict[Path, str]:
        """The types of the columns that exist in the warehouse, by the keys that lead to them."""
        return self._types

    def main(self, path: Path) -> str | None:
        """Return the column of these keys, if needed a new one; None if there is no room."""
        return self._found(path, "", "__".join(path))

    def variant(self, path: Path, kind: str) -> str | None:
        """Return the column for values of a kind that the main column cannot hold."""
        # dlt's own spelling for such columns.
        return self._found(path, kind, f"{self._names[path, '']}__v_{kind}")

    def type_of(self, name: str) -> str | None:
        """Return the type of a column that exists in the warehouse, None for a new one."""
        column = self._known.get(name)
        return column.type if column else None

    def in_order(self, paths: Iterable[Path]) -> list[Path]:
        """Sort new keys by their right to a name: first those spelled like their columns.

        So `score` comes before `Score`, whichever the API sent first.
        """
        return sorted(paths, key=lambda path: (not all(map(_PLAIN.fullmatch, path)), path))

    def _found(self, path: Path, variant: str, spelled: str) -> str | None:
        if name := self._names.get((path, variant)):
            return name
        wanted = self._normal(spelled) or _UNNAMED
        name = self._free(f"x{wanted}" if wanted.startswith(_DLT) else wanted, path, variant)
        if name not in self._unclaimed:
            takes_room = not (variant and self._discards_variants)
            if takes_room and self._room <= 0:
                return None
            self._room -= takes_room
        self._taken.add(name.casefold())
        self._names[path, variant] = name
        return name

    def _free(self, wanted: str, path: Path, variant: str) -> str:
        # Not a counter: it would depend on which of two keys came first, which varies between runs.
        digest = blake2b(text_of([path, variant]).encode(), digest_size=16).hexdigest()
        name, size = wanted, 6
        while name.casefold() in self._taken:
            name = self._normal(f"{wanted}_{digest[:size]}")
            size += 6
        return name

    def _normal(self, name: str) -> str:
        try:
            return self._normalize(name)
        except ValueError:  # dlt's way to say that nothing is left of it
            return ""
