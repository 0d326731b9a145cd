"""A batch of any size and shape takes seconds and limited memory."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

from unify_source.common.resources import ENROLLMENT_LIST
from unify_source.common.settings.limits import Limits, wide_bytes
from unify_source.flatten.decode import batches
from unify_source.flatten.decode.batches import joined
from unify_source.flatten.decode.decode import Batch, decode
from unify_source.flatten.decode.limits import JOINED_BYTES, JOINED_ROWS, JOINED_WIDE_BYTES
from unify_source.flatten.names import MORE_FIELDS, KnownColumn, Splitting
from unify_source.flatten.split import split

NOW = datetime(2026, 11, 1, tzinfo=timezone.utc)


def page(*rows: dict[str, Any]) -> bytes:
    moment = "2026-01-31T08:00:00Z"
    full = [{"id": f"e{n}", "updated_at": moment, **row} for n, row in enumerate(rows)]
    return json.dumps({"enrollments": full}).encode()


KEYS: dict[str, list[dict[str, Any]]] = {
    "20,000 keys in one row": [{f"key_{n}": n for n in range(20_000)}],
    "45 keys of its own for each row": [
        {"custom": {f"f_{row}_{n}": "v" for n in range(45)}} for row in range(2_000)
    ],
    "one key of a megabyte": [{"k" * (1 << 20): 1}],
    "numbers of thousands of digits": [{"new": int("9" * 4_000)}, {"new": [0.5] * 100_000}],
    "a list of 400,000 brackets": [{"new": [[]] * 200_000, "text": "[{" * 500_000}],
}


@pytest.mark.parametrize("case", KEYS)
def test_thousands_of_new_keys_take_seconds_and_few_columns(case: str) -> None:
    rows = KEYS[case]
    began = time.process_time()

    decoded = decode(ENROLLMENT_LIST, [page(*rows)])
    table = split(ENROLLMENT_LIST, decoded.rows, NOW, Splitting())["enrollments"]

    assert time.process_time() - began < 10
    assert decoded.unreadable == []
    promised = len(ENROLLMENT_LIST.parts[0].table.columns)
    assert table.num_columns <= promised + Limits.max_new_columns + 1


def test_existing_columns_count_and_further_fields_become_one_json_object() -> None:
    standing = {f"old_{n}": KnownColumn("bigint", (f"old_{n}",)) for n in range(199)}
    row = {"old_5": 5, "alpha": 1, "beta": {"gamma": [1.50]}, "old_7": "text"}

    decoded = decode(ENROLLMENT_LIST, [page(row)])
    how = Splitting(columns=lambda _table: standing)
    [stored] = split(ENROLLMENT_LIST, decoded.rows, NOW, how)["enrollments"].to_pylist()

    assert (stored["old_5"], stored["alpha"]) == (5, 1)
    assert json.loads(stored[MORE_FIELDS]) == {"beta": {"gamma": [1.5]}, "old_7": "text"}


def unchanging(batch: Batch, times: int) -> Iterator[Batch]:
    for _ in range(times):
        yield batch


@pytest.mark.parametrize("wide", ["", "x" * 10_000])
def test_joined_batches_stay_below_both_limits_and_lose_nothing(
    wide: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "JOINED_SECONDS", 60.0)
    rows: list[dict[str, Any]] = [{"note": wide} for _ in range(1_000)]
    batch = decode(ENROLLMENT_LIST, [page(*rows, {"is_paused": "no", "note": wide})])

    grouped = list(joined(unchanging(batch, 100)))

    assert sum(len(one.rows) for one in grouped) == 100_000
    assert sum(len(one.unreadable) for one in grouped) == 100
    assert all(len(one.rows) <= JOINED_ROWS and one.size <= JOINED_BYTES for one in grouped)
    assert len(grouped) <= 2 + sum(one.size for one in grouped) // (JOINED_BYTES // 2)


def test_joined_batches_of_wide_rows_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "JOINED_SECONDS", 60.0)
    batch = decode(ENROLLMENT_LIST, [page(*[{"note": "x" * 250_000}] * 10)])

    grouped = list(joined(unchanging(batch, 60)))

    assert sum(len(one.rows) for one in grouped) == 600
    assert all(wide_bytes(one.size, len(one.rows)) <= JOINED_WIDE_BYTES for one in grouped)
