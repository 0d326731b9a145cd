"""Sequences are as fresh as the run, whether or not one of their enrollments changed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

import dlt
import pytest
import requests
from conftest import KEY
from destinations import Destination, DuckDB
from loaded import loaded
from standing import account, change
from warehouse import shown

from unify_source import forget, sync, unify_source
from unify_source.common.resources.sequences import SEQUENCE_LIST
from unify_source.load.listing import odd_rows
from unify_source.runs.report import Report
from unify_source.sandbox import Sandbox

Serve = Callable[..., Sandbox]
Row = tuple[Any, ...]
Answer = tuple[int, bytes]
Changes = dict[str, dict[str, Any]]

TOKYO = '{"time_zone":"Asia/Tokyo"}'

# An object within a listed sequence, one of its keys, another value, and where that is stored.
CHANGED = [
    ("", "name", "Another name", "sequences", "Another name"),
    ("owner", "email", "another@example.org", "users", "another@example.org"),
    ("send_schedule", "rules", {"time_zone": "Asia/Tokyo"}, "send_schedules", TOKYO),
    ("sequence_ruleset", "opt_out_message", "No, thanks", "sequence_rulesets", "No, thanks"),
    ("sequence_ruleset", "color", "red", "sequence_rulesets", "red"),
]

# What is decided before rows reach a destination needs no second one to show it.
on_duckdb = pytest.mark.parametrize("warehouse", [DuckDB], indirect=True)


def load(warehouse: Destination, url: str, **settings: Any) -> Report:
    return sync(warehouse.pipeline(), api_key=KEY, base_url=url, retry_budget=1, **settings)


def listed(report: Report) -> set[str]:
    """Return the tables of the list that a run wrote."""
    return {part.table.name for part in SEQUENCE_LIST.parts} & report.rows_by_table.keys()


def sequence(warehouse: Destination, key: str) -> dict[str, Any]:
    columns = ["id", "name", "is_paused", "created_at", "owner_id", "missing_since"]
    [row] = [row for row in warehouse.reads("sequences", columns) if row[0] == key]
    return dict(zip(columns, row, strict=True))


@contextmanager
def answering(api: Sandbox, answer: Callable[[Answer], Answer]) -> Iterator[str]:
    """Pass requests on, and give those about sequences another answer than the API's."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {"x-api-key": self.headers["x-api-key"]}
            passed = requests.get(api.url + self.path, headers=headers, timeout=10)
            status, body = passed.status_code, passed.content
            if self.path.startswith("/sequences/v1/sequences"):
                status, body = answer((status, body))
            self.send_response_only(status)
            self.send_header("Date", passed.headers["Date"])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextmanager
def refusing(api: Sandbox, answer: Answer) -> Iterator[str]:
    """Give this answer about sequences. Each `%d` in it is the number of the request."""
    numbers, (status, body) = count(), answer
    with answering(api, lambda _: (status, body.replace(b"%d", b"%d" % next(numbers)))) as url:
        yield url


@contextmanager
def showing(api: Sandbox, changes: Changes) -> Iterator[str]:
    """Show some sequences, by their ids, with other values."""

    def changed(answer: Answer) -> Answer:
        shown = json.loads(answer[1])
        if shown.get("id") in changes:
            # As if the endpoint for one sequence did not know it.
            return 404, b"{}"
        for row in shown.get("sequences", [shown]):
            row.update(changes.get(row.get("id"), {}))
        return answer[0], json.dumps(shown).encode()

    with answering(api, changed) as url:
        yield url


def test_a_renamed_and_a_paused_sequence_are_right_after_the_next_sync(
    serve: Serve, warehouse: Destination
) -> None:
    api = loaded(warehouse, serve)
    renamed, paused = api.account.sequences()[:2]
    api.account.rename_sequence(renamed["id"], "Another name")
    api.account.pause_sequence(paused["id"])
    api.account.clock.advance(timedelta(seconds=1))
    api.reset()

    load(warehouse, api.url)

    assert sequence(warehouse, renamed["id"])["name"] == "Another name"
    assert sequence(warehouse, paused["id"])["is_paused"] is True
    assert len(api.requests) <= 5
    assert warehouse.stored()["sequences"] == shown(api.account)["sequences"]


@on_duckdb
@pytest.mark.parametrize(("part", "key", "value", "table", "stored"), CHANGED)
def test_a_change_in_the_list_rewrites_only_the_tables_that_it_concerns(
    serve: Serve, warehouse: Destination, part: str, key: str, value: Any, table: str, stored: str
) -> None:
    api = loaded(warehouse, serve)

    def with_change(answer: Answer) -> Answer:
        page = json.loads(answer[1])
        for each in page["sequences"]:
            if changed := each[part] if part else each:
                changed[key] = value
        return answer[0], json.dumps(page).encode()

    with answering(api, with_change) as url:
        assert listed(load(warehouse, url)) == {"sequences", table}
        assert {text for (text,) in warehouse.reads(table, [key])} == {stored}
        assert listed(load(warehouse, url)) == set()


@on_duckdb
def test_a_second_sync_without_changes_writes_nothing(serve: Serve, warehouse: Destination) -> None:
    api = loaded(warehouse, serve)
    done = warehouse.loads()
    api.reset()
    load(warehouse, api.url)
    assert warehouse.loads() == done
    assert len(api.requests) <= 5


@on_duckdb
def test_the_same_list_in_another_order_over_other_pages_writes_nothing(
    serve: Serve, warehouse: Destination
) -> None:
    api = loaded(warehouse, serve)
    done = warehouse.loads()

    def reversed_page(answer: Answer) -> Answer:
        page = json.loads(answer[1])
        return answer[0], json.dumps({**page, "sequences": page["sequences"][::-1]}).encode()

    with answering(api, reversed_page) as url:
        load(warehouse, url, page_size=5)

    assert warehouse.loads() == done


@pytest.mark.mostly_on_duckdb
def test_a_sequence_that_is_gone_is_marked_and_its_row_and_enrollments_stay(
    serve: Serve, warehouse: Destination
) -> None:
    api = loaded(warehouse, serve)
    before = warehouse.stored()
    gone = api.account.sequences()[0]["id"]
    whole = sequence(warehouse, gone)
    api.account.remove_sequence(gone)
    api.account.clock.advance(timedelta(seconds=1))

    load(warehouse, api.url)

    marked = sequence(warehouse, gone)
    assert marked["missing_since"] is not None
    assert {**marked, "missing_since": None} == whole
    assert warehouse.stored() == before
    # Its enrollments still nest it: that brings nothing back, and moves no mark.
    change(api.account, 50)
    load(warehouse, api.url)
    assert sequence(warehouse, gone) == marked
    warehouse.pipeline("sample").run(unify_source(api_key=KEY, base_url=api.url).add_limit(2))
    assert sequence(warehouse, gone) == marked


def test_a_sequence_that_was_gone_before_the_first_sync_is_filled_in_and_marked(
    serve: Serve, warehouse: Destination
) -> None:
    api = serve(account(100))
    gone = api.account.sequences()[0]
    api.account.remove_sequence(gone["id"])

    load(warehouse, api.url)

    filled_in = sequence(warehouse, gone["id"])
    assert filled_in["name"] == gone["name"]
    assert filled_in["owner_id"] is None
    assert filled_in["missing_since"] is not None


@on_duckdb
def test_an_upgraded_sequence_comes_with_its_new_version(
    serve: Serve, warehouse: Destination
) -> None:
    api = loaded(warehouse, serve)
    api.account.upgrade_sequence(api.account.sequences()[0]["id"])
    api.account.clock.advance(timedelta(seconds=1))
    load(warehouse, api.url)
    assert warehouse.stored() == shown(api.account)


@on_duckdb
def test_an_unavailable_list_stops_no_run_and_deletes_no_row(
    serve: Serve, warehouse: Destination
) -> None:
    api = loaded(warehouse, serve)
    before = warehouse.stored()["sequences"]

    deep = b'{"sequences":' + b"[" * 100_000
    answers = [(404, b""), (403, b"{}"), (200, b"<html>"), (400, b"{}"), (200, deep), (500, b"")]
    for seed, answer in enumerate(answers):
        change(api.account, 50, seed)
        with refusing(api, answer) as url:
            notices = load(warehouse, url).notices
        assert "fills the table sequences only from rows nested in other lists" in str(notices)
        assert warehouse.stored() == {**shown(api.account), "sequences": before}, answer

    change(api.account, 50, seed=6)
    load(warehouse, api.url)
    assert warehouse.stored() == shown(api.account)


@on_duckdb
def test_a_list_without_end_stops_no_run_and_is_not_held_in_memory(
    serve: Serve, warehouse: Destination, caplog: pytest.LogCaptureFixture
) -> None:
    api = loaded(warehouse, serve)
    before = warehouse.stored()["sequences"]
    change(api.account, 50)
    names = b"n" * 1_000_000
    page = b'{"sequences":[{"id":"s%d","name":"' + names + b'"}],"next_cursor":"c%d"}'

    with refusing(api, (200, page)) as url:
        load(warehouse, url, max_body_bytes=4_000_000)

    assert "is larger than 3,906 kB (max_body_bytes)" in caplog.text
    assert warehouse.stored() == {**shown(api.account), "sequences": before}


@on_duckdb
def test_without_the_list_sequences_are_those_that_enrollments_nest(
    serve: Serve, warehouse: Destination
) -> None:
    api = serve(account(100))
    with refusing(api, (404, b"")) as url:
        load(warehouse, url)
    nested = {row["sequence"]["id"] for row in api.account.rows()}
    assert set(warehouse.keys("sequences")) == nested

    load(warehouse, api.url)
    assert warehouse.stored() == shown(api.account)


@pytest.mark.mostly_on_duckdb
def test_a_sequence_that_cannot_be_read_is_in_quarantine_until_it_can_be(
    serve: Serve, warehouse: Destination
) -> None:
    api = loaded(warehouse, serve)
    before = warehouse.stored()["sequences"]
    odd, without_id, mended = (row["id"] for row in api.account.sequences()[:3])
    changes: Changes = {
        odd: {"is_paused": "no"},
        without_id: {"id": 7},
        mended: {"created_at": "once"},
    }
    with showing(api, changes) as url:
        assert load(warehouse, url).quarantined == 3
        held = dict(warehouse.reads("enrollments_quarantine", ["id", "reason"]))
        done = warehouse.loads()
        # It is told of again, and written once.
        assert load(warehouse, url).quarantined == 3
        assert warehouse.loads() == done
    assert held[odd] == "is_paused is text, not true or false"
    assert "created_at" in held[mended]
    assert held.keys() > {odd, mended}
    # No row is marked as gone.
    assert warehouse.stored()["sequences"] == before

    del changes[mended], changes[without_id]
    api.account.pause_sequence(mended)
    api.account.clock.advance(timedelta(seconds=1))
    with showing(api, changes) as url:
        assert load(warehouse, url).quarantined == 1
    assert warehouse.keys("enrollments_quarantine") == [odd]
    assert sequence(warehouse, mended)["is_paused"] is True

    api.account.remove_sequence(odd)
    api.account.clock.advance(timedelta(seconds=1))
    assert load(warehouse, api.url).quarantined == 0
    assert sequence(warehouse, odd)["missing_since"] is not None


@on_duckdb
@pytest.mark.parametrize("by", ["sync", "three lines"])
def test_the_trace_and_the_ledger_count_the_same_rows_in_quarantine(
    serve: Serve, warehouse: Destination, by: str
) -> None:
    api = serve(account(20))
    api.account.put({**api.account.rows()[0], "is_paused": "no"})
    odd = api.account.sequences()[0]["id"]
    pipeline = warehouse.pipeline()
    with showing(api, {odd: {"is_paused": "no"}}) as url:
        if by == "sync":
            sync(pipeline, api_key=KEY, base_url=url)
        else:
            pipeline.run(unify_source(api_key=KEY, base_url=url))

    assert pipeline.last_trace
    assert pipeline.last_trace.last_extract_info
    metrics = pipeline.last_trace.last_extract_info.asdict()["resource_metrics"]
    [each] = [each for each in metrics if each["resource_name"] == "enrollments"]
    assert each["custom_metrics"]["quarantined"] == 2
    assert warehouse.reads("unify_sync_runs", ["quarantined"]) == [(2,)]


def test_a_quarantined_sequence_that_names_a_forgotten_person_does_not_return(
    serve: Serve, warehouse: Destination
) -> None:
    api = loaded(warehouse, serve)
    person = warehouse.keys("people")[0]
    odd = api.account.sequences()[0]["id"]
    with showing(api, {odd: {"is_paused": "no", "made_for": person}}) as url:
        assert load(warehouse, url).quarantined == 1
        assert forget(warehouse.pipeline(), person).rows["enrollments_quarantine"] == 1
        pipeline = warehouse.pipeline(machine="another", name="another")
        sync(pipeline, api_key=KEY, base_url=url, retry_budget=1)
    assert warehouse.keys("enrollments_quarantine") == []


@on_duckdb
def test_more_sequences_in_quarantine_than_a_run_remembers_leave_it_all_the_same(
    serve: Serve, warehouse: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(odd_rows, "ASK_AGAIN_LIMIT", 1)
    api = loaded(warehouse, serve)
    odd: Changes = {row["id"]: {"name": 7} for row in api.account.sequences()[:3]}
    with showing(api, odd) as url:
        assert load(warehouse, url).quarantined == 3
    assert load(warehouse, api.url).quarantined == 0
    assert warehouse.stored() == shown(api.account)


@pytest.mark.long
@on_duckdb
def test_a_failed_run_of_a_source_leaves_nothing_behind_for_the_next_run_of_it(
    serve: Serve, warehouse: Destination
) -> None:
    api = serve(account(200))
    source = unify_source(api_key=KEY, base_url=api.url)
    broken = [True]

    def once(table: Any) -> Any:
        if broken.pop() if broken else False:
            raise ValueError("a map of the user's")
        return table

    source.enrollments.add_map(once)
    pipeline: dlt.Pipeline = warehouse.pipeline()
    with pytest.raises(Exception, match="a map of the user's"):
        pipeline.run(source)
    pipeline.run(source.with_resources("people"))
    assert warehouse.stored_table("people") == shown(api.account)["people"]
    pipeline.run(source)
    assert warehouse.stored() == shown(api.account)


@on_duckdb
def test_a_map_that_drops_every_row_leaves_no_package_behind(
    serve: Serve, warehouse: Destination
) -> None:
    api = serve(account(100))
    source = unify_source(api_key=KEY, base_url=api.url)
    source.people.add_map(lambda table: table.slice(0, 0))
    pipeline = warehouse.pipeline()
    pipeline.run(source)
    assert not pipeline.has_pending_data
    assert len(warehouse.keys("enrollments")) == 100
