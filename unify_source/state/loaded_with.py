"""With which settings the personal data of each table was loaded, so that a change shows. Pure.

Kept as a hint of each table in the stored schema, which all pipelines on a dataset share. dlt
stores it before the first row, so that a load that dies has left it as well.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Any

from unify_source.accounts import ACCOUNT
from unify_source.errors import ConfigurationError
from unify_source.privacy_settings import HASH, KEEP
from unify_source.settings import Settings

HINT = "x-loaded-with"

_AGAIN = (
    "Leave the setting as it was, load into another dataset, or load everything anew: in Python,"
    " pipeline.run(unify_source(), refresh='drop_data'), with the pipeline that loaded it before."
)


@dataclass(frozen=True)
class LoadedWith:
    """The settings that rows were loaded with; `key` tells one key from another, and no more.

    `change` counts the changes since the first load: of two versions of a schema, neither the clock
    nor dlt's number tells which is the newer, where two pipelines have extended the same one.
    """

    mode: str = KEEP
    key: str = ""
    kept: tuple[str, ...] = ()
    by_account: bool = False
    change: int = field(default=0, compare=False)

    @classmethod
    def of(cls, settings: Settings) -> LoadedWith:
        """Return those of this run."""
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
        """Return those of a stored table; without a hint its rows were loaded as they came."""
        mode, key = hint.get("mode", KEEP), hint.get("key", "")
        kept, by_account = tuple(hint.get("kept", ())), hint.get("by_account", False)
        return cls(mode, key, kept, by_account, hint.get("change", 0))

    def as_hint(self) -> dict[str, Any]:
        """Return what a table is stored with."""
        hint = {**asdict(self), "kept": list(self.kept)}
        return hint if self.by_account else {n: v for n, v in hint.items() if n != "by_account"}

    def after(self, before: LoadedWith) -> LoadedWith:
        """Return these as the successor of those that a table was loaded with before."""
        return replace(self, change=before.change + (self != before))

    def clash_of_accounts(self, before: LoadedWith, table: str) -> ConfigurationError | None:
        """Return the error where a table was made with accounts, and not now, or the reverse."""
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
        """Return the error where a table holds rows that were loaded with others, None if not."""
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
