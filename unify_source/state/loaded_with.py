"""With which settings the personal data of each table was loaded, so that a change shows. Pure.

Kept in the state of each table's resource, so that it goes when the table is emptied. A table that
was loaded as it came has no entry.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from unify_source.errors import ConfigurationError
from unify_source.privacy_settings import HASH, KEEP
from unify_source.resources import MAIN_LIST
from unify_source.settings import Settings

State = MutableMapping[str, Any]

_ENTRY = "pii"
_AGAIN = (
    "Leave the setting as it was, load into another dataset, or load everything anew: in Python,"
    " pipeline.run(unify_source(), refresh='drop_data')."
)


@dataclass(frozen=True)
class LoadedWith:
    """The settings that rows were loaded with; `key` tells one key from another, and no more."""

    mode: str = KEEP
    key: str = ""
    kept: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> LoadedWith:
        """Return those of this run."""
        if settings.pii == KEEP:
            return cls()
        key = ""
        if settings.pii == HASH:
            digest = hmac.digest((settings.pii_key or "").encode(), b"unify-source", sha256)
            key = digest.hex()[:16]
        return cls(settings.pii, key, settings.pii_keep or ())

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> LoadedWith:
        """Return those of the rows in a table; without an entry they were loaded as they came."""
        entry = state.get(_ENTRY, {})
        return cls(entry.get("mode", KEEP), entry.get("key", ""), tuple(entry.get("kept", ())))

    def refuse_beside(self, other: LoadedWith, table: str) -> None:
        """Raise ConfigurationError if a table holds rows that were loaded with others."""
        if self.mode != other.mode:
            what, setting = f"is {self.mode!r}, but {table} was loaded with {other.mode!r}.", "pii"
        elif self.key != other.key:
            what = f"differs from the key that {table} was loaded with: its hashes would not match."
            setting = "pii_key"
        elif missing := sorted(set(other.kept) - set(self.kept)):
            what = f"no longer names {', '.join(missing)}, which {table} was loaded with."
            setting = "pii_keep"
        else:
            return
        raise ConfigurationError(what, _AGAIN, setting=setting)


def refuse_change(
    settings: Settings, tables: Iterable[str], states: Mapping[str, Mapping[str, Any]]
) -> None:
    """Raise ConfigurationError where one of these tables was loaded with other settings.

    `states` are those of the resources, by name.
    """
    now = LoadedWith.of(settings)
    for table in tables:
        state = states.get(table, {})
        # A first load that died has made tables and left no state: it is read again from the start.
        if state or states.get(MAIN_LIST.name):
            now.refuse_beside(LoadedWith.from_state(state), table)


def note_settings(settings: Settings, states: Iterable[State]) -> None:
    """Store in the states of tables how their rows are loaded from now on."""
    if settings.pii == KEEP:
        return
    now = LoadedWith.of(settings)
    for state in states:
        state[_ENTRY] = {"mode": now.mode, "key": now.key, "kept": list(now.kept)}
