"""dlt's contracts on data types, which say what becomes of values that do not fit their column."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import dlt
import pyarrow as pa
import pytest
from conftest import KEY
from destinations import Destination, DuckDB, Postgres, opened
from dlt.common.schema.exceptions import DataValidationError
from dlt.pipeline.exceptions import PipelineStepFailed
from loaded import once
from standing import account

from unify_source import sync, unify_source
from unify_source.common.errors.notices import ALWAYS
from unify_source.common.times import rfc3339
from unify_source.load.packages import cursor
from unify_source.sandbox import Sandbox

Serve = Callable[..., Sandbox]
MODES = ["evolve", "discard_value", "discard_row", "freeze"]
ODD = "score__v_text"


pytestmark = pytest.mark.mostly_on_duckdb


@pytest.fixture(params=[DuckDB, Postgres], ids=lambda kind: kind.name)
def warehouse(request: pytest.FixtureRequest, home: Path) -> Iterator[Destination]:
    """Yield an empty DuckDB or Postgres."""
    with opened(request.param, home, request) as found:
        yield found


# What happens before rows reach a destination needs no second one to show it.
before_any_destination = pytest.mark.parametrize(
    "warehouse", [DuckDB], indirect=True, ids=["duckdb"]
)


@pytest.fixture
def api(serve: Serve) -> Sandbox:
    """Start a sandbox whose clock stands still."""
    return serve(account(4))


class Scores:
    """The scores of four rows: a field that the API does not document."""

    def __init__(self, api: Sandbox, warehouse: Destination) -> None:
        self._api, self._warehouse = api, warehouse
        self.ids = [row["id"] for row in api.account.rows()]
        self._settings: dict[str, Any] = {"api_key": KEY, "base_url": api.url}

    @cached_property
    def pipeline(self) -> dlt.Pipeline:
        """The pipeline, as a user of dlt opens it."""
        name = self._warehouse.dlt_name
        return dlt.pipeline("unify_gtm", destination=name, dataset_name="unify")

    def put(self, *scores: Any, **more: Any) -> None:
        """Change the rows, each a second after the one before; None leaves one as it is."""
        rows = {row["id"]: row for row in self._api.account.rows()}
        for key, score in zip(self.ids, scores, strict=False):
            if score is not None:
                at = rfc3339(self._api.account.clock.now())
                self._api.account.put({**rows[key], "score": score, "updated_at": at, **more})
                self._api.account.clock.advance(timedelta(seconds=1))

    def source(self, **settings: Any) -> Any:
        return unify_source(**self._settings, **settings)

    def load(self, mode: Any = None, **contract: Any) -> None:
        if mode:
            contract["data_type"] = mode
        self.run(self.source(), contract or None)

    def run(self, source: Any, contract: Any) -> None:
        self.pipeline.run(source, schema_contract=contract)

    def sync(self) -> Any:
        return sync(self.pipeline, **self._settings)

    def stored(self) -> list[Any]:
        stored = dict(self._warehouse.reads("enrollments", ["id", "score"]))
        return [stored.get(key) for key in self.ids]

    def columns(self) -> set[str]:
        return set(self._warehouse.columns("enrollments"))


@pytest.fixture
def scores(api: Sandbox, warehouse: Destination) -> Scores:
    """Yield numbers as scores, loaded."""
    found = Scores(api, warehouse)
    found.put(1, 1, 1, 1)
    once(warehouse, "scores", Path(os.environ["DLT_DATA_DIR"]), found.load)
    return found


AFTER = {
    "evolve": [2, None, 2, 2],
    "discard_value": [2, None, 2, 2],
    "discard_row": [2, 1, 2, 2],
    "freeze": [1, 1, 1, 1],
}


def assert_governed(scores: Scores, mode: str, run: Callable[[], Any]) -> None:
    """Assert that a run treats a text among the numbers as a mode asks, in its own words."""
    before = cursor(scores.pipeline)
    if mode == "freeze":
        with pytest.raises(Exception, match=f"`enrollments`.*`{ODD}`.*`data_types` are frozen"):
            run()
        assert cursor(scores.pipeline) == before
    else:
        run()
    assert scores.stored() == AFTER[mode]
    assert (ODD in scores.columns()) == (mode == "evolve")


@pytest.mark.parametrize("mode", MODES)
def test_a_contract_on_data_types_governs_values_that_do_not_fit_their_column(
    scores: Scores, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    scores.put(2, "n/a", 2, 2)
    assert_governed(scores, mode, lambda: scores.load(mode))
    said = [log.message for log in caplog.records if log.name == ALWAYS]
    words = {"evolve": ["score is bigint"], "freeze": []}.get(mode, [f"no column {ODD}"])
    assert len(said) == len(words)
    assert all(each in said[0] for each in words)

    if mode == "freeze":
        scores.load()
        assert scores.stored() == AFTER["evolve"]
    else:
        # Of the second load, `discard_row` leaves nothing.
        scores.put(None, "none")
        scores.load(mode)
        assert scores.stored() == AFTER[mode]


@pytest.mark.parametrize("mode", MODES[1:])
def test_sync_keeps_the_contract_that_the_dataset_was_last_loaded_with(
    scores: Scores, mode: str
) -> None:
    scores.put(1, 1, 1, 3)
    scores.load(mode)
    scores.put(2, "n/a", 2, 2)
    if mode == "freeze":
        with pytest.raises(Exception, match=f"`enrollments`.*`{ODD}`.*`data_types` are frozen"):
            scores.sync()
        assert scores.stored() == [1, 1, 1, 3]
    else:
        assert_governed(scores, mode, scores.sync)


@before_any_destination
def test_the_exception_is_the_one_that_dlt_documents(scores: Scores) -> None:
    scores.put("n/a")
    with pytest.raises(PipelineStepFailed) as refused:
        scores.load("freeze")
    cause: Any = refused.value.__context__
    assert isinstance(cause, DataValidationError)
    assert (cause.table_name, cause.column_name) == ("enrollments", ODD)
    assert (cause.schema_entity, cause.contract_mode) == ("data_type", "freeze")


@before_any_destination
@pytest.mark.parametrize("mode", ["discard_row", "freeze"])
def test_a_column_for_values_of_another_type_that_exists_goes_on_to_take_them(
    scores: Scores, warehouse: Destination, mode: str
) -> None:
    scores.put("n/a")
    source = scores.source()
    scores.run(source, {"columns": "discard_row"})
    scores.put(2, "none", 2, 2)
    scores.run(source, {"data_type": mode, "columns": mode})
    assert scores.stored() == [2, None, 2, 2]
    assert ("none",) in warehouse.reads("enrollments", [ODD])


@before_any_destination
@pytest.mark.parametrize("mode", ["discard_row", "freeze"])
def test_a_value_that_has_no_room_for_its_column_is_governed_too(scores: Scores, mode: str) -> None:
    scores.put(2, "n/a", 2, 2)
    contract = {"data_type": mode}
    source = scores.source(max_new_columns=1)
    assert_governed(scores, mode, lambda: scores.run(source, contract))
    assert "more_fields" not in scores.columns()


@before_any_destination
def test_a_contract_on_columns_leaves_values_of_another_type_to_the_one_on_data_types(
    scores: Scores,
) -> None:
    scores.put(2, "n/a", 2, 2, beta=True)
    scores.load("evolve", columns="discard_value")
    assert scores.stored() == AFTER["evolve"]
    assert ODD in scores.columns()
    assert "beta" not in scores.columns()


@before_any_destination
def test_a_contract_on_data_types_lets_new_columns_in(scores: Scores) -> None:
    scores.put(2, 2, 2, 2, beta=True)
    scores.load("freeze")
    scores.put(2, "n/a", 2, 2, beta="yes")
    scores.load("discard_value")
    assert scores.stored() == AFTER["discard_value"]
    assert {"beta", "score"} <= scores.columns()
    assert {ODD, "beta__v_text"}.isdisjoint(scores.columns())


@before_any_destination
@pytest.mark.parametrize("mode", ["evolve", "discard_row"])
def test_a_contract_of_one_table_governs_that_one(scores: Scores, mode: str) -> None:
    scores.put(2, "n/a", 2, 2)
    source = scores.source()
    source.schema_contract = {"data_type": "evolve" if mode != "evolve" else "freeze"}
    source.enrollments.apply_hints(schema_contract={"data_type": mode})
    assert_governed(scores, mode, lambda: scores.run(source, None))


@before_any_destination
def test_a_map_may_mend_values_before_a_contract_is_applied(scores: Scores) -> None:
    def mended(rows: pa.Table) -> pa.Table:
        return rows.drop_columns([ODD]) if ODD in rows.column_names else rows

    scores.put(2, "n/a", 2, 2)
    source = scores.source()
    source.enrollments.add_map(mended)
    scores.run(source, {"data_type": "freeze"})
    assert scores.stored() == AFTER["discard_value"]


@before_any_destination
@pytest.mark.parametrize(
    ("contract", "mode"),
    [("columns", "discard_row"), ("data_type", "discard_row"), ("data_type", "discard_value")],
)
def test_what_is_discarded_from_one_batch_may_be_missing_in_the_next(
    scores: Scores, contract: str, mode: str
) -> None:
    # A row that could not be read is requested by its id, in a batch of its own.
    scores.put(None, 1, created_at="?")
    scores.load()
    odd = {"score": "n/a"} if contract == "data_type" else {"beta": True}
    scores.put(None, 2, created_at="2026-01-01T00:00:00Z", **odd)
    scores.put(2, None, 2, 2)
    scores.run(scores.source(), {contract: mode})

    assert scores.stored() == AFTER[mode]
    assert {ODD, "beta"}.isdisjoint(scores.columns())


@before_any_destination
@pytest.mark.parametrize("mode", ["discard_value", "discard_row"])
def test_the_first_load_is_governed_by_a_contract_on_data_types(
    api: Sandbox, warehouse: Destination, mode: str
) -> None:
    scores = Scores(api, warehouse)
    scores.put(2, "n/a", 2, 2)
    scores.load(mode)
    assert scores.stored() == [2, None, 2, 2]
    assert ODD not in scores.columns()


class Replies(Scores):
    """The replies of the first enrollments, each with a score, and of its classifications."""

    def put_replies(self, **replies: tuple[Any, dict[str, Any]]) -> None:
        """Change them, all at one time: a value that is not a number is a field of its own."""
        at, rows = rfc3339(self._api.account.clock.now()), self._api.account.rows()
        by_id = {row["id"]: row for row in rows}
        for owner, (key, (score, scores)) in zip(self.ids, replies.items(), strict=False):
            each = [{"id": name, "category": "NEUTRAL", **_of(new)} for name, new in scores.items()]
            reply = {"id": key, "subject": None, "received_at": None, "classifications": each}
            self._api.account.put(
                {
                    **by_id[owner],
                    "reply_email_message": {**reply, **_of(score)},
                    "updated_at": at,
                }
            )
        self._api.account.clock.advance(timedelta(seconds=1))

    def stored_scores(self, table: str) -> dict[str, Any]:
        return dict(self._warehouse.reads(table, ["id", "score"]))


def _of(score: Any) -> dict[str, Any]:
    return {"beta": True} if score == "beta" else {"score": score}


@pytest.mark.parametrize(("contract", "odd"), [("data_type", "n/a"), ("columns", "beta")])
def test_a_discarded_row_leaves_its_stored_version_whatever_loads_with_it(
    api: Sandbox, warehouse: Destination, contract: str, odd: str
) -> None:
    replies = Replies(api, warehouse)
    api.account.put_many([{**row, "reply_email_message": None} for row in api.account.rows()])
    replies.put_replies(
        one=(1, {"alone": 1}), two=(1, {"first": 1, "second": 1, "gone": 1}), three=(1, {"old": 1})
    )
    replies.load()
    replies.put_replies(
        one=(odd, {"alone": odd}), two=(2, {"first": 2, "second": odd}), four=(odd, {"new": odd})
    )
    replies.run(replies.source(), {contract: "discard_row"})

    assert replies.stored_scores("reply_email_messages") == {"one": 1, "two": 2}
    scores = {"alone": 1, "first": 2, "second": 1}
    assert replies.stored_scores("reply_classifications") == scores

    # Of two versions in one load, the one that is not discarded counts.
    shared = {"second": 3}
    replies.put_replies(one=(3, {"alone": 3, "second": odd}), two=(3, {"first": 3, **shared}))
    replies.run(replies.source(), {contract: "discard_row"})
    assert replies.stored_scores("reply_email_messages") == {"one": 3, "two": 3}
    scores = {"alone": 3, "first": 3, "second": 3}
    assert replies.stored_scores("reply_classifications") == scores
