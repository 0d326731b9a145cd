"""Damages tables, in every kind of way, and counts the rows that are concerned."""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import uuid4

from destinations import DATASET, Destination

from unify_source import verify
from unify_source.runs.verification.result import Verified
from unify_source.sandbox import Sandbox

Damage = dict[str, dict[str, int]]


def verified(warehouse: Destination, api: Sandbox, *ends: Any, **options: Any) -> Verified:
    """Compare with a local API."""
    return verify(warehouse.pipeline(), *ends, api_key=api.key, base_url=api.url, **options)


def found(outcome: Verified) -> Damage:
    """Return the counts that are not 0."""
    counts = {
        table: {kind: count for kind, count in kinds.items() if count}
        for table, kinds in outcome.tables.items()
    }
    return {table: kinds for table, kinds in counts.items() if kinds}


def damaged(warehouse: Destination) -> Damage:
    """Damage most tables in every way there is, and return the counts by table and kind."""
    hands = _Hands(warehouse)
    quiet = sorted(
        key
        for key, message in warehouse.reads("enrollments", ["id", "reply_email_message_id"])
        if message is None
    )
    hands.delete("enrollments", quiet[:3])
    hands.edit("enrollments", "is_paused = NOT is_paused", quiet[3:5])
    hands.double("enrollments", quiet[5:7])
    hands.copy("enrollments", quiet[7])
    _damage_replies(hands)
    for table, edit in (
        ("people", "last_name = NULL"),
        ("mailboxes", "is_paused = NOT is_paused"),
        ("sequences", "name = 'Another'"),
        ("users", "first_name = 'Nobody'"),
        ("sequence_rulesets", "block_reenrollment_value = 99"),
    ):
        first, second, *_ = warehouse.keys(table)
        hands.edit(table, edit, [first])
        hands.delete(table, [second])
    hands.edit("send_schedules", "rules = '[1]'", warehouse.keys("send_schedules")[:1])
    hands.delete("plays", warehouse.keys("plays")[:1])
    hands.double("people", warehouse.keys("people")[2:3])
    hands.copy("sequences", warehouse.keys("sequences")[-1])
    hands.work()
    return hands.damage


def _damage_replies(hands: _Hands) -> None:
    messages, classes = "reply_email_messages", "reply_classifications"
    of = dict(hands.warehouse.reads(classes, ["id", "reply_email_message_id"]))
    classified = sorted(set(of.values()))
    lost = classified[0]
    hands.delete(messages, [lost])
    hands.delete(classes, [key for key, message in of.items() if message == lost])
    hands.delete(classes, [min(key for key, m in of.items() if m == classified[1])])
    hands.edit(messages, "subject = 'Another'", classified[2:3])
    hands.edit(
        classes, "category = 'ANOTHER'", [min(k for k, m in of.items() if m == classified[3])]
    )
    hands.copy(messages, classified[4])
    hands.copy(messages, classified[5], enrollment_id=str(uuid4()))
    hands.copy(classes, min(of), reply_email_message_id=str(uuid4()))
    hands.double(classes, [max(of)])


class _Hands:
    """Changes rows, all at the end, and counts the differences that a comparison must find."""

    def __init__(self, warehouse: Destination) -> None:
        self.warehouse = warehouse
        self._counts: dict[str, Counter[str]] = {}
        self._statements: list[str] = []

    @property
    def damage(self) -> Damage:
        return {table: dict(counts) for table, counts in self._counts.items()}

    def work(self) -> None:
        """Run all statements."""
        self.warehouse.change_each(self._statements)

    def delete(self, table: str, keys: list[str]) -> None:
        self._run(f"DELETE FROM {{}} WHERE {_among(keys)}", table, missing=len(keys))

    def edit(self, table: str, what: str, keys: list[str]) -> None:
        self._run(f"UPDATE {{}} SET {what} WHERE {_among(keys)}", table, stale=len(keys))

    def double(self, table: str, keys: list[str]) -> None:
        copied = f"INSERT INTO {{0}} SELECT * FROM {{0}} WHERE {_among(keys)}"
        self._run(copied, table, duplicate=len(keys))

    def copy(self, table: str, key: str, **values: str) -> None:
        """Copy a row under a new key; if its parent does not exist, it is an orphan."""
        edits = ", ".join(f"{n} = '{v}'" for n, v in {**values, "id": str(uuid4())}.items())
        kind = "orphaned" if values else "extra"
        self._run(f"CREATE TABLE {DATASET}.one AS SELECT * FROM {{}} WHERE {_among([key])}", table)
        self._run(f"UPDATE {DATASET}.one SET {edits}", table)
        self._run(f"INSERT INTO {{}} SELECT * FROM {DATASET}.one", table, **{kind: 1})
        self._run(f"DROP TABLE {DATASET}.one", table)

    def _run(self, statement: str, table: str, **found: int) -> None:
        self._statements.append(statement.format(f"{DATASET}.{table}"))
        self._counts.setdefault(table, Counter()).update(found)


def _among(keys: list[str]) -> str:
    return f"id IN ({', '.join(repr(key) for key in keys)})"
