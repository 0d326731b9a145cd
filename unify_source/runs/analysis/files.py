"""Writes files, complete or not at all, and rows as CSV, Parquet or XLSX."""

from __future__ import annotations

import csv
import errno
import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

from unify_source.common.errors import ConfigurationError
from unify_source.common.temporary import temporary_folder

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

Rows = Iterable[list[tuple[Any, ...]]]
"""Batches of rows: times are aware, and values of other types are text."""

Writer = Callable[[Path, pa.Schema, Rows, ZoneInfo], int]

# Excel's own limits: a sheet, a cell, the digits of a number, and its calendar.
_MOST_ROWS = 1_048_576
_MOST_CHARACTERS = 32_767
_MOST_DIGITS = 15
_FIRST_YEAR = 1900
_WIDTH = 20


@contextmanager
def part_of(file: Path) -> Iterator[Path]:
    """Yield a file beside this one, which replaces it once it is complete, or is deleted."""
    if file.is_dir():
        raise ConfigurationError(
            f"{file} cannot be written: it is a folder.", "Name a file in it, or choose another."
        )
    part = file.with_name(f".{file.name}-{os.getpid()}")
    try:
        yield part
        part.replace(file)
    except OSError as error:
        is_full = error.errno == errno.ENOSPC
        raise ConfigurationError(
            f"{file} cannot be written: {error.strerror or error}.",
            f"{'Free some space there, or choose' if is_full else 'Choose'} another file.",
        ) from None
    finally:
        with suppress(OSError):
            part.unlink()


def write_csv(file: Path, schema: pa.Schema, batches: Rows, zone: ZoneInfo) -> int:
    """Write rows as CSV in UTF-8, times in RFC 3339; return the number of rows."""
    count = 0
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(schema.names)
        for rows in batches:
            writer.writerows([_as_text(value, zone) for value in row] for row in rows)
            count += len(rows)
    return count


def write_parquet(file: Path, schema: pa.Schema, batches: Rows, zone: ZoneInfo) -> int:
    """Write rows as Parquet, times as instants in the zone; return the number of rows."""
    count = 0
    shown = pa.schema([field.with_type(_in_zone(field.type, zone)) for field in schema])
    with pq.ParquetWriter(file, shown) as writer:
        for rows in batches:
            columns = zip(*rows, strict=True)
            arrays = [
                pa.array(c, f.type).cast(s.type)
                for c, f, s in zip(columns, schema, shown, strict=True)
            ]
            writer.write_batch(pa.record_batch(arrays, schema=shown))
            count += len(rows)
    return count


def write_xlsx(file: Path, schema: pa.Schema, batches: Rows, zone: ZoneInfo) -> int:
    """Write rows as an XLSX sheet, times in the zone but without its offset; return their number.

    Raises ConfigurationError if a sheet cannot hold them.
    """
    with temporary_folder() as folder, _Output(file) as output:
        try:
            count = _fill(_Sheet(output, schema.names, zone, folder), batches)
        except OSError as error:
            raise ConfigurationError(
                f"No temporary file can be written in {Path(folder).parent}: {error.strerror}.",
                "Free some disk space there, or set TMPDIR to another folder.",
            ) from None
    if output.error:
        raise output.error
    return count


def _fill(sheet: _Sheet, batches: Rows) -> int:
    count = 0
    for rows in batches:
        for row in rows:
            count += 1
            if count == _MOST_ROWS:
                raise _too_much(f"{_MOST_ROWS - 1:,} rows")
            for column, value in enumerate(row):
                if value is not None:
                    sheet.write(count, column, value)
    sheet.close()
    return count


class _Output(io.FileIO):
    """A file that keeps its first error: xlsxwriter leaves its archive open after one.

    Python would try to complete that archive at its end, and print where it failed.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(file, "w")
        self.error: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of the data, if everything before it could be written."""
        left = memoryview(data)
        try:
            while left and not self.error:
                left = left[super().write(left) :]
        except OSError as error:
            self.error = error
        return memoryview(data).nbytes


class _Sheet:
    def __init__(self, file: io.FileIO, names: list[str], zone: ZoneInfo, folder: str) -> None:
        # Row by row: a sheet in memory takes a hundred times the space of its rows.
        book = _workbook()(file, {"constant_memory": True, "tmpdir": folder})
        self._sheet = book.add_worksheet()
        self._zone = zone
        self._as_time = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        self._as_date = book.add_format({"num_format": "yyyy-mm-dd"})
        self._book = book
        self._sheet.freeze_panes(1, 0)
        self._sheet.set_column(0, len(names), _WIDTH)
        heading = book.add_format({"bold": True})
        for column, name in enumerate(names):
            self._sheet.write_string(0, column, name, heading)

    def close(self) -> None:
        """Write the file. Raises OSError."""
        from xlsxwriter.exceptions import FileCreateError

        try:
            self._book.close()
        except FileCreateError as error:
            raise error.args[0] from None

    def write(self, row: int, column: int, value: Any) -> None:
        """Write a value with its own type, or as text if Excel would change it."""
        if isinstance(value, date) and value.year > _FIRST_YEAR:
            form = self._as_date
            if isinstance(value, datetime):
                value, form = value.astimezone(self._zone).replace(tzinfo=None), self._as_time
            self._sheet.write_datetime(row, column, value, form)
        elif isinstance(value, bool):
            self._sheet.write_boolean(row, column, value)
        elif isinstance(value, int | float) and len(str(value).strip("-0.")) <= _MOST_DIGITS:
            self._sheet.write_number(row, column, value)
        else:
            # As a string, always: a subject that begins with "=" must not become a formula.
            text = _as_text(value, self._zone)
            if len(text) > _MOST_CHARACTERS:
                raise _too_much(f"a cell of {_MOST_CHARACTERS:,} characters")
            self._sheet.write_string(row, column, text)


def _workbook() -> Any:
    try:
        from xlsxwriter import Workbook
    except ModuleNotFoundError:
        raise ConfigurationError(
            "XLSX needs xlsxwriter, which is not installed.",
            "Install it: pip install 'unify-source[xlsx]', or export as CSV.",
        ) from None
    return Workbook


def _too_much(limit: str) -> ConfigurationError:
    return ConfigurationError(
        f"XLSX cannot hold these rows: its limit is {limit}.", "Export them as CSV or Parquet."
    )


def _as_text(value: Any, zone: ZoneInfo) -> str:
    if isinstance(value, datetime):
        return value.astimezone(zone).isoformat()
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _in_zone(kind: pa.DataType, zone: ZoneInfo) -> pa.DataType:
    return pa.timestamp(kind.unit, tz=zone.key) if pa.types.is_timestamp(kind) else kind


WRITERS: dict[str, Writer] = {".csv": write_csv, ".parquet": write_parquet, ".xlsx": write_xlsx}
"""By the extension of a file's name."""
