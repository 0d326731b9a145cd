"""Every table gets its rows from one reading, which is not far ahead of what was taken."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence
from typing import Any

import dlt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unify_source.load.extraction.target import Tables
from unify_source.load.tables.fan_out import FanOut

TABLES = "abc"
BATCHES = st.lists(st.sets(st.sampled_from(TABLES)), max_size=8)


class Feed:
    """Feeds dlt from batches, which have a row for some of the tables."""

    def __init__(self, batches: Sequence[Collection[str]]) -> None:
        self.read: list[tuple[int, str]] = []
        self._batches, self._fan = batches, FanOut(self._begin)

    def _begin(self, _selected: frozenset[str]) -> Generator[Tables, None, None]:
        for number, names in enumerate(self._batches):
            self.read += [(number, name) for name in names]
            yield {name: pa.table({"number": [number], "name": [name]}) for name in names}

    def rows(self, table: str) -> Iterator[Any]:
        yield from self._fan.rows(table, TABLES, self)

    def source(self) -> Any:
        def resource(table: str) -> Any:
            return dlt.resource(lambda: self.rows(table), name=table)

        return dlt.source(lambda: [resource(table) for table in TABLES], name="fed")()


def row(rows: pa.Table) -> tuple[int, str]:
    [only] = rows.to_pylist()
    return only["number"], only["name"]


@pytest.mark.parametrize("mode", ["round_robin", "fifo"])
@given(batches=BATCHES)
def test_no_batch_is_read_before_the_last_one_was_taken(mode: str, batches: list[set[str]]) -> None:
    feed, taken = Feed(batches), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXTRACT__NEXT_ITEM_MODE", mode)
        for rows in feed.source():
            taken.append(row(rows))
            waiting = {number for number, name in feed.read if (number, name) not in taken}
            assert len(waiting) <= 1

    for table in TABLES:
        own = [each for each in feed.read if each[1] == table]
        assert [each for each in taken if each[1] == table] == own


@given(batches=BATCHES)
def test_a_table_gets_its_rows_although_nobody_takes_those_of_others(
    batches: list[set[str]],
) -> None:
    feed = Feed(batches)

    taken = [row(rows) for rows in feed.rows("a") if rows is not None]

    assert taken == [(number, "a") for number, names in enumerate(batches) if "a" in names]
