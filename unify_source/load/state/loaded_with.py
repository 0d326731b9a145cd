"""Records the privacy and account settings of each table, so that a change is noticed. Pure.

Stored as a hint of each table in dlt's schema, which all pipelines on a dataset share. dlt stores
the schema before the first row, so even a load that dies leaves the hint.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Any

from unify_source.common.errors import ConfigurationError
from unify_source.common.settings import Settings
from unify_source.common.settings.accounts import ACCOUNT
from unify_source.common.settings.privacy import HASH, KEEP

HINT = "x-loaded-with"

_AGAIN = (
    "Keep the setting as it was, load into another dataset, or reload everything with"
    " refresh='drop_data', as docs/privacy.md shows."
)


@dataclass(frozen=True)
class LoadedWith:
    """The settings that rows were loaded with; `key` only tells one key from another.

    `change` counts the changes since the first load. If two pipelines have extended the same
    schema, neither the clock nor dlt's version number tells which of the two is newer.
    """

    mode: str = KEEP
    key: str = ""
    kept: tuple[str, ...] = ()
    by_account: bool = False
    change: int = field(default=0, compare=False)

    @classmethod
    def of(cls, settings: Settings) -> LoadedWith:
        """Return the settings of a run."""
        by_account = settings.account is not None
        if settings.pii == KEEP:
            return cls(by_account=by_account)
        key = ""
        if settings.pii == HASH:
            digest = hmac.digest((settings.pii_key or "").encode(), b"unify-source", sha256)
            key = digest.hex()[:16]
        return cls(settings.pii, key, settings.pii_keep or (), by_account)

    @classmethod
    def from_hint(cls, hint: Mapping[str, Any]) -> LoadedWith:
        """Return the settings of a stored table; without a hint, its rows were stored as sent."""
        mode, key = hint.get("mode", KEEP), hint.get("key", "")
        kept, by_account = tuple(hint.get("kept", ())), hint.get("by_account", False)
        return cls(mode, key, kept, by_account, hint.get("change", 0))

    def as_hint(self) -> dict[str, Any]:
        """Return them as the hint of a table."""
        hint = {**asdict(self), "kept": list(self.kept)}
        return hint if self.by_account else {n: v for n, v in hint.items() if n != "by_account"}

    def after(self, before: LoadedWith) -> LoadedWith:
        """Return these as the successor of those that a table was loaded with before."""
        return replace(self, change=before.change + (self != before))

    def clash_of_accounts(self, before: LoadedWith, table: str) -> ConfigurationError | None:
        """Return the error if only one of the two, the table or this run, has accounts."""
        if self.by_account == before.by_account:
            return None
        if before.by_account:
            what, step = "is not set, but the rows of {} are kept by account.", "Name the account"
        else:
            what, step = "is set, but {} was created without accounts.", "Leave it out"
        return ConfigurationError(
            what.format(table), f"{step}, or load into another dataset.", setting=ACCOUNT
        )

    def clash_with(self, before: LoadedWith, table: str) -> ConfigurationError | None:
        """Return the error for a table whose rows were loaded with other settings, or None."""
        if clash := self.clash_of_accounts(before, table):
            return clash
        if self.mode != before.mode:
            what, setting = f"is {self.mode!r}, but {table} was loaded with {before.mode!r}.", "pii"
        elif self.key != before.key:
            what = f"differs from the key that {table} was loaded with: its hashes would not match."
            setting = "pii_key"
        elif missing := sorted(set(before.kept) - set(self.kept)):
            what = f"no longer names {', '.join(missing)}, which {table} was loaded with."
            setting = "pii_keep"
        else:
            return None
        return ConfigurationError(what, _AGAIN, setting=setting)


def loaded_with(hints: Iterable[Mapping[str, Any]]) -> dict[str, LoadedWith]:
    """Return how each table was loaded last, by its hints in all versions of the schema."""
    newest: dict[str, LoadedWith] = {}
    for tables in hints:
        for name, hint in tables.items():
            each = LoadedWith.from_hint(hint or {})
            if each.change >= newest.get(name, each).change:
                newest[name] = each
    return newest
