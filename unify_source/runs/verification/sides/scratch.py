"""Both sides of a comparison, as digests in Parquet files, and a DuckDB database that joins them.

It spills to disk what exceeds its memory: ten million rows are joined there. Both sides' digests
come from the same expression on the same types, so they do not depend on where a row comes from.
"""

from __future__ import annotations

import glob
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import MAX_PREC, Context, Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from unify_source.common.errors import UnifyError
from unify_source.common.resources import BY_NAME, FLAG, INSTANT, KEY, QUARANTINE, TEXT
from unify_source.common.temporary import temporary_folder
from unify_source.flatten.values import ARROW_TYPES
from unify_source.runs.verification.sides.digests import HASHED, Digests, literal

COMPARED = tuple(name for name in BY_NAME if name != QUARANTINE.name)
"""The tables whose rows the API shows."""

API, STORED, AGAIN, CHANGED = SIDES = ("api", "stored", "again", "changed")
"""Where rows come from: the API, the destination, the API asked again, the rows changed since."""

NEWEST_OWNER = "coalesce(arg_max(owner, moment), any_value(owner))"
"""Of several listed rows that show an object, the one that was updated last."""

_NO_ROWS = (
    "SELECT NULL::VARCHAR AS id, NULL::VARCHAR AS owner, NULL::VARCHAR AS parent,"
    " NULL::TIMESTAMPTZ AS moment, NULL::BOOLEAN AS inside, NULL::UBIGINT AS digest WHERE false"
)
_SEEN = {"owner": TEXT, "parent": TEXT, "moment": INSTANT, "inside": FLAG}
_EXACT = Context(prec=MAX_PREC)
_MEMORY = "250MB"
_SAMPLE = 10_000


class Scratch:
    """Takes rows in batches, and runs SQL on them.

    Its tables, the first two, which are views, for each of `SIDES` and each table in `COMPARED`:

    - `SIDE_TABLE` (id, owner, parent, moment, inside, digest): its rows, see `add`
    - `SIDE_TABLE_nested` (the same): objects nested in the rows of another resource's list
    - `asked` (list, id, fate): rows that the API was asked for by id, and its answer
    - `unasked` (id): the owners of suspects beyond the most that are asked for
    - `unreadable` (id): rows that the API shows, but that belong in quarantine
    - `equal` (tbl, bucket): buckets whose rows are equal on both sides, and were not fetched

    `differences` and `repair` add:

    - `suspects` (tbl, list, kind, id, owner, moment, n): `n` rows of an id that seem to differ
    - `differences` (the same): suspects asked for again; `kind` is null where the sides now agree
    - `removed` (tbl, id): rows to delete
    """

    def __init__(self, folder: str, digests: Digests) -> None:
        self.digests = digests
        self._folder = Path(folder)
        self._connection = duckdb.connect(
            config={
                "memory_limit": _MEMORY,
                "temp_directory": folder,
                "preserve_insertion_order": False,
                "threads": 2,
            },
        )
        self.run("SET TimeZone = 'UTC'")
        for side in SIDES:
            for table in COMPARED:
                for name in (table, f"{table}_nested"):
                    self.run(f"CREATE VIEW {side}_{name} AS {_NO_ROWS}")
        self.run("CREATE TABLE asked (list VARCHAR, id VARCHAR, fate VARCHAR)")
        self.run("CREATE TABLE unasked (id VARCHAR)")
        self.run("CREATE TABLE unreadable (id VARCHAR)")
        self.run("CREATE TABLE equal (tbl VARCHAR, bucket INTEGER)")

    def close(self) -> None:
        """Release the memory."""
        self._connection.close()

    def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement, and return its rows."""
        return self._connection.execute(statement, values).fetchall()

    def arrow(self, query: str) -> pa.Table:
        """Return the rows of a query as an Arrow table."""
        return self._connection.sql(query).to_arrow_table()

    def sums(self, name: str) -> dict[int, tuple[int, str]]:
        """Return the number of a table's rows in the API and the sum of their digests, by bucket.

        A row counts once, however often it was listed.
        """
        bucket = self.digests.bucket("id")
        shown = f"SELECT DISTINCT {bucket} AS bucket, digest FROM {API}_{name}"
        rows = self.run(
            f"SELECT bucket, count(*), CAST(sum(digest) AS VARCHAR) FROM ({shown}) GROUP BY bucket"
        )
        return {bucket: (count, total) for bucket, count, total in rows}

    def shown(self, name: str, *, equal: bool) -> str:
        """Return the query for the API's rows of a table in buckets that are `equal`, or not."""
        buckets = f"SELECT bucket FROM equal WHERE tbl = '{name}'"
        among = "IN" if equal else "NOT IN"
        return f"FROM {API}_{name} WHERE {self.digests.bucket('id')} {among} ({buckets})"

    def put(self, name: str, rows: pa.Table) -> None:
        """Add rows to a table with their columns."""
        self._run_on(rows, f"INSERT INTO {name} SELECT * FROM given")

    def add(
        self, side: str, table: str, rows: pa.Table, types: Mapping[str, str], **seen: pa.Array
    ) -> None:
        """Add rows of a table to a side; `types` are dlt's, of the columns that count.

        `seen` says what is known about the rows: `owner` is the listed row that shows one, `parent`
        the row that it refers to, `moment` its time, and `inside` whether it is in the range.
        """
        content = canonical(rows, types)
        columns = {f"c{number}": column for number, column in enumerate(content.columns)}
        named = zip(content.schema.names, columns, strict=True)
        known = {name: seen.get(name, pa.nulls(len(rows), kind)) for name, kind in _SEEN.items()}
        digest = self.digests.row({name: (column, types[name]) for name, column in named})
        given = f"SELECT id, {', '.join(_SEEN)}, {digest} AS digest FROM given"
        if side != STORED and _is_repetitive(rows[KEY]):
            # One row of a mailbox in a batch of 60,000 is enough, unless they differ. In the
            # destination, a second one would be a duplicate, so every row counts there.
            once = (
                f"id, {NEWEST_OWNER} AS owner, any_value(parent) AS parent, max(moment) AS moment,"
                " any_value(inside) AS inside, digest"
            )
            given = f"SELECT {once} FROM ({given}) GROUP BY id, digest"
        self._write(f"{side}_{table}", given, pa.table({"id": rows[KEY], **known, **columns}))

    def _write(self, name: str, query: str, rows: pa.Table) -> None:
        # Nearly all rows are only read to add up their digests: a file takes a third of the time
        # that inserting their texts into a table would, and no memory.
        folder = self._folder / name
        is_first = not folder.exists()
        folder.mkdir(exist_ok=True)
        file = literal(str(folder / f"{len(list(folder.iterdir()))}.parquet"))
        self._run_on(rows, f"COPY ({query}) TO {file} (FORMAT parquet, COMPRESSION uncompressed)")
        if is_first:
            files = literal(f"{glob.escape(str(folder))}/*.parquet")
            self.run(f"CREATE OR REPLACE VIEW {name} AS FROM read_parquet({files})")

    def _run_on(self, rows: pa.Table, statement: str) -> None:
        self._connection.register("given", rows)
        try:
            self._connection.execute(statement)
        finally:
            self._connection.unregister("given")


@contextmanager
def scratch(digests: Digests = HASHED) -> Iterator[Scratch]:
    """Yield a scratch database, whose files are deleted afterwards."""
    with temporary_folder() as folder:
        database = Scratch(folder, digests)
        try:
            yield database
        except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
            raise UnifyError(
                f"No space left for the digests to compare: {str(error).splitlines()[0]}",
                f"Free space in the temporary folder ({tempfile.gettempdir()}), or set TMPDIR to"
                " another one, and run it again.",
            ) from error
        finally:
            database.close()


def _is_repetitive(keys: pa.ChunkedArray) -> bool:
    some = keys[:_SAMPLE]
    return bool(2 * pc.count_distinct(some).as_py() < len(some))


def canonical(rows: pa.Table, types: Mapping[str, str]) -> pa.Table:
    """Return the columns that count, sorted by name, each in the only type for its dlt type."""
    columns = {}
    for name, kind in sorted(types.items()):
        if name in rows.schema.names:
            column = typed(rows[name], ARROW_TYPES[kind])
            columns[name] = _spelled(column) if kind == "json" else column
    return pa.table(columns)


def typed(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return a destination's column in the type in which it was loaded."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.cast(column.type.storage_type)
    if kind == INSTANT and pa.types.is_timestamp(column.type) and not column.type.tz:
        column = pc.assume_timezone(column, "UTC")
    return column if column.type == kind else column.cast(kind, safe=False)


def _spelled(column: pa.ChunkedArray) -> pa.Array:
    """Write JSON in one form: databases sort its keys, and write 1E2 as 100."""
    # Rows share objects, and parsing each again would take longer than all else.
    encoded = column.combine_chunks().dictionary_encode()
    texts = [_json(text) for text in encoded.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(encoded.indices)


def _json(text: str) -> str:
    try:
        return repr(_plain(json.loads(text, parse_int=Decimal, parse_float=Decimal)))
    except ValueError:
        # A JSON column that is stored as text may contain anything that somebody wrote.
        return text


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {"object": [(key, _plain(item)) for key, item in sorted(value.items())]}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Decimal):
        return _EXACT.normalize(value) if value else Decimal(0)
    return value
