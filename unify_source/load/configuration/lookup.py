"""Reads the settings from dlt's configuration, and refuses unknown names there."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dlt
from dlt.common.configuration.providers import EnvironProvider
from dlt.common.configuration.providers.provider import ConfigProvider

from unify_source.common.dlt_seam import (
    config_sections,
    look_up,
    names_in_a_sources_section,
    providers,
    stands_for_configuration,
)
from unify_source.common.errors import ConfigurationError
from unify_source.common.errors.redaction import keep_out, shown
from unify_source.common.resources import BY_NAME
from unify_source.common.settings import (
    KEY_ENVIRONMENT,
    SECRETS,
    SECTION,
    SETTINGS,
    Settings,
    checked_settings,
    refuse_unknown,
)
from unify_source.common.settings.accounts import ACCOUNT, read_account
from unify_source.load.configuration.files import refuse_no_file

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


def configured_account(pipeline: dlt.Pipeline, given: str | None) -> str | None:
    """Return the account for a function that takes no other setting, None if there is none.

    Raises ConfigurationError for a name that is not a setting's: it may be meant for the account.
    """
    pipeline.activate()
    _refuse_mistyped_names()
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
    for provider in providers():
        for file in map(Path, provider.locations):
            refuse_no_file(file)
    of_dlt = names_in_a_sources_section()
    for path, where in _paths_in_the_section():
        if not _is_read(path, of_dlt):
            refuse_unknown(".".join(path), f"is not a setting, but is set in {where}")


def _is_read(path: Sequence[str], of_dlt: Collection[str], *, is_nested: bool = False) -> bool:
    name, rest = path[0], path[1:]
    if name in of_dlt or (name in SETTINGS and not rest):
        return True
    if not rest or is_nested:
        return False
    if name in BY_NAME:
        # Only what belongs to a column, or what dlt reads for any resource.
        return len(rest) > 1 or rest[0] in of_dlt
    # The section of the source's own name, or of a clone's.
    return _is_read(rest, of_dlt, is_nested=True)


def _paths_in_the_section() -> Iterator[tuple[Sequence[str], str]]:
    pipeline, _ = config_sections()
    for within in ((), (pipeline,)) if pipeline else ((),):
        for provider in providers():
            if isinstance(provider, EnvironProvider):
                prefix = "__".join((*within, _TOP, SECTION, "")).upper()
                for variable in sorted(os.environ):
                    if variable.startswith(prefix):
                        path = variable.removeprefix(prefix).lower().split("__")
                        yield path, f"the environment as {variable}"
                continue
            for names in _leaves(_section_in(provider, within)):
                yield names, provider.name


def _section_in(provider: ConfigProvider, within: tuple[str, ...]) -> Mapping[str, Any]:
    for name, around in ((SECTION, (*within, _TOP)), (_TOP, within)):
        section, _ = provider.get_value(name, object, None, *around)
        if section is not None and not isinstance(section, Mapping):
            raise ConfigurationError(
                f"{'.'.join((*around, name))} in {provider.name} is not a section, so that no"
                " setting in it would be read.",
                f"Write [{'.'.join((*within, _TOP, SECTION))}] once, and below it a line for each"
                " setting.",
            )
        if section is not None:
            return section if name == SECTION else {}
    return {}


def _leaves(section: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, value in section.items():
        if isinstance(value, Mapping) and value:
            yield from ((str(name), *rest) for rest in _leaves(value))
        else:
            yield (str(name),)
