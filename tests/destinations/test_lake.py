"""A load is prepared for a lake: each key once, in the configured format."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import dlt
import pyarrow as pa
import pytest
from conftest import KEY, start_and_kill
from dying import COMMITTING
from hypothesis import given
from hypothesis import strategies as st
from lakes import Delta, Iceberg, Parquet
from standing import Serve, account, change, load
from warehouse import shown

from unify_source import unify_source
from unify_source.common.errors import ConfigurationError
from unify_source.common.resources import BY_NAME, PLAYS
from unify_source.common.settings import TABLE_FORMATS, checked_settings
from unify_source.destinations.lakes.composite import match_at_once
from unify_source.destinations.lakes.merge import lake_format
from unify_source.destinations.lakes.versions import newest_of_each, standing

START = datetime(2026, 6, 1, tzinfo=timezone.utc)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), min_size=1))
def test_the_newest_row_of_each_key_stays_and_the_last_of_equally_new_ones(
    rows: list[tuple[str, int]],
) -> None:
    times = [START + timedelta(seconds=second) for _, second in rows]
    table = pa.table({"id": [key for key, _ in rows], "at": times, "row": range(len(rows))})

    kept = newest_of_each(table, "at")

    expected: dict[str, tuple[int, int]] = {}
    for number, (key, second) in enumerate(rows):
        expected[key] = max(expected.get(key, (second, number)), (second, number))
    assert dict(zip(*kept.select(["id", "row"]).to_pydict().values(), strict=True)) == {
        key: number for key, (_, number) in expected.items()
    }


def test_the_newest_row_counts_in_parquet_files_from_before_and_after_an_upgrade() -> None:
    def rows(column: str, *versions: tuple[str, str, int]) -> pa.Table:
        keys, names, seconds = zip(*versions, strict=True)
        at = [START + timedelta(seconds=second) for second in seconds]
        return pa.table({"id": keys, "name": names, column: at})

    before = rows("_as_of", ("a", "new", 2), ("a", "old", 1), ("b", "old", 3), ("c", "only", 1))
    after = rows("known_as_of", ("b", "new", 5), ("b", "less new", 4))

    stand = standing(PLAYS, {"1.0": [before], "2.0": [after]})

    names = dict(zip(*stand.select(["id", "name"]).to_pydict().values(), strict=True))
    assert names == {"a": "new", "b": "new", "c": "only"}
    assert len(standing(PLAYS, {"1.0": [before]})) == 3


@pytest.mark.parametrize("wanted", TABLE_FORMATS)
def test_a_lake_gets_the_configured_format_and_a_database_keeps_its_own(wanted: str) -> None:
    settings = checked_settings({"api_key": "key", "table_format": f" {wanted.upper()} "})

    lake, database = (dlt.destination(name).capabilities() for name in ("filesystem", "duckdb"))
    assert lake_format(lake, settings.table_format) == wanted
    assert lake_format(database, settings.table_format) is None


def test_an_unknown_table_format_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="table_format is 'hudi'"):
        checked_settings({"api_key": "key", "table_format": "hudi"})


def test_a_lake_has_delta_tables_by_default() -> None:
    assert checked_settings({"api_key": "key"}).table_format == "delta"


@pytest.mark.lane
@pytest.mark.parametrize("warehouse", [Delta, Iceberg], indirect=True, ids=["Delta", "Iceberg"])
def test_rows_of_a_first_load_that_died_while_committing_are_merged_with(
    serve: Serve, warehouse: Any
) -> None:
    api = serve(account(100))
    start_and_kill(api, "sync", "--quiet", "--destination", "filesystem", at=COMMITTING)
    change(api.account, 80)

    load(warehouse, api)

    assert warehouse.stored() == shown(api.account)


@pytest.mark.lane
@pytest.mark.parametrize("warehouse", [Delta, Iceberg, Parquet], indirect=True)
def test_a_table_that_loses_every_row_to_a_filter_is_there_from_the_first_run(
    serve: Serve, warehouse: Any
) -> None:
    api = serve(account(40))
    source = unify_source(api_key=KEY, base_url=api.url)
    source.people.add_filter(lambda _people: False)
    warehouse.pipeline().run(source)

    assert warehouse.keys("people") == []
    assert {column.name for column in BY_NAME["people"].columns} <= set(warehouse.columns("people"))
    assert warehouse.stored() == {**shown(api.account), "people": []}


@pytest.mark.lane
def test_pyiceberg_looks_for_the_keys_of_one_account_in_one_set() -> None:
    from pyiceberg.expressions import And, EqualTo, In, Or  # noqa: PLC0415 - of the lane
    from pyiceberg.table import upsert_util  # noqa: PLC0415 - of the lane

    match_at_once()

    rows = pa.table({"account": ["one"] * 3, "id": ["a", "b", "a"]})
    by_key = In("id", {"a", "b"})
    match = upsert_util.create_match_filter
    assert match(rows, ["account", "id"]) == And(by_key, EqualTo("account", "one"))
    assert match(rows, ["id"]) == by_key
    both = pa.table({"account": ["one", "two"], "id": ["a", "b"]})
    assert isinstance(match(both, ["account", "id"]), Or)
