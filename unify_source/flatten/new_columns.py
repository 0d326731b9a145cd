"""Turns fields that the API does not promise into columns, value by value. Pure.

A key has one column of one type in all runs. A value that does not fit the type goes to a column
beside it: a text among the numbers of `score` goes to `score__v_text`. Neither depends on the rest
of a batch or its order, except for a new key, whose values in its first batch decide the type.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from unify_source.common.resources import JSON_METADATA, Path, Table
from unify_source.flatten.decode.json_text import parsed, text_of
from unify_source.flatten.decode.limits import MAX_PATH_LENGTH
from unify_source.flatten.names import Names, Splitting
from unify_source.flatten.values import ARROW_TYPES, chosen, fitted, kind_of

SOURCE_PATH = "x-source-path"
"""The metadata of a column, and its hint in dlt: the keys that lead to its values, as JSON."""

IS_VARIANT = "x-is-variant"
"""The mark of a column for values that do not fit the main column of their key."""

_CROWD = 100
_PARSED_ROWS = 1_000


def new_columns(
    table: Table, more: pa.Array, how: Splitting
) -> Iterator[tuple[pa.Field, pa.Array]]:
    """Yield the columns for the JSON objects of a table's rows, null where a row has none."""
    if more.null_count == len(more):
        return
    names = Names(table, how)
    cells = _Cells(names, len(more), json_columns=how.json_columns)
    cells.plan(_surveyed(more, names, how))
    for row, path, value in _values(more):
        cells.put(row, path, value)
    yield from cells.columns()


def _values(more: pa.Array) -> Iterator[tuple[int, Path, Any]]:
    """Yield each value with its row and the keys that lead to it.

    Many texts are parsed at once for speed, but not all: the objects take far more memory.
    """
    rows = pc.indices_nonzero(pc.is_valid(more))
    for start in range(0, len(rows), _PARSED_ROWS):
        some = rows.slice(start, _PARSED_ROWS)
        objects = parsed(f"[{','.join(more.take(some).to_pylist())}]")
        for row, value in zip(some.to_pylist(), objects, strict=True):
            for path, leaf in _leaves(value):
                yield row, path, leaf


def _surveyed(more: pa.Array, names: Names, how: Splitting) -> dict[Path, set[str]]:
    """Return the kinds of value at each path that can get a new column.

    If there are too many, it keeps the first by name, which also limits the memory.
    """
    new: dict[Path, set[str]] = {}
    for _, path, value in _values(more):
        if path in names.types or (path not in new and _is_too_long(path)):
            continue
        new.setdefault(path, set()).add(kind_of(value, json_columns=how.json_columns))
        if len(new) > _CROWD + 4 * how.max_new_columns:
            new = {path: new[path] for path in names.in_order(new)[: how.max_new_columns]}
    return {path: new[path] for path in names.in_order(new)}


class _Cells:
    """The values of the new columns, row by row."""

    def __init__(self, names: Names, length: int, *, json_columns: bool) -> None:
        self._names, self._length, self._json = names, length, json_columns
        self._types = dict(names.types)
        self._values: dict[tuple[Path, str, bool], dict[int, Any]] = {}
        self._rest: dict[int, dict[str, Any]] = {}

    def plan(self, new: dict[Path, set[str]]) -> None:
        """Choose a column and a type for each new path, while there is room."""
        for path, kinds in new.items():
            if name := self._names.main(path):
                self._types[path] = self._names.type_of(name) or chosen(kinds)

    def put(self, row: int, path: Path, value: Any) -> None:
        """Add a value to its column, to the one beside it, or to `more_fields`."""
        kind = self._types.get(path)
        if kind is not None:
            fits, stored = fitted(value, kind, json_columns=self._json)
            if fits:
                self._values.setdefault((path, kind, False), {})[row] = stored
                return
            own = kind_of(value, json_columns=self._json)
            # Beside the column, never instead of it: changing its type or emptying it for a single
            # odd value would silently falsify every sum over it.
            if self._names.variant(path, own):
                _, stored = fitted(value, own, json_columns=self._json)
                self._values.setdefault((path, own, True), {})[row] = stored
                return
        # An object keyed by ids has new keys in every row. Postgres stops at 1,600 columns, DuckDB
        # when memory runs out.
        _place(self._rest.setdefault(row, {}), path, value)

    def columns(self) -> Iterator[tuple[pa.Field, pa.Array]]:
        """Yield each column that has values."""
        # Sorted, because pages arrive in any order: a new table should look the same each time.
        for path, kind, is_variant in sorted(self._values):
            values = self._values[path, kind, is_variant]
            name = self._names.variant(path, kind) if is_variant else self._names.main(path)
            origin = {SOURCE_PATH: text_of(path), **({IS_VARIANT: "1"} if is_variant else {})}
            yield self._column(str(name), kind, values, origin)
        if self._rest:
            texts = {row: text_of(rest) for row, rest in self._rest.items()}
            kind = "json" if self._json else "text"
            yield self._column(self._names.rest, kind, texts, {})

    def _column(
        self, name: str, kind: str, values: dict[int, Any], metadata: dict[str, str]
    ) -> tuple[pa.Field, pa.Array]:
        column = pa.array([values.get(row) for row in range(self._length)], ARROW_TYPES[kind])
        metadata = {**metadata, **(JSON_METADATA if kind == "json" else {})}
        return pa.field(name, column.type, metadata=metadata), column


def _leaves(value: dict[str, Any], above: Path = ()) -> Iterator[tuple[Path, Any]]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _leaves(item, (*above, key))
        elif item is not None:
            yield (*above, key), item


def _place(target: dict[str, Any], path: Path, value: Any) -> None:
    for key in path[:-1]:
        target = target.setdefault(key, {})
    target[path[-1]] = value


def _is_too_long(path: Path) -> bool:
    return sum(map(len, path)) > MAX_PATH_LENGTH
