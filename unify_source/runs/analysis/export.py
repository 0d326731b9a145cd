"""`export`: writes one table or model to a file, for a spreadsheet or another program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dlt
import pyarrow as pa
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from unify_source.common.errors import ConfigurationError
from unify_source.common.resources import DESCRIBED, DIFFERENCES, FLAG, INSTANT, TEXT, WHOLE
from unify_source.common.settings import LOCK_TIMEOUT
from unify_source.load.packages import stored_schema
from unify_source.runs.analysis.files import WRITERS, part_of
from unify_source.runs.analysis.models import models
from unify_source.runs.analysis.views import client_of, models_dataset

_BATCH = 10_000
_TYPES = {
    "bigint": WHOLE,
    "bool": FLAG,
    "boolean": FLAG,
    "date": pa.date32(),
    "double": pa.float64(),
    "timestamp": INSTANT,
}
"""By dlt's and the models' names of types; any other type is written as text."""


@dataclass(frozen=True)
class Exported:
    """What was written, and where."""

    name: str
    file: Path
    rows: int

    def as_json(self) -> dict[str, Any]:
        """Return the result as `--json` prints it."""
        return {"command": "export", "name": self.name, "file": str(self.file), "rows": self.rows}

    def as_lines(self) -> list[str]:
        """Return the result as plain sentences."""
        return [f"{self.rows:,} rows of {self.name} written to {self.file}."]


def export(
    pipeline: dlt.Pipeline,
    name: str,
    file: Path | str | None = None,
    *,
    time_zone: str = "UTC",
    lock_timeout: float | str = LOCK_TIMEOUT.default,
) -> Exported:
    """Write all rows of a table or model to a file, whose ending decides the format.

    The file is `NAME.csv` unless set. It replaces an older one only once it is complete. Raises
    ConfigurationError for an invalid argument, LockHeld, or another UnifyError.
    """
    target = Path(file or f"{name}.csv")
    write = WRITERS.get(target.suffix.lower())
    if write is None:
        raise ConfigurationError(
            f"{target} ends with {target.suffix or 'no format'!r}.",
            f"Choose a name that ends with {', '.join(WRITERS)}.",
        )
    zone = _zone(time_zone)
    with client_of(pipeline, lock_timeout) as client:
        schema = _schema(pipeline, name)
        with part_of(target) as part:
            rows = write(part, schema, _batches(client, name, schema), zone)
    return Exported(name, target, rows)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    # An empty name, that of a folder, or one with invalid characters.
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigurationError(
            f"is {name[:100]!r}, which is not a time zone.",
            "Name one such as Europe/Berlin or UTC.",
            setting="time_zone",
        ) from None


def _schema(pipeline: dlt.Pipeline, name: str) -> pa.Schema:
    """Return the columns to write, with the types of the model or of the table's stored schema."""
    tables = [table.name for table in DESCRIBED]
    if name == DIFFERENCES.name:
        # No run loads it, so it is not in their schema.
        return DIFFERENCES.schema()
    if model := models().get(name):
        types = {column.name: column.data_type for column in model.columns}
    elif name in tables:
        stored = stored_schema(pipeline).tables.get(name, {"columns": {}})["columns"]
        types = {n: str(c.get("data_type")) for n, c in stored.items() if not n.startswith("_")}
    else:
        raise ConfigurationError(
            f"There is no table or model {name!r}.",
            f"Choose from {', '.join([*tables, *models()])}.",
        )
    return pa.schema([(column, _TYPES.get(kind, TEXT)) for column, kind in types.items()])


def _batches(client: Any, name: str, schema: pa.Schema) -> Iterator[list[tuple[Any, ...]]]:
    is_model = name in models()
    dataset = models_dataset(client.dataset_name) if is_model else client.dataset_name
    with client.with_alternative_dataset_name(dataset):
        place = client.make_qualified_table_name(name)
    columns = ", ".join(map(client.escape_column_name, schema.names)) or "1"
    is_text = [pa.types.is_string(kind) for kind in schema.types]
    try:
        # Sorted by the first column, the key, so that two exports can be compared.
        with client.execute_query(f"SELECT {columns} FROM {place} ORDER BY 1") as cursor:  # noqa: S608 - names of our own
            while rows := cursor.fetchmany(_BATCH):
                yield [tuple(map(_plain, row, is_text)) for row in rows]
    except DatabaseUndefinedRelation:
        command = "models" if is_model or name == DIFFERENCES.name else "sync"
        raise ConfigurationError(
            f"There is no {name} in dataset {dataset}.", f"Run unify-source {command} first."
        ) from None


def _plain(value: Any, is_text: bool) -> Any:  # noqa: FBT001 - it is mapped over columns
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=timezone.utc)
    if is_text and isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return str(value) if is_text and value is not None else value
