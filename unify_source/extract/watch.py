"""Tells which rows have changed while slices were read, whatever they were before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from itertools import islice

from unify_source.api.connection import Parameters
from unify_source.api.pages import Page, Version
from unify_source.extract.pagination import follow
from unify_source.times import rfc3339

# The API's largest page, whatever the setting.
_LOOK = 100


def updated_since(
    ask: Callable[[Parameters], Page], since: datetime | None, most_pages: int
) -> set[Version] | None:
    """Return the rows that were updated since an instant; None if they fill more than the pages.

    Rows that change while they are listed may be skipped, but not those that changed before, unless
    others are among the rows returned. `since` is None where the server does not tell its time.
    """
    if since is None:
        return None
    # Without filters: a row that leaves them is not listed under them any more.
    asked = [("limit", str(_LOOK)), ("updated_after", rfc3339(since))]
    versions: set[Version] = set()
    for page in islice(follow(ask, asked), most_pages):
        versions.update(page.versions)
        if page.next_cursor is None:
            return versions
    return None
