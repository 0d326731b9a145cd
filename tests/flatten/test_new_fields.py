"""Undocumented fields, loaded for real: nothing is lost, and no run gets stuck."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from destinations import DESTINATIONS, Destination, DuckDB, opened
from listing import Row, listing, version
from standing import load

from unify_source.common.resources import BY_NAME
from unify_source.flatten.decode.limits import JOINED_BYTES
from unify_source.runs.report import Report


@pytest.fixture(params=DESTINATIONS, ids=[kind.name for kind in DESTINATIONS])
def warehouse(request: pytest.FixtureRequest, home: Path) -> Iterator[Destination]:
    """Yield an empty destination."""
    with opened(request.param, home, request) as found:
        yield found


# What is decided before rows reach a destination needs no second one to show it.
on_duckdb = pytest.mark.parametrize("warehouse", [DuckDB], indirect=True)


def row(number: int, second: int = 0, **new: Any) -> Row:
    return version(f"e{number:05}", f"{second:02}Z", **new)


def new_values(warehouse: Destination, table: str = "enrollments") -> dict[str, dict[str, Any]]:
    """Return the values in new columns, by the row's id."""
    types = {k: v for k, v in warehouse.columns(table).items() if not k.startswith("_dlt_")}
    rows = []
    for stored in warehouse.reads(table, [f'"{name}"' for name in types]):
        values = {
            name: value for name, value in zip(types, stored, strict=True) if value is not None
        }
        for name, value in values.items():
            if types[name] == "json" and isinstance(value, str):
                values[name] = json.loads(value)
        rows.append(values)
    promised = {column.name for column in BY_NAME[table].columns}
    return {row["id"]: {k: v for k, v in row.items() if k not in promised} for row in rows}


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.mostly_on_duckdb
def test_values_of_several_types_are_all_loaded_in_one_run_or_in_two(
    warehouse: Destination, *, is_late: bool
) -> None:
    first = [row(n, score=7, tags=["a"]) for n in range(100)]
    second = [row(n, 1, score="high", tags={"v": 1}) for n in range(100, 200)]
    for pages in ([first], [second]) if is_late else ([first, second],):
        with listing(*pages) as url:
            load(warehouse, url)

    values = new_values(warehouse)
    assert len(values) == 200
    assert values["e00000"] == {"score": 7, "tags": ["a"]}
    assert values["e00100"] == {"score__v_text": "high", "tags__v": 1}
    with listing(first, second) as url:
        assert load(warehouse, url).enrollments == 0


@on_duckdb
def test_a_new_field_may_change_its_type_between_two_batches_of_one_run(
    warehouse: Destination,
) -> None:
    first = [row(n, tags=["a"], score=7, level=1) for n in range(3)]
    second = [row(n, 1, tags=["a"], score="high", level={"v": 2}) for n in range(3, 6)]
    for wide in (*first[:2], *second[:2]):
        # Two such pages are too large for one batch.
        wide["person"] = {**wide["person"], "linkedin_url": "x" * (JOINED_BYTES // 4)}
    broken = row(6, 1, tags=["a"], is_paused="true")
    as_in_first = {"tags": ["a"], "score": 7, "level": 1}
    as_in_second = {"tags": ["a"], "score__v_text": "high", "level__v": 2}

    for written in (6, 0):
        with listing(first, [*second, broken]) as url:
            report = load(warehouse, url)

        assert (report.enrollments, report.quarantined) == (written, 1)
        assert new_values(warehouse) == {
            **{each["id"]: as_in_first for each in first},
            **{each["id"]: as_in_second for each in second},
        }
    assert warehouse.columns("enrollments")["tags"] == "json"


def test_digits_are_kept_beside_a_bad_row_and_in_later_runs(warehouse: Destination) -> None:
    numbers = [12345678901234567890 + n for n in range(3)]
    rows = [row(n, crm_id=number, ratio=0.5) for n, number in enumerate(numbers)]
    with listing([*rows, row(9, is_paused="true")]) as url:
        report = load(warehouse, url)
    with listing([row(0, 1, crm_id=5, ratio=9007199254740993)]) as url:
        load(warehouse, url)

    values = new_values(warehouse)
    assert report.quarantined == 1
    assert values["e00001"] == {"crm_id": str(numbers[1]), "ratio": 0.5}
    assert values["e00000"] == {"crm_id": "5", "ratio__v_bigint": 9007199254740993}


KEYS = [
    "__",
    " ",
    "",
    "unnamed",
    "___",
    "_dlt_id",
    "_dlt_load_id",
    "ctid",
    "xmin",
    "tableoid",
    'a"b',
]
KEYS += [
    "Id",
    "id ",
    "_deleted",
    "_as_of",
    "known_as_of",
    "$more",
    "more_fields",
    "x" * 70,
    "x" * 300,
    "ä",
    "?",
    "a.b",
]


@pytest.mark.mostly_on_duckdb
def test_any_key_gets_a_place_that_it_keeps(warehouse: Destination) -> None:
    sent = {key: f"value of {key}" for key in KEYS}
    person = version("e1", "00Z")["person"]
    found: dict[str, list[dict[str, Any]]] = {"enrollments": [], "people": []}
    for second, keys in enumerate((KEYS, KEYS[::-1])):
        new = {key: sent[key] for key in keys}
        with listing([{**row(1, second), **new, "person": {**person, **new}}]) as url:
            load(warehouse, url)
        for place, kept in found.items():
            [values] = new_values(warehouse, place).values()
            rest = values.pop("more_fields")
            kept.append(values | rest)

    for first, second_time in found.values():
        assert sorted(first.values()) == sorted(sent.values())
        assert first == second_time


@pytest.mark.mostly_on_duckdb
def test_any_number_of_new_keys_keeps_the_tables_narrow_and_loses_no_value(
    warehouse: Destination,
) -> None:
    sent: dict[str, dict[str, str]] = {}
    for run in range(2):
        rows = []
        for number in range(40):
            key = f"e{number + 100 * run:05}"
            sent[key] = {f"f_{run}_{number}_{n}": f"{key} {n}" for n in range(45)}
            rows.append(row(number + 100 * run, run, custom=sent[key]))
        with listing(rows) as url:
            load(warehouse, url)

        assert warehouse.keys("people") == sorted({each["person"]["id"] for each in rows})
    assert len(warehouse.columns("enrollments")) < 250
    for key, values in new_values(warehouse).items():
        rest = values.pop("more_fields", {"custom": {}})["custom"]
        columns = {name.removeprefix("custom__"): value for name, value in values.items()}
        assert {**columns, **rest} == sent[key]


@pytest.mark.mostly_on_duckdb
def test_a_time_that_no_database_can_store_is_quarantined_alone_in_every_run(
    warehouse: Destination,
) -> None:
    texts = ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:30"]
    odd = [row(n, ended_at=text) for n, text in enumerate(texts)]
    good = [row(n) for n in range(5, 20)]
    for rows in (odd, [*odd, *good]):
        with listing(rows) as url:
            report = load(warehouse, url)
        assert report.quarantined == len(odd)
    assert len(warehouse.keys("enrollments")) == len(good)


@on_duckdb
def test_a_new_field_that_is_text_and_time_keeps_its_columns(warehouse: Destination) -> None:
    with listing([row(1, seen="never"), row(2, seen="2026-01-30T08:00:00Z")]) as url:
        load(warehouse, url)
    before = new_values(warehouse)
    with listing([row(2, 1, seen="2026-01-31T08:00:00Z")]) as url:
        load(warehouse, url)

    after = new_values(warehouse)
    assert after["e00001"] == before["e00001"] == {"seen__v_text": "never"}
    assert before["e00002"].keys() == after["e00002"].keys() == {"seen"}


def test_text_with_u0000_anywhere_stops_no_load(warehouse: Destination) -> None:
    nul = "a\0b"
    with listing([row(1, note=nul, tags=[nul, {"k": nul}], slash=["\\u0000"])]) as url:
        load(warehouse, url)

    stored = new_values(warehouse)["e00001"]
    kept = stored["note"]
    assert kept in (nul, "a\ufffdb")
    # JSON spells it as an escape, which `json` of Postgres keeps as it does any text.
    assert stored["tags"] in ([nul, {"k": nul}], [kept, {"k": kept}])
    assert stored["slash"] == ["\\u0000"]


def test_a_list_may_hold_numbers_of_any_size(warehouse: Destination) -> None:
    sizes = [10**19, 10**400, -(10**30)]
    with listing([row(1, sizes=sizes, new=10**400)]) as url:
        load(warehouse, url)

    assert new_values(warehouse)["e00001"] == {"sizes": sizes, "new": str(10**400)}


def of_columns(report: Report) -> list[str]:
    # This machine's clock may be behind the server's, which stands still and has no sequences.
    others = "clock", "other lists"
    return [each for each in report.notices if not any(words in each for words in others)]


@on_duckdb
def test_a_column_for_values_of_another_type_gives_one_notice_by_its_name_and_types(
    warehouse: Destination, caplog: pytest.LogCaptureFixture
) -> None:
    notices = []
    for second, odd in enumerate([7, "ann@example.test", "bob@example.test", True, False]):
        with listing([row(0, second, score=odd), row(1, second, score=8)]) as url:
            notices.append(of_columns(load(warehouse, url)))

    assert [len(sentences) for sentences in notices] == [0, 1, 0, 1, 0]
    text, flag = notices[1][0], notices[3][0]
    assert all(word in text for word in ("enrollments.score is bigint", "text", "score__v_text"))
    assert all(word in flag for word in ("enrollments.score is bigint", "bool", "score__v_bool"))
    logged = [record.message for record in caplog.records if "score" in record.message]
    assert logged == [text, flag]
    assert "example.test" not in str(notices)


EXAMPLES = {"n/a": "'n/a'", True: "True", "2026-01-30T08:00:00Z": "2026-01-30T08:00:00"}


@on_duckdb
def test_the_notice_of_a_column_for_another_type_shows_a_value_that_is_not_personal(
    warehouse: Destination,
) -> None:
    fields: dict[str, Any] = {f"k{n}": value for n, value in enumerate(EXAMPLES)}
    personal: dict[str, Any] = {
        "address": "ann@example.test",
        "name": "Ann Example",
        "list": ["Ann"],
    }
    first = row(1, **dict.fromkeys((*fields, *personal), 7))
    second = row(2, **fields, **personal)
    for each, value in ((first, 7), (second, "Ann")):
        each["person"] = {**each["person"], "nickname": value}
    with listing([first, second]) as url:
        notices = {sentence.split()[0]: sentence for sentence in of_columns(load(warehouse, url))}

    for name, value in zip(fields, EXAMPLES.values(), strict=True):
        assert f", such as {value}" in notices[f"enrollments.{name}"]
        assert f"enrollments.{name}__v_" in notices[f"enrollments.{name}"]
    assert "Read both columns" in notices["enrollments.k0"]
    shown = [name for name, sentence in notices.items() if "such as" in sentence]
    assert shown == [*(f"enrollments.{name}" for name in fields)]
    assert "nickname__v_text" in notices["people.nickname"]
    assert not re.search("ann", str(notices), re.IGNORECASE)


@on_duckdb
def test_without_personal_data_in_clear_a_notice_shows_no_value(warehouse: Destination) -> None:
    kept = ["enrollments.score"]
    with listing([row(0, score=7), row(1, score="n/a")]) as url:
        [notice] = of_columns(load(warehouse, url, pii="drop", pii_keep=kept))

    assert "enrollments.score__v_text" in notice
    assert "n/a" not in notice
    assert "such as" not in notice


@on_duckdb
def test_fields_without_room_for_a_column_are_noticed_once(warehouse: Destination) -> None:
    notices: list[str] = []
    for second in range(2):
        with listing([row(0, second, custom={f"k{n}": n for n in range(220)})]) as url:
            notices += of_columns(load(warehouse, url))

    assert len(notices) == 1
    assert "more_fields" in notices[0]
