"""Mends what differs: takes away what is gone, and loads the rest again by its ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

import dlt

from unify_source.extract.window import Span, Window
from unify_source.load.extraction import Extraction
from unify_source.load.schema import Target
from unify_source.resources import MAIN_LIST, QUARANTINE, SEQUENCE_LIST
from unify_source.runs.windows import WindowRun
from unify_source.settings import Settings
from unify_source.state.memory import Memory, Sifted
from unify_source.times import EPOCH, TICK
from unify_source.verification.api import GONE
from unify_source.verification.differences import DUPLICATE, EXTRA, MOST_BY_ID, ORPHANED
from unify_source.verification.rows import merges_leave_doubles, remove
from unify_source.verification.scratch import Scratch
from unify_source.verification.stored import parent_of

MOST_TAKEN_AWAY = 0.05
"""The share of a table that is taken away without being asked for."""

_NO_TIME = Window(EPOCH + TICK, EPOCH)
_AT_ONCE = 1_000
_ROOT = MAIN_LIST.parts[0].table.name


class RowsById(Extraction):
    """Reads rows by their ids in place of a window; those that the API no longer has are left."""

    def __init__(self, run: WindowRun, ids: Sequence[str]) -> None:
        settings = run.settings.without_filters()
        super().__init__(MAIN_LIST, QUARANTINE, settings, run.client, Span(_NO_TIME))
        self._ids = list(ids)

    def _sifted(
        self, window: Window, again: list[Window], ids: list[str], memory: Memory, target: Target
    ) -> Iterator[Sifted]:
        return super()._sifted(window, again, [*ids, *self._ids], memory, target)


def plan_removal(sides: Scratch) -> None:
    """Note in the table `removed` which rows are to be taken away, by table.

    Enrollments that are gone, then their children, whatever else is wrong with those.
    """
    sides.run("CREATE OR REPLACE TABLE removed (tbl VARCHAR, id VARCHAR)")
    gone = f"SELECT id FROM asked WHERE list = '{MAIN_LIST.name}' AND fate = '{GONE}'"
    for part in MAIN_LIST.parts:
        name, parent = part.table.name, parent_of(part.table)
        if part.path and not parent:
            continue
        sides.run(
            f"INSERT INTO removed SELECT DISTINCT '{name}', id FROM differences"
            f" WHERE tbl = '{name}' AND kind IN ('{EXTRA}', '{ORPHANED}')"
            f" AND (owner IS NULL OR owner IN ({gone}))"
        )
        if parent:
            sides.run(
                f"INSERT INTO removed SELECT DISTINCT '{name}', id FROM stored_{name}"
                f" SEMI JOIN removed ON parent = removed.id AND tbl = '{parent.references}'"
                f" ANTI JOIN removed AS known ON known.id = stored_{name}.id"
                f" AND known.tbl = '{name}'"
            )


def brakes(sides: Scratch) -> list[str]:
    """Return a sentence for each table that would lose more of its rows than goes unasked."""
    stopped = []
    for name, count in sides.run("SELECT tbl, count(*) FROM removed GROUP BY tbl"):
        [(held,)] = sides.run(f"SELECT count(DISTINCT id) FROM stored_{name}")
        if count > MOST_TAKEN_AWAY * held:
            stopped.append(
                f"Nothing was repaired: {count:,} of {held:,} rows of {name} are gone from the API,"
                f" more than {MOST_TAKEN_AWAY:.0%}. If that is so, add --yes to take them away."
            )
    return stopped


def mend(
    pipeline: dlt.Pipeline, settings: Settings, lock_timeout: float | str, sides: Scratch
) -> None:
    """Take away and load again, portion by portion: a run that waits gets in between two."""
    run = WindowRun(pipeline, settings, lock_timeout, moves_cursors=False)
    with closing(run):
        _remove(run, sides)
        owners = _owners(sides)
        if len(owners) > MOST_BY_ID and (window := _window(sides)):
            run.load(lambda: [window])
            return
        lists_anew = bool(
            sides.run(
                f"FROM differences WHERE list = '{SEQUENCE_LIST.name}' AND kind IS NOT NULL LIMIT 1"
            )
        )
        if owners or lists_anew:
            run.load_alone(RowsById(run, owners), lists_anew=lists_anew)


def _remove(run: WindowRun, sides: Scratch) -> None:
    doubled = "false"
    if merges_leave_doubles(run.pipeline):
        doubled = f"kind = '{DUPLICATE}' AND (owner IS NOT NULL OR list <> '{MAIN_LIST.name}')"
    taken = sides.run(
        f"SELECT tbl, list(DISTINCT id) FROM (FROM removed UNION ALL"
        f" SELECT tbl, id FROM differences WHERE {doubled}) GROUP BY tbl"
    )
    for name, keys in taken:
        for start in range(0, len(keys), _AT_ONCE):
            run.next_turn()
            remove(run.pipeline, name, keys[start : start + _AT_ONCE])


def _owners(sides: Scratch) -> list[str]:
    """Return the listed rows that show what differs, but for those that are gone."""
    return [
        owner
        for (owner,) in sides.run(
            f"SELECT DISTINCT owner FROM differences WHERE list = '{MAIN_LIST.name}'"
            " AND owner IS NOT NULL AND kind IS NOT NULL AND owner NOT IN"
            f" (SELECT id FROM asked WHERE list = '{MAIN_LIST.name}' AND fate = '{GONE}')"
        )
    ]


def _window(sides: Scratch) -> Window | None:
    """Return the range of `updated_at` in which most of what differs lies."""
    [(first, last)] = sides.run(
        f"SELECT min(moment), max(moment) FROM differences WHERE list = '{MAIN_LIST.name}'"
        " AND kind IS NOT NULL"
    )
    return Window(first, last) if first else None
