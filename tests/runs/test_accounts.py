"""Several accounts in one dataset: what is done to one of them leaves the others as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import dlt
import pytest
from conftest import KEY, start_command
from destinations import DATASET, Destination, DuckDB
from lakes import Delta, Iceberg
from standing import Serve, account, change
from warehouse import Rows, comparable, compared, shown

from unify_source import backfill, forget, sync, unify_source, verify
from unify_source.analysis.views import make_models
from unify_source.destinations.unfinished import merges_in_transactions
from unify_source.errors import ConfigurationError
from unify_source.load.packages import quarantined
from unify_source.load.source import SOURCE
from unify_source.resources import BY_NAME, LEDGER, QUARANTINE
from unify_source.runs.status import status
from unify_source.sandbox import Sandbox

ONE, OTHER = "one", "other"
ROWS = 40
on_duckdb = pytest.mark.parametrize("warehouse", [pytest.param(DuckDB, id="duckdb")], indirect=True)


class Two:
    """Two accounts whose rows have the same ids and other contents, and one dataset for both."""

    def __init__(self, serve: Serve, warehouse: Destination) -> None:
        self.warehouse = warehouse
        warehouse.by_account = True
        # One row that cannot be read in each.
        self.odd = {(name, account(ROWS).ids()[7]) for name in (ONE, OTHER)}
        self.apis = {name: self._served(serve, name) for name in (ONE, OTHER)}
        self.rows_of_the_other: Any = None

    def _served(self, serve: Serve, name: str) -> Sandbox:
        own = account(ROWS)
        own.put_many([{**row, "status": name.upper()} for row in own.rows()])

        def reshape(row: dict[str, Any]) -> dict[str, Any]:
            return {**row, "is_paused": "odd"} if (name, row["id"]) in self.odd else row

        sandbox: Sandbox = serve(own, reshape=reshape)
        return sandbox

    def given(self, name: str) -> dict[str, Any]:
        return {"account": name, "api_key": KEY, "base_url": self.apis[name].url}

    def sync(self, name: str) -> Any:
        return sync(self.warehouse.pipeline(), **self.given(name))

    def shown(self, name: str, without: str = "") -> Rows:
        """Return the expected rows of an account, without those of one person."""
        api = self.apis[name].account
        rows = [row for row in api.rows() if row["person"]["id"] != without]
        return shown(rows, api.sequences())

    def stored(self, name: str) -> Rows:
        """Return every promised column of an account's rows, sorted by key."""
        read = self._of(name, {t: [c.name for c in compared(BY_NAME[t])] for t in shown([])})
        return {
            table: sorted((comparable(BY_NAME[table], row) for row in rows), key=lambda row: row[0])
            for table, rows in read.items()
        }

    def rows(self, name: str) -> Any:
        """Return all rows of an account, with those in quarantine and its runs."""
        more = self._of(name, {LEDGER.name: ["id", "outcome"], QUARANTINE.name: ["id", "raw"]})
        return self.stored(name), {table: sorted(rows) for table, rows in more.items()}

    def state(self, name: str) -> dict[str, Any]:
        """Return all that dlt keeps of an account between runs, by resource."""
        pipeline = self.warehouse.pipeline("looking")
        pipeline.sync_destination()
        kept = pipeline.state["sources"][SOURCE]["resources"]
        return {each: state["accounts"][name] for each, state in kept.items()}

    def _of(self, name: str, columns: dict[str, list[str]]) -> Rows:
        read = self.warehouse.reads_each({t: ["account", *names] for t, names in columns.items()})
        return {t: [row[1:] for row in rows if row[0] == name] for t, rows in read.items()}

    def touched(self, act: Callable[[], Any]) -> Any:
        """Do something to one account, and see that no row of the other changes."""
        before = self.rows_of_the_other = self.rows_of_the_other or self.rows(OTHER)
        outcome = act()
        assert self.rows(OTHER) == before, act
        return outcome


def test_what_is_done_to_one_account_leaves_the_other_as_it_is(
    serve: Serve, warehouse: Destination
) -> None:
    two = Two(serve, warehouse)
    one, given = two.apis[ONE].account, two.given(ONE)
    two.sync(OTHER)
    state_of_the_other = two.state(OTHER)
    assert two.touched(lambda: two.sync(ONE)).quarantined == 1
    pipeline = warehouse.pipeline("looking")
    assert quarantined(pipeline, ONE) == quarantined(pipeline, OTHER) == 1

    person = ""
    if merges_in_transactions(pipeline):
        person = one.rows()[0]["person"]["id"]
        gone = two.touched(lambda: forget(warehouse.pipeline(), person, account=ONE))
        assert gone.rows["people"] == 1
        assert person in json.dumps(two.stored(OTHER), default=str)

    # A row that was mended leaves the quarantine of its own account.
    two.odd.discard((ONE, min(key for _, key in two.odd)))
    change(one, 10)
    replied = next(row for row in one.rows() if row["reply_email_message"])
    now = one.clock.now().isoformat()
    one.put_many(
        [
            {**replied, "reply_email_message": None, "updated_at": now},
            *({**row, "updated_at": now} for row in one.rows() if row["person"]["id"] == person),
        ]
    )
    change(one, 0)
    assert two.touched(lambda: two.sync(ONE)).quarantined == 0
    assert two.stored(ONE) == two.shown(ONE, without=person)

    # Without moving `updated_at`, so that only a backfill and a repair see it.
    one.put_many([{**row, "status": "AGAIN"} for row in one.rows()])
    two.touched(
        lambda: backfill(warehouse.pipeline(), "2000-01-01", only=("enrollments",), **given)
    )
    assert two.stored(ONE) == two.shown(ONE, without=person)

    damage(two, person)
    outcome = two.touched(lambda: verify(warehouse.pipeline(), repair=True, yes=True, **given))
    assert outcome.repaired > 0
    if warehouse.deletes_rows:
        assert two.stored(ONE) == two.shown(ONE, without=person)
    assert two.state(OTHER) == state_of_the_other
    counted = status(warehouse.pipeline(), account=OTHER)
    assert counted.rows["enrollments"] == len(two.stored(OTHER)["enrollments"])
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
        two.rows_of_the_other = two.rows(OTHER)
    if not two.warehouse.takes_statements:
        return
    ends = "SELECT min(id) FROM {0} UNION SELECT max(id) FROM {0}"
    for table in ("enrollments", "people", "sequences", "reply_email_messages"):
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

    assert {name: two.stored(name) for name in two.apis} == {n: two.shown(n) for n in two.apis}


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
