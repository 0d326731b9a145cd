"""Dagster: an asset for each table and model, with daily partitions on `updated_at`.

from unify_source.dagster import unify_definitions

defs = unify_definitions("2026-01-01")
"""

from __future__ import annotations

try:
    import dagster as _dagster  # noqa: F401 - only to say in a sentence that it is missing
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"unify_source.dagster needs {error.name}, which is not installed."
        " Install it: pip install 'unify-source[dagster]'.",
        name=error.name,
    ) from None

from unify_source.dagster.assets import unify_models, unify_tables
from unify_source.dagster.checks import unify_checks
from unify_source.dagster.coordinator import AccountsTakeTurns
from unify_source.dagster.definitions import unify_definitions
from unify_source.dagster.partitions import ACCOUNTS, daily, daily_by_account
from unify_source.dagster.resources import UnifyAccount, UnifyDataset

__all__ = [
    "ACCOUNTS",
    "AccountsTakeTurns",
    "UnifyAccount",
    "UnifyDataset",
    "daily",
    "daily_by_account",
    "unify_checks",
    "unify_definitions",
    "unify_models",
    "unify_tables",
]
