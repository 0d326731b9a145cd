"""Reads the settings from dlt's configuration, and refuses unknown names there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from dlt.common.configuration.providers import EnvironProvider

from unify_source.accounts import ACCOUNT, read_account
from unify_source.dlt_seam import (
    config_sections,
    look_up,
    names_in_a_sources_section,
    providers,
    stands_for_configuration,
)
from unify_source.errors import ConfigurationError
from unify_source.redaction import keep_out, shown
from unify_source.resources import BY_NAME
from unify_source.settings import (
    KEY_ENVIRONMENT,
    SECRETS,
    SECTION,
    SETTINGS,
    Settings,
    checked_settings,
    refuse_unknown,
)

_TOP = "sources"
_KEY = "api_key"


def configured(**given: Any) -> Settings:
    """Return the settings that `unify_source` would use, from arguments and configuration.

    An argument takes precedence over configuration; None is an argument that was not given. Raises
    ConfigurationError for an invalid setting, and for a name that is not a setting's.
    """
    for name in given:
        refuse_unknown(name, "is not an argument")
    values = {
        name: _configured(name) if value is None or stands_for_configuration(value) else value
        for name, value in {**dict.fromkeys(SETTINGS), **given}.items()
    }
    values[_KEY] = values[_KEY] or os.environ.get(KEY_ENVIRONMENT)
    for name in SECRETS:
        keep_out(values[name] or "")
    _refuse_mistyped_names()
    try:
        settings = checked_settings(values)
        _refuse_unknown_tables(settings)
    except ConfigurationError as error:
        error.is_argument = given.get(str(error.setting)) is not None
        raise
    return settings


def configured_account(given: str | None) -> str | None:
    """Return the account for a function that takes no other setting, None if there is none."""
    value = _configured(ACCOUNT) if given is None else given
    return None if value is None else read_account(ACCOUNT, value)


def _refuse_unknown_tables(settings: Settings) -> None:
    for field in settings.pii_keep or ():
        if (table := field.split(".")[0]) not in BY_NAME:
            raise ConfigurationError(
                f"names the table {shown(table)}, which does not exist.",
                f"Tables are {', '.join(BY_NAME)}.",
                setting="pii_keep",
            )


def _configured(name: str) -> Any:
    pipeline, around = config_sections()
    # A clone of the source has its own section.
    sections = around if around[:1] == (_TOP,) else (_TOP, SECTION, SECTION)
    setting = look_up(name, sections, pipeline, with_bare_variables=False)
    if setting and name in SECRETS:
        keep_out(setting.value)
        if not setting.may_be_secret:
            what = "The API key" if name == _KEY else name
            raise ConfigurationError(
                f"{what} is set as {setting.where}, which is not for secrets.",
                f"Move it to .dlt/secrets.toml or to the environment variable {SECRETS[name]}.",
            )
    return setting.value if setting else None


def _refuse_mistyped_names() -> None:
    of_dlt = names_in_a_sources_section()
    for name, where in _names_in_the_section():
        if name not in of_dlt:
            refuse_unknown(name, f"is not a setting, but is set in {where}")


def _names_in_the_section() -> Iterator[tuple[str, str]]:
    for provider in providers():
        if isinstance(provider, EnvironProvider):
            prefix = f"{_TOP}__{SECTION}__".upper()
            for variable in sorted(os.environ):
                name = variable.removeprefix(prefix).lower()
                if variable.startswith(prefix) and "__" not in name:
                    yield name, f"the environment as {variable}"
            continue
        section, _ = provider.get_value(SECTION, object, None, _TOP)
        if isinstance(section, Mapping):
            for name, value in section.items():
                if not isinstance(value, Mapping):
                    yield str(name), provider.name
