"""Reads and deletes the rows of a lake's tables, with the library of each format.

A table may hold the rows of several accounts: only those of one are read and deleted. DuckDB, with
which dlt reads files, would download an extension for each format.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from dlt.common.destination.exceptions import DestinationUndefinedEntity

from unify_source.accounts import ACCOUNT, of_account
from unify_source.destinations.lakes.versions import newest_of_each, standing
from unify_source.resources import AS_OF, DELETED, KEY, TEXT, Table
from unify_source.settings import DELTA, ICEBERG

_KEYS_IN_ONE_DELETE = 1_000


class Rows(Protocol):
    """The rows of a table, of one account or of all."""

    def read(self, columns: Sequence[str] | None = None, not_null: str | None = None) -> pa.Table:
        """Return these columns, or all, of the rows in which another column is not null."""

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield these columns of all rows, in batches."""

    def count(self) -> int:
        """Return the number of rows."""

    def delete(self, keys: Sequence[str]) -> bool:
        """Delete the rows with these keys, and tell whether the format can."""

    def keep_newest(self, keys: Sequence[str], newest: str) -> None:
        """Keep only the newest row of each of these keys, in a single commit.

        If they were deleted and then reloaded, a kill in between would lose them.
        """


def rows_of(client: Any, table: Table, account: str | None) -> Rows | None:
    """Return the rows of a lake's table, None where there is no such table."""
    if table.name not in client.schema.tables:
        return None
    kind = client.prepare_load_table(table.name).get("table_format")
    try:
        if kind in (DELTA, ICEBERG):
            return of_format(kind, client.load_open_table(kind, table.name), account)
        return ParquetRows(client, table, client.list_table_files(table.name), account)
    except DestinationUndefinedEntity:
        return None


def of_format(kind: str, opened: Any, account: str | None) -> Rows:
    """Return the rows of an open Delta or Iceberg table."""
    return (IcebergRows if kind == ICEBERG else DeltaRows)(opened, account)


@dataclass(frozen=True)
class DeltaRows:
    """The rows of a Delta table."""

    opened: Any
    account: str | None

    def read(self, columns: Sequence[str] | None = None, not_null: str | None = None) -> pa.Table:
        """See `Rows`."""
        conditions = [pc.field(not_null).is_valid()] if not_null else []
        dataset = self.opened.to_pyarrow_dataset()
        return dataset.to_table(columns and list(columns), filter=self._where(*conditions))

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """See `Rows`."""
        dataset = self.opened.to_pyarrow_dataset()
        for batch in dataset.to_batches(columns=list(columns), filter=self._where()):
            yield pa.Table.from_batches([batch])

    def count(self) -> int:
        """See `Rows`."""
        return int(self.opened.to_pyarrow_dataset().count_rows(filter=self._where()))

    def delete(self, keys: Sequence[str]) -> bool:
        """See `Rows`."""
        self.opened.delete(self._have(keys))
        return True

    def keep_newest(self, keys: Sequence[str], newest: str) -> None:
        """See `Rows`."""
        from deltalake import write_deltalake  # noqa: PLC0415 - an extra

        theirs = self._where(pc.field(KEY).cast(TEXT).isin(list(keys)))
        rows = newest_of_each(self.opened.to_pyarrow_dataset().to_table(filter=theirs), newest)
        write_deltalake(self.opened, rows, mode="overwrite", predicate=self._have(keys))

    def _where(self, *conditions: pc.Expression) -> pc.Expression | None:
        own = [pc.field(ACCOUNT).cast(TEXT) == self.account] if self.account else []
        return reduce(and_, [*own, *conditions]) if own or conditions else None

    def _have(self, keys: Sequence[str]) -> str:
        listed = ", ".join("'" + key.replace("'", "''") + "'" for key in keys)
        return of_account(self.account, f"{KEY} IN ({listed})")


@dataclass(frozen=True)
class IcebergRows:
    """The rows of an Iceberg table."""

    opened: Any
    account: str | None

    def read(self, columns: Sequence[str] | None = None, not_null: str | None = None) -> pa.Table:
        """See `Rows`."""
        from pyiceberg.expressions import NotNull  # noqa: PLC0415 - an extra

        conditions = [NotNull(not_null)] if not_null else []
        rows = self._scan(*conditions, columns=columns or ("*",)).to_arrow()
        return rows.select(list(columns)) if columns else rows

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """See `Rows`."""
        for batch in self._scan(columns=columns).to_arrow_batch_reader():
            yield pa.Table.from_batches([batch]).select(list(columns))

    def count(self) -> int:
        """See `Rows`."""
        return int(self._scan().count())

    def delete(self, keys: Sequence[str]) -> bool:
        """See `Rows`."""
        for start in range(0, len(keys), _KEYS_IN_ONE_DELETE):
            self.opened.delete(self._have(keys[start : start + _KEYS_IN_ONE_DELETE]))
        return True

    def keep_newest(self, keys: Sequence[str], newest: str) -> None:
        """See `Rows`."""
        theirs = self._have(keys)
        rows = newest_of_each(self.opened.scan(row_filter=theirs).to_arrow(), newest)
        self.opened.overwrite(rows, overwrite_filter=theirs)

    def _scan(self, *conditions: Any, columns: Sequence[str] = ("*",)) -> Any:
        return self.opened.scan(row_filter=self._where(*conditions), selected_fields=tuple(columns))

    def _where(self, *conditions: Any) -> Any:
        from pyiceberg.expressions import AlwaysTrue, EqualTo  # noqa: PLC0415 - an extra

        own = [EqualTo(ACCOUNT, self.account)] if self.account else []
        return reduce(and_, [*own, *conditions], AlwaysTrue())

    def _have(self, keys: Sequence[str]) -> Any:
        from pyiceberg.expressions import In  # noqa: PLC0415 - an extra

        return self._where(In(KEY, list(keys)))


@dataclass(frozen=True)
class ParquetRows:
    """The current rows of a table in plain files, which hold every version of each row."""

    client: Any
    table: Table
    files: list[str]
    account: str | None

    def read(self, columns: Sequence[str] | None = None, not_null: str | None = None) -> pa.Table:
        """See `Rows`."""
        rows = self._current(None)
        rows = rows.filter(pc.field(not_null).is_valid()) if not_null else rows
        return rows.select(list(columns)) if columns else rows

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """See `Rows`."""
        if self.files:
            yield self.read(columns)

    def count(self) -> int:
        """See `Rows`."""
        table = self.table
        columns = [KEY, table.newest, AS_OF, DELETED, table.dies_with, self.account and ACCOUNT]
        return len(self._current([name for name in columns if name]))

    def delete(self, _keys: Sequence[str]) -> bool:
        """See `Rows`."""
        return False

    def keep_newest(self, _keys: Sequence[str], _newest: str) -> None:
        """See `Rows`: older rows do not count anyway."""

    def _current(self, columns: list[str] | None) -> pa.Table:
        if not self.files:
            return self.table.schema().empty_table()
        loads: dict[str, list[pa.Table]] = {}
        for file in sorted(self.files):
            # LOAD.FILE.parquet, where the load is the second at which it began, with a fraction.
            load = ".".join(self.client.pathlib.basename(file).split(".")[:2])
            loads.setdefault(load, []).append(self._of_file(file, columns))
        return standing(self.table, loads)

    def _of_file(self, file: str, columns: list[str] | None) -> pa.Table:
        with self.client.fs_client.open(file, "rb") as opened:
            rows = pq.ParquetFile(opened).read(columns=columns)
        return rows.filter(pc.field(ACCOUNT) == self.account) if self.account else rows
