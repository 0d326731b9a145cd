"""Reads a table in plain Parquet files, and erases rows from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unify_source.common.resources import AS_OF, DELETED, KEY, TEXT, Table
from unify_source.common.settings.accounts import ACCOUNT
from unify_source.destinations.lakes.versions import standing

_OBJECT_STORES = ("s3", "gs", "gcs", "az", "azure", "abfs", "abfss", "adl")


@dataclass(frozen=True)
class ParquetRows:
    """The current rows of a table in plain files, which hold every version of each row.

    See `tables.Rows`.
    """

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

    def every(self, columns: Iterable[str]) -> Iterator[pa.Table]:
        """See `Rows`."""
        own = [*columns, *([ACCOUNT] if self.account else [])]
        return (self._of_file(file, own) for file in self.files)

    def erase(self, keys: Sequence[str], column: str) -> None:
        """See `Rows`: the files that have such rows are replaced by others of the same name."""
        theirs = pc.field(column).isin(pa.array(keys, TEXT))
        theirs = theirs & (pc.field(ACCOUNT) == self.account) if self.account else theirs
        for file in self.files:
            rows = self._read(file)
            left = rows.filter(~theirs) if column in rows.schema.names else rows
            if len(left) < len(rows):
                self._replace(file, left)

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
        rows = self._read(file, columns)
        return rows.filter(pc.field(ACCOUNT) == self.account) if self.account else rows

    def _read(self, file: str, columns: list[str] | None = None) -> pa.Table:
        with self.client.fs_client.open(file, "rb") as opened:
            return pq.ParquetFile(opened).read(columns=columns)

    def _replace(self, file: str, rows: pa.Table) -> None:
        files, written = self.client.fs_client, pa.BufferOutputStream()
        pq.write_table(rows, written)
        content = written.getvalue().to_pybytes()
        if self.client.config.protocol in _OBJECT_STORES:
            # An object is replaced as a whole.
            files.pipe_file(file, content)
            return
        # A file is not: a kill would leave half of it, and dlt would read any new one beside it.
        place = self.client.pathlib.join(self.client.bucket_path, f"{self.client.dataset_name}.new")
        files.pipe_file(place, content)
        files.mv(place, file)
