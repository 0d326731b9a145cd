"""Renders the page: HTML that contains its style and pictures."""

from __future__ import annotations

import math
from datetime import datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from unify_source.common.resources import ENROLLMENTS, QUARANTINE
from unify_source.runs.analysis.report.answers import FEW, Answers
from unify_source.runs.analysis.report.findings import findings, last_success, of_table

UNKNOWN, NOTHING = "unknown", "\N{EN DASH}"
AT_LEAST = "\N{GREATER-THAN OR EQUAL TO}\N{NO-BREAK SPACE}"
MOST_ROWS = 200
"""The most sequences or mailboxes that are listed: a page of thousands helps nobody."""

# More bars would not fit on a screen, and the table has them all. Fewer weeks hide the season.
_DRAWN = 12
_WEEKS = 52
# Ends of scales that are easily halved at a glance.
_STEPS = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)


def rendered(answers: Answers, dataset: str, now: datetime) -> str:
    """Return the page for these answers as HTML."""
    return (
        _environment()
        .get_template("report.html")
        .render(
            answers=answers,
            dataset=dataset,
            now=now,
            totals=answers.totals,
            findings=findings(answers, now),
            last_success=last_success(answers),
            enrollments=of_table(answers, ENROLLMENTS.name),
            quarantined=of_table(answers, QUARANTINE.name)["row_count"],
            weeks=answers.weeks[-_WEEKS:],
        )
    )


@cache
def _environment() -> Environment:
    # Names and reasons come from the API, so everything is escaped.
    environment = Environment(
        loader=PackageLoader("unify_source.runs.analysis.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "percent": percent,
        "days": days,
        "day": day,
        "time": time,
        "moment": moment,
        "name": name,
        "share": share,
    }
    environment.globals |= {
        "ceiling": ceiling,
        "unknown": UNKNOWN,
        "nothing": NOTHING,
        "few": FEW,
        "drawn": _DRAWN,
        "most_rows": MOST_ROWS,
    }
    return environment


def number(value: int) -> str:
    """Write a count."""
    return f"{value:,}"


def percent(value: float | None, whole: int = 1, unclassified: int = 0) -> str:
    """Write a rate: null is unknown if there is a `whole` to divide by, else there is none.

    It is a lower bound if some rows are `unclassified`.
    """
    if value is None:
        return UNKNOWN if whole else NOTHING
    return f"{AT_LEAST if unclassified else ''}{value:.1f} %"


def days(value: float | None) -> str:
    """Write a number of days."""
    return NOTHING if value is None else f"{value:.1f}"


def moment(value: datetime | None) -> str:
    """Write an instant to the minute, in UTC."""
    return UNKNOWN if value is None else f"{value:%Y-%m-%d %H:%M}"


def day(value: datetime | None) -> str:
    """Write the day of an instant, in UTC."""
    return NOTHING if value is None else f"{value:%Y-%m-%d}"


def time(value: datetime) -> str:
    """Write the minute of an instant, in UTC."""
    return f"{value:%H:%M}"


def name(value: str | None, key: str | None) -> str:
    """Write a name, or the id without one, such as when personal data was dropped."""
    return value or key or UNKNOWN


def share(value: float | None, most: float) -> str:
    """Write a length as a percentage of the longest."""
    return f"{100 * (value or 0) / most:.2f}%"


def ceiling(rows: list[dict[str, Any]], column: str) -> float:
    """Return a round number to end a scale that holds all values of a column."""
    highest = max((row[column] or 0 for row in rows), default=0) or 1
    unit = 10 ** math.floor(math.log10(highest))
    return float(next(step * unit for step in _STEPS if step * unit >= highest))
