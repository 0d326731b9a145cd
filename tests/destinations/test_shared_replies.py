"""A reply that several enrollments share stays as long as one of them has it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import KEY
from destinations import Destination, DuckDB, Postgres, opened
from hypothesis import given, settings
from hypothesis import strategies as st
from lakes import Delta, Iceberg, Parquet
from standing import START, account

from unify_source import backfill, sync, unify_source
from unify_source.sandbox import Sandbox

KINDS: tuple[type[Destination], ...] = (DuckDB, Postgres, Delta, Iceberg, Parquet)

Carries = tuple[str | None, ...]
Load = Callable[[Destination, str], object]

EXAMPLES = int(os.environ.get("UNIFY_TEST_ROUNDS", "2"))
NONE: Carries = (None, None, None)


def by_sync(warehouse: Destination, url: str) -> None:
    sync(warehouse.pipeline(), api_key=KEY, base_url=url)


def by_three_lines(warehouse: Destination, url: str) -> None:
    warehouse.pipeline().run(unify_source(api_key=KEY, base_url=url))


def by_backfill(warehouse: Destination, url: str) -> None:
    backfill(warehouse.pipeline(), "2026-01-01", api_key=KEY, base_url=url)


def assert_replies_follow(
    warehouse: Destination, steps: Sequence[Carries], load: Load = by_sync
) -> None:
    """Let three enrollments carry replies, step by step, and compare the tables after each."""
    changing = account(3)
    rows = changing.rows()
    with Sandbox(changing, key=KEY) as api:
        changing.put_many({**row, "reply_email_message": None} for row in rows)
        before: Carries = NONE
        for number, carries in enumerate(steps, 1):
            now = START + timedelta(minutes=20 * number)
            changing.clock.advance(timedelta(minutes=20))
            changing.put_many(
                {**row, "reply_email_message": reply(new), "updated_at": now.isoformat()}
                for row, old, new in zip(rows, before, carries, strict=True)
                if old != new
            )
            changing.clock.advance(timedelta(seconds=2))
            before = carries
            load(warehouse, api.url)
            carried = {(new, str(row["id"])) for row, new in zip(rows, carries, strict=True) if new}
            stored = warehouse.reads("reply_email_messages", ["id", "enrollment_id"])
            assert sorted(key for key, _ in stored) == sorted({key for key, _ in carried})
            assert set(stored) <= carried
            classified = warehouse.reads("reply_classifications", ["id", "reply_email_message_id"])
            assert sorted(classified) == sorted((f"{key}-c", key) for key, _ in stored)


def reply(key: str | None) -> dict[str, object] | None:
    if key is None:
        return None
    return {
        "id": key,
        "subject": key,
        "received_at": None,
        "classifications": [{"id": f"{key}-c", "category": "POSITIVE"}],
    }


ONE, TWO = "33333333-0000-4000-8000-000000000001", "33333333-0000-4000-8000-000000000002"
SHARED: list[Carries] = [
    (ONE, None, None),
    (ONE, ONE, None),
    # The owner lets go of it, and the other one has not changed.
    (ONE, None, None),
    (ONE, None, ONE),
    # The owner has another one by now.
    (ONE, TWO, TWO),
    (ONE, TWO, ONE),
    (None, TWO, ONE),
    (None, None, None),
]


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "load"),
    [
        pytest.param(kind, load, id=f"{kind.name}-{load.__name__}", marks=kind.lane)
        for kind in KINDS
        for load in ([by_sync] if kind is Postgres else [by_sync, by_three_lines, by_backfill])
    ],
)
def test_a_shared_reply_stays_when_its_owner_drops_it(
    kind: type[Destination], load: Load, home: Path, request: pytest.FixtureRequest
) -> None:
    with opened(kind, home, request) as warehouse:
        is_whole = load is by_sync and kind is not Postgres
        assert_replies_follow(warehouse, SHARED if is_whole else SHARED[:3], load)


@pytest.mark.rounds
@settings(max_examples=EXAMPLES)
@given(steps=st.lists(st.tuples(*[st.sampled_from([None, ONE, TWO])] * 3), min_size=2, max_size=5))
def test_replies_follow_any_changes(steps: list[Carries], request: pytest.FixtureRequest) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.chdir(folder)
        with opened(DuckDB, Path(folder), request) as warehouse:
            assert_replies_follow(warehouse, steps)
