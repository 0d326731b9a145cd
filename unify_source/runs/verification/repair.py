"""Repairs differences: reloads rows by their ids, then deletes those that are gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import dlt

from unify_source.common.resources import MAIN_LIST
from unify_source.common.settings import Settings
from unify_source.extract.window import Window
from unify_source.load.extraction.extraction import Extraction
from unify_source.load.ledger.entry import Entry
from unify_source.load.state.memory import forget_known
from unify_source.runs.verification.differences import DUPLICATE, EXTRA, MOST_BY_ID, ORPHANED
from unify_source.runs.verification.sides.api import GONE
from unify_source.runs.verification.sides.buckets import parent_of
from unify_source.runs.verification.sides.rows import keep_one, merges_leave_doubles, remove
from unify_source.runs.verification.sides.scratch import AGAIN, API, CHANGED, Scratch
from unify_source.runs.windows.run import WindowRun

MOST_DELETED = 0.05
"""The share of a table that is deleted without `yes`."""

_AT_ONCE = 1_000
_ROOT = MAIN_LIST.parts[0].table.name


def plan_removal(sides: Scratch) -> None:
    """Note in the table `removed` which rows to delete, by table.

    These are enrollments that are gone, and then their children, whatever else is wrong with those.
    """
    sides.run("CREATE OR REPLACE TABLE removed (tbl VARCHAR, id VARCHAR)")
    gone = f"SELECT id FROM asked WHERE list = '{MAIN_LIST.name}' AND fate = '{GONE}'"
    for part in MAIN_LIST.parts:
        name, parent = part.table.name, parent_of(part.table)
        if part.path and not parent:
            continue
        # A row that the API shows elsewhere has moved, and is reloaded before anything is deleted.
        moved = " UNION ALL ".join(
            f"SELECT id FROM {side}_{name}" for side in (API, AGAIN, CHANGED)
        )
        sides.run(
            f"INSERT INTO removed SELECT DISTINCT '{name}', id FROM differences"
            f" WHERE tbl = '{name}' AND kind IN ('{EXTRA}', '{ORPHANED}')"
            f" AND (owner IS NULL OR owner IN ({gone})) AND id NOT IN ({moved})"
        )
        if parent:
            sides.run(
                f"INSERT INTO removed SELECT DISTINCT '{name}', id FROM stored_{name}"
                f" SEMI JOIN removed ON parent = removed.id AND tbl = '{parent.references}'"
                f" ANTI JOIN removed AS known ON known.id = stored_{name}.id"
                f" AND known.tbl = '{name}' WHERE id NOT IN ({moved})"
            )


def brakes(sides: Scratch) -> list[str]:
    """Return a sentence for each table that would lose more rows than it may without `yes`."""
    stopped = []
    # Unasked rows count too: otherwise a broken list would empty a table bit by bit.
    unasked = f"SELECT tbl, id FROM differences WHERE kind = '{EXTRA}' AND owner IN (FROM unasked)"
    for name, count in sides.run(
        f"SELECT tbl, count(DISTINCT id) FROM (FROM removed UNION ALL {unasked})"
        " WHERE tbl IN (SELECT tbl FROM removed) GROUP BY tbl"
    ):
        # Equal rows were not fetched.
        rows = f"SELECT id FROM stored_{name} UNION SELECT id {sides.shown(name, equal=True)}"
        [(held,)] = sides.run(f"SELECT count(*) FROM ({rows})")
        if count > MOST_DELETED * held:
            stopped.append(
                f"Nothing was repaired: {count:,} of {held:,} rows of {name} are gone from the API,"
                f" more than {MOST_DELETED:.0%}. If that is right, add yes=True to delete them."
            )
    return stopped


def repair(
    pipeline: dlt.Pipeline,
    settings: Settings,
    lock_timeout: float | str,
    sides: Scratch,
    entry: Entry,
) -> None:
    """Reload and delete portion by portion, so that a waiting run gets its turn in between.

    In this order, a kill leaves too many rows, never too few: a later repair finds them.
    """
    run = WindowRun(pipeline, settings, lock_timeout, entry, moves_cursors=False)
    with closing(run):
        if merges_leave_doubles(pipeline):
            doubled = f"SELECT tbl, id FROM differences WHERE kind = '{DUPLICATE}'"
            _in_portions(run, sides, doubled, partial(keep_one, account=settings.account))
        _reload(run, sides)
        _in_portions(run, sides, "FROM removed", partial(remove, account=settings.account))


def _reload(run: WindowRun, sides: Scratch) -> None:
    removed = {key for (key,) in sides.run(f"SELECT id FROM removed WHERE tbl = '{_ROOT}'")}

    def at_end(state: dict[str, Any], _extraction: Extraction) -> None:
        # Before the deletion: a row that was gone for a moment must look new when it returns.
        forget_known(state, removed)

    owners = _owners(sides)
    if len(owners) > MOST_BY_ID and (window := _window(sides)):
        run.load(lambda: [window], lambda _left: at_end)
        return
    lists_anew = bool(
        sides.run(f"FROM differences WHERE list <> '{MAIN_LIST.name}' AND kind IS NOT NULL LIMIT 1")
    )
    if owners or lists_anew or removed:
        run.load_by_id(owners, at_end, lists_anew=lists_anew)


def _in_portions(
    run: WindowRun,
    sides: Scratch,
    rows: str,
    change: Callable[[dlt.Pipeline, str, Sequence[str]], None],
) -> None:
    for name, keys in sides.run(f"SELECT tbl, list(DISTINCT id) FROM ({rows}) GROUP BY tbl"):
        for start in range(0, len(keys), _AT_ONCE):
            run.next_turn()
            change(run.pipeline, name, keys[start : start + _AT_ONCE])


def _owners(sides: Scratch) -> list[str]:
    """Return the listed rows that show the differences, except those that are gone."""
    return [
        owner
        for (owner,) in sides.run(
            f"SELECT DISTINCT owner FROM differences WHERE list = '{MAIN_LIST.name}'"
            " AND owner IS NOT NULL AND kind IS NOT NULL AND owner NOT IN"
            f" (SELECT id FROM asked WHERE list = '{MAIN_LIST.name}' AND fate = '{GONE}')"
            " AND owner NOT IN (FROM unasked)"
        )
    ]


def _window(sides: Scratch) -> Window | None:
    """Return the range of `updated_at` that contains the differences."""
    [(first, last)] = sides.run(
        f"SELECT min(moment), max(moment) FROM differences WHERE list = '{MAIN_LIST.name}'"
        " AND kind IS NOT NULL"
    )
    return Window(first, last) if first else None
