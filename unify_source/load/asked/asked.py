"""What one run asks of its tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dlt
from dlt.extract import DltResource

from unify_source.common.dlt_seam import capabilities, dropped_tables, running_pipeline
from unify_source.common.resources import LEDGER
from unify_source.common.settings import Settings
from unify_source.destinations.formats import refuse_harm
from unify_source.destinations.lakes.merge import lake_format
from unify_source.load.asked.refusals import checked_hints, refuse_lost_tables
from unify_source.load.schema.contracts import OPEN, Contract


class Asked:
    """The hints and contracts of a run's tables, known before its first batch."""

    def __init__(self) -> None:
        # Computed once a run: dlt takes two milliseconds for each table.
        self.hints: dict[str, Mapping[str, Any]] = {}
        # File formats that a run chose itself: dlt keeps them with the resources.
        self.chosen: dict[str, str] = {}
        self.contracts: Mapping[str, Contract] = {}

    def check(self, resources: Mapping[str, DltResource], settings: Settings) -> None:
        """Note the hints of the resources. Raises ConfigurationError if one does harm."""
        lake, account = lake_format(capabilities(), settings.table_format), settings.account
        checked = checked_hints(resources, lake=lake, account=account, chosen=self.chosen)
        self.hints.update(checked)
        if capabilities():
            refuse_lost_tables(dlt.current.source_schema(), checked)
            refuse_harm(running_pipeline(), dropped_tables() - {LEDGER.name})

    def contract(self, table: str) -> Contract:
        """Return the contract of a table."""
        return self.contracts.get(table, OPEN)
