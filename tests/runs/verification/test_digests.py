"""A destination sums up what it holds, and only rows of which the sums differ are fetched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timezone
from typing import Any

import duckdb
import postgres
import pyarrow as pa
import pytest
from damage import found, verified
from destinations import Destination, DuckDB, Postgres
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from loaded import loaded
from standing import Serve

from unify_source.common.resources import MAIN_LIST
from unify_source.runs.verification.sides import rows, stored
from unify_source.runs.verification.sides.digests import (
    HASHED,
    SPELLED,
    SPELLED_BY_POSTGRES,
    Digests,
)

# Postgres cannot store U+0000, which a load replaces.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
ODD_TEXTS = st.sampled_from(
    ["", " ", "k=1:x", "5:", "NULL", "e\u0301", "\u00e9", "\U0001f600", "''\\"]
)
VALUES: dict[str, tuple[str, str, st.SearchStrategy[Any]]] = {
    "k": ("text", "VARCHAR", TEXTS | ODD_TEXTS),
    "more": ("text", "VARCHAR", TEXTS | ODD_TEXTS),
    "n": ("bigint", "BIGINT", st.integers(-(2**63), 2**63 - 1)),
    # As text: a number in SQL has no -0.0.
    "x": ("double", "DOUBLE PRECISION", st.floats(allow_nan=False).map(repr)),
    "at": ("timestamp", "TIMESTAMPTZ", st.datetimes(timezones=st.just(timezone.utc))),
    "b": ("bool", "BOOLEAN", st.booleans()),
}
ROWS = st.lists(
    st.tuples(TEXTS, *(st.none() | values for _, _, values in VALUES.values())), min_size=5
)


@settings(max_examples=20)
@given(ROWS)
def test_postgres_and_duckdb_digest_every_value_alike(
    postgres_server: str, some: list[Any]
) -> None:
    values = [value for row in some for value in row]
    by_postgres = postgres.ask(
        postgres_server, _question(SPELLED_BY_POSTGRES, len(some), "%s"), *values
    )
    by_duckdb = duckdb.execute(_question(SPELLED, len(some), "?"), values).fetchall()

    assert by_postgres == by_duckdb


# Values that change places, and that are equal in two columns: what a sum by columns would forget.
ALIKE = st.lists(
    st.tuples(st.just("id"), TEXTS, TEXTS, *(st.none() for _ in range(3)), st.booleans()),
    min_size=5,
)


@pytest.mark.parametrize("digests", [HASHED, SPELLED], ids=["hashed", "spelled"])
@settings(max_examples=20)
@given(ROWS | ALIKE)
@example([("id", "a", "b", None, None, None, True), ("id", "b", "a", None, None, None, True)])
@example([("id", "a", "a", None, None, None, True), ("id", "b", "b", None, None, None, True)])
def test_rows_that_differ_have_digests_that_differ(digests: Digests, some: list[Any]) -> None:
    values = [value for row in some for value in row]
    # To DuckDB's hash it is 0.0.
    assume("-0.0" not in values)

    computed = duckdb.execute(_question(digests, len(some), "?"), values).fetchall()

    assert len(set(some)) == len(set(computed))


def _question(digests: Digests, count: int, mark: str) -> str:
    marks = [f"CAST({mark} AS {kind})" for kind in ("VARCHAR", *(k for _, k, _ in VALUES.values()))]
    columns = {name: (f'"{name}"', kind) for name, (kind, _, _) in VALUES.items()}
    digest = digests.row({"id": ("id", "text"), **columns})
    values = ", ".join([f"({', '.join(marks)})"] * count)
    names = ", ".join(f'"{name}"' for name in ("id", *VALUES))
    return f"SELECT {digests.bucket('id')}, {digest} FROM (VALUES {values}) AS v({names})"


@pytest.mark.mostly_on_duckdb
@pytest.mark.parametrize("warehouse", [DuckDB, Postgres], indirect=True)
def test_only_rows_whose_sums_differ_are_fetched(
    warehouse: Destination, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: Counter[str] = Counter()
    batches = rows.batches

    def counted(pipeline: Any, name: str, *asked: Any) -> Iterator[pa.Table]:
        for batch in batches(pipeline, name, *asked):
            fetched[name] += len(batch)
            yield batch

    monkeypatch.setattr(stored, "batches", counted)
    api = loaded(warehouse, serve)
    of_main_list = {part.table.name for part in MAIN_LIST.parts if not part.fills_in}

    equal = found(verified(warehouse, api))
    fetched_equal = of_main_list & set(fetched)
    [key, *_] = warehouse.keys("enrollments")
    warehouse.change(f"UPDATE unify.enrollments SET status = 'X' WHERE id = '{key}'")
    different = found(verified(warehouse, api))

    assert (equal, fetched_equal) == ({}, set())
    assert different == {"enrollments": {"stale": 1}}
    assert 0 < fetched["enrollments"] < 10
    assert (fetched["people"], fetched["mailboxes"]) == (0, 0)
