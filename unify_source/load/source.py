"""The dlt source: a resource for each table, all fed by one reading."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta
from uuid import UUID

import dlt
from dlt.common.configuration.specs import BaseConfiguration
from dlt.extract import DltResource, DltSource
from typing_extensions import Unpack

from unify_source.api.client import Client
from unify_source.common.dlt_seam import (
    BeforeStep,
    active_pipeline,
    merge_in_transactions,
    raise_if_signalled,
    watch_steps,
)
from unify_source.common.resources import ALL_TABLES, BY_NAME, LEDGER
from unify_source.common.settings import SECTION, SETTINGS, Settings
from unify_source.common.settings.limits import LimitArguments
from unify_source.destinations.lakes.libraries import refuse_missing_library
from unify_source.destinations.stored.history import delete_torn_files, keep_order
from unify_source.flatten.decode.allocators import give_back_memory
from unify_source.load.asked.interval import asked_interval
from unify_source.load.configuration.dlt_files import redact_dlt
from unify_source.load.configuration.environment import refuse_unsafe
from unify_source.load.configuration.lookup import configured
from unify_source.load.ledger.ledger import Ledger
from unify_source.load.tables.table_resources import TableResources

SOURCE = SECTION


# With an empty spec dlt resolves nothing itself: it would refuse a wrong type without quoting the
# value, and read another program's WORKERS or BASE_URL from the environment.
@dlt.source(name=SOURCE, section=SOURCE, spec=BaseConfiguration)
def unify_source(
    api_key: str | None = None,
    base_url: str | None = None,
    sequence_id: str | UUID | None = None,
    person_id: str | UUID | None = None,
    mailbox_id: str | UUID | None = None,
    enrolled_by_play_id: str | UUID | None = None,
    status: str | Sequence[str] | None = None,
    start: str | date | datetime | None = None,
    account: str | None = None,
    lookback: str | float | timedelta | None = None,
    page_size: int | str | None = None,
    workers: int | str | None = None,
    requests_per_5min: int | str | None = None,
    window_rows: int | str | None = None,
    request_timeout: float | str | None = None,
    retry_budget: float | str | None = None,
    table_format: str | None = None,
    pii: str | None = None,
    pii_key: str | None = None,
    pii_keep: str | Sequence[str] | None = None,
    updated_at: dlt.sources.incremental[datetime] | dlt.sources.incremental[str] | None = None,
    **limits: Unpack[LimitArguments],
) -> list[DltResource]:
    """Load who was enrolled in which sequence, with replies and all that is nested, incrementally.

    Every argument but `updated_at` is a setting, which may also come from the configuration section
    `sources.unify`. `updated_at` takes a `dlt.sources.incremental` with an `initial_value` and an
    `end_value`, or `allow_external_schedulers`, to load one range without moving the cursor.
    """
    given = {name: value for name, value in locals().items() if name in SETTINGS}
    redact_dlt(pipeline := active_pipeline())
    for each in (_ORDER, _ROOM):
        watch_steps(each)
    settings = configured(**given, **limits)
    if pipeline and pipeline.destination:
        _prepare(pipeline, settings)
    client = Client(settings, raise_if_signalled)
    return TableResources(settings, client, interval=asked_interval(updated_at)).resources()


def _prepare(pipeline: dlt.Pipeline, settings: Settings) -> None:
    refuse_unsafe(pipeline, of_source=True)
    refuse_missing_library(pipeline, settings.table_format)
    # Before this source is read, dlt restores the state and loads what an earlier run left.
    delete_torn_files(pipeline, is_locked=False)
    merge_in_transactions(pipeline.destination)


def _keep_order(pipeline: dlt.Pipeline) -> None:
    if SOURCE in pipeline.schema_names and pipeline.destination:
        keep_order(pipeline, SOURCE)


_ORDER = BeforeStep("extract", _keep_order)
_ROOM = BeforeStep("load", lambda _pipeline: give_back_memory())


def window_source(
    tables: TableResources, schema: dlt.Schema, ledger: Ledger, only: Collection[str] = ()
) -> DltSource:
    """Return the source for one window of a run, of all tables or of some `only`.

    `schema` is the warehouse's. The ledger's table is left out where it exists and is not loaded:
    its hints take time.
    """
    watch_steps(_ROOM)
    is_left_out = LEDGER.name in schema.tables and not ledger.is_loaded
    left = BY_NAME.values() if is_left_out else ALL_TABLES
    wanted = {*only, LEDGER.name} if only else {table.name for table in ALL_TABLES}
    return DltSource(schema, SOURCE, tables.resources(t for t in left if t.name in wanted))
