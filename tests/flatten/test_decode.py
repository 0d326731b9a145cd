from __future__ import annotations

import copy
import json
from datetime import datetime, timezone
from typing import Any

import pytest
from conftest import IS_SOAK
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import anything, enrollments, keys, moments, written

from unify_source.common.errors import BrokenPage
from unify_source.common.resources import ENROLLMENT_LIST
from unify_source.common.times import parse_instant
from unify_source.flatten.decode.decode import decode
from unify_source.flatten.decode.more import MORE_KEY

INSTANTS = ("created_at", "updated_at", "started_at", "ended_at")


def page(*rows: Any, indent: int | None = None) -> bytes:
    return json.dumps({"enrollments": rows, "next_cursor": None}, indent=indent).encode()


def promised(value: Any) -> Any:
    """Return decoded rows without their `MORE_KEY`, which has to be null."""
    if isinstance(value, list):
        return [promised(item) for item in value]
    if not isinstance(value, dict):
        return value
    assert value[MORE_KEY] is None
    return {key: promised(item) for key, item in value.items() if key != MORE_KEY}


def with_instants(row: dict[str, Any]) -> dict[str, Any]:
    row = copy.deepcopy(row)
    for name in INSTANTS:
        row[name] = parse_instant(row[name]) if row[name] else None
    if reply := row["reply_email_message"]:
        reply["received_at"] = parse_instant(reply["received_at"]) if reply["received_at"] else None
    return row


@given(st.lists(enrollments, max_size=6), st.integers(1, 3), st.sampled_from([None, 2]))
def test_every_promised_value_arrives_as_it_was_sent(
    rows: list[dict[str, Any]], pages: int, indent: int | None
) -> None:
    bodies = [page(*rows[i::pages], indent=indent) for i in range(pages)]

    batch = decode(ENROLLMENT_LIST, bodies)

    expected = [with_instants(row) for i in range(pages) for row in rows[i::pages]]
    assert batch.unreadable == []
    assert promised(batch.rows.to_pylist()) == expected


@given(moments, st.integers(0, 6), st.integers(-720, 720))
def test_an_instant_is_read_with_any_fraction_in_any_zone(
    moment: datetime, digits: int, offset: int
) -> None:
    text = written(moment, digits, offset)
    cut = moment.microsecond // 10 ** (6 - digits) * 10 ** (6 - digits)

    assert parse_instant(text) == moment.replace(microsecond=cut)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31t08:00:00z", datetime(2026, 1, 31, 8, tzinfo=timezone.utc)),
        ("2026-01-31T08:00:00.123456789Z", datetime(2026, 1, 31, 8, 0, 0, 123456, timezone.utc)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=timezone.utc)),
        ("2026-01-31", None),
        ("2026-01-31T08:00:00", None),
        ("2026-02-30T08:00:00Z", None),
        ("2026-01-31T08:00:61Z", None),
        ("2026-01-31T08:00:61.5+01:00", None),
        ("2026-01-31T08:00:00.\u0665Z", None),
        ("yesterday", None),
        ("0001-01-01T00:00:00+10:00", None),
    ],
)
def test_unusual_instants_are_read_or_refused(text: str, expected: datetime | None) -> None:
    assert parse_instant(text) == expected


@given(enrollments, enrollments, st.sampled_from(INSTANTS))
def test_instants_finer_than_microseconds_are_cut_and_their_rows_kept(
    one: dict[str, Any], other: dict[str, Any], name: str
) -> None:
    one[name] = "2026-01-31T08:00:00.1234567Z"

    batch = decode(ENROLLMENT_LIST, [page(one, other)])

    assert batch.unreadable == []
    assert batch.rows[name][0].as_py() == datetime(2026, 1, 31, 8, 0, 0, 123456, timezone.utc)


BROKEN = {
    "id is missing": lambda row: row.pop("id"),
    "id is a number, not text": lambda row: row.update(id=5),
    "updated_at is missing": lambda row: row.update(updated_at=None),
    "updated_at is 'soon', not an RFC 3339 time": lambda row: row.update(updated_at="soon"),
    "is_paused is text, not true or false": lambda row: row.update(is_paused="true"),
    "sequence is text, not an object": lambda row: row.update(sequence="S1"),
    "sequence.id is missing": lambda row: row["sequence"].pop("id"),
    "person.email is a list, not text": lambda row: row["person"].update(email=[]),
    "reply_email_message.classifications is an object, not a list": lambda row: row.update(
        reply_email_message={"id": "r", "classifications": {}}
    ),
    "reply_email_message.classifications has null": lambda row: row.update(
        reply_email_message={"id": "r", "classifications": [None]}
    ),
    "reply_email_message.classifications.id is missing": lambda row: row.update(
        reply_email_message={"id": "r", "classifications": [{"category": "POSITIVE"}]}
    ),
    "holds text that is not Unicode": lambda row: row.update(status="\ud800"),
}


@pytest.mark.parametrize("reason", BROKEN)
@settings(max_examples=5)
@given(one=enrollments, other=enrollments)
def test_a_row_that_breaks_a_promise_is_quarantined_whole_and_the_others_are_read(
    reason: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    BROKEN[reason](one)

    batch = decode(ENROLLMENT_LIST, [page(one, other)])

    assert [row.reason for row in batch.unreadable] == [reason]
    assert json.loads(batch.unreadable[0].raw) == one
    assert batch.rows["id"].to_pylist() == [other["id"]]


@given(enrollments, st.lists(st.integers(0x80, 0xFF), min_size=1, max_size=4).map(bytes))
def test_a_text_is_readable_if_its_bytes_are_unicode(row: dict[str, Any], text: bytes) -> None:
    row["status"] = "here"

    batch = decode(ENROLLMENT_LIST, [page(), page(row).replace(b"here", text)])

    try:
        assert batch.rows["status"].to_pylist() == [text.decode()]
    except UnicodeDecodeError:
        assert [row.reason for row in batch.unreadable] == ["holds bytes that are not UTF-8"]


@pytest.mark.parametrize("row", [None, 5, "text", [], [{}]])
@settings(max_examples=5)
@given(other=enrollments)
def test_a_row_that_is_not_an_object_is_quarantined_under_a_hash(
    row: Any, other: dict[str, Any]
) -> None:
    batch = decode(ENROLLMENT_LIST, [page(row, other)])

    assert len(batch.unreadable) == 1
    assert len(batch.unreadable[0].key) == 64
    assert batch.rows["id"].to_pylist() == [other["id"]]


@settings(max_examples=1_000 if IS_SOAK else 100)
@given(
    st.lists(
        st.tuples(enrollments, st.dictionaries(keys, anything, max_size=3)),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([(), ("sequence",), ("person",), ("mailbox",)]),
)
def test_whatever_else_the_api_sends_no_row_is_lost(
    rows: list[tuple[dict[str, Any], dict[str, Any]]], where: tuple[str, ...]
) -> None:
    sent = []
    for row, extra in rows:
        target = row[where[0]] if where else row
        target.update({k: v for k, v in extra.items() if k not in target})
        sent.append(row)

    batch = decode(ENROLLMENT_LIST, [page(*sent)])

    assert batch.unreadable == []
    assert batch.rows["id"].to_pylist() == [row["id"] for row in sent]


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"null",
        b'{"enrollments": 5}',
        b'{"enrollments": null}',
        b'{"next_cursor": null}',
        b"{",
        b'{"enrollments": [{}]} {}',
        b"",
    ],
)
def test_a_body_that_is_not_a_page_is_an_error(body: bytes) -> None:
    with pytest.raises(BrokenPage):
        decode(ENROLLMENT_LIST, [page(), body])


@given(st.lists(enrollments, min_size=1, max_size=3))
def test_a_new_date_keeps_its_spelling(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        row["renewal"] = {"day": "2026-01-31"}

    batch = decode(ENROLLMENT_LIST, [page(*rows)])

    assert batch.rows[MORE_KEY].to_pylist() == ['{"renewal":{"day":"2026-01-31"}}'] * len(rows)
