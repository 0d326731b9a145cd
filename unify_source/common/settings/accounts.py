"""Several accounts in one dataset: keeps their rows and their state apart. Pure.

Every table then has the column `account`, and a row's key is the account and its id. Two accounts
may have rows with the same id, so every query by id has to name the account.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, TypedDict

from unify_source.common.errors import ConfigurationError
from unify_source.common.errors.redaction import shown
from unify_source.common.settings.values import Setting

ACCOUNT = "account"
"""The column that says whose row it is, and the setting."""

DESCRIPTION = "The name of the account that the row is from, as the run was given it."


def read_account(name: str, value: object) -> str:
    """Return the name of an account, which can be a part of a table's name."""
    account = str(value).strip().lower()
    if not re.fullmatch("[a-z0-9_]{1,32}", account):
        raise ConfigurationError(
            f"is {shown(value)}, which cannot be the name of an account.",
            "Use letters, digits and _, at most 32.",
            setting=name,
        )
    return account


class DatasetArguments(TypedDict, total=False):
    """Which account the rows belong to, if a dataset holds several."""

    account: Annotated[
        str | None,
        Setting(
            read_account,
            "The account's name, if the dataset holds several.",
            option="--account",
        ),
    ]


def only(account: str | None, rows: str = "") -> str:
    """Return the SQL condition that a row belongs to the account, if a dataset has several.

    `rows` is the table's name in the statement.
    """
    # Always a condition, so that each statement has one form. The name needs no escaping:
    # `read_account` refuses one that would.
    at = f"{rows}." if rows else ""
    return f"{at}{ACCOUNT} = '{account}'" if account else "1 = 1"


def of_account(account: str | None, where: str) -> str:
    """Return a condition, limited to the account's rows if a dataset has several."""
    return f"{only(account)} AND ({where})" if account else where


def table_of(name: str, account: str | None) -> str:
    """Return the name of a table of which each account has its own."""
    return f"{name}_{account}" if account else name


def state_of_account(state: dict[str, Any], account: str | None) -> dict[str, Any]:
    """Return the account's part of a resource's state, created where it is missing."""
    if not account:
        return state
    # Within one pipeline's state: a pipeline for each account would make every script invent names
    # of pipelines, and with them of DuckDB files.
    part: dict[str, Any] = state.setdefault("accounts", {}).setdefault(account, {})
    return part
