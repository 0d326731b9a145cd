"""Sums digests by bucket of keys, so that only rows of buckets with different sums are fetched.

The buckets are of keys, not of days: most tables have no time of their own, and a row that refers
to another has only the other's key.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any

import dlt
import pyarrow as pa
from dlt.destinations.exceptions import DatabaseException

from unify_source.common.dlt_seam import kind_of
from unify_source.common.resources import BY_NAME, KEY, MAIN_LIST, Column, Table
from unify_source.common.settings.accounts import only
from unify_source.destinations.stored.contents import selected
from unify_source.runs.verification.sides.digests import (
    BUCKETS,
    HASHED,
    SPELLED,
    SPELLED_BY_POSTGRES,
    Digests,
)
from unify_source.runs.verification.sides.scratch import COMPARED, STORED, Scratch

# Beyond this number, a list of buckets costs a database more than returning all rows.
_MOST_LISTED = BUCKETS // 4
_COMPUTE: dict[str, tuple[Digests, Digests]] = {
    "duckdb": (HASHED, HASHED),
    "motherduck": (HASHED, HASHED),
    "postgres": (SPELLED, SPELLED_BY_POSTGRES),
}
"""Destinations that compute digests: their SQL in DuckDB here, and in the destination."""
ALL = "1 = 1"
"""The condition for every row: not every database has a literal `true`."""
_SUMMED = {part.table.name for part in MAIN_LIST.parts if not part.fills_in}


def digests_for(pipeline: dlt.Pipeline) -> Digests:
    """Return the digests for comparing with a destination."""
    here, _ = _COMPUTE.get(kind_of(pipeline.destination), (HASHED, HASHED))
    return here


def parent_of(table: Table) -> Column | None:
    """Return the column by which a row that is deleted with its parent refers to it."""
    return next((c for c in table.columns if table.dies_with and c.references), None)


class Buckets:
    """Finds out by the destination's own sums which of its rows can differ from the API's."""

    def __init__(self, pipeline: dlt.Pipeline, scratch: Scratch, account: str | None) -> None:
        self._client: Any = pipeline.destination_client()
        self._scratch, self._account = scratch, account
        computed = _COMPUTE.get(kind_of(pipeline.destination))
        self._there = computed[1] if computed else None
        self._differ: dict[str, set[int]] = {}

    def compare(self, name: str, types: Mapping[str, str]) -> None:
        """Compare the sums of a table and note its `equal` buckets, if the destination has sums.

        If not, all its rows are fetched.
        """
        # A database formats JSON in its own way: it is compared in the form used here.
        if self._there and name in _SUMMED and "json" not in types.values():
            # An error here, such as a missing table, is reported when its rows are read.
            with suppress(DatabaseException):
                self._note(name, self._sums(name, types, self._there))

    def _sums(self, name: str, types: Mapping[str, str], there: Digests) -> dict[int, Any]:
        with self._client.sql_client as sql:
            named = {n: (sql.escape_column_name(n), kind) for n, kind in types.items()}
            bucket = there.bucket(sql.escape_column_name(KEY))
        sums = f"{bucket}, count(*), CAST(sum({there.row(named)}) AS VARCHAR)"
        rows = selected(self._client, name, sums, f"WHERE {only(self._account)} GROUP BY 1")
        return {bucket: (count, total) for bucket, count, total in rows}

    def _note(self, name: str, theirs: dict[int, Any]) -> None:
        ours = self._scratch.sums(name)
        equal = [bucket for bucket, sums in theirs.items() if ours.get(bucket) == sums]
        self._differ[name] = (ours.keys() | theirs.keys()).difference(equal)
        self._scratch.put("equal", pa.table({"tbl": [name] * len(equal), "bucket": equal}))

    def condition(self, table: Table) -> str:
        """Return the condition, in the destination's SQL, for the rows of a table to fetch.

        They are the rows in buckets that differ, those that refer into one (they may be orphans),
        and those that any row fetched before refers to.
        """
        differ = self._differ.get(table.name)
        parent = parent_of(table)
        into = self._differ.get(str(parent.references)) if parent else set[int]()
        if self._there is None or differ is None or into is None:
            return ALL
        wanted = differ | self._referred_to(table)
        if len(wanted) + len(into) > _MOST_LISTED:
            return ALL
        with self._client.sql_client as sql:
            key = self._there.bucket(sql.escape_column_name(KEY))
            conditions = _among(key, wanted)
            if parent:
                reference = self._there.bucket(sql.escape_column_name(parent.name))
                conditions += _among(reference, into)
        return " OR ".join(conditions) or "1 = 0"

    def _referred_to(self, table: Table) -> set[int]:
        children = [c for c in map(BY_NAME.__getitem__, COMPARED) if _refers_to(c, table)]
        return {
            bucket
            for child in children
            for (bucket,) in self._scratch.run(
                f"SELECT DISTINCT {self._scratch.digests.bucket('parent')}"
                f" FROM {STORED}_{child.name} WHERE parent IS NOT NULL"
            )
        }


def _refers_to(child: Table, table: Table) -> bool:
    parent = parent_of(child)
    return parent is not None and parent.references == table.name


def _among(bucket: str, buckets: AbstractSet[int]) -> list[str]:
    return [f"{bucket} IN ({', '.join(map(str, sorted(buckets)))})"] if buckets else []
