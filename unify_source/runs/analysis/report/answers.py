"""Reads what the page shows: rows of the models, and of nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from unify_source.runs.analysis.models import models
from unify_source.runs.analysis.views import models_dataset

FEW = 20
"""A rate of fewer is shown but not compared: one more reply would change it by 5 points."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Answers:
    """Rows of the models, each list in the order in which the page shows it.

    `weeks` are in the order of time; `reasons` and `differences` are empty if all is well.
    `last_verify` is None if the tables were never compared with the API.
    """

    freshness: list[Row]
    totals: Row
    sequences: list[Row]
    lineages: list[Row]
    weeks: list[Row]
    waits: list[Row]
    mailboxes: list[Row]
    reasons: list[Row]
    differences: list[Row]
    last_verify: Row | None


def read(client: Any) -> Answers:
    """Query the models. Raises a database error if there are none."""
    with client.with_alternative_dataset_name(models_dataset(client.dataset_name)):

        def ask(name: str) -> list[Row]:
            return _rows(client, name, [column.name for column in models()[name].columns])

        # Sorted here, not in SQL: databases differ in their collations and in the place of nulls.
        return Answers(
            freshness=ask("freshness"),
            totals=ask("funnel_totals")[0],
            sequences=sorted(ask("sequence_funnel"), key=_by_reply_rate),
            lineages=sorted(filter(_is_upgraded, ask("sequence_lineage")), key=_by_reply_rate),
            weeks=sorted(ask("cohort_weekly"), key=lambda row: row["week"]),
            waits=sorted(ask("time_to_reply"), key=_by_wait),
            mailboxes=sorted(ask("mailbox_health"), key=_by_concern),
            reasons=sorted(ask("quarantine_summary"), key=_by_count),
            differences=sorted(ask("open_differences"), key=_by_kind),
            last_verify=next(iter(ask("last_verify")), None),
        )


def _rows(client: Any, name: str, columns: list[str]) -> list[Row]:
    listed = ", ".join(map(client.escape_column_name, columns))
    query = f"SELECT {listed} FROM {client.make_qualified_table_name(name)}"  # noqa: S608 - names of our own
    with client.execute_query(query) as cursor:
        return [dict(zip(columns, map(_in_utc, row), strict=True)) for row in cursor.fetchall()]


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


def _by_count(row: Row) -> tuple[Any, ...]:
    return -row["row_count"], row["reason"]


def _by_kind(row: Row) -> tuple[str, str]:
    return row["table_name"], row["kind"]


def _is_upgraded(row: Row) -> bool:
    return bool(row["sequences"] > 1)


def _named(row: Row) -> tuple[str, str]:
    return row["sequence_name"] or "", row.get("sequence_id") or ""
