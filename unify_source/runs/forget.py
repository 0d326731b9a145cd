"""`forget`: delete one person from every table, and keep later runs from loading it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import dlt

from unify_source.common.dlt_seam import FSClientBase
from unify_source.common.errors import ConfigurationError
from unify_source.common.settings import LOCK_TIMEOUT
from unify_source.common.settings.values import read_id
from unify_source.destinations.duckdb_file import duckdb_database
from unify_source.destinations.forgotten.deletion import copies_kept, take_out
from unify_source.destinations.locks.turns import Turns
from unify_source.destinations.stored.contents import is_queried
from unify_source.load.configuration.dlt_errors import explained
from unify_source.load.configuration.environment import refuse_unsafe
from unify_source.load.configuration.lookup import configured_account
from unify_source.load.packages import start_over
from unify_source.load.state.checked import refuse_other_accounts


@dataclass(frozen=True)
class Removed:
    """How many rows of a person were deleted from each table; `notices` say where copies stay."""

    pipeline: str
    destination: str
    dataset: str
    rows: dict[str, int]
    notices: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it as what `--json` prints."""
        return {
            "command": "forget",
            "pipeline": self.pipeline,
            "destination": self.destination,
            "dataset": self.dataset,
            "removed": self.rows,
            "notices": list(self.notices),
        }

    def as_lines(self) -> list[str]:
        """Return it as plain sentences."""
        where = f"{self.destination}, dataset {self.dataset}"
        total = sum(self.rows.values())
        rows = "1 row was" if total == 1 else f"{total:,} rows were"
        tables = [f"{count:,} of {name}" for name, count in self.rows.items() if count]
        return [
            f"{rows} deleted from {where}: {', '.join(tables)}."
            if total
            else f"{where} has no row of this person.",
            "No later run loads this person again.",
            *self.notices,
        ]


def forget(
    pipeline: dlt.Pipeline,
    person_id: str | UUID,
    *,
    account: str | None = None,
    lock_timeout: float | str = LOCK_TIMEOUT.default,
) -> Removed:
    """Delete all rows of a person, and remember a keyed hash of the id so that none comes back.

    These are the person, the person's enrollments with their replies, and rows in quarantine that
    name the person. One transaction deletes them, on DuckDB and Postgres; elsewhere, a second call
    finishes what a first one that died left. In a dataset of several accounts, only rows of
    `account`. Needs no API key. Raises ConfigurationError if there is no such dataset, LockHeld, or
    another UnifyError.
    """
    person = read_id("person_id", person_id)
    with explained(pipeline):
        refuse_unsafe(pipeline)
        _refuse_unread(pipeline)
        account = configured_account(pipeline, account)
        database = duckdb_database(pipeline)
        # Opening a file that is missing would create it.
        if database and not database.has_content:
            raise _nothing_in(pipeline)
        with Turns(pipeline, lock_timeout).turn():
            with pipeline.destination_client() as client:
                if not client.is_storage_initialized():
                    raise _nothing_in(pipeline)
            refuse_other_accounts(pipeline, account)
            # The next run would load what is pending in the working folder, with this person.
            start_over(pipeline)
            rows = take_out(pipeline, person, account)
        kept = copies_kept(pipeline)
    return Removed(
        pipeline.pipeline_name,
        pipeline.destination.destination_name,
        pipeline.dataset_name,
        rows,
        (kept,) if kept else (),
    )


def _refuse_unread(pipeline: dlt.Pipeline) -> None:
    client = pipeline.destination_client()
    if not is_queried(client) and not isinstance(client, FSClientBase):
        raise ConfigurationError(
            f"forget does not work on {pipeline.destination.destination_name}: its rows cannot be"
            " read back.",
            "Delete the person's rows there by person_id.",
        )


def _nothing_in(pipeline: dlt.Pipeline) -> ConfigurationError:
    return ConfigurationError(
        f"There is no dataset {pipeline.dataset_name} in {pipeline.destination.destination_name},"
        " so nothing was deleted.",
        "Check the names of the dataset, the pipeline and the destination.",
    )
