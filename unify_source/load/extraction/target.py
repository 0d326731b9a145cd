"""Where the rows of an extraction go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa

from unify_source.common.dlt_seam import capabilities, running_pipeline
from unify_source.common.resources import MAIN_LIST
from unify_source.common.settings import Settings
from unify_source.destinations.stored.contents import carried_rows
from unify_source.flatten.privacy import Privacy
from unify_source.flatten.shared import Carried
from unify_source.load.schema.warehouse import Warehouse
from unify_source.load.state import State
from unify_source.load.state.cursors import Cursors
from unify_source.load.state.memory import Memory

Tables = Mapping[str, pa.Table]
"""The rows of one batch, by table."""


@dataclass(frozen=True)
class Target:
    """Where an extraction's rows go: the warehouse as it is, and the state kept there.

    `cursors` are those of the selected tables, `privacy` is applied on the way. Without `state` the
    run remembers nothing: it loads a sample, or only some of the tables. `carried` returns the rows
    that others than their owners carry too.
    """

    warehouse: Warehouse
    cursors: Cursors
    privacy: Privacy
    state: State | None = None
    quarantine: State = field(default_factory=dict)
    moves_cursors: bool = True
    sample_pages: int | None = None
    carried: Callable[[], list[Carried]] = list

    def memory(
        self,
        settings: Settings,
        start: datetime | None,
        empty_at: datetime | None,
        *,
        is_first: bool,
    ) -> Memory:
        """Return the memory of a load that reads from `start` on; `is_first` of its run or not."""
        # A backfill reads only its range; rows in quarantine wait for the next sync.
        cursors, is_sync = self.cursors, self.moves_cursors and self.state is not None
        # After a gap, rows that were visible in time but skipped look late.
        is_measured = is_sync and is_first and cursors.is_settled
        return Memory(
            self.state if self.state is not None else {},
            self.quarantine if self.state is not None else {},
            cursors.name if is_sync else None,
            settings.lookback,
            start,
            empty_at,
            asks=is_sync and is_first,
            rereads=is_sync and not settings.filters,
            trusts_tail=cursors.agree,
            measured_from=cursors.oldest if is_measured else None,
        )


def carried_by_others(selected: frozenset[str], account: str | None) -> list[Carried]:
    """Return the stored rows of these tables that others than their owners carry too."""
    if not capabilities():
        return []
    shared = [each for each in MAIN_LIST.shared() if each.references in selected]
    root = MAIN_LIST.parts[0].table
    rows = (carried_rows(running_pipeline(), root, each, account) for each in shared)
    return [carried for each in rows for carried in each]
