"""`models`: creates a view for each model, in a dataset beside that of the tables."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import dlt
from dlt.common.destination.exceptions import SqlClientNotAvailable
from dlt.destinations.exceptions import DatabaseException, DatabaseUndefinedRelation
from dlt.pipeline.exceptions import PipelineStepFailed

from unify_source.common.dlt_seam import FSClientBase, kind_of, looking_at
from unify_source.common.errors import ConfigurationError, LoadFailed
from unify_source.common.errors.redaction import redacted
from unify_source.common.resources import DIFFERENCES, LEDGER, QUARANTINE
from unify_source.common.settings import LOCK_TIMEOUT
from unify_source.destinations.comments import keep_described
from unify_source.destinations.comments.databases import VIEW, describe
from unify_source.destinations.duckdb_file import duckdb_database
from unify_source.destinations.locks.turns import opened_file
from unify_source.load.configuration.dlt_errors import explained
from unify_source.load.configuration.environment import refuse_unsafe
from unify_source.load.ledger.apart import create
from unify_source.load.state.checked import has_accounts
from unify_source.runs.analysis.models import Model, models
from unify_source.runs.analysis.statements import view_of

# Of an older version, or of a run that selected tables. The last one comes with a difference.
_MAY_LACK = (QUARANTINE, LEDGER, DIFFERENCES)
_LONGEST = 300
_ONLY_A_CODE = re.compile(r"Code: \d+\.?")


@dataclass(frozen=True)
class Views:
    """The views that were created, and their `dataset`."""

    pipeline: str
    destination: str
    dataset: str
    created: tuple[Model, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the result as `--json` prints it."""
        return {
            "command": "models",
            "pipeline": self.pipeline,
            "destination": self.destination,
            "dataset": self.dataset,
            "models": [model.name for model in self.created],
        }

    def as_lines(self) -> list[str]:
        """Return the result as plain sentences."""
        where = f"{self.destination}, dataset {self.dataset}"
        return [
            f"{len(self.created)} views created in {where}. Try:",
            f"  SELECT * FROM {self.dataset}.sequence_funnel",  # noqa: S608 - to be read
        ]

    def grid(self) -> list[list[str]]:
        """Return each model that answers a question, with its description."""
        return [[m.name, m.description] for m in self.created if not m.is_intermediate]


def models_dataset(dataset: str) -> str:
    """Return the dataset of the models for that of the tables."""
    return f"{dataset}_models"


def make_models(
    pipeline: dlt.Pipeline, *, lock_timeout: float | str = LOCK_TIMEOUT.default
) -> Views:
    """Create or replace the views; rows stay as they are.

    Waits up to `lock_timeout` seconds for a DuckDB file that another process has open. Raises
    ConfigurationError if there are no tables, LoadFailed, LockHeld.
    """
    lacking = _completed(pipeline, lock_timeout)
    with client_of(pipeline, lock_timeout) as client:
        tables = client.dataset_name
        with client.with_alternative_dataset_name(models_dataset(tables)):
            if not client.has_dataset():
                client.create_dataset()
            dataset = client.dataset_name
        # All or none, if the database can roll back the creation of a view.
        in_one = client.capabilities.supports_ddl_transactions
        with client.begin_transaction() if in_one else nullcontext():
            for model in models().values():
                _make(client, model, tables, dataset, lacking)
        with client.with_alternative_dataset_name(dataset):
            describe(client, kind_of(pipeline.destination), VIEW, _dictionary())
    return Views(
        pipeline.pipeline_name,
        pipeline.destination.destination_name,
        dataset,
        tuple(models().values()),
    )


def _refuse_several_accounts(pipeline: dlt.Pipeline) -> None:
    if has_accounts(pipeline):
        raise ConfigurationError(
            f"{pipeline.dataset_name} holds several accounts, which the models would mix.",
            "To use the models, load the account into its own dataset.",
        )


def _completed(pipeline: dlt.Pipeline, lock_timeout: float | str) -> set[str]:
    """Create the tables that a dataset may lack, and return those that it still lacks.

    Without its table a view has no rows, and would have none once the table is there.
    """
    with client_of(pipeline, lock_timeout) as client:
        if not client.has_dataset():
            raise _unseen(pipeline)
        _refuse_several_accounts(pipeline)
        missing = [table for table in _MAY_LACK if not _has(client, table.name)]
    lacking = {table.name for table in missing}
    for table in missing:
        # This role may be allowed to read the tables and no more.
        with suppress(PipelineStepFailed, DatabaseException):
            with opened_file(pipeline, lock_timeout), looking_at(pipeline) as looking:
                create(looking, table)
            lacking.remove(table.name)
    if len(lacking) < len(missing):
        with suppress(DatabaseException), opened_file(pipeline, lock_timeout):
            keep_described(pipeline)
    return lacking


def _has(client: Any, table: str) -> bool:
    place = client.make_qualified_table_name(table)
    try:
        client.execute_sql(f"SELECT 1 FROM {place} WHERE 1 = 0")  # noqa: S608 - our own names
    except DatabaseUndefinedRelation:
        return False
    return True


@contextmanager
def client_of(pipeline: dlt.Pipeline, lock_timeout: float | str) -> Iterator[Any]:
    """Yield the SQL client of a dataset. Raises ConfigurationError if it does not exist."""
    with explained(pipeline):
        refuse_unsafe(pipeline)
        if isinstance(pipeline.destination_client(), FSClientBase):
            raise _without_sql(pipeline)
        database = duckdb_database(pipeline)
        # Opening a missing file would create it.
        if database and not database.has_content:
            raise _nothing_in(pipeline)
        with opened_file(pipeline, lock_timeout):
            try:
                opened = pipeline.sql_client()
            except SqlClientNotAvailable:
                raise _without_sql(pipeline) from None
            with opened as client:
                # A role may be allowed to read the models and not the tables.
                if not (client.has_dataset() or _has_models(client)):
                    raise _nothing_in(pipeline)
                yield client


def _has_models(client: Any) -> bool:
    with client.with_alternative_dataset_name(models_dataset(client.dataset_name)):
        return bool(client.has_dataset())


def _make(client: Any, model: Model, tables: str, dataset: str, lacking: Collection[str]) -> None:
    query = model.rendered(
        ref=lambda name: _quoted(client, dataset, name),
        source=lambda name: _quoted(client, tables, name),
        lacking=lacking,
    )
    place = _quoted(client, dataset, model.name)
    try:
        client.execute_sql(view_of(model, query, place, client.capabilities.sqlglot_dialect))
    except DatabaseUndefinedRelation as error:
        raise ConfigurationError(
            f"Dataset {tables} lacks a table that the model {model.name} reads: {_reason(error)}.",
            "Run unify-source sync, which creates all tables, and then run this again.",
        ) from None
    except DatabaseException as error:
        raise LoadFailed(
            f"The view {model.name} could not be created: {_reason(error)}.",
            "The tables are unchanged. If an older version loaded them, run unify-source sync,"
            f" which adds what is new. If another version created the views of {dataset}, drop that"
            " schema. Then run it again.",
        ) from None


def _dictionary() -> dict[tuple[str, str], str]:
    return {
        (model.name, column.name if column else ""): (column or model).description
        for model in models().values()
        for column in (None, *model.columns)
    }


def _quoted(client: Any, dataset: str, name: str) -> str:
    with client.with_alternative_dataset_name(dataset):
        path = client.make_qualified_table_name_path(name, quote=False)
    # A view that names its DuckDB file would break when the file is renamed.
    if client.capabilities.sqlglot_dialect == "duckdb":
        path = path[-2:]
    return ".".join(f'"{part}"' for part in path)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in redacted(str(error)).splitlines() if line.strip()]
    # The first line of ClickHouse's errors is only a number.
    kept = [line for line in lines if not _ONLY_A_CODE.fullmatch(line)] or lines
    return (kept[0] if kept else type(error).__name__)[:_LONGEST].rstrip(".:")


def _without_sql(pipeline: dlt.Pipeline) -> ConfigurationError:
    return ConfigurationError(
        f"{pipeline.destination.destination_name} has no SQL of its own, so it has no views and"
        " cannot be queried.",
        "Load into a database, such as duckdb or postgres, or query the files with one.",
    )


def _unseen(pipeline: dlt.Pipeline) -> ConfigurationError:
    tables = pipeline.dataset_name
    return ConfigurationError(
        f"Some models in {models_dataset(tables)} are missing, outdated or hidden from this role,"
        f" which does not see the dataset {tables} either.",
        "Run unify-source models with a role that reads the tables, and then run this again.",
    )


def _nothing_in(pipeline: dlt.Pipeline) -> ConfigurationError:
    return ConfigurationError(
        f"There is no dataset {pipeline.dataset_name} in {pipeline.destination.destination_name}.",
        "Run unify-source sync first, or check the names of the dataset, the pipeline and the"
        " destination.",
    )
