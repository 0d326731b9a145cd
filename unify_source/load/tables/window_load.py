"""What a windowed run provides for each of its loads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from unify_source.common.errors.notices import Notices
from unify_source.load.extraction.extraction import Extraction
from unify_source.load.ledger.entry import Entry
from unify_source.load.listing.listings import Listings
from unify_source.load.state import State
from unify_source.load.state.loaded_with import LoadedWith

AtEnd = Callable[[State, Extraction], None]


@dataclass(frozen=True)
class WindowLoad:
    """What a windowed run provides for each of its loads; a run by dlt provides nothing.

    `checked` is how the tables were loaded. `at_end` gets the state that all tables share, and the
    extraction, when all has been read. `is_last` tells whether the `entry` is loaded with it.
    With `rewrites`, it writes rows even if the last finished load wrote the same.
    """

    extraction: Extraction | None = None
    listings: Listings | None = None
    notices: Notices | None = None
    checked: dict[str, LoadedWith] | None = None
    entry: Entry | None = None
    at_end: AtEnd = lambda _state, _extraction: None
    moves_cursors: bool = True
    rewrites: bool = False
    is_last: Callable[[], bool] = lambda: True
