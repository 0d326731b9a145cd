"""Finds what needs attention first. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from unify_source.common.resources import ENROLLMENTS, QUARANTINE
from unify_source.runs.analysis.report.answers import FEW, Answers, Row

_STALE = timedelta(days=1)
"""The age at which `dbt source freshness` warns."""

_TOO_MANY_BOUNCE = 5
"""In percent, as in the `concern_rank` of a mailbox."""


@dataclass(frozen=True)
class Finding:
    """One thing that needs attention, what to do, and the section of the page that shows it."""

    what: str
    advice: str
    section: str


def of_table(answers: Answers, name: str) -> Row:
    """Return the row of `freshness` for a table."""
    return next(row for row in answers.freshness if row["table_name"] == name)


def findings(answers: Answers, now: datetime) -> list[Finding]:
    """Return what needs attention, the most urgent first."""
    return [finding for judge in _JUDGES for finding in judge(answers, now)]


def last_success(answers: Answers) -> datetime | None:
    """Return when the last successful run ended, or the last load if there is no ledger."""
    row = of_table(answers, ENROLLMENTS.name)
    return cast("datetime | None", row["last_run_at"] or row["last_loaded_at"])


def _stale(answers: Answers, now: datetime) -> Iterator[Finding]:
    ended = last_success(answers)
    current = of_table(answers, ENROLLMENTS.name)["data_current_to"]
    what = None
    if ended is None or now - ended > _STALE:
        what = "No run has succeeded in the last day."
    # Where nothing but intervals was ever loaded, no run says how far the data is complete.
    elif current and now - current > _STALE:
        what = "No sync has succeeded in the last day, although other runs have."
    if what:
        advice = "unify-source status shows the latest runs, and how each ended."
        yield Finding(what, advice, "fresh")


def _empty(answers: Answers, _: datetime) -> Iterator[Finding]:
    if not of_table(answers, ENROLLMENTS.name)["row_count"]:
        yield Finding(
            "There are no enrollments yet.",
            "Run unify-source sync when the first people are enrolled.",
            "tables",
        )


def _quarantined(answers: Answers, _: datetime) -> Iterator[Finding]:
    if held := of_table(answers, QUARANTINE.name)["row_count"]:
        yield Finding(
            f"{_counted(held, 'row', 'rows')} in quarantine.",
            "Rows that could not be read are missing from every number.",
            "quarantine",
        )


def _differing(answers: Answers, _: datetime) -> Iterator[Finding]:
    if rows := sum(row["row_count"] for row in answers.differences):
        yield Finding(
            f"{_counted(rows, 'row differs', 'rows differ')} from the API.",
            "unify-source verify found that, and can repair it.",
            "differences",
        )


def _mailboxes(answers: Answers, _: datetime) -> Iterator[Finding]:
    for concern, (one, many, advice) in _CONCERNS.items():
        if held := sum(row["concern"] == concern for row in answers.mailboxes):
            what = _counted(held, f"mailbox {one}.", f"mailboxes {many}.")
            yield Finding(what, advice, "mailboxes")


def _bounces(answers: Answers, _: datetime) -> Iterator[Finding]:
    # Where no mailbox alone has started enough for a verdict, all of them together may have.
    totals, mailboxes = answers.totals, answers.mailboxes
    is_known = any(row["concern"] == "bounces" for row in mailboxes)
    percent = totals["bounce_percent"] or 0
    if not is_known and totals["started"] >= FEW and percent >= _TOO_MANY_BOUNCE:
        yield Finding(
            f"{percent:.1f} % of all enrollments that started bounced.",
            "5 % or more harm the domain. Check the addresses.",
            "mailboxes",
        )


def _unclassified(answers: Answers, _: datetime) -> Iterator[Finding]:
    totals = answers.totals
    if unknown := totals["unclassified_replies"]:
        yield Finding(
            f"{unknown:,} of {_counted(totals['replies'], 'reply', 'replies')}"
            f" {_is(unknown)} of unknown kind.",
            "They have no classification, so they count neither as human nor as automated.",
            "sequences",
        )


_CONCERNS = {
    "not authorized": (
        "is not authorized",
        "are not authorized",
        "Unify cannot send from there until access is granted again.",
    ),
    "bounces": (
        "has too many bounces",
        "have too many bounces",
        "5 % or more bounce, which harms the domain. Stop sending, and check the addresses.",
    ),
    "paused": ("is paused", "are paused", "Perhaps on purpose."),
}
"""What each concern of `mailbox_health` is in words, and what to do, the most urgent first."""

# First what makes all numbers doubtful, then what harms the senders, last what blurs a rate.
_JUDGES: tuple[Callable[[Answers, datetime], Iterator[Finding]], ...] = (
    _empty,
    _stale,
    _quarantined,
    _differing,
    _mailboxes,
    _bounces,
    _unclassified,
)


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
