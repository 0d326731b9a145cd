"""Lets the runs of one account take turns, while those of other accounts load.

A pool's limit counts steps, whatever account they load. A limit on tags would miss backfills:
Dagster gives a run of several partitions no tag that names the account.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from unify_source.dagster.partitions import ACCOUNTS, account_of

_TURN = "unify_turn/"
_ONLY, _FIRST, _LAST = (
    "dagster/partition",
    "dagster/asset_partition_range_start",
    "dagster/asset_partition_range_end",
)


class AccountsTakeTurns(dg.QueuedRunCoordinator):
    """A queue that starts a run once no other run loads one of its accounts.

    Accounts are the partitions `unify_accounts`. Named as `run_coordinator` in `dagster.yaml`.
    """

    def submit_run(self, context: dg.SubmitRunContext) -> dg.DagsterRun:
        """Tag a run with each of its accounts, and queue it."""
        run = context.dagster_run
        accounts = _accounts(run.tags, self._known())
        self._instance.add_run_tags(
            run.run_id, {_TURN + each: "one run at a time" for each in accounts}
        )
        return super().submit_run(context)

    def get_run_queue_config(self) -> Any:
        """Return the configured limits, and one run for each account that is known by now."""
        config = super().get_run_queue_config()
        turns = [{"key": _TURN + each, "limit": 1} for each in self._known()]
        return config._replace(tag_concurrency_limits=[*config.tag_concurrency_limits, *turns])

    def _known(self) -> Sequence[str]:
        # Dagster asks for the limits before it has an instance, too.
        return self._instance.get_dynamic_partitions(ACCOUNTS) if self.has_instance else []


def _accounts(tags: Mapping[str, str], known: Sequence[str]) -> Sequence[str]:
    """Return the accounts of a run; those of a range follow each other in Dagster's list."""
    if _FIRST in tags:
        first, last = account_of(tags[_FIRST]), account_of(tags[_LAST])
    else:
        first = last = account_of(tags.get(_ONLY, ""))
    if first not in known or last not in known:
        return []
    return known[known.index(first) : known.index(last) + 1]
