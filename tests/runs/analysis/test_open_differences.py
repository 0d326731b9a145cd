"""A difference stays open until a comparison that covers it, or a repair, finds it equal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import KEY
from modeled import KINDS, Database, filled
from standing import START, account

from unify_source import verify
from unify_source.common.resources import DIFFERENCES, LEDGER
from unify_source.sandbox import Sandbox

DAYS = {"a": date(2026, 5, 10), "b": date(2026, 5, 10), "c": date(2026, 5, 15)}
MIDNIGHT, MORNING, ELEVEN, NOON = (f"2026-05-10 {hour}:00:00" for hour in ("00", "09", "11", "12"))
NEXT, LATER, NOW = (f"{day} 00:00:00" for day in ("2026-05-11", "2026-05-20", "2026-06-02"))
EQUAL, DIFFERENT = "equal", "different"


class Run(NamedTuple):
    """A comparison: its range, the keys that differed, and its verdict, "" if it was killed.

    `left` are the keys that still differed after a repair.
    """

    start: str | None
    end: str
    differ: tuple[str, ...] = ()
    verdict: str = EQUAL
    left: tuple[str, ...] = ()


WHOLE = Run(None, NOW)
FOUND = WHOLE._replace(differ=("a", "b"), verdict=DIFFERENT)
IN_THE_MORNING = Run(MORNING, NOON, ("a", "b"), DIFFERENT)
CASES: dict[str, tuple[list[Run], set[str]]] = {
    "found": ([FOUND], {"a", "b"}),
    "found, and all is equal": ([FOUND, WHOLE], set()),
    "found again in part": ([FOUND, FOUND._replace(differ=("b",))], {"b"}),
    "equal on another day": ([FOUND, Run(NEXT, LATER)], {"a", "b"}),
    "different on another day": (
        [FOUND, Run(NEXT, LATER, ("c",), DIFFERENT)],
        {"a", "b", "c"},
    ),
    "equal up to the day before": ([FOUND, Run(None, MIDNIGHT)], {"a", "b"}),
    "equal on the whole day": ([FOUND, Run(MIDNIGHT, NEXT)], set()),
    "equal on a part of the day": ([FOUND, Run(MORNING, LATER)], {"a", "b"}),
    "equal on the part in which it was found": ([IN_THE_MORNING, Run(MORNING, NEXT)], set()),
    "equal on less than that": (
        [IN_THE_MORNING, Run(MORNING, ELEVEN)],
        {"a", "b"},
    ),
    "repaired": ([FOUND, FOUND._replace(verdict=EQUAL)], set()),
    "repaired in a range": ([FOUND, Run(MIDNIGHT, NEXT, ("a",))], set()),
    "repaired in part": ([FOUND._replace(left=("a",))], {"a"}),
    "repaired until it was killed": ([FOUND._replace(verdict="")], {"a", "b"}),
    "equal after one that was killed": ([FOUND._replace(verdict=""), WHOLE], set()),
    "equal before it was found": ([WHOLE, FOUND], {"a", "b"}),
    "different, and not written": (
        [FOUND, WHOLE._replace(verdict=DIFFERENT)],
        {"a", "b"},
    ),
}


@pytest.fixture(scope="module", params=KINDS)
def loaded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres_server: str
) -> Iterator[tuple[Sandbox, Database]]:
    folder = tmp_path_factory.mktemp("differences")
    with (
        Sandbox(account(20), key=KEY) as api,
        filled(folder, postgres_server, api, request.param) as (database,),
    ):
        yield api, database


def opened(database: Database) -> dict[str, int]:
    rows = database.ask("SELECT table_name, row_count FROM unify_models.open_differences")
    return dict(rows)


def compared(database: Database, runs: list[Run]) -> None:
    """Let a dataset have been compared by these runs, and no other."""
    statements = [f"DELETE FROM unify.{table.name}" for table in (LEDGER, DIFFERENCES)]
    for number, run in enumerate(runs):
        started = START + timedelta(minutes=number)
        start = f"'{run.start}+00'" if run.start else "NULL"
        if run.verdict:
            statements.append(
                f"INSERT INTO unify.{LEDGER.name}"
                " (id, kind, started_at, verdict, window_from, window_to) VALUES"
                f" ('{number}', 'verify', '{started}', '{run.verdict}', {start}, '{run.end}+00')"
            )
        statements += [
            f"INSERT INTO unify.{DIFFERENCES.name}"
            " (verify_id, verified_at, table_name, kind, key, day) VALUES"
            f" ('{number}', '{started + timedelta(seconds=later)}',"
            f" '{key}', 'stale', '{key}', '{DAYS[key]}')"
            for later, keys in enumerate((run.differ, run.left))
            for key in keys
        ]
    database.ask("; ".join([*statements, "SELECT 1"]))


def test_a_difference_is_open_until_a_comparison_that_covers_it(
    loaded: tuple[Sandbox, Database],
) -> None:
    _, database = loaded
    for case, (runs, expected) in CASES.items():
        compared(database, runs)

        assert opened(database).keys() == expected, case


@pytest.mark.long
def test_a_narrow_comparison_that_is_equal_leaves_other_differences_open(
    loaded: tuple[Sandbox, Database], home: Path
) -> None:
    api, database = loaded
    compared(database, [])
    pipeline = database.pipeline(home)
    rows = sorted(api.account.rows(), key=lambda row: row["updated_at"])
    first, last = rows[0], rows[-1]
    days = [row["updated_at"][:10] for row in (first, last)]
    assert days[0] != days[1]
    for row in (first, last):
        database.ask(
            f"UPDATE unify.enrollments SET status = 'odd' WHERE id = '{row['id']}' RETURNING id"
        )
    of_api: dict[str, Any] = {"api_key": KEY, "base_url": api.url}
    verify(pipeline, **of_api)
    assert opened(database) == {"enrollments": 2}

    last_status = f"UPDATE unify.enrollments SET status = '{last['status']}'"
    database.ask(f"{last_status} WHERE id = '{last['id']}' RETURNING id")
    assert verify(pipeline, days[1], **of_api).verdict == "equal"

    assert opened(database) == {"enrollments": 1}
    end = date.fromisoformat(days[0]) + timedelta(days=1)
    assert verify(pipeline, days[0], end, repair=True, yes=True, **of_api).repaired == 1
    assert opened(database) == {}
