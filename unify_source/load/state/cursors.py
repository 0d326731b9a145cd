"""Each table's cursor: how far it has been loaded, stored in its resource's state as dlt does.

A run moves only the cursors of the tables that it loads, and begins at the oldest of them. So a
table that was left out, or emptied by `refresh`, catches up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b

import orjson

from unify_source.common.resources import CURSOR
from unify_source.common.settings import Settings
from unify_source.extract.window import Window
from unify_source.load.state import State
from unify_source.load.state.ask_again import ASK_AGAIN_KEYS
from unify_source.load.state.unsettled import Unsettled

_UNSETTLED = "unsettled"


def cursor_name(settings: Settings) -> str:
    """Return the name of the cursor of a run with these filters: a filtered run has its own."""
    if not settings.filters:
        return CURSOR
    # A filtered run sees only some rows. If it moved the common cursor, the next full run would
    # skip all others for good.
    return f"{CURSOR}_{blake2b(orjson.dumps(settings.filters), digest_size=6).hexdigest()}"


def stored_cursor(state: State, name: str) -> datetime | None:
    """Return the cursor of that name in a resource's state, None before its first load."""
    value = state.get("incremental", {}).get(name, {}).get("last_value")
    return value if isinstance(value, datetime) else None


class Cursors:
    """The cursors of the tables that one run loads.

    `state_of` returns the state of a table's resource, which is changed in place.
    """

    def __init__(self, name: str, tables: Iterable[str], state_of: Callable[[str], State]) -> None:
        self.name = name
        self._states = {table: state_of(table) for table in tables}
        self._stored = {t: stored_cursor(state, name) for t, state in self._states.items()}

    @property
    def oldest(self) -> datetime | None:
        """Return how far all of the tables have been loaded, None if one never was."""
        stored = list(self._stored.values())
        return None if None in stored else min(at for at in stored if at)

    @property
    def agree(self) -> bool:
        """Whether all tables have been loaded equally far."""
        return len(set(self._stored.values())) == 1

    @property
    def newest(self) -> datetime | None:
        """Return how far any of the tables has been loaded by now."""
        now = (stored_cursor(state, self.name) for state in self._states.values())
        return max((at for at in now if at), default=None)

    @property
    def is_settled(self) -> bool:
        """Whether everything up to the cursors was read without a gap."""
        return not any(_unsettled(state, self.name).windows for state in self._states.values())

    def has(self, table: str) -> bool:
        """Tell whether a table has been loaded before."""
        return self._stored.get(table) is not None

    def start(self, earliest: datetime | None, lookback: timedelta) -> datetime | None:
        """Return where reading begins, None for the first row; never before `earliest`."""
        oldest = self.oldest
        behind = oldest - lookback if oldest else None
        return max((at for at in (behind, earliest) if at), default=None)

    def advance(self, to: datetime) -> None:
        """Move every cursor forward to an instant; none moves back."""
        for table, state in self._states.items():
            cursors = state.setdefault("incremental", {})
            at = max(self._stored[table] or to, to)
            # The layout of `dlt.sources.incremental`, so that dlt's own commands can show it, but
            # without hashes of the rows at its edge: dlt keeps one for each, however many share an
            # instant. The tail replaces them.
            cursors[self.name] = {"initial_value": None, "last_value": at, "unique_hashes": []}

    def unsettled_beside(self, window: Window) -> list[Window]:
        """Return the ranges that earlier runs could not read without a gap, before a window's end.

        Those within the window are read with it.
        """
        kept = (_unsettled(state, self.name) for state in self._states.values())
        joined = Unsettled.of(each for unsettled in kept for each in unsettled.windows)
        earlier = (each for each in joined.windows if each.before <= window.before)
        return [each for each in earlier if not window.covers(each)]

    def settle(
        self, read: Sequence[Window], unsettled: Iterable[Window], *, is_once: bool = False
    ) -> None:
        """Forget the unsettled windows that have been `read` again, and keep the new ones.

        Those of a run that `is_once`, such as a filtered backfill, are left to the next full run,
        because the same run may never come again.
        """
        new = list(unsettled)
        if is_once and self.name != CURSOR:
            self._keep(CURSOR, new)
            new = []
        for state in self._states.values():
            left = [
                window
                for window in _unsettled(state, self.name).windows
                if not any(each.covers(window) for each in read)
            ]
            _set_unsettled(state, self.name, [*left, *new])

    def _keep(self, name: str, new: Sequence[Window]) -> None:
        for state in self._states.values():
            _set_unsettled(state, name, [*_unsettled(state, name).windows, *new])


def _unsettled(state: State, name: str) -> Unsettled:
    return Unsettled.from_state(state.get(_UNSETTLED, {}).get(name))


def _set_unsettled(state: State, name: str, windows: Iterable[Window]) -> None:
    kept = {**state.pop(_UNSETTLED, {})}
    kept.pop(name, None)
    if now := Unsettled.of(windows).to_state():
        kept[name] = now
    if kept:
        state[_UNSETTLED] = kept


def take_over(
    state: State, quarantine: State, tables: Iterable[str], state_of: Callable[[str], State]
) -> None:
    """Give every table the cursors of a state that version 0.1 stored, which had one for all.

    What is in quarantine moves to the state of its own resource.
    """
    if state.get("version"):
        return
    state["version"] = 2
    quarantine.update({key: state.pop(key) for key in ASK_AGAIN_KEYS if key in state})
    # A table without a cursor is read from the beginning: without this, upgrading would load
    # everything again.
    if known := state.get("incremental"):
        for table in tables:
            state_of(table).setdefault("incremental", {}).update(
                {name: dict(cursor) for name, cursor in known.items()}
            )
