"""Lakes that the promises are tried on, read by other libraries than dlt's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from destinations import DATASET, Destination
from servers import S3_KEYS, s3_environment

from unify_source.common.resources import BY_NAME
from unify_source.common.settings import DELTA, ICEBERG, PARQUET

PAGE = Path(__file__).parents[2] / "docs" / "destinations.md"
_TYPES = {
    pa.bool_(): "bool",
    pa.int64(): "bigint",
    pa.float64(): "double",
    pa.timestamp("us", tz="UTC"): "timestamp",
}


class Lake(Destination):
    """A folder of tables in one format."""

    dlt_name = "filesystem"
    lane = (pytest.mark.lane,)
    loads_without_news = 1
    json = "text"
    merges_by = "reference"
    table_format: ClassVar[str]

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, request: pytest.FixtureRequest) -> Iterator[Destination]:
        del request
        yield cls(cls.environment_for(str(folder / "lake")))

    @classmethod
    def environment_for(cls, url: str) -> dict[str, str]:
        """Return the environment that a pipeline or a command needs."""
        return {
            "DESTINATION__FILESYSTEM__BUCKET_URL": url,
            "SOURCES__UNIFY__TABLE_FORMAT": cls.table_format,
        }

    @property
    def place(self) -> str:
        """Where the tables are."""
        return f"{self.environment['DESTINATION__FILESYSTEM__BUCKET_URL']}/{DATASET}"

    def reads(self, table: str, columns: list[str]) -> list[tuple[Any, ...]]:
        rows = self.read(table).select(columns).to_pylist()
        return [tuple(row.values()) for row in rows]

    def columns(self, table: str) -> dict[str, str]:
        return {item.name: _TYPES.get(item.type, "text") for item in self.read(table).schema}

    def loads(self) -> list[str]:
        files = Path(self.place, "_dlt_loads").glob("*.jsonl")
        return sorted(json.loads(file.read_text())["load_id"] for file in files)

    def read(self, table: str) -> pa.Table:
        """Read a whole table."""
        raise NotImplementedError

    def comments(self, table: str) -> dict[str, str]:
        """Return the comments of a table's columns, and its own without a name."""
        raise NotImplementedError

    def comment(self, table: str, column: str, text: str) -> None:
        """Comment on a table and on a column of it, by hand."""
        raise NotImplementedError

    def strip(self, table: str) -> None:
        """Remove the comments of a table's columns, as if an older version had created it."""
        raise NotImplementedError

    def versions(self, table: str) -> list[set[str]]:
        """Return the keys in each version of a table, the oldest first."""
        raise NotImplementedError

    def rows_of(self, table: str, keys: list[str]) -> pa.Table:
        """Read the rows with these keys."""
        rows = self.read(table)
        return rows.filter(pc.is_in(rows["id"], value_set=pa.array(keys, rows["id"].type)))


class Delta(Lake):
    """Delta tables, read by deltalake itself."""

    name = "Delta, folder"
    table_format = DELTA
    takes_statements = True
    options: ClassVar[dict[str, str]] = {}

    def read(self, table: str) -> pa.Table:
        return self._opened(table).to_pyarrow_table()

    def comments(self, table: str) -> dict[str, str]:
        opened = self._opened(table)
        own = {"": opened.metadata().description}
        return own | {c.name: c.metadata.get("comment") for c in opened.schema().fields}

    def comment(self, table: str, column: str, text: str) -> None:
        self._opened(table).alter.set_table_description(text)
        self._opened(table).alter.set_column_metadata(column, {"comment": text})

    def strip(self, table: str) -> None:
        from deltalake import write_deltalake  # noqa: PLC0415 - of the lane

        rows = self.read(table)
        bare = pa.table(rows.to_pydict(), pa.schema([(f.name, f.type) for f in rows.schema]))
        write_deltalake(f"{self.place}/{table}", bare, mode="overwrite", schema_mode="overwrite")

    def _opened(self, table: str) -> Any:
        from deltalake import DeltaTable  # noqa: PLC0415 - of the lane

        return DeltaTable(f"{self.place}/{table}", storage_options=self.options)

    def change(self, statement: str) -> None:
        from deltalake import write_deltalake  # noqa: PLC0415 - of the lane

        # In a database of the test's, from which the table goes back as a whole.
        names = [n for n in re.findall(rf"{DATASET}\.(\w+)", statement) if n in BY_NAME]
        with duckdb.connect("hands.duckdb") as connection:
            connection.execute(f"SET TimeZone = 'UTC'; CREATE SCHEMA IF NOT EXISTS {DATASET}")
            for name in names:
                rows = self.read(name)
                connection.execute(f"CREATE OR REPLACE TABLE {DATASET}.{name} AS FROM rows")
            connection.execute(statement)
            if names and not statement.startswith("CREATE"):
                rows = connection.sql(f"FROM {DATASET}.{names[0]}").to_arrow_table()
                place = f"{self.place}/{names[0]}"
                write_deltalake(place, rows, mode="overwrite", storage_options=self.options)

    def double(self, table: str, keys: list[str]) -> None:
        """Write these rows once more, as a second loader might."""
        from deltalake import write_deltalake  # noqa: PLC0415 - of the lane

        write_deltalake(self._opened(table), self.rows_of(table, keys), mode="append")

    def versions(self, table: str) -> list[set[str]]:
        from deltalake import DeltaTable  # noqa: PLC0415 - of the lane

        place = f"{self.place}/{table}"
        each = (DeltaTable(place, version=n) for n in range(DeltaTable(place).version() + 1))
        return [set(opened.to_pyarrow_table()["id"].to_pylist()) for opened in each]


class DeltaOnS3(Delta):
    """Delta tables in a bucket of a server that speaks S3."""

    name = "Delta, S3"

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, request: pytest.FixtureRequest) -> Iterator[Destination]:
        address = request.getfixturevalue("s3_server")
        bucket = re.sub(r"\W", "-", folder.name.lower()).strip("-")
        self = cls({**cls.environment_for(f"s3://{bucket}/lake"), **s3_environment(address)})
        self.options = {**S3_KEYS, "endpoint_url": address, "allow_http": "true"}  # type: ignore[misc]
        self.files.mkdir(bucket)
        yield self

    @property
    def files(self) -> Any:
        """The bucket's files, not through dlt."""
        import s3fs  # noqa: PLC0415 - of the lane

        keys = {"key": S3_KEYS["aws_access_key_id"], "secret": S3_KEYS["aws_secret_access_key"]}
        address = self.options["endpoint_url"]
        return s3fs.S3FileSystem(**keys, endpoint_url=address, use_listings_cache=False)

    def loads(self) -> list[str]:
        files = self.files
        stored = files.glob(f"{self.place}/_dlt_loads/*.jsonl")
        return sorted(json.loads(files.read_text(file))["load_id"] for file in stored)


class Iceberg(Lake):
    """Iceberg tables, read by pyiceberg from their metadata, without a catalog."""

    name = "Iceberg, folder"
    table_format = ICEBERG

    def read(self, table: str) -> pa.Table:
        from pyiceberg.table import StaticTable  # noqa: PLC0415 - of the lane

        return StaticTable.from_metadata(self._metadata(table)[-1]).scan().to_arrow()

    def comments(self, table: str) -> dict[str, str]:
        from pyiceberg.table import StaticTable  # noqa: PLC0415 - of the lane

        opened = StaticTable.from_metadata(self._metadata(table)[-1])
        own = {"": opened.properties["comment"]}
        return own | {column.name: column.doc for column in opened.schema().fields}

    def comment(self, table: str, column: str, text: str) -> None:
        with self._writable(table).transaction() as transaction:
            transaction.set_properties(comment=text)
            with transaction.update_schema() as update:
                update.update_column(column, doc=text)

    def strip(self, table: str) -> None:
        opened = self._writable(table)
        with opened.update_schema() as update:
            for column in opened.schema().column_names:
                update.update_column(column, doc="")

    def _metadata(self, table: str) -> list[str]:
        return sorted(map(str, Path(self.place, table, "metadata").glob("*.metadata.json")))

    def double(self, table: str, keys: list[str]) -> None:
        """Write these rows once more, as a second loader might."""
        self._writable(table).append(self.rows_of(table, keys))

    def _writable(self, table: str) -> Any:
        pipeline = self.pipeline()
        pipeline.sync_destination()
        client: Any = pipeline.destination_client()
        return client.load_open_table(ICEBERG, table)

    def versions(self, table: str) -> list[set[str]]:
        from pyiceberg.table import StaticTable  # noqa: PLC0415 - of the lane

        each = map(StaticTable.from_metadata, self._metadata(table))
        return [set(opened.scan().to_arrow()["id"].to_pylist()) for opened in each]


class Parquet(Lake):
    """Plain files, read by DuckDB through the views that the page on destinations gives."""

    name = "Parquet, folder"
    table_format = PARQUET
    merges_by = "parquet"
    deletes_rows = False

    def read(self, table: str) -> pa.Table:
        page = PAGE.read_text()
        (views,) = re.findall(r"```sql\n(CREATE MACRO.*?)```", page, re.DOTALL)
        if self.by_account:
            views = views.replace("PARTITION BY", "PARTITION BY account,")
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(views.replace("lake/unify", self.place))
            return connection.sql(f"FROM {table}").to_arrow_table()
