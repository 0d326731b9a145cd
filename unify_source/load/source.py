"""The dlt source: a resource for each table, all of them fed by one reading."""

from __future__ import annotations

import inspect
import os
from typing import Any

import dlt
from dlt.common.configuration.inject import with_config
from dlt.extract import DltResource, DltSource

from unify_source.api.client import Client
from unify_source.dlt_seam import active_pipeline, merge_in_transactions, raise_if_signalled
from unify_source.load.interval import asked_interval
from unify_source.load.tables import TableResources
from unify_source.settings import KEY_ENVIRONMENT, Settings, checked_settings

SOURCE = "unify"


@dlt.source(name=SOURCE, section=SOURCE)
def unify_source(
    api_key: dlt.TSecretStrValue | None = None,
    base_url: str | None = None,
    sequence_id: str | None = None,
    person_id: str | None = None,
    mailbox_id: str | None = None,
    enrolled_by_play_id: str | None = None,
    status: Any = None,
    start: Any = None,
    lookback: Any = None,
    page_size: Any = None,
    workers: Any = None,
    requests_per_5min: Any = None,
    window_rows: Any = None,
    request_timeout: Any = None,
    retry_budget: Any = None,
    table_format: Any = None,
    updated_at: Any = None,
) -> list[DltResource]:
    """Load sequence enrollments, and all that is nested in them, incrementally by `updated_at`.

    Every argument but the last is a setting, which configuration may give instead (section
    `sources.unify`). `updated_at` takes a `dlt.sources.incremental` with an `initial_value` and an
    `end_value`, or `allow_external_schedulers`, to load one range without touching the cursor.

    Raises ConfigurationError for a setting that cannot be.
    """
    # Of any type to dlt, which would refuse a wrong one without saying which value it had.
    given = {name: value for name, value in locals().items() if name != "updated_at"}
    settings = _settings(given)
    if (pipeline := active_pipeline()) and pipeline.destination:
        # A package that an earlier run left is loaded before this source is read.
        merge_in_transactions(pipeline.destination)
    client = Client(settings, raise_if_signalled)
    return TableResources(settings, client, interval=asked_interval(updated_at)).resources()


def configured(**given: Any) -> Settings:
    """Return the settings that `unify_source` would take, from arguments and configuration.

    Raises ConfigurationError for a setting that cannot be.
    """
    settings: Settings = _configured(**given)
    return settings


def window_source(tables: TableResources, schema: dlt.Schema) -> DltSource:
    """Return the source for one window of a run; `schema` is the warehouse's."""
    return DltSource(schema, SOURCE, tables.resources())


def _settings(given: dict[str, Any]) -> Settings:
    key = given.get("api_key") or os.environ.get(KEY_ENVIRONMENT)
    return checked_settings({**given, "api_key": key})


def _taken(**given: Any) -> Settings:
    return _settings(given)


_parameters = inspect.signature(unify_source).parameters.values()
_taken.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [p.replace(kind=p.KEYWORD_ONLY) for p in _parameters if p.name != "updated_at"]
)
_configured = with_config(_taken, sections=("sources", SOURCE))
