"""Checks that a run's settings match those with which the tables of a dataset were loaded."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

import dlt

from unify_source.common.errors import ConfigurationError
from unify_source.common.resources import BY_NAME
from unify_source.common.settings import Settings
from unify_source.common.settings.accounts import ACCOUNT
from unify_source.destinations.lakes.merge import merges_by_key
from unify_source.destinations.stored.contents import may_hold_rows
from unify_source.destinations.stored.history import stored_hints
from unify_source.load.state.loaded_with import HINT, LoadedWith, loaded_with


def checked_privacy(
    pipeline: dlt.Pipeline,
    settings: Settings,
    tables: Iterable[str] = BY_NAME,
    emptied: AbstractSet[str] = frozenset(),
) -> dict[str, LoadedWith]:
    """Return how these tables are loaded from now on; those in `emptied` lose their rows first.

    Raises ConfigurationError if one holds rows that any pipeline loaded with other settings.
    """
    if settings.account:
        _refuse_where_accounts_would_mix(pipeline, settings.account, emptied)
    stored = _stored(pipeline)
    now, noted = LoadedWith.of(settings), {}
    # Even for empty tables, whose key is fixed. And without an account, a refresh would empty the
    # tables of all accounts.
    _refuse_clash_of_accounts(now, stored)
    for name in sorted(tables):
        before = stored.get(name, LoadedWith())
        clash = None if name in emptied or name not in stored else now.clash_with(before, name)
        if clash and may_hold_rows(pipeline, name):
            raise clash
        noted[name] = now.after(before)
    return noted


def refuse_other_accounts(pipeline: dlt.Pipeline, account: str | None) -> None:
    """Raise ConfigurationError if an account is named for a dataset without any, or is missing."""
    # Accounts only: the other settings do not matter here.
    _refuse_clash_of_accounts(LoadedWith(by_account=account is not None), _stored(pipeline))


def has_accounts(pipeline: dlt.Pipeline) -> bool:
    """Tell whether the tables of a dataset hold the rows of several accounts."""
    return any(each.by_account for each in _stored(pipeline).values())


def _stored(pipeline: dlt.Pipeline) -> dict[str, LoadedWith]:
    return loaded_with(stored_hints(pipeline.destination_client(), HINT))


def _refuse_clash_of_accounts(now: LoadedWith, stored: dict[str, LoadedWith]) -> None:
    for name, before in stored.items():
        if name in BY_NAME and (clash := now.clash_of_accounts(before, name)):
            raise clash


def _refuse_where_accounts_would_mix(
    pipeline: dlt.Pipeline, account: str, emptied: AbstractSet[str]
) -> None:
    # Other destinations, such as a vector database or a function, merge by a key of their own.
    if not merges_by_key(pipeline.destination):
        raise ConfigurationError(
            f"is {account!r}, but {pipeline.destination.destination_name} is neither a database nor"
            " a lake, and would mix the rows of several accounts.",
            "Leave it out, and load each account into a dataset of its own.",
            setting=ACCOUNT,
        )
    # dlt empties whole tables, with the rows of all accounts.
    if emptied:
        raise ConfigurationError(
            f"is {account!r}, but refresh would empty the tables of all accounts.",
            "Leave out refresh, and backfill from 2000-01-01.",
            setting=ACCOUNT,
        )
