"""Everything that a run can be told: each setting is stated and checked here."""

from unify_source.common.settings.settings import (
    DELTA,
    ICEBERG,
    ID_FILTERS,
    KEY_ENVIRONMENT,
    LOCK_TIMEOUT,
    PARQUET,
    SECRETS,
    SECTION,
    SETTINGS,
    STATUSES,
    TABLE_FORMATS,
    RangeArguments,
    Settings,
    SettingsArguments,
    checked_settings,
    refuse_unknown,
)

__all__ = [
    "DELTA",
    "ICEBERG",
    "ID_FILTERS",
    "KEY_ENVIRONMENT",
    "LOCK_TIMEOUT",
    "PARQUET",
    "SECRETS",
    "SECTION",
    "SETTINGS",
    "STATUSES",
    "TABLE_FORMATS",
    "RangeArguments",
    "Settings",
    "SettingsArguments",
    "checked_settings",
    "refuse_unknown",
]
