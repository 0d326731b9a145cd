"""What a resource can read and change of the run that it is part of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any, ClassVar

import dlt
import pyarrow as pa
from dlt.common.configuration.container import Container
from dlt.common.configuration.exceptions import ContextDefaultCannotBeCreated
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.pipeline import PipelineContext
from dlt.common.storages.load_package import commit_load_package_state
from dlt.extract import DltResource, DltSource
from dlt.extract.exceptions import CurrentSourceNotAvailable
from dlt.extract.extractors import MaterializedEmptyList
from dlt.extract.incremental.context import get_interval_context
from dlt.extract.items_transform import FilterItem, MapItem

_MADE_EMPTY = b"unify-source: no rows yet"


def capabilities() -> DestinationCapabilitiesContext | None:
    """Return the capabilities of the running pipeline's destination, None if there is none."""
    try:
        return Container()[DestinationCapabilitiesContext]
    except ContextDefaultCannotBeCreated:
        return None


def active_pipeline() -> dlt.Pipeline | None:
    """Return the pipeline that was created or run last, None if there is none."""
    # Checked first: dlt would create a pipeline if there is none.
    return running_pipeline() if Container()[PipelineContext].is_active() else None


def running_pipeline() -> dlt.Pipeline:
    """Return the pipeline that the running resource is part of.

    `dlt.current.pipeline()` returns the same, but resolves a whole configuration each time, which
    takes a quarter of a second while other threads read.
    """
    pipeline: Any = Container()[PipelineContext].pipeline()
    return pipeline  # type: ignore[no-any-return]


def running_resources() -> Mapping[str, DltResource] | None:
    """Return the resources that the running source loads, None if one is read by itself.

    A resource with the write disposition "skip" is not loaded.
    """
    try:
        source: DltSource = dlt.current.source()
    except CurrentSourceNotAvailable:
        return None
    selected = source.resources.selected.items()
    return {name: each for name, each in selected if each.write_disposition != "skip"}


def feeds(name: str, resources: Iterable[DltResource]) -> str | None:
    """Return the first of these resources that gets its items from the one with this name."""
    for each in resources:
        pipe: Any = each._pipe  # noqa: SLF001 - dlt has no public name for it
        while pipe := pipe.parent:
            if pipe.name == name:
                return each.name
    return None


def load_id() -> str:
    """Return the id of the running load, which its package keeps until it is done."""
    package: Any = dlt.current.load_package_state()
    return str(package["load_id"])


def dropped_tables() -> frozenset[str]:
    """Return the tables that the running load drops first, as `refresh` asks for."""
    return _refreshed("dropped_tables")


def emptied_tables() -> frozenset[str]:
    """Return the tables that the running load empties or drops first, as `refresh` asks for."""
    return _refreshed("truncated_tables") | dropped_tables()


def _refreshed(how: str) -> frozenset[str]:
    state: Any = dlt.current.load_package_state()["state"]
    return frozenset(table["name"] for table in state.get(how, ()))


def keep_when_refreshed(table: str) -> None:
    """Keep a table out of those that the running load empties or drops first."""
    state: Any = dlt.current.load_package_state()["state"]
    for key in ("truncated_tables", "dropped_tables"):
        kept = [each for each in state.get(key, ()) if each["name"] != table]
        if len(kept) != len(state.get(key, ())):
            state[key] = kept
            commit_load_package_state()


def allows_external_schedulers() -> bool:
    """Tell whether this process may take its interval from an orchestrator."""
    context = get_interval_context()
    return bool(context and context.allow_external_schedulers)


def forget_column(table: str, column: str) -> None:
    """Remove a column from the running source's schema; the table in the destination keeps it."""
    columns: Any = dlt.current.source_schema().tables.get(table, {}).get("columns", {})
    columns.pop(column, None)


# dlt sorts steps by their affinity, whenever they are added: after all that a user adds.
class _LastStep(MapItem):
    placement_affinity: ClassVar[float] = 2

    def __call__(self, item: Any, meta: Any = None) -> Any:
        # dlt's own steps hand the mark on, whatever their functions drop. It is an empty list.
        return self._f(item) if is_mark(item) else super().__call__(item, meta)


class _LastFilter(FilterItem):
    placement_affinity: ClassVar[float] = 3


def with_rows_only(
    resource: DltResource, allowed: Callable[[Any], Any] | None = None
) -> DltResource:
    """Let a resource drop tables that a user's own step, or then `allowed`, left without rows.

    dlt cannot load such a table into Postgres, and the package would stay pending. One marked by
    `without_rows` creates a table that does not exist yet.
    """
    if allowed:
        resource.add_step(_LastStep(allowed))
    resource.add_step(_LastFilter(is_written))
    return resource


def without_rows(table: pa.Table) -> pa.Table:
    """Mark a table without rows as one to be created."""
    return table.replace_schema_metadata({_MADE_EMPTY: b"1"})


def is_mark(item: Any) -> bool:
    """Tell whether an item is `dlt.mark.materialize_table_schema()`."""
    return isinstance(item, MaterializedEmptyList)


def is_written(item: Any, _meta: Any = None) -> bool:
    """Tell whether dlt writes an item: each but one without rows that creates no table."""
    if isinstance(item, pa.Table) and _MADE_EMPTY in (item.schema.metadata or {}):
        return True
    return is_mark(item) or not isinstance(item, Sized) or len(item) > 0
