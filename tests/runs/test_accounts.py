"""Several accounts in one dataset: what is done to one of them leaves the others as they are."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

import dlt
import pytest
from conftest import KEY, start_command
from destinations import DATASET, Destination, DuckDB
from lakes import Delta, Iceberg
from standing import Serve, account, change
from warehouse import Rows, comparable, compared, shown

from unify_source import backfill, forget, sync, unify_source, verify
from unify_source.common.errors import ConfigurationError
from unify_source.common.resources import BY_NAME, LEDGER, QUARANTINE, SEQUENCE_LIST
from unify_source.load.source import SOURCE
from unify_source.runs.analysis.views import make_models
from unify_source.runs.status import status
from unify_source.sandbox import Sandbox

ONE, OTHER = "one", "other"
ROWS = 20
ASIDE = {LEDGER.name: ["id", "outcome"], QUARANTINE.name: ["id", "raw"]}
ASIDE |= {"sequences": ["missing_since"]}
DYING = {"enrollments", *(table.name for table in BY_NAME.values() if table.dies_with)}
on_duckdb = pytest.mark.parametrize("warehouse", [pytest.param(DuckDB, id="duckdb")], indirect=True)


class Two:
    """Two accounts whose rows have the same ids and other contents, and one dataset for both."""

    def __init__(self, serve: Serve, warehouse: Destination) -> None:
        self.warehouse = warehouse
        warehouse.by_account = True
        # One row that cannot be read in each.
        self.odd = {(name, account(ROWS).ids()[7]) for name in (ONE, OTHER)}
        self.apis = {name: self._served(serve, name) for name in (ONE, OTHER)}
        self.listed: dict[str, Rows] = {}
        self.rows: dict[str, Rows] = {}

    def _served(self, serve: Serve, name: str) -> Sandbox:
        own = account(ROWS)
        own.put_many([{**row, "status": name.upper()} for row in own.rows()])

        def reshape(row: dict[str, Any]) -> dict[str, Any]:
            return {**row, "is_paused": "odd"} if (name, row["id"]) in self.odd else row

        sandbox: Sandbox = serve(own, reshape=reshape)
        return sandbox

    def given(self, name: str) -> dict[str, Any]:
        return {"account": name, "api_key": KEY, "base_url": self.apis[name].url}

    def remove_sequence(self, name: str) -> str:
        """Remove a sequence from an account's list; its rows stay in the tables."""
        rows = self.shown(name)
        self.listed[name] = {p.table.name: rows[p.table.name] for p in SEQUENCE_LIST.parts}
        gone = str(rows["sequences"][0][0])
        self.apis[name].account.remove_sequence(gone)
        return gone

    def shown(self, name: str, without: str = "") -> Rows:
        """Return the expected rows of an account, without those of one person."""
        api = self.apis[name].account
        rows = [row for row in api.rows() if row["person"]["id"] != without]
        return {**shown(rows, api.sequences()), **self.listed.get(name, {})}

    def stored(self) -> dict[str, Rows]:
        """Return the rows of each account, sorted by key; aside, what the API does not say."""
        promised = {t: [c.name for c in compared(BY_NAME[t])] for t in shown([])}
        columns = {t: promised.get(t, []) + ASIDE.get(t, []) for t in {**promised, **ASIDE}}
        read = self.warehouse.reads_each({t: ["account", *names] for t, names in columns.items()})
        return {name: _of_account(name, read, promised) for name in self.apis}

    def touched(self, act: Callable[[dlt.Pipeline], Any]) -> Any:
        """Do something to one account, and see that no row of the other changes."""
        before = self.rows or self.stored()
        outcome = act(self.warehouse.pipeline())
        self.rows = self.stored()
        assert self.rows[OTHER] == before[OTHER]
        return outcome


def _of_account(name: str, read: Rows, promised: dict[str, list[str]]) -> Rows:
    own = {
        t: [row[1:] for row in sorted(rows, key=itemgetter(1)) if row[0] == name]
        for t, rows in read.items()
    }
    aside = {f"{t} aside": [(row[0], *row[-len(ASIDE[t]) :]) for row in own[t]] for t in ASIDE}
    stored = {
        t: [comparable(BY_NAME[t], row[: len(names)]) for row in own[t]]
        for t, names in promised.items()
    }
    return {**stored, **aside}


def state(pipeline: dlt.Pipeline, name: str) -> dict[str, Any]:
    """Return all that a pipeline keeps of an account between runs, by resource."""
    kept = pipeline.state["sources"][SOURCE]["resources"]
    return {each: state["accounts"][name] for each, state in kept.items()}


@pytest.mark.mostly_on_duckdb
def test_what_is_done_to_one_account_leaves_the_other_as_it_is(
    serve: Serve, warehouse: Destination
) -> None:
    two = Two(serve, warehouse)
    one, given = two.apis[ONE].account, two.given(ONE)
    pipeline = warehouse.pipeline()
    sync(pipeline, **two.given(OTHER))
    state_of_the_other = state(pipeline, OTHER)
    two.touched(lambda pipeline: backfill(pipeline, "2000-01-01", **given))

    person = one.rows()[0]["person"]["id"]
    gone = two.touched(lambda pipeline: forget(pipeline, person, account=ONE))
    assert gone.rows["people"] == 1

    # Without moving `updated_at`: the first sync of an account begins at no cursor of another.
    one.put_many([{**row, "status": "AGAIN"} for row in one.rows()])
    # A row that was mended leaves the quarantine of its own account.
    two.odd.discard((ONE, min(key for _, key in two.odd)))
    change(one, 5)
    replied = next(row for row in one.rows() if row["reply_email_message"])
    now = one.clock.now().isoformat()
    one.put({**replied, "reply_email_message": None, "updated_at": now})
    missing = two.remove_sequence(ONE)
    change(one, 0)
    assert two.touched(lambda pipeline: sync(pipeline, **given)).quarantined == 0
    assert two.rows[ONE].items() >= two.shown(ONE, without=person).items()
    assert [key for key, since in two.rows[ONE]["sequences aside"] if since] == [missing]

    damage(two, person)
    pipeline = warehouse.pipeline()
    assert two.touched(lambda _: verify(pipeline, repair=True, yes=True, **given)).repaired > 0
    for table, rows in two.shown(ONE, without=person).items():
        assert set(rows) <= set(two.rows[ONE][table])
        # The person whose only enrollment is gone stays.
        if table in DYING and warehouse.deletes_rows:
            assert two.rows[ONE][table] == rows
    assert state(pipeline, OTHER) == state_of_the_other
    counted = status(pipeline, account=OTHER)
    assert counted.rows["enrollments"] == len(two.rows[OTHER]["enrollments"])
    assert counted.rows[QUARANTINE.name] == 1
    assert [run["kind"] for run in counted.runs.rows] == ["sync"]


def damage(two: Two, person: str) -> None:
    """Let rows of one account be missing, stale and extra, whose ids the other account has too."""
    one = two.apis[ONE].account
    rows = [row for row in one.rows() if row["person"]["id"] != person]
    one.remove(next(row["id"] for row in reversed(rows) if row["reply_email_message"]))
    one.put({**rows[0], "status": "ONCE MORE"})
    if isinstance(two.warehouse, (Delta, Iceberg)):
        # In both accounts: only those of one are repaired.
        two.warehouse.double("enrollments", [rows[1]["id"]])
        two.rows = two.stored()
    if not two.warehouse.takes_statements:
        return
    ends = "SELECT min(id) FROM {0} UNION SELECT max(id) FROM {0}"
    for table in ("enrollments", "people", "reply_email_messages"):
        name = f"{DATASET}.{table}"
        two.warehouse.change(
            f"DELETE FROM {name} WHERE account = 'one' AND id IN ({ends.format(name)})"
        )
    two.warehouse.change(
        f"INSERT INTO {DATASET}.reply_classifications (account, id, reply_email_message_id)"
        " VALUES ('one', 'gone', 'nowhere')"
    )


@on_duckdb
def test_a_command_and_a_dlt_pipeline_load_their_own_account(
    serve: Serve, warehouse: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = Two(serve, warehouse)
    two.odd.clear()
    process = start_command(two.apis[ONE], "sync", "--account", " One ")
    assert process.wait(60) == 0, process.communicate()

    monkeypatch.setenv("SOURCES__UNIFY__ACCOUNT", OTHER)
    given = {name: value for name, value in two.given(OTHER).items() if name != "account"}
    warehouse.pipeline("another").run(unify_source(**given))

    for name, rows in two.stored().items():
        assert rows.items() >= two.shown(name).items()


def refused(act: Callable[[], Any], match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        act()


@on_duckdb
@pytest.mark.parametrize("made_with", [ONE, None])
def test_a_dataset_with_accounts_is_refused_without_one_and_vice_versa(
    serve: Serve, warehouse: Destination, made_with: str | None
) -> None:
    api = serve(account(0))
    given: dict[str, Any] = {"api_key": KEY, "base_url": api.url}
    sync(warehouse.pipeline(), account=made_with, **given)
    other = None if made_with else ONE
    match = "account is not set" if made_with else "account is set"
    runs = len(warehouse.loads())

    refused(lambda: sync(warehouse.pipeline(), account=other, **given), match)
    refused(lambda: verify(warehouse.pipeline(), account=other, **given), match)
    refused(lambda: backfill(warehouse.pipeline(), "2000-01-01", account=other, **given), match)
    refused(lambda: status(warehouse.pipeline(), account=other), match)
    person = "3c90c3cc-0d44-4b50-8888-8dd25736052a"
    refused(lambda: forget(warehouse.pipeline(), person, account=other), match)
    assert len(warehouse.loads()) == runs
    if made_with:
        refused(lambda: make_models(warehouse.pipeline()), "holds several accounts")
        for named, refusal in ((ONE, "refresh would empty"), (None, "account is not set")):
            source = unify_source(account=named, **given)
            with pytest.raises(Exception, match=refusal):
                warehouse.pipeline().run(source, refresh="drop_data")


@on_duckdb
def test_a_new_field_called_account_gets_a_column_of_another_name(
    serve: Serve, warehouse: Destination
) -> None:
    def reshaped(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "account": f"of {row['id']}"}

    api = serve(account(20), reshape=reshaped)
    for _ in range(2):
        sync(warehouse.pipeline(), account=ONE, api_key=KEY, base_url=api.url)

    [other] = [name for name in warehouse.columns("enrollments") if name.startswith("account_")]
    rows = warehouse.reads("enrollments", ["id", "account", other])
    assert rows
    assert all(row == (row[0], ONE, f"of {row[0]}") for row in rows)


@on_duckdb
def test_a_field_named_account_does_not_make_a_dataset_one_of_several_accounts(
    serve: Serve, warehouse: Destination
) -> None:
    api = serve(account(20), reshape=lambda row: {**row, "account": "an API's field"})
    sync(warehouse.pipeline(), api_key=KEY, base_url=api.url)

    assert make_models(warehouse.pipeline()).as_json()["models"]


@pytest.mark.parametrize("name", ["", "a b", "ü", "a'b", "x" * 33])
def test_an_invalid_account_name_is_refused(name: str) -> None:
    refused(lambda: unify_source(api_key=KEY, account=name), "account is")


def test_a_destination_that_is_no_database_and_no_lake_takes_one_account(serve: Serve) -> None:
    @dlt.destination
    def function(_items: Any, _table: Any) -> None:
        pass

    given = {"api_key": KEY, "base_url": serve(account(0)).url, "account": ONE}
    refused(lambda: sync(dlt.pipeline("any", destination=function), **given), "is neither")
