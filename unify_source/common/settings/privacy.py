"""The settings for personal data, and their readers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, TypedDict

from unify_source.common.errors import ConfigurationError
from unify_source.common.errors.redaction import shown
from unify_source.common.settings.values import Choice, Setting

KEEP, HASH, DROP = PII = ("keep", "hash", "drop")
ALL_FIELDS = "*"

_FIELD = re.compile(r"(\w+)\.(\*|\S+)")


def read_secret(name: str, value: object) -> str:
    """Return a secret without the whitespace around it."""
    secret = str(value).strip()
    if not secret:
        raise ConfigurationError("is empty.", "Leave it out, or give the secret.", setting=name)
    return secret


def read_fields(name: str, value: object) -> tuple[str, ...]:
    """Return fields, each as TABLE.FIELD, from one text with commas or a list of texts."""
    items = value if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    fields = [part.strip() for item in items for part in str(item).split(",") if part.strip()]
    for field in fields:
        if not _FIELD.fullmatch(field):
            raise ConfigurationError(
                f"has {shown(field)}, which is not a field of a table.",
                "Write TABLE.FIELD, such as people.title, or TABLE.* for all fields of a table.",
                setting=name,
            )
    return tuple(sorted(set(fields)))


class PrivacyArguments(TypedDict, total=False):
    """How personal data is stored."""

    pii: Annotated[
        str | None,
        Setting(
            Choice(PII),
            "How personal data is stored: {0.limits}. See [Privacy](privacy.md).",
            default=KEEP,
        ),
    ]
    pii_key: Annotated[
        str | None,
        Setting(read_secret, "The key of the hashes; required to `hash`.", is_secret=True),
    ]
    pii_keep: Annotated[
        str | Sequence[str] | None,
        Setting(
            read_fields,
            "Fields that are not personal data: `TABLE.FIELD` or `TABLE.*`, separated by commas.",
        ),
    ]


def refuse_without_key(pii: str, key: str | None) -> None:
    """Raise ConfigurationError for hashes without a key: anyone could test guesses against them."""
    if pii == HASH and not key:
        raise ConfigurationError(
            f"is {HASH!r}, but there is no pii_key.",
            'Make one with `python3 -c "import secrets; print(secrets.token_hex(32))"`, set it as'
            " SOURCES__UNIFY__PII_KEY or as pii_key under [sources.unify] in .dlt/secrets.toml, and"
            " keep it: another key makes other hashes.",
            setting="pii",
        )
