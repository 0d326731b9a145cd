"""A table of a list has another digest if, and only if, it would be written differently."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from unify_source.common.resources import SEQUENCE_LIST, Part, Resource
from unify_source.common.resources.sequences import SEND_SCHEDULES, SEQUENCES, USERS
from unify_source.flatten.decode.decode import decode
from unify_source.load.listing.digests import digests_of
from unify_source.sandbox import Account

ACCOUNT = Account(20, seed=1)


def digests(resource: Resource, rows: list[Any]) -> dict[str, str]:
    return digests_of(resource, decode(resource, [json.dumps({resource.list_key: rows}).encode()]))


def without_a_column(resource: Resource, table: str) -> Resource:
    """Return the resource as an older version knew it, which had a column less."""
    parts = (
        replace(part, table=replace(part.table, columns=part.table.columns[:-1]))
        if part.table.name == table
        else part
        for part in resource.parts
    )
    return replace(resource, parts=tuple(parts))


@pytest.mark.parametrize("table", [part.table.name for part in SEQUENCE_LIST.parts])
def test_a_column_that_a_new_version_adds_changes_the_digest_of_its_table_alone(table: str) -> None:
    rows = ACCOUNT.sequences()

    now = digests(SEQUENCE_LIST, rows)
    before = digests(without_a_column(SEQUENCE_LIST, table), rows)

    assert {name for name in now if now[name] != before[name]} == {table}


def test_the_order_of_the_list_changes_no_digest() -> None:
    rows = ACCOUNT.sequences()

    assert digests(SEQUENCE_LIST, rows) == digests(SEQUENCE_LIST, rows[::-1])


def test_a_row_more_or_less_changes_every_digest() -> None:
    rows = ACCOUNT.sequences()
    whole, part = digests(SEQUENCE_LIST, rows), digests(SEQUENCE_LIST, rows[:-1])

    assert not {*whole.values()} & {*part.values()}


def test_an_item_of_a_nested_list_changes_the_digest_of_its_table() -> None:
    users, schedules = Part(USERS, ("users",)), Part(SEND_SCHEDULES, ("send_schedule",))
    resource = replace(SEQUENCE_LIST, parts=(Part(SEQUENCES), users, schedules), lists=("users",))
    rows: list[Any] = [
        {"id": "1", "users": [{"id": "2", "email": None}], "send_schedule": {"id": "3"}}
    ]
    before = digests(resource, rows)
    rows[0]["users"][0]["email"] = "another@example.org"

    now = digests(resource, rows)

    assert {name for name in now if now[name] != before[name]} == {"sequences", "users"}
