"""A row's fate, columns and values depend only on the row and on the columns that exist."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import dlt
import pyarrow as pa
import pytest
from conftest import IS_SOAK
from dlt.common.libs.pyarrow import py_arrow_to_table_schema_columns
from dlt.common.schema.utils import new_table
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import anything, enrollments, hostile_values, keys

from unify_source.common.resources import ENROLLMENT_LIST
from unify_source.common.times import parse_instant
from unify_source.flatten.decode.decode import Batch, decode
from unify_source.flatten.quarantine import quarantined
from unify_source.flatten.split import split
from unify_source.load.schema.warehouse import Warehouse, source_hints

NOW = datetime(2026, 11, 1, tzinfo=timezone.utc)
ROW = {"id": "e1", "updated_at": "2026-01-31T08:00:00Z"}
GOOD = b'{"id":"good","updated_at":"2026-01-31T08:00:00Z"}'
BAD = b'{"id":"bad","updated_at":"2026-01-31T08:00:00Z","is_paused":"true"}'
EXTRA = b'{"id":"extra","updated_at":"2026-01-31T08:00:00Z","score":1,"person":{"id":"p","k":[1]}}'
SURROGATE = rb'{"id":"odd","updated_at":"2026-01-31T08:00:00Z","status":"\ud800"}'
NEIGHBOURS = (GOOD, BAD, EXTRA, SURROGATE)


def page(*rows: bytes) -> bytes:
    return b'{"enrollments":[' + b",".join(rows) + b'],"next_cursor":null}'


def fates(batch: Batch) -> dict[str, Any]:
    """Return what became of each row, by its id or its text."""
    readable = {row["id"]: row for row in batch.rows.to_pylist()}
    return {**readable, **{row.id or row.raw: row for row in batch.unreadable}}


def assert_one_fate(row: bytes) -> Any:
    """Check that a row has the same fate alone and in any company, and return it."""
    alone = decode(ENROLLMENT_LIST, [page(row)])
    assert len(alone.rows) + len(alone.unreadable) == 1
    [(key, fate)] = fates(alone).items()
    for neighbour in NEIGHBOURS:
        for bodies in ([page(row, neighbour)], [page(neighbour), page(row)]):
            batch = decode(ENROLLMENT_LIST, bodies)
            assert batch.rows.schema == alone.rows.schema
            assert fates(batch)[key] == fate
    return fate


PLACES = (
    *((name,) for name in ("id", "updated_at", "ended_at", "is_paused", "status", "person")),
    *(("person", name) for name in ("id", "email", "new")),
    *(("reply_email_message", name) for name in ("received_at", "classifications", "new")),
    ("new",),
    ("sequence", "is_paused"),
)


@settings(max_examples=1_000 if IS_SOAK else 60)
@given(enrollments, hostile_values, st.sampled_from(PLACES))
def test_any_json_anywhere_in_a_row_has_one_fate(
    row: dict[str, Any], value: str, place: tuple[str, ...]
) -> None:
    above = {"id": "r1"} if place[0] == "reply_email_message" else {}
    target = row if not place[1:] else row.setdefault(place[0], above) or row
    if place[1:]:
        target = row[place[0]] = row[place[0]] or above
    target[place[-1]] = "@@"

    assert_one_fate(json.dumps(row).replace('"@@"', value).encode())


TIMES = [
    "9999-12-31T23:59:59-05:00",
    "0001-01-01T00:00:00+05:30",
    "0000-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00Z",
    "10000-01-01T00:00:00Z",
    "2026-01-31T08:00:00.123456789Z",
    "2026-01-31t08:00:00z",
    "2026-01-31 08:00:00+05:30",
    "2026-01-31T08:00:00+0530",
    "2026-01-31T08:00:00+05",
    "2026-01-31T08:00:60Z",
    "2026-01-31T24:00:00Z",
    "2026-01-31T08:00Z",
    "2026-02-30T08:00:00Z",
    "2026-01-31T08:00:00",
    "2026-01-31",
    "",
]


FAR = (
    "9999-12-31T23:59:59-05:00",
    "0001-01-01T00:00:00+05:30",
    "0000-01-01T00:00:00Z",
    "9999-12-31T23:59:60Z",
    "0000-12-31t23:59:59.5-0100",
)


@pytest.mark.parametrize(
    "text", [*TIMES, *FAR[3:], "0000-02-30T08:00:00Z", "year2026-01-31T08:00:00Z"]
)
@pytest.mark.parametrize("name", ["updated_at", "ended_at"])
def test_a_time_is_an_instant_or_a_reason_as_its_text_says(name: str, text: str) -> None:
    fate = assert_one_fate(json.dumps({**ROW, name: text}).encode())

    expected = parse_instant(text)
    if expected is None:
        why = "outside the years 1 to 9999 in UTC" if text in FAR else "not an RFC 3339 time"
        assert fate.reason == f"{name} is {text!r}, {why}"
    else:
        assert fate[name] == expected


DEEP = 20_000
ODD = {
    "is nested more than 64 levels deep (max_depth)": [
        b'{"id":"e1","new":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"id":"e1","new":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
        b'{"id":"e1","new":' + b"[" * 1_015 + b"]" * 1_015 + b"}",
        b'{"id":"e1","is_paused":' + b"[" * 64 + b"]" * 64 + b"}",
        b'{"id":"e1","new":' + b"[" * 64 + b"]" * 64 + b"}",
        b'{"id":"e1","person":{"id":"p","new":' + b"[" * 63 + b"]" * 63 + b"}}",
    ],
    "is longer than 16,777,216 bytes (max_row_bytes)": [
        b'{"id":"e1","status":"' + b"x" * (16 << 20) + b'"}'
    ],
    "holds bytes that are not UTF-8": [
        b'{"id":"e1","status":"\xff"}',
        b'{"id":"e1","new":"\xed\xa0\x80"}',
        b'{"id":"e1","\xff":1}',
    ],
    "holds text that is not Unicode": [
        rb'{"id":"e1","new":["\ud800"]}',
        rb'{"id":"e1","\udc00":1}',
        rb'{"id":"e1","status":"\udc00\ud800"}',
    ],
    "has a key with U+0000": [
        rb'{"id":"e1","updated_at":"2026-01-31T08:00:00Z","a\u0000b":1}',
        rb'{"id":"e1","updated_at":"2026-01-31T08:00:00Z","new":[{"\u0000":1}]}',
    ],
    "updated_at is missing": [b'{"id":"e1","new":"' + rb"\"[{\\" + b'"}'],
}


@pytest.mark.parametrize(("reason", "row"), [(r, row) for r, rows in ODD.items() for row in rows])
def test_a_row_that_no_table_can_hold_goes_to_quarantine_alone(reason: str, row: bytes) -> None:
    fate = assert_one_fate(row)

    assert (fate.id, fate.reason) == ("e1", reason)
    table = quarantined([fate], NOW)
    table.validate(full=True)
    assert table["raw"][0].as_py() == row.decode(errors="backslashreplace")


@pytest.mark.parametrize("row", [b'{"id":"e1","new":NaN}', b'{"id":01}', b'{"id":"e1",}'])
def test_a_row_that_is_not_json_goes_to_quarantine_alone_without_an_id(row: bytes) -> None:
    fate = assert_one_fate(row)

    assert fate.id is None
    assert fate.reason.startswith("is not JSON: ")


@pytest.mark.parametrize("text", [b"\xe9", b"a\xff", b"\xed\xa0\x80", rb"\ud800", rb"\udc00\ud800"])
def test_an_id_that_is_not_unicode_is_none_and_its_row_stays_apart_from_others(
    text: bytes,
) -> None:
    fates = [assert_one_fate(b'{"id":"%b","status":%d}' % (text, n)) for n in range(2)]

    assert [fate.id for fate in fates] == [None, None]
    assert fates[0].key != fates[1].key


@pytest.mark.parametrize("levels", [1, 63])
def test_a_row_may_be_nested_up_to_the_limit(levels: int) -> None:
    row = b'{"id":"e1","updated_at":"2026-01-31T08:00:00Z","new":%s}'

    fate = assert_one_fate(row % (b"[" * levels + b"]" * levels))

    assert fate["$more"] == '{"new":' + "[" * levels + "]" * levels + "}"


class Standing:
    """A warehouse between runs: all that dlt stores of it, and the values of each row."""

    def __init__(self) -> None:
        self.schema = dlt.Schema("unify")
        self.values: dict[str, dict[str, Any]] = {}

    def load(self, *batches: list[dict[str, Any]]) -> Standing:
        """Load some batches in one run, and store the schema as dlt would."""
        warehouse = Warehouse(self.schema)
        for rows in batches:
            body = json.dumps({"enrollments": rows}).encode()
            decoded = decode(ENROLLMENT_LIST, [body])
            assert decoded.unreadable == []
            made = split(ENROLLMENT_LIST, decoded.rows, NOW, warehouse.splitting)["enrollments"]
            warehouse.note("enrollments", made)
            columns = py_arrow_to_table_schema_columns(made.schema)
            for name, hints in source_hints(made.schema).items():
                columns[name].update(hints)  # type: ignore[typeddict-item]
            self.schema.update_table(new_table("enrollments", columns=list(columns.values())))
            for row in made.to_pylist():
                self.values[row["id"]] = {k: v for k, v in row.items() if v is not None}
        self.schema = dlt.Schema.from_stored_schema(json.loads(json.dumps(self.schema.to_dict())))
        return self


def new_row(number: int, **new: Any) -> dict[str, Any]:
    return {"id": f"e{number}", "updated_at": "2026-01-31T08:00:00Z", **new}


def new_values(standing: Standing, number: int) -> dict[str, Any]:
    row = dict(standing.values[f"e{number}"])
    del row["id"], row["updated_at"]
    return row


@pytest.mark.parametrize(
    ("first", "second"),
    [("Id", "id "), ("Score", "score"), ("companyName", "company_name"), ("a-b", "a b"), ("", "_")],
)
def test_keys_of_one_name_keep_a_column_each_in_every_run(first: str, second: str) -> None:
    standing = Standing().load([new_row(1, **{second: "two"})])
    [column] = new_values(standing, 1)
    standing.load([new_row(2, **{first: "one", second: "two"})])
    other = {v: k for k, v in new_values(standing, 2).items()}["one"]
    standing.load([new_row(3, **{second: "two", first: "one"}), new_row(4, **{first: "one"})])

    assert new_values(standing, 2) == new_values(standing, 3) == {other: "one", column: "two"}
    assert new_values(standing, 4) == {other: "one"}


@given(st.lists(st.dictionaries(keys, anything, max_size=4), min_size=1, max_size=4), st.randoms())
def test_order_of_rows_and_of_keys_changes_no_column_and_no_value(
    rows: list[dict[str, Any]], random: Any
) -> None:
    sent = [{**more, **new_row(number)} for number, more in enumerate(rows)]
    shuffled = [dict(random.sample(list(row.items()), len(row))) for row in sent]
    random.shuffle(shuffled)

    one, other = Standing().load(sent), Standing().load(shuffled)

    assert one.values == other.values
    columns = one.schema.get_table_columns("enrollments")
    assert columns.keys() == other.schema.get_table_columns("enrollments").keys()
    # And each row stands the same when it is loaded again by itself, in a later run.
    before = dict(one.values)
    for row in shuffled:
        one.load([row])
    assert one.values == before
    assert one.schema.get_table_columns("enrollments") == columns


@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize("is_one_batch", [False, True])
def test_values_of_two_types_are_all_stored_in_any_order(
    *, is_reversed: bool, is_one_batch: bool
) -> None:
    rows = [new_row(1, score=7), new_row(2, score="high"), new_row(3, score={"v": 1})]
    rows = rows[::-1] if is_reversed else rows

    standing = Standing().load(rows) if is_one_batch else Standing().load(*([r] for r in rows))

    found = {key: list(new_values(standing, key).values()) for key in (1, 2, 3)}
    assert found in ({1: [7], 2: ["high"], 3: [1]}, {1: ["7"], 2: ["high"], 3: [1]})


def test_one_odd_value_leaves_the_others_in_their_column() -> None:
    standing = Standing().load([new_row(n, score=n) for n in range(300)])

    standing.load([new_row(n, score=10 * n if n else "n/a") for n in range(300)])

    assert sum(row.get("score", 0) for row in standing.values.values()) == 448_500
    assert new_values(standing, 0) == {"score__v_text": "n/a"}


def test_a_time_stays_in_the_column_that_had_an_older_time_beside_text() -> None:
    old = [new_row(1, last_seen="never"), new_row(2, last_seen="2026-01-30T08:00:00Z")]
    standing = Standing().load(old)
    [column] = new_values(standing, 2)

    standing.load([new_row(2, last_seen="2026-01-31T08:00:00Z")])

    assert new_values(standing, 2) == {column: datetime(2026, 1, 31, 8, tzinfo=timezone.utc)}


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("12345678901234567890", "12345678901234567890"),
        ("-9223372036854775808", -(1 << 63)),
        ("9223372036854775808", "9223372036854775808"),
        ("0.10", 0.1),
        ("1e2", 100.0),
        ("1E400", "1E400"),
        ("1e-400", "1e-400"),
        ("0.12345678901234567890", "0.12345678901234567890"),
        ("9007199254740993.0", "9007199254740993.0"),
        ("1e99999999999999999999", "1e99999999999999999999"),
        ("9" * 5000, "9" * 5000),
        ("-0", 0),
        ('"2026-01-31T08:00:00.123456789Z"', "2026-01-31T08:00:00.123456789Z"),
        ('"2026-01-31"', "2026-01-31"),
        ('"9999-12-31T23:59:59-05:00"', "9999-12-31T23:59:59-05:00"),
    ],
)
def test_no_digit_of_a_new_value_is_lost(sent: str, stored: Any) -> None:
    row = json.dumps(new_row(1, new="@@")).replace('"@@"', sent).encode()
    rows = decode(ENROLLMENT_LIST, [page(row)]).rows

    table = split(ENROLLMENT_LIST, rows, NOW, Warehouse(Standing().schema).splitting)["enrollments"]

    assert table["new"].to_pylist() == [stored]


@pytest.mark.parametrize(
    "text",
    [
        '[["2026-01-31","2026-02-28"]]',
        '[[{"d":"2026-01-31 08:00"}]]',
        '[null,"vip"]',
        "[null,null]",
        "[]",
        '[{"k":1},{"j":2},{}]',
        "[1.50,1e2,12345678901234567890,-0,0.1]",
        '[{"b":1,"a":"\\"\\\\ü"}]',
    ],
)
def test_a_list_is_kept_as_its_text(text: str) -> None:
    row = json.dumps(new_row(1, new="@@", person={"id": "p1", "new": "@@"}))
    fate = assert_one_fate(row.replace('"@@"', text).encode())
    assert fate["$more"] == f'{{"new":{text}}}'

    rows = decode(ENROLLMENT_LIST, [page(row.replace('"@@"', text).encode(), EXTRA)]).rows
    tables = split(ENROLLMENT_LIST, rows, NOW, Warehouse(Standing().schema).splitting)

    assert tables["enrollments"]["new"][0].as_py() == text
    assert tables["people"]["new"][0].as_py() == text


def test_no_column_type_depends_on_the_batch() -> None:
    batches = [decode(ENROLLMENT_LIST, [page(row)]).rows for row in (GOOD, EXTRA)]

    assert pa.concat_tables(batches).num_rows == 2
