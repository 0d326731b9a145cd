"""An instance of Dagster in a folder, whose daemon starts its runs."""

from __future__ import annotations

import os
import re
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import PartitionBackfill
from pages import ROOT

PROJECT = ROOT / "pipelines" / "dagster"
DEFINITIONS = PROJECT / "definitions.py"
TABLES = [dg.AssetKey(["unify", table]) for table in ("enrollments", "people")]
STEP = "unify_tables"
PATIENCE = 250


@contextmanager
def daemon(
    home: Path, environment: Mapping[str, str], definitions: Path = DEFINITIONS
) -> Iterator[dg.DagsterInstance]:
    """Run the project's instance and daemon, which looks at its runs more often."""
    settings = (PROJECT / "dagster.yaml").read_text()
    (home / "dagster.yaml").write_text(re.sub(r"(_seconds): 30", r"\1: 1", settings))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        # Its database is made here: two that make it at once get in each other's way.
        with dg.DagsterInstance.get() as instance, (home / "daemon.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dagster._daemon", "run", "-f", str(definitions)],
                env={**os.environ, **environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                yield instance
            finally:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(60)


def days(first: int, last: int) -> list[str]:
    """Return the partitions that are days of May."""
    return [f"2026-05-{day:02}" for day in range(first, last + 1)]


def wanted(
    instance: dg.DagsterInstance, name: str, keys: list[str], definitions: Path = DEFINITIONS
) -> None:
    """Ask for a backfill of some partitions, as the button in Dagster's pages does."""
    defs = runpy.run_path(str(definitions))["defs"]
    instance.add_backfill(
        PartitionBackfill.from_asset_partitions(
            backfill_id=name,
            asset_graph=defs.resolve_asset_graph(),
            partition_names=keys,
            asset_selection=TABLES,
            backfill_timestamp=time.time(),
            tags={},
            dynamic_partitions_store=instance,
            all_partitions=False,
            title=None,
            description=None,
            run_config=None,
        )
    )


def within_patience(what: Callable[[], Any]) -> Any:
    """Wait for something that is to be true before long, and return it."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if found := what():
            return found
        log = Path(os.environ["DAGSTER_HOME"], "daemon.log").read_text()
        assert "ERROR" not in log, log
        time.sleep(0.2)
    raise AssertionError(f"it took longer than {PATIENCE} s")


def process_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> int | None:
    """Return the process of a run once it has started."""
    messages = " ".join(
        entry.user_message or entry.message for entry in instance.all_logs(run.run_id)
    )
    found = re.search(r"Started process for run \(pid: (\d+)\)", messages)
    return int(found[1]) if found else None


def spans(instance: dg.DagsterInstance, *runs: str) -> list[tuple[float, float]]:
    """Return from when to when each run loaded, or each of some, in order."""
    found = []
    for record in instance.get_run_records(dg.RunsFilter(run_ids=list(runs) or None)):
        kind = dg.DagsterEventType.STEP_START
        for entry in instance.all_logs(record.dagster_run.run_id, of_type=kind):
            # The checks of a run are another step of it.
            found += [(entry.timestamp, record.end_time)] if entry.step_key == STEP else []
    return sorted(found)
