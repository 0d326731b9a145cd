"""Reads and deletes the rows of a lake's tables, with the library of each format.

A table may hold the rows of several accounts: only those of one are read and deleted. DuckDB, with
which dlt reads files, would download an extension for each format.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import and_
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from dlt.common.destination.exceptions import DestinationUndefinedEntity

from unify_source.common.resources import KEY, TEXT, Table
from unify_source.common.settings import DELTA, ICEBERG
from unify_source.common.settings.accounts import ACCOUNT, of_account
from unify_source.destinations.lakes.versions import newest_of_each

_KEYS_IN_ONE_DELETE = 1_000
_HOURS_OF_A_LOAD = 1


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

    def every(self, columns: Iterable[str]) -> Iterator[pa.Table]:
        """Yield these columns, where a file has them, of all rows and of those they replaced."""

    def erase(self, keys: Sequence[str], column: str) -> None:
        """Delete the rows with these keys in a column, and what still holds them, for good.

        Of an Iceberg table, older snapshots stay.
        """

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
        # Imported here: it imports Arrow's Parquet, 5 MB that other destinations may not need.
        from unify_source.destinations.lakes.parquet import ParquetRows  # noqa: PLC0415

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

    def every(self, columns: Iterable[str]) -> Iterator[pa.Table]:
        """See `Rows`."""
        names = {field.name for field in self.opened.schema().fields}
        return self.batches([column for column in columns if column in names])

    def erase(self, keys: Sequence[str], column: str) -> None:
        """See `Rows`."""
        if keys:
            self.opened.delete(self._have(keys, column))
        # Without rows to delete, too: a first try may have died before this. Without a retention,
        # the files of all older versions go, and then those that the log does not know (any more):
        # old ones, because a run by dlt, which takes no turn, may be writing others.
        vacuum = partial(self.opened.vacuum, dry_run=False, enforce_retention_duration=False)
        vacuum(retention_hours=0)
        vacuum(retention_hours=_HOURS_OF_A_LOAD, full=True)

    def keep_newest(self, keys: Sequence[str], newest: str) -> None:
        """See `Rows`."""
        from deltalake import write_deltalake  # noqa: PLC0415 - an extra

        theirs = self._where(pc.field(KEY).cast(TEXT).isin(list(keys)))
        rows = newest_of_each(self.opened.to_pyarrow_dataset().to_table(filter=theirs), newest)
        write_deltalake(self.opened, rows, mode="overwrite", predicate=self._have(keys))

    def _where(self, *conditions: pc.Expression) -> pc.Expression | None:
        own = [pc.field(ACCOUNT).cast(TEXT) == self.account] if self.account else []
        return reduce(and_, [*own, *conditions]) if own or conditions else None

    def _have(self, keys: Sequence[str], column: str = KEY) -> str:
        listed = ", ".join("'" + key.replace("'", "''") + "'" for key in keys)
        return of_account(self.account, f"{column} IN ({listed})")


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
        self.erase(keys, KEY)
        return True

    def every(self, columns: Iterable[str]) -> Iterator[pa.Table]:
        """See `Rows`."""
        names = self.opened.schema().column_names
        return self.batches([column for column in columns if column in names])

    def erase(self, keys: Sequence[str], column: str) -> None:
        """See `Rows`."""
        for start in range(0, len(keys), _KEYS_IN_ONE_DELETE):
            self.opened.delete(self._have(keys[start : start + _KEYS_IN_ONE_DELETE], column))

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

    def _have(self, keys: Sequence[str], column: str = KEY) -> Any:
        from pyiceberg.expressions import In  # noqa: PLC0415 - an extra

        return self._where(In(column, list(keys)))
