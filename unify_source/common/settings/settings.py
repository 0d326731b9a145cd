"""The settings: name, type, default, limits and meaning of each, stated here or in `limits`.

The checks, the commands' options, the commented lines of `.dlt/config.toml`, the table in the
documentation and the suggestions for mistyped names all come from these facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from typing import Annotated, Any, TypedDict, get_type_hints
from uuid import UUID

from unify_source.common.errors import ConfigurationError
from unify_source.common.errors.redaction import keep_key_out, keep_out
from unify_source.common.settings.accounts import DatasetArguments
from unify_source.common.settings.limits import LARGEST_PAGE, USUAL, LimitArguments, Limits
from unify_source.common.settings.privacy import KEEP, PrivacyArguments, refuse_without_key
from unify_source.common.settings.values import (
    Choice,
    Choices,
    Seconds,
    Setting,
    Whole,
    read_address,
    read_duration,
    read_id,
    read_key,
)
from unify_source.common.times import read_start

SECTION = "unify"
"""The section of configuration, `[sources.unify]`."""

BASE_URL = "https://api.unifygtm.com"
STATUSES = ("DRAFT", "IN_PROGRESS", "FINISHED")
KEY_ENVIRONMENT = "UNIFY_API_KEY"
DELTA, ICEBERG, PARQUET = TABLE_FORMATS = ("delta", "iceberg", "parquet")


class AccountArguments(TypedDict, total=False):
    """Which account's enrollments are loaded, and which of them."""

    api_key: Annotated[
        str | None,
        Setting(
            read_key,
            f"The API key; `{KEY_ENVIRONMENT}` works too. Required.",
            is_secret=True,
        ),
    ]
    base_url: Annotated[
        str | None,
        Setting(
            read_address, "The API's address; plain `http` on this machine only.", default=BASE_URL
        ),
    ]
    sequence_id: Annotated[
        str | UUID | None, Setting(read_id, "Only this sequence.", option="--sequence-id")
    ]
    person_id: Annotated[
        str | UUID | None, Setting(read_id, "Only this person.", option="--person-id")
    ]
    mailbox_id: Annotated[
        str | UUID | None, Setting(read_id, "Only this mailbox.", option="--mailbox-id")
    ]
    enrolled_by_play_id: Annotated[
        str | UUID | None,
        Setting(read_id, "Only people whom this play enrolled.", option="--play-id"),
    ]
    status: Annotated[
        str | Sequence[str] | None,
        Setting(Choices(STATUSES), "{0.limits}.", option="--status"),
    ]


class StartArguments(TypedDict, total=False):
    """Where the first run begins."""

    start: Annotated[
        str | date | datetime | None,
        Setting(read_start, "Load only what was updated at or after this date or time."),
    ]


class PaceArguments(DatasetArguments, total=False):
    """How a run reads and writes."""

    lookback: Annotated[
        str | float | timedelta | None,
        Setting(
            read_duration,
            "How far before its cursor a run starts to read: seconds, or a number with `s`, `m`,"
            " `h` or `d`.",
            default="10m",
        ),
    ]
    page_size: Annotated[
        int | str | None,
        Setting(Whole(1, LARGEST_PAGE), "Rows per page, {0.limits}; fewer if long.", default="100"),
    ]
    workers: Annotated[
        int | str | None,
        Setting(Whole(1, 64), "Requests in flight, {0.limits}.", default="8", option="--workers"),
    ]
    requests_per_5min: Annotated[
        int | str | None,
        Setting(
            Whole(1, 100_000_000),
            "Requests per five minutes, shared by all workers.",
            default="100000",
        ),
    ]
    window_rows: Annotated[
        int | str | None,
        Setting(
            Whole(100, 10_000_000),
            "About how many enrollments `sync` and `backfill` commit at once, {0.low} or more;"
            " fewer if they are long. A crash costs one window; each commit takes up to half a"
            " second.",
            default="200000",
        ),
    ]
    request_timeout: Annotated[
        float | str | None,
        Setting(
            Seconds(),
            "Seconds to connect, and to wait for data.",
            default="60",
        ),
    ]
    retry_budget: Annotated[
        float | str | None,
        Setting(Seconds(), "Seconds to keep retrying one request, waits included.", default="900"),
    ]
    table_format: Annotated[
        str | None,
        Setting(
            Choice(TABLE_FORMATS),
            "The format of a lake's tables (the destination `filesystem`): {0.limits}.",
            default=DELTA,
        ),
    ]


class SettingsArguments(
    AccountArguments, StartArguments, PaceArguments, PrivacyArguments, LimitArguments, total=False
):
    """Every setting, with the type that a caller may give it."""


class RangeArguments(
    AccountArguments, PaceArguments, PrivacyArguments, LimitArguments, total=False
):
    """Every setting but `start`, for functions that take a range."""


SETTINGS: dict[str, Setting] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(SettingsArguments, include_extras=True).items()
}
"""The facts of every setting, in the documentation's order."""

LOCK_TIMEOUT = Setting(
    Seconds(may_be_zero=True),
    "Seconds to wait for another run on the dataset.",
    default="60",
    option="--lock-timeout",
)
"""An argument of the commands and their functions only: a source takes no lock."""

SECRETS = {
    name: KEY_ENVIRONMENT if name == "api_key" else f"SOURCES__{SECTION}__{name}".upper()
    for name, setting in SETTINGS.items()
    if setting.is_secret
}
"""The settings that are secret, and the variable of the environment for each."""

ID_FILTERS = tuple(name for name, setting in SETTINGS.items() if setting.read is read_id)


@dataclass(frozen=True)
class Settings:
    """The settings of one run, checked (see `checked_settings`)."""

    api_key: str = field(repr=False)
    base_url: str
    filters: tuple[tuple[str, str], ...]
    start: datetime | None
    lookback: timedelta
    page_size: int
    workers: int
    requests_per_5min: int
    window_rows: int
    request_timeout: float
    retry_budget: float
    table_format: str
    account: str | None = None
    limits: Limits = USUAL
    pii: str = KEEP
    pii_key: str | None = field(default=None, repr=False)
    pii_keep: tuple[str, ...] | None = None

    def without_filters(self) -> Settings:
        """Return the same settings without filters."""
        return replace(self, filters=())


def checked_settings(given: Mapping[str, Any]) -> Settings:
    """Check the given values, None meaning "not given", and fill in the defaults.

    Raises ConfigurationError for an unknown name and for an invalid value.
    """
    for name in given:
        refuse_unknown(name, "is not a setting")
    # Before any value is read: the same key may stand in another setting, which an error quotes.
    for name in SECRETS:
        keep_out(given.get(name) or "")
    read: dict[str, Any] = {}
    for name, setting in SETTINGS.items():
        value = setting.default or None if given.get(name) is None else given[name]
        read[name] = None if value is None else setting.read(name, value)
    if not read["api_key"]:
        raise ConfigurationError(
            "There is no API key.",
            f"Set the environment variable {KEY_ENVIRONMENT}, or api_key under [sources.unify] in"
            " .dlt/secrets.toml; Unify shows keys under Settings, Developers.",
        )
    refuse_without_key(read["pii"], read["pii_key"])
    filters = [(name, value) for name in ID_FILTERS if (value := read.pop(name))]
    filters += [("status", status) for status in read.pop("status") or ()]
    limits = Limits(**{name: read.pop(name) for name in get_type_hints(LimitArguments)})
    return Settings(filters=tuple(filters), limits=limits, **read)


def refuse_unknown(name: str, problem: str) -> None:
    """Raise ConfigurationError, with the nearest name, unless a setting has this name.

    With a section's name and a dot before it, it may be one in a wrong section, or cut in two.
    """
    if name in SETTINGS:
        return
    parts = name.lower().split(".")
    near = [n for text in ("_".join(parts), parts[-1]) for n in get_close_matches(text, SETTINGS)]
    for part in [] if near else name.split("."):
        keep_key_out(part)
    hint = f"Did you mean {near[0]}?" if near else f"Settings are {', '.join(SETTINGS)}."
    raise ConfigurationError(f"{name or 'A name of no letters'} {problem}.", hint)
