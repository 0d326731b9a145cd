"""Every use of dlt that its documentation does not promise, in one place.

`dlt` has an upper bound in pyproject.toml for the sake of this file: tests/load/test_dlt_seam.py
says, for each of these, what dlt changed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import dlt
import pyarrow as pa
from dlt.common import logger as dlt_logger
from dlt.common.configuration import is_secret_hint
from dlt.common.configuration.container import Container
from dlt.common.configuration.exceptions import ContextDefaultCannotBeCreated
from dlt.common.configuration.providers import EnvironProvider
from dlt.common.configuration.providers.provider import ConfigProvider
from dlt.common.configuration.specs.config_section_context import ConfigSectionContext
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from dlt.common.configuration.utils import get_resolved_traces
from dlt.common.data_writers.writers import resolve_best_writer_spec
from dlt.common.destination import AnyDestination, DestinationCapabilitiesContext
from dlt.common.pipeline import PipelineContext
from dlt.common.pipeline import get_dlt_pipelines_dir as default_pipelines_dir
from dlt.common.runtime.signals import intercepted_signals, raise_if_signalled
from dlt.common.time import increasing_precise_time
from dlt.common.typing import ConfigValueSentinel
from dlt.destinations.fs_client import FSClientBase
from dlt.extract import DltResource, DltSource
from dlt.extract.exceptions import CurrentSourceNotAvailable
from dlt.extract.incremental.context import get_interval_context
from dlt.extract.items_transform import FilterItem
from dlt.extract.pipe_iterator import PipeIterator
from dlt.pipeline import trace as dlt_trace
from dlt.pipeline.state_sync import force_state_extract, load_pipeline_state_from_destination

_MADE_EMPTY = b"unify-source: no rows yet"

__all__ = [
    "FSClientBase",
    "default_pipelines_dir",
    "force_state_extract",
    "intercepted_signals",
    "load_pipeline_state_from_destination",
    "raise_if_signalled",
]


def empty_working_folder(pipeline: dlt.Pipeline) -> None:
    """Empty a pipeline's working folder, but for where it looks for a DuckDB file without path."""
    # That is the folder in which it ran first, and not the one in which it runs today.
    folder = pipeline.get_local_state_val("initial_cwd")
    pipeline.drop()
    pipeline.set_local_state_val("initial_cwd", folder)


def resource_state(source_state: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return what a resource keeps between runs, from the state of its source."""
    kept: dict[str, Any] = source_state.get("resources", {}).get(name, {})
    return kept


def database_of(credentials: Any) -> str:
    """Return what DuckDB is asked to open: a path, `:memory:` or an address."""
    return str(credentials._conn_str())  # noqa: SLF001 - dlt has no public name for it


def active_pipeline() -> dlt.Pipeline | None:
    """Return the pipeline that was created or run last, None where there is none."""
    # Asked for first: `dlt.current.pipeline()` would make a pipeline where there is none.
    return dlt.current.pipeline() if Container()[PipelineContext].is_active() else None


def kind_of(destination: AnyDestination) -> str:
    """Return what kind of destination this is, such as "duckdb", whatever name it was given.

    Asking for its capabilities instead would resolve its whole configuration each time.
    """
    return destination.destination_type.rsplit(".", maxsplit=1)[-1]


def capabilities() -> DestinationCapabilitiesContext | None:
    """Return what the destination of the running pipeline can do, None where there is none."""
    try:
        return Container()[DestinationCapabilitiesContext]
    except ContextDefaultCannotBeCreated:
        return None


def running_resources() -> Mapping[str, DltResource] | None:
    """Return the resources that the running source loads, None where one is read by itself.

    A resource with the write disposition "skip" is not loaded.
    """
    try:
        source: DltSource = dlt.current.source()
    except CurrentSourceNotAvailable:
        return None
    selected = source.resources.selected.items()
    return {name: each for name, each in selected if each.write_disposition != "skip"}


def emptied_tables() -> frozenset[str]:
    """Return the tables that the running load empties or drops first, as `refresh` asks for."""
    state: Any = dlt.current.load_package_state()["state"]
    tables = [*state.get("truncated_tables", ()), *state.get("dropped_tables", ())]
    return frozenset(table["name"] for table in tables)


class _LastFilter(FilterItem):
    # dlt puts steps in this order, whenever they are added: behind all that a user adds.
    placement_affinity: ClassVar[float] = 2


def with_rows_only(resource: DltResource) -> DltResource:
    """Let a resource drop tables without rows that a user's own step has left.

    dlt cannot load one into Postgres, and the package would stay pending for good. One that is
    marked as `without_rows` makes a table that does not exist yet.
    """
    resource.add_step(_LastFilter(_has_rows))
    return resource


def without_rows(table: pa.Table) -> pa.Table:
    """Mark a table without rows as one to be made."""
    return table.replace_schema_metadata({_MADE_EMPTY: b"1"})


def _has_rows(item: Any, _meta: Any = None) -> bool:
    if not isinstance(item, pa.Table) or len(item):
        return True
    return _MADE_EMPTY in (item.schema.metadata or {})


def allows_external_schedulers() -> bool:
    """Tell whether this process was launched to heed the intervals of an orchestrator."""
    context = get_interval_context()
    return bool(context and context.allow_external_schedulers)


@dataclass(frozen=True)
class Found:
    """A value of configuration: where it stands, in words for an error, and in which sections."""

    value: Any
    where: str
    sections: tuple[str, ...] = ()
    is_variable: bool = False
    may_be_secret: bool = True


def look_up(
    name: str,
    sections: tuple[str, ...],
    pipeline_name: str | None = None,
    *,
    with_bare_variables: bool = True,
) -> Found | None:
    """Return what dlt takes for a name in these sections, from the closest to the widest.

    Without `with_bare_variables` a variable of just that name is not looked at: it may be another
    program's.
    """
    # dlt's own order: the pipeline's sections before all others, then provider by provider, and in
    # each from the closest section to none at all.
    for pipeline in (pipeline_name, None) if pipeline_name else (None,):
        for provider in providers():
            is_environment = isinstance(provider, EnvironProvider)
            for length in range(len(sections), -1, -1):
                path = sections[:length]
                if is_environment and not with_bare_variables and not path and not pipeline:
                    continue
                value, key = provider.get_value(name, object, pipeline, *path)
                if value is not None:
                    return Found(
                        value=value,
                        where=f"{key} in {'the environment' if is_environment else provider.name}",
                        sections=(*([pipeline] if pipeline else []), *path),
                        is_variable=is_environment,
                        may_be_secret=provider.supports_secrets,
                    )
    return None


def stands_for_configuration(value: Any) -> bool:
    """Tell whether an argument is `dlt.config.value` or `dlt.secrets.value`: "look it up"."""
    return isinstance(value, ConfigValueSentinel)


def names_in_a_sources_section() -> set[str]:
    """Return what dlt itself reads in the section of a source."""
    own = PipeIterator.PipeIteratorConfiguration().get_resolvable_fields()
    return {"schema_contract", "max_table_nesting", "schema", "name", "section", *own}


def providers() -> Sequence[ConfigProvider]:
    """Return where dlt keeps configuration: environment, files, vaults; the first comes first."""
    return Container()[PluggableRunContext].providers.providers


def config_sections() -> tuple[str | None, tuple[str, ...]]:
    """Return the pipeline and the sections that dlt reads configuration for just now."""
    context = Container()[ConfigSectionContext]
    return context.pipeline_name, tuple(context.sections or ())


def watch_steps(module: Any) -> None:
    """Let a module hear of each step of every pipeline, before dlt writes its trace."""
    if module not in dlt_trace.TRACKING_MODULES:
        # The first: those behind it may send the trace elsewhere.
        dlt_trace.TRACKING_MODULES.insert(0, module)


def dlt_log() -> logging.Logger | None:
    """Return the logger that dlt writes to, None before the first pipeline."""
    return dlt_logger.LOGGER


def resolved_secrets() -> Iterator[tuple[str, Any]]:
    """Yield name and value of each secret that the step under way took from configuration."""
    for found in get_resolved_traces().resolved_traces:
        if is_secret_hint(found.hint):
            yield found.key, found.value


def load_after(load_id: str) -> None:
    """Let each later load of this process have a greater id than this one."""
    clock = increasing_precise_time
    # An id that is no time is not dlt's: it decides nothing.
    with suppress(ValueError), clock._lock:  # noqa: SLF001 - dlt has no way to set it forward
        clock._last = max(clock._last, float(load_id))  # noqa: SLF001


def merge_in_transactions(destination: AnyDestination) -> None:
    """Let each table's merge be one transaction, wherever the destination has transactions.

    dlt leaves `supports_transactions` unset for DuckDB, Postgres and others, and then runs a merge
    in autocommit, unless its SQL happens to hold the letters of CREATE, DROP or ALTER. A failure
    between DELETE and INSERT would take rows away. Where DDL is transactional, rows are as well.
    """
    if "supports_transactions" in destination.caps_params:
        return
    caps = destination.capabilities()
    if caps.supports_ddl_transactions and caps.supports_transactions is None:
        destination.caps_params["supports_transactions"] = True


def fastest_format(preferred: Any, supported: list[Any]) -> str:
    """Return the format in which dlt writes Arrow tables fastest, of those supported."""
    return str(resolve_best_writer_spec("arrow", supported, preferred).file_format)
