"""Reads what the page shows: some of the models, the quarantine, and the differences found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from dlt.destinations.exceptions import DatabaseUndefinedRelation

from unify_source.analysis.models import models
from unify_source.analysis.views import models_dataset
from unify_source.destinations.forgotten import DIFFERENCES
from unify_source.resources import LEDGER, QUARANTINE

FEW = 20
"""A rate of fewer is shown but not compared: one more reply would change it by 5 points."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Answers:
    """Rows of the models, each list in the order in which the page shows it.

    `weeks` are in the order of time; `reasons` and `differences` are empty if all is well. The last
    run is the last that succeeded, from the ledger, as is the last verify; None if there is none.
    """

    freshness: list[Row]
    totals: Row
    sequences: list[Row]
    weeks: list[Row]
    waits: list[Row]
    mailboxes: list[Row]
    reasons: list[Row]
    differences: list[Row]
    last_run: Row | None
    last_verify: Row | None


def read(client: Any) -> Answers:
    """Query the models and the tables. Raises a database error if there are no models."""
    dataset = client.dataset_name
    with client.with_alternative_dataset_name(models_dataset(dataset)):

        def ask(name: str) -> list[Row]:
            return _rows(client, name, [column.name for column in models()[name].columns])

        # Sorted here, not in SQL: databases differ in their collations and in the place of nulls.
        answers: dict[str, Any] = {
            "freshness": ask("freshness"),
            "totals": ask("funnel_totals")[0],
            "sequences": sorted(ask("sequence_funnel"), key=_by_reply_rate),
            "weeks": sorted(ask("cohort_weekly"), key=lambda row: row["week"]),
            "waits": sorted(ask("time_to_reply"), key=_by_wait),
            "mailboxes": sorted(ask("mailbox_health"), key=_by_concern),
        }
    last_verify = _newest_run(client, "verdict IS NOT NULL")
    is_equal = last_verify is not None and last_verify["verdict"] == "equal"
    return Answers(
        **answers,
        reasons=_reasons(client),
        # The table keeps old differences, even those that were repaired.
        differences=[] if is_equal else _differences(client),
        last_run=_newest_run(client, "verdict IS NULL AND outcome = 'succeeded'"),
        last_verify=last_verify,
    )


def _newest_run(client: Any, condition: str) -> Row | None:
    columns = ["started_at", "finished_at", "verdict", "differences"]
    newest = f"SELECT max(started_at) FROM {client.make_qualified_table_name(LEDGER.name)}"  # noqa: S608 - names of our own
    where = f"WHERE {condition} AND started_at = ({newest} WHERE {condition})"
    try:
        return next(iter(_rows(client, LEDGER.name, columns, where)), None)
    except DatabaseUndefinedRelation:
        # The tables were loaded by a version without a ledger, or by other means.
        return None


def _reasons(client: Any) -> list[Row]:
    rows = _counts(client, QUARANTINE.name, ["reason"])
    return sorted(rows, key=lambda row: (-row["row_count"], row["reason"]))


def _differences(client: Any) -> list[Row]:
    """Count the differences of the last verify that had any, by table and kind."""
    columns = ["verified_at", "table_name", "kind"]
    try:
        rows = _counts(client, DIFFERENCES, columns)
    except DatabaseUndefinedRelation:
        # The table is created with the first difference.
        return []
    last = max((row["verified_at"] for row in rows), default=None)
    shown = [row for row in rows if row["verified_at"] == last]
    return sorted(shown, key=lambda row: (row["table_name"], row["kind"]))


def _counts(client: Any, name: str, columns: list[str]) -> list[Row]:
    """Count the rows of a table, grouped by these columns."""
    grouped = f"GROUP BY {', '.join(columns)}"
    return _rows(client, name, columns, grouped, counted="row_count")


def _rows(
    client: Any, name: str, columns: Sequence[str], rest: str = "", counted: str | None = None
) -> list[Row]:
    names = [*columns, counted] if counted else columns
    listed = ", ".join(map(client.escape_column_name, columns))
    place = client.make_qualified_table_name(name)
    query = f"SELECT {listed}{', count(*)' if counted else ''} FROM {place} {rest}"  # noqa: S608 - names of our own
    with client.execute_query(query) as cursor:
        return [dict(zip(names, map(_in_utc, row), strict=True)) for row in cursor.fetchall()]


def _in_utc(value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    # Some databases return instants without a zone: they are in UTC.
    aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
    return aware.astimezone(timezone.utc)


def _by_reply_rate(row: Row) -> tuple[Any, ...]:
    return (row["delivered"] < FEW, *_falling(row["human_reply_percent"]), *_named(row))


def _by_wait(row: Row) -> tuple[Any, ...]:
    wait = row["median_days"]
    return (row["timed_replies"] < FEW, wait is None, wait or 0, *_named(row))


def _by_concern(row: Row) -> tuple[Any, ...]:
    # The id breaks ties: an address may be null, and the same data must give the same page.
    return (row["concern_rank"], *_falling(row["bounce_percent"]), row["mailbox_id"])


def _falling(value: float | None) -> tuple[bool, float]:
    return value is None, -(value or 0)


def _named(row: Row) -> tuple[str, str]:
    return row["sequence_name"] or "", row["sequence_id"] or ""
