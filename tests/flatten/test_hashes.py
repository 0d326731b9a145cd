"""Hashes of personal data are keyed and the same in every table; no other value changes."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import enrollments, text

from unify_source.common.resources import BY_NAME, ENROLLMENT_LIST, TEXT, Column
from unify_source.common.settings import checked_settings
from unify_source.flatten.decode.decode import Batch, decode
from unify_source.flatten.privacy import Privacy

KEY = b"a key of the test"
EMAIL = BY_NAME["people"].column("email")
NAME = BY_NAME["people"].column("first_name")

blanks = st.text(" \t\r\n\u00a0\u2003", max_size=3)


def of(content: str, key: bytes = KEY) -> str:
    return hmac.new(key, content.encode(), "sha256").hexdigest()


def batch(rows: list[Any]) -> Batch:
    return decode(ENROLLMENT_LIST, [json.dumps({"enrollments": rows}).encode()])


@settings(max_examples=30)
@given(st.emails(), blanks, blanks, st.sampled_from([str.lower, str.upper, str.swapcase]))
def test_an_address_has_one_hash_however_it_is_written(
    address: str, before: str, after: str, respelled: Callable[[str], str]
) -> None:
    hashed = Privacy("hash", KEY).value(f"{before}{respelled(address)}{after}", EMAIL)

    assert hashed == of(address.lower())


@settings(max_examples=30)
@given(st.emails(), st.emails())
def test_two_addresses_have_one_hash_only_if_they_are_the_same(one: str, other: str) -> None:
    hashing = Privacy("hash", KEY)

    same = one.strip().lower() == other.strip().lower()
    assert (hashing.value(one, EMAIL) == hashing.value(other, EMAIL)) == same
    assert hashing.value(one, EMAIL) != Privacy("hash", b"another key").value(one, EMAIL)


@given(text)
def test_any_other_text_is_hashed_as_it_is(value: str) -> None:
    assert Privacy("hash", KEY).value(value, NAME) == of(value)
    assert Privacy("hash", KEY).value(value) == of(value)


@pytest.mark.parametrize("mode", ["hash", "drop"])
def test_null_stays_null(mode: str) -> None:
    assert Privacy(mode, KEY).value(None, EMAIL) is None


def hidden(value: Any, mode: str, columns: dict[str, Column]) -> Any:
    """Return an object with its personal values replaced, and unknown fields with them."""
    found = {}
    for name, inner in (value or {}).items():
        column = columns.get(name)
        if column and not column.pii:
            found[name] = inner
        elif mode == "hash" and inner is not None:
            content = inner.strip().lower() if column and column.is_email else inner
            found[name] = of(content)
    return found


@settings(max_examples=30)
@given(st.lists(enrollments, min_size=1, max_size=6), st.sampled_from(["hash", "drop"]))
def test_personal_columns_are_replaced_and_no_other_value_changes(
    rows: list[Any], mode: str
) -> None:
    before = batch(rows)
    after = Privacy(mode, KEY).apply(ENROLLMENT_LIST, before)

    assert after.rows.schema == before.rows.schema
    for was, now in zip(before.rows.to_pylist(), after.rows.to_pylist(), strict=True):
        for key, table in (("person", "people"), ("mailbox", "mailboxes")):
            columns = {column.name: column for column in BY_NAME[table].columns}
            columns["$more"] = Column("$more", TEXT, "")
            expected = hidden(was.pop(key), mode, columns)
            assert {k: v for k, v in now.pop(key).items() if v is not None} == {
                k: v for k, v in expected.items() if v is not None
            }
        replies = was.pop("reply_email_message"), now.pop("reply_email_message")
        if replies[0]:
            subjects = [reply.pop("subject") for reply in replies]
            hashed = of(subjects[0]) if mode == "hash" and subjects[0] is not None else None
            assert subjects[1] == hashed
        assert replies[0] == replies[1]
        assert now == was


@settings(max_examples=30)
@given(st.lists(enrollments, min_size=1, max_size=6), st.integers(0, 5), st.integers(0, 5))
def test_the_hashes_of_a_row_do_not_depend_on_its_neighbours(
    rows: list[Any], start: int, end: int
) -> None:
    hashing = Privacy("hash", KEY)
    whole = hashing.apply(ENROLLMENT_LIST, batch(rows)).rows

    for part in (slice(0, start), slice(start, end)):
        some = rows[part]
        alone = hashing.apply(ENROLLMENT_LIST, batch(some)).rows
        assert alone.equals(whole.slice(part.start, len(some)))


def test_rows_that_are_a_slice_of_a_table_are_hashed_as_well() -> None:
    person = {"id": "p", "email": "Ada@Example.com"}
    rows = [
        {"id": f"e{n}", "updated_at": "2026-01-01T00:00:00Z", "person": person if n % 2 else None}
        for n in range(6)
    ]
    read = batch(rows)

    sliced = Batch(pa.concat_tables([read.rows.slice(1, 2), read.rows.slice(3)]))
    hashed = Privacy("hash", KEY).apply(ENROLLMENT_LIST, sliced).rows

    people = [row["person"] and row["person"]["email"] for row in hashed.to_pylist()]
    assert people == [of("ada@example.com") if n % 2 else None for n in range(1, 6)]


@pytest.mark.parametrize("mode", ["hash", "drop"])
@settings(max_examples=30)
@given(row=enrollments, secret=st.emails())
def test_a_row_that_cannot_be_read_keeps_nothing_but_what_is_promised(
    mode: str, row: dict[str, Any], secret: str
) -> None:
    secret = f"{secret} of a person"
    broken = {**row, "is_paused": secret, "updated_at": secret, "note": secret, "sequence": secret}
    broken["person"] = {**row["person"], "email": secret, "aliases": [secret]}

    [one] = Privacy(mode, KEY).apply(ENROLLMENT_LIST, batch([broken])).unreadable

    assert secret not in one.raw + one.reason
    kept = json.loads(one.raw)
    assert kept["id"] == row["id"] == one.key
    assert kept["person"]["id"] == row["person"]["id"]
    assert kept["person"].get("email") == (of(secret.lower()) if mode == "hash" else None)
    assert {"is_paused", "updated_at", "note", "sequence"}.isdisjoint(kept)


@pytest.mark.parametrize("limit", [{"max_depth": 8}, {"max_row_bytes": 1 << 12}])
def test_a_quarantined_row_is_parsed_only_within_the_configured_limits(
    limit: dict[str, int],
) -> None:
    usual, lower = (checked_settings({"api_key": "k", "pii": "drop", **e}) for e in ({}, limit))
    deep: Any = "x" * 5_000
    for _ in range(10):
        deep = [deep]
    row = {"id": "e1", "is_paused": "true", "status": "ACTIVE", "deep": deep}
    read = decode(ENROLLMENT_LIST, [json.dumps({"enrollments": [row]}).encode()], lower.limits)

    known, unknown = (
        json.loads(Privacy.of(given).apply(ENROLLMENT_LIST, read).unreadable[0].raw)
        for given in (usual, lower)
    )

    assert known["status"] == "ACTIVE"
    assert unknown == {"id": "e1"}
