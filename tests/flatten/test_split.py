from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest
from conftest import IS_SOAK
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import anything, enrollments, keys

from unify_source.common.resources import (
    ENROLLMENT_LIST,
    INSTANT,
    QUARANTINE,
    SEQUENCE_LIST,
    TABLES,
    TEXT,
)
from unify_source.common.times import parse_instant
from unify_source.flatten.decode.decode import decode
from unify_source.flatten.names import KnownColumn, Splitting
from unify_source.flatten.quarantine import quarantined
from unify_source.flatten.split import split
from unify_source.flatten.tables import empty, is_json

NOW = datetime(2026, 11, 1, tzinfo=timezone.utc)


def split_rows(rows: list[Any], *, new: bool = False, **how: Any) -> dict[str, pa.Table]:
    body = json.dumps({"enrollments": rows, "next_cursor": None}).encode()
    never_loaded = pa.chunked_array([pa.array([new] * len(rows), pa.bool_())])
    return split(
        ENROLLMENT_LIST, decode(ENROLLMENT_LIST, [body]).rows, NOW, Splitting(**how), never_loaded
    )


def instant(text: str | None) -> datetime | None:
    return parse_instant(text) if text else None


def kept(table: pa.Table) -> list[dict[str, Any]]:
    return [row for row in table.to_pylist() if not row["_deleted"]]


@given(st.lists(enrollments, max_size=5, unique_by=lambda row: row["id"]))
def test_every_value_is_in_the_column_that_the_tables_document(rows: list[dict[str, Any]]) -> None:
    tables = split_rows(rows)

    assert list(tables) == [table.name for table in TABLES]
    for sent, row in zip(rows, tables["enrollments"].to_pylist(), strict=True):
        for name in ("id", "status", "is_blocked", "is_paused", "is_replied"):
            assert row[name] == sent[name]
        for name in ("created_at", "updated_at", "started_at", "ended_at"):
            assert row[name] == instant(sent[name])
        for name in ("sequence", "person", "mailbox", "enrolled_by_play", "reply_email_message"):
            assert row[f"{name}_id"] == (sent[name] or {}).get("id")


@given(st.lists(enrollments, max_size=5, unique_by=lambda row: row["id"]))
def test_replies_and_classifications_keep_their_parents(rows: list[dict[str, Any]]) -> None:
    tables = split_rows(rows)

    replies = [(row, row["reply_email_message"]) for row in rows if row["reply_email_message"]]
    assert [
        (r["id"], r["subject"], r["received_at"], r["enrollment_id"], r["_as_of"])
        for r in kept(tables["reply_email_messages"])
    ] == [
        (r["id"], r["subject"], instant(r["received_at"]), row["id"], instant(row["updated_at"]))
        for row, r in replies
    ]
    assert [
        (c["id"], c["category"], c["reply_email_message_id"], c["_enrollment_id"])
        for c in kept(tables["reply_classifications"])
    ] == [
        (c["id"], c["category"], reply["id"], row["id"])
        for row, reply in replies
        for c in reply["classifications"]
    ]


@given(st.lists(enrollments, max_size=5, unique_by=lambda row: row["id"]))
def test_what_an_enrollment_no_longer_has_is_marked_deleted(rows: list[dict[str, Any]]) -> None:
    tables = split_rows(rows)

    def gone(name: str, owner: str) -> list[str]:
        return [row[owner] for row in tables[name].to_pylist() if row["_deleted"]]

    bare = [row["id"] for row in rows if not row["reply_email_message"]]
    unclassified = [
        row["id"] for row in rows if not (row["reply_email_message"] or {}).get("classifications")
    ]
    assert gone("reply_email_messages", "enrollment_id") == bare
    assert gone("reply_classifications", "_enrollment_id") == unclassified


@given(enrollments)
def test_nothing_is_marked_deleted_of_a_row_that_is_new(row: dict[str, Any]) -> None:
    tables = split_rows([row], new=True)

    assert not any(tables["reply_email_messages"]["_deleted"].to_pylist())


@given(enrollments, enrollments)
def test_an_entity_is_stored_once_as_in_the_last_row(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    other["sequence"] = {**one["sequence"], "name": "renamed"}

    [sequence] = split_rows([one, other, one, other])["sequences"].to_pylist()

    known = {**other["sequence"], "known_as_of": NOW + timedelta(microseconds=3)}
    assert {name: value for name, value in sequence.items() if value is not None} == known


def test_an_empty_batch_and_an_empty_table_have_every_promised_column() -> None:
    tables = split_rows([])

    for table in TABLES:
        promised = table.schema()
        actual = tables[table.name].schema
        assert [actual.field(name).type for name in promised.names] == promised.types
        assert set(empty(table).schema.names) == set(actual.names)


def test_all_null_objects_leave_typed_columns() -> None:
    row = {"id": "e1", "updated_at": "2026-01-01T00:00:00Z", "enrolled_by_play": None}

    tables = split_rows([row])

    assert tables["plays"].schema.field("name").type == TEXT
    assert tables["reply_email_messages"].schema.field("received_at").type == INSTANT
    assert tables["enrollments"]["started_at"].type == INSTANT


def test_new_scalars_objects_and_lists_become_columns() -> None:
    row = {
        "id": "e1",
        "updated_at": "2026-01-01T00:00:00Z",
        "score": 5,
        "paused_at": "2026-01-01T00:00:00.5Z",
        "owner": {"id": "u1", "team": {"name": "EMEA"}},
        "tags": ["a", {"b": 1}],
        "person": {"id": "p1", "company": {"domain": "x.test"}, "phones": [1, 2]},
    }

    tables = split_rows([row])

    enrollment = tables["enrollments"].to_pylist()[0]
    assert enrollment["score"] == 5
    assert enrollment["paused_at"] == datetime(2026, 1, 1, 0, 0, 0, 500000, timezone.utc)
    assert enrollment["owner__id"] == "u1"
    assert enrollment["owner__team__name"] == "EMEA"
    assert json.loads(enrollment["tags"]) == ["a", {"b": 1}]
    person = tables["people"].to_pylist()[0]
    assert person["company__domain"] == "x.test"
    assert json.loads(person["phones"]) == [1, 2]
    field = tables["people"].schema.field("phones")
    assert is_json(field)


@pytest.mark.parametrize(
    ("known", "value", "column", "stored"),
    [
        ("text", 5, "score", "5"),
        ("text", True, "score", "true"),
        ("double", 5, "score", 5.0),
        ("bigint", 5.0, "score", 5),
        ("bigint", 5.5, "score__v_double", 5.5),
        ("bigint", "five", "score__v_text", "five"),
        ("bool", 1, "score__v_bigint", 1),
        ("json", "plain", "score", '"plain"'),
        ("json", [1], "score", "[1]"),
        ("text", [1], "score__v_json", "[1]"),
        ("timestamp", "soon", "score__v_text", "soon"),
        ("timestamp", "2026-01-01T00:00:00Z", "score", datetime(2026, 1, 1, tzinfo=timezone.utc)),
    ],
)
def test_a_new_field_that_changes_its_type_loses_nothing(
    known: str, value: Any, column: str, stored: Any
) -> None:
    row = {"id": "e1", "updated_at": "2026-01-01T00:00:00Z", "score": value}

    table = split_rows([row], columns=lambda _: {"score": KnownColumn(known)})

    assert table["enrollments"].to_pylist()[0][column] == stored


@settings(max_examples=1_000 if IS_SOAK else 100)
@given(
    enrollments,
    st.dictionaries(keys, anything, max_size=4),
    st.sampled_from([None, "sequence", "person", "mailbox"]),
)
def test_whatever_else_the_api_sends_promised_columns_keep_their_type_and_value(
    row: dict[str, Any], extra: dict[str, Any], where: str | None
) -> None:
    target = row[where] if where else row
    target.update({k: v for k, v in extra.items() if k not in target})

    tables = split_rows([row])

    for table in TABLES:
        actual = tables[table.name].schema
        assert len(set(actual.names)) == len(actual.names)
        for column in table.columns:
            assert actual.field(column.name).type == column.type
    assert tables["people"].to_pylist()[0]["email"] == row["person"]["email"]


@pytest.mark.parametrize(
    "name", ["_deleted", "_as_of", "known_as_of", "_dlt_load_id", "Id", "", "__", "id "]
)
def test_a_new_field_never_takes_the_place_of_a_column(name: str) -> None:
    person = {"id": "p1", "email": "a@x.test", name: "intruder"}
    row = {"id": "e1", "updated_at": "2026-01-01T00:00:00Z", "person": person}

    people = split_rows([row], normalize=lambda text: text.strip().lower())["people"].to_pylist()[0]

    assert people["id"] == "p1"
    assert "intruder" in people.values()
    assert people.get("_dlt_load_id") is None


def test_the_quarantine_has_reason_and_row_and_releases_by_key() -> None:
    body = b'{"enrollments":[{"id":"e1"},{"id":"e2","updated_at":"2026-01-01T00:00:00Z"}]}'

    table = quarantined(decode(ENROLLMENT_LIST, [body]).unreadable, NOW)

    assert table.schema == empty(QUARANTINE).schema
    assert [(r["id"], r["reason"], json.loads(r["raw"])) for r in table.to_pylist()] == [
        ("e1", "updated_at is missing", {"id": "e1"})
    ]
    assert quarantined([], NOW, ["e1"]).to_pylist()[0]["_deleted"] is True


def test_a_new_list_of_empty_objects_is_kept() -> None:
    row = {"id": "e1", "updated_at": "2026-01-01T00:00:00Z", "things": [{}, {}], "one": [{}]}

    enrollment = split_rows([row])["enrollments"].to_pylist()[0]

    assert (enrollment["things"], enrollment["one"]) == ("[{},{}]", "[{}]")


def listed_sequence(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"s{number}",
        "created_at": "2026-01-31T07:00:00Z",
        "updated_at": "2026-01-31T08:00:00.5+01:00",
        "owner": {"id": "u1", "email": "o@x.test", "first_name": "Ada", "last_name": None},
        "name": f"Sequence {number}",
        "is_paused": False,
        "send_schedule": {
            "id": "c1",
            "created_at": "2026-01-31T07:00:00Z",
            "updated_at": "2026-01-31T08:00:00Z",
            "is_default": True,
            "name": "Weekdays",
            "rules": {
                "time_zone": "Europe/Berlin",
                "send_days": {"2": [{"start_time": "09:00", "end_time": "17:30"}], "1": None},
                "excluded_dates": ["2026-12-24"],
            },
        },
        "sequence_ruleset": {
            "id": "r1",
            "name": "Rules",
            "is_default": False,
            "block_reenrollment_value": 30,
            "block_reenrollment_units": "DAY",
        },
        **changes,
    }


def split_sequences(*rows: dict[str, Any]) -> dict[str, pa.Table]:
    body = json.dumps({"sequences": rows, "next_cursor": None}).encode()
    batch = decode(SEQUENCE_LIST, [body])
    assert batch.unreadable == []
    return split(SEQUENCE_LIST, batch.rows, NOW, Splitting())


def test_a_list_without_a_window_is_split_by_its_own_facts() -> None:
    bare = listed_sequence(2, send_schedule=None, sequence_ruleset=None)

    tables = split_sequences(listed_sequence(1), bare)

    assert list(tables) == ["sequences", "users", "send_schedules", "sequence_rulesets"]
    assert tables["sequences"].to_pylist() == [
        {
            "id": f"s{number}",
            "name": f"Sequence {number}",
            "is_paused": False,
            "created_at": datetime(2026, 1, 31, 7, tzinfo=timezone.utc),
            "updated_at": datetime(2026, 1, 31, 7, 0, 0, 500000, tzinfo=timezone.utc),
            "owner_id": "u1",
            "send_schedule_id": schedule,
            "sequence_ruleset_id": rules,
            "missing_since": None,
            "known_as_of": NOW + timedelta(microseconds=number - 1),
        }
        for number, schedule, rules in ((1, "c1", "r1"), (2, None, None))
    ]
    assert tables["sequence_rulesets"]["block_reenrollment_value"].to_pylist() == [30]
    for table in tables.values():
        assert table["known_as_of"].null_count == 0


@pytest.mark.parametrize(
    "rules",
    [
        {"send_days": {"2": [{"start": "09:00"}], "1": None}, "days": ["2026-12-24"]},
        ["2026-12-24", [None, {"b": 1, "a": 1.50}]],
        "closed",
        12345678901234567890,
        True,
    ],
)
def test_a_promised_json_column_keeps_any_shape_as_it_was_sent(rules: Any) -> None:
    schedule = {"id": "c1", "rules": rules}
    other = listed_sequence(2, send_schedule={"id": "c2", "rules": {"time_zone": "UTC"}})

    schedules = split_sequences(listed_sequence(1, send_schedule=schedule), other)["send_schedules"]

    assert schedules["rules"][0].as_py() == json.dumps(rules, separators=(",", ":"))
    assert is_json(schedules.schema.field("rules"))
