"""Partitions: days of `updated_at` in UTC, and accounts beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import TypeAlias

import dagster as dg

from unify_source.common.errors import ConfigurationError
from unify_source.common.errors.redaction import shown

ACCOUNTS = "unify_accounts"
"""The dynamic partitions that are accounts."""

_DAY, _ACCOUNT = "day", "account"
_INSTANT = timedelta(microseconds=1)

Partitioning: TypeAlias = dg.DailyPartitionsDefinition | dg.MultiPartitionsDefinition


def first_day(start: str | date) -> date:
    """Return a first day, given as a date or like 2026-01-01. Raises ConfigurationError."""
    try:
        return start if isinstance(start, date) else date.fromisoformat(start)
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"start is {shown(start)}, which is not a day.", "Write it like 2026-01-01."
        ) from None


def daily(start: str | date) -> dg.DailyPartitionsDefinition:
    """Return a partition for each day from `start` on, up to today."""
    return dg.DailyPartitionsDefinition(start_date=first_day(start).isoformat(), end_offset=1)


def daily_by_account(start: str | date) -> dg.MultiPartitionsDefinition:
    """Return a partition for each day of each account; accounts come and go while Dagster runs."""
    # In Dagster's database, not in code: a new customer needs no deployment.
    accounts = dg.DynamicPartitionsDefinition(name=ACCOUNTS)
    return dg.MultiPartitionsDefinition({_ACCOUNT: accounts, _DAY: daily(start)})


def key_of(account: str, day: str) -> dg.MultiPartitionKey:
    """Return the partition of one day of one account."""
    return dg.MultiPartitionKey({_ACCOUNT: account, _DAY: day})


def account_of(key: str) -> str:
    """Return the account in the text of such a partition, which no other partition's text names."""
    # Dagster writes the dimensions in the order of their names.
    return key.partition("|")[0]


@dataclass(frozen=True)
class Range:
    """What a run is to read of one account: both ends included, all of it without ends."""

    account: str | None
    start: datetime | None = None
    end: datetime | None = None


def ranges(context: dg.OpExecutionContext, partitions: Partitioning) -> Iterator[Range]:
    """Yield what a run's partitions ask for: one range for each account, whatever its length.

    A run without partitions, which only checks can be, asks for all of each account.
    """
    by_account = isinstance(partitions, dg.MultiPartitionsDefinition)
    if not context.has_partition_key and not context.has_partition_key_range:
        known = context.instance.get_dynamic_partitions(ACCOUNTS) if by_account else [None]
        yield from map(Range, known)
        return
    if not by_account:
        yield _spanning(None, partitions, context.partition_keys)
        return
    # A range of two dimensions is the product of both, such as three days of two accounts.
    keys = [partitions.get_partition_key_from_str(key) for key in context.partition_keys]
    keys = sorted(keys, key=_account_of)
    for account, of_account in groupby(keys, _account_of):
        yield _spanning(account, partitions, list(of_account))


def _account_of(key: dg.MultiPartitionKey) -> str:
    return str(key.keys_by_dimension[_ACCOUNT])


def _spanning(account: str | None, partitions: Partitioning, keys: list[str]) -> Range:
    windows = [partitions.time_window_for_partition_key(key) for key in keys]
    # Between the first and the last, Dagster leaves no partition of a range out.
    end = max(window.end for window in windows)
    # The next partition begins there.
    return Range(account, min(window.start for window in windows), end - _INSTANT)
