"""`verify` finds every kind of damage, each row of it and no other."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import KEY, rounds_and_chance
from damage import damaged, found, verified
from destinations import Destination, DuckDB, Postgres
from lakes import Delta, Iceberg, Parquet
from loaded import loaded
from moving import TICK, OnRequest, living
from standing import START, Serve, account, load

from unify_source import backfill, forget, sync, verify
from unify_source.cli.pipeline import open_pipeline
from unify_source.common.errors import ConfigurationError
from unify_source.load.packages import row_counts
from unify_source.runs.verification.result import Verified
from unify_source.sandbox import DRIFTS, Account, Clock, Request, Sandbox

damageable = pytest.mark.parametrize(
    "warehouse", [DuckDB, Postgres, pytest.param(Delta, marks=Delta.lane)], indirect=True
)


def test_freshly_loaded_tables_equal_the_api(warehouse: Destination, serve: Serve) -> None:
    api = loaded(warehouse, serve)

    outcome = verified(warehouse, api)

    assert (outcome.verdict, outcome.exit_code, found(outcome)) == ("equal", 0, {})


@pytest.mark.parametrize("warehouse", [DuckDB], indirect=True)
def test_the_temporary_folder_may_have_any_name(
    warehouse: Destination, serve: Serve, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = loaded(warehouse, serve)
    odd = home / "it's [one] of *many?"
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))

    assert verified(warehouse, api).verdict == "equal"
    assert list(odd.iterdir()) == []


@pytest.mark.parametrize(
    "warehouse",
    [pytest.param(kind, marks=kind.lane) for kind in (Delta, Iceberg, Parquet)],
    indirect=True,
)
def test_a_reply_that_is_gone_is_read_from_no_older_version_of_a_lake(
    warehouse: Destination, serve: Serve
) -> None:
    api = loaded(warehouse, serve)
    still = api.account
    lost, moved, *_ = [row for row in still.rows() if row["reply_email_message"]]
    other = next(row for row in still.rows() if not row["reply_email_message"])
    now = {"updated_at": (START + timedelta(minutes=1)).isoformat()}
    still.put_many({**row, **now, "reply_email_message": None} for row in (lost, moved))
    still.put_many([{**other, **now, "reply_email_message": moved["reply_email_message"]}])
    still.clock.advance(timedelta(minutes=2))
    load(warehouse, api)

    assert found(verified(warehouse, api)) == {}
    pipeline = warehouse.pipeline()
    pipeline.sync_destination()
    counts = {name: len(rows) for name, rows in warehouse.stored().items()}
    assert row_counts(pipeline, tuple(counts)) == counts


@pytest.mark.mostly_on_duckdb
@damageable
@pytest.mark.parametrize("ends", [(), ("2026-01-01",), ("2026-04-01", "2026-05-20")])
def test_as_loaded_counts_damage_and_nothing_that_changed_since_the_load(
    warehouse: Destination, serve: Serve, ends: tuple[str, ...]
) -> None:
    api = loaded(warehouse, serve)
    touched = api.account.change(100, seed=1)
    api.account.clock.advance(timedelta(minutes=1))
    still = [
        r for r in api.account.rows() if r["id"] not in touched and r["updated_at"] < "2026-05-20"
    ]
    quiet = next(r["id"] for r in reversed(still) if not r["reply_email_message"])

    assert found(verified(warehouse, api, *ends)) != {}
    assert found(verified(warehouse, api, *ends, as_loaded=True)) == {}
    warehouse.change(f"DELETE FROM unify.enrollments WHERE id = '{quiet}'")
    damage = found(verified(warehouse, api, *ends, as_loaded=True))
    assert damage == {"enrollments": {"missing": 1}}


@damageable
def test_every_kind_of_damage_is_found_with_its_exact_count(
    warehouse: Destination, serve: Serve
) -> None:
    api = loaded(warehouse, serve)
    damage = damaged(warehouse)

    outcome = verified(warehouse, api)

    assert found(outcome) == damage
    assert (outcome.verdict, outcome.exit_code) == ("different", 4)


@damageable
@pytest.mark.mostly_on_duckdb
def test_one_repair_mends_every_kind_of_damage(warehouse: Destination, serve: Serve) -> None:
    api = loaded(warehouse, serve)
    expected = warehouse.stored()
    damage = damaged(warehouse)

    outcome = verified(warehouse, api, repair=True)

    count = sum(sum(kinds.values()) for kinds in damage.values())
    assert (found(outcome), outcome.repaired, outcome.exit_code) == ({}, count, 0)
    extra = set(warehouse.keys("sequences")) - {row[0] for row in expected["sequences"]}
    marked = {key for key, at in warehouse.reads("sequences", ["id", "missing_since"]) if at}
    assert marked == extra
    stored = warehouse.stored()
    stored["sequences"] = [row for row in stored["sequences"] if row[0] not in marked]
    assert stored == expected
    differences = warehouse.reads("unify_verify_differences", ["table_name", "kind", "key"])
    assert len(differences) == count


@pytest.mark.long
def test_a_column_that_came_later_and_json_are_compared_by_content(
    warehouse: Destination, serve: Serve
) -> None:
    still = loaded(warehouse, serve, 50).account
    still.put_many(row | {"updated_at": "2026-06-01T12:00:00Z"} for row in still.rows()[:10])
    api = serve(still, reshape=DRIFTS["new-fields"])
    load(warehouse, api)
    before = found(verified(warehouse, api))
    backfill(warehouse.pipeline(), "2020-01-01", api_key=KEY, base_url=api.url)

    # What was loaded without the new fields lacks them.
    assert before["enrollments"]["stale"] > 30
    assert found(verified(warehouse, api)) == {}


@pytest.mark.parametrize("warehouse", [DuckDB], indirect=True)
def test_hashed_data_is_compared_hashed_and_a_forgotten_person_is_not_missing(
    warehouse: Destination, serve: Serve
) -> None:
    api = serve(account(60))
    hidden: Any = {"pii": "hash", "pii_key": "a key of sixteen letters or more"}
    load(warehouse, api, **hidden)
    forget(warehouse.pipeline(), warehouse.keys("people")[0])

    outcome = verified(warehouse, api, **hidden)

    assert found(outcome) == {}
    with pytest.raises(ConfigurationError, match="pii"):
        verified(warehouse, api)


@pytest.mark.mostly_on_duckdb
def test_rows_in_quarantine_are_counted_apart(warehouse: Destination, serve: Serve) -> None:
    api = serve(account(), reshape=DRIFTS["changed-types"])
    report = load(warehouse, api)
    assert report.quarantined

    outcome = verified(warehouse, api)

    assert (found(outcome), outcome.quarantined, outcome.exit_code) == ({}, report.quarantined, 0)


@pytest.mark.parametrize("warehouse", [Postgres], indirect=True)
def test_a_role_that_may_only_read_gets_the_verdict(
    warehouse: Destination, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    api = loaded(warehouse, serve, 50)
    warehouse.change("DELETE FROM unify.people")
    name = warehouse.pipeline().sql_client().credentials.database
    warehouse.change(f"ALTER DATABASE {name} SET default_transaction_read_only = on")

    outcome = verified(warehouse, api)

    assert outcome.exit_code == 4
    assert "not written to unify_verify_differences" in caplog.text


def test_before_the_first_load_every_row_is_missing(
    warehouse: Destination, serve: Serve, home: Path
) -> None:
    api = serve(account(50))

    outcome = verified(warehouse, api)

    assert outcome.tables["enrollments"]["missing"] == 50
    assert not list(home.glob("*.duckdb"))


@pytest.mark.rounds
@pytest.mark.parametrize("order", ["updated", "id"])
def test_a_row_that_changes_during_a_verify_is_no_difference(order: str) -> None:
    rounds, chance = rounds_and_chance(usual=1)
    for _ in range(rounds):
        clock = Clock(START, tick=timedelta(seconds=7))
        changing = Account(60, seed=chance.randrange(10**6), clock=clock, days=2)

        def change(_request: Request, changing: Account = changing) -> None:
            changing.change(chance.randrange(1, 4), seed=chance.randrange(10**9))
            if chance.random() < 0.3:
                changing.edit_any_sequence(seed=chance.randrange(10**9))

        compared = _compared_while_it_changes(changing, change, order=order, page_size=10)
        assert found(compared) == {}


@pytest.mark.rounds
@pytest.mark.parametrize("cursor", ["keyset", "offset"])
def test_400_rows_that_change_each_second_of_a_verify_are_no_difference(cursor: str) -> None:
    rounds, chance = rounds_and_chance(usual=1)
    for _ in range(rounds):
        changing = Account(3_000, seed=chance.randrange(10**6), clock=Clock(START, TICK), days=2)
        change = living(changing, 400 * TICK.total_seconds(), 0.0, chance)

        compared = _compared_while_it_changes(changing, change, cursor=cursor, page_size=50)
        assert found(compared) == {}


def _compared_while_it_changes(
    changing: Account, change: OnRequest, *, page_size: int, **server: Any
) -> Verified:
    """Load an account at rest, and compare it while each request but the first changes it."""
    asked: list[Request] = []

    def happen(request: Request) -> None:
        asked.append(request)
        # The first request tells when the comparison begins.
        if is_live and len(asked) > 1:
            change(request)

    is_live = False
    with (
        tempfile.TemporaryDirectory() as folder,
        Sandbox(changing, key=KEY, on_request=happen, **server) as api,
    ):
        pipeline = open_pipeline(
            "live", "duckdb", "unify", pipelines_dir=folder, credentials=f"{folder}/live.duckdb"
        )
        how: dict[str, Any] = {"page_size": page_size, "workers": 2}
        given: dict[str, Any] = {"api_key": KEY, "base_url": api.url, **how}
        sync(pipeline, **given)
        changing.clock.advance(timedelta(seconds=1))
        asked.clear()
        is_live = True
        return verify(pipeline, **given)
