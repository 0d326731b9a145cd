"""The options that commands share, and the values given for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import click
from click.core import ParameterSource

from unify_source.common.errors import ConfigurationError, LockHeld, UnifyError
from unify_source.common.settings import LOCK_TIMEOUT, SETTINGS
from unify_source.common.settings.values import Choices, Setting

Command = Callable[..., None]


def _of_setting(name: str, setting: Setting) -> Callable[[Command], Command]:
    # As text: the setting's own reader has a better error than click's.
    is_several = isinstance(setting.read, Choices)
    default = f" {setting.default} unless set." if setting.default else ""
    help_text = (setting.description + default).replace("`", "")
    return click.option(setting.option, name, multiple=is_several, help=help_text)


def _of_place(word: str, default: str, meaning: str) -> Callable[[Command], Command]:
    # From the environment as well: what else runs in a container, such as its check of health, then
    # looks where its main command loads.
    variable = f"UNIFY{word[1:]}".replace("-", "_").upper()
    return click.option(word, default=default, help=meaning, envvar=variable, show_envvar=True)


SETTING_OPTIONS = {
    name: _of_setting(name, setting) for name, setting in SETTINGS.items() if setting.option
}

OPTIONS: dict[str, Callable[[Command], Command]] = {
    **SETTING_OPTIONS,
    "destination": _of_place(
        "--destination", "duckdb", "The dlt destination that holds the tables."
    ),
    "dataset": _of_place("--dataset", "unify", "The schema that holds the tables."),
    "pipeline_name": _of_place(
        "--pipeline-name",
        "unify_gtm",
        "The name of the state, and of the DuckDB file in this folder.",
    ),
    "pipelines_dir": click.option(
        "--pipelines-dir",
        help="Where `dlt pipeline` finds the last run; dlt's own folder unless set.",
    ),
    "lock_timeout": click.option(
        LOCK_TIMEOUT.option, default=LOCK_TIMEOUT.default, help=LOCK_TIMEOUT.description
    ),
    "json": click.option("--json", is_flag=True, help="Print one JSON object on standard output."),
    "quiet": click.option(
        "--quiet", is_flag=True, help="Print errors only, and warnings of rows or columns at stake."
    ),
    "verbose": click.option("--verbose", is_flag=True, help="Log every step and show tracebacks."),
}

LOADING = tuple(OPTIONS)
READING = ("destination", "dataset", "pipeline_name", "lock_timeout", "json", "quiet", "verbose")
SHOWING = ("json", "quiet", "verbose")


@dataclass(frozen=True)
class Options:
    """The values given for the shared options on the command line.

    `settings` are the arguments of `unify_source` among them.
    """

    destination: str = "duckdb"
    dataset: str = "unify"
    pipeline_name: str = "unify_gtm"
    pipelines_dir: str | None = None
    lock_timeout: str = LOCK_TIMEOUT.default
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


def taking(*names: str) -> Callable[[Command], Command]:
    """Give a command the shared options with these names, as its first argument."""

    def decorate(command: Command) -> Command:
        @wraps(command)
        def called(**given: Any) -> None:
            shared = {name: given.pop(name) for name in names}
            settings = {name: shared.pop(name) for name in names if name in SETTING_OPTIONS}
            # For an option that may be repeated but is not given, click passes an empty tuple.
            settings = {name: value for name, value in settings.items() if value not in (None, ())}
            command(Options(**shared, settings=settings), **given)

        taker: Command = called
        for name in reversed(names):
            taker = OPTIONS[name](taker)
        return taker

    return decorate


def as_options(error: UnifyError) -> UnifyError:
    """Return an error that names the option, or its variable, by which a setting was given."""
    if isinstance(error, LockHeld):
        return LockHeld(error.what, LOCK_TIMEOUT.option)
    context = click.get_current_context(silent=True)
    if not context or not isinstance(error, ConfigurationError) or not error.setting:
        return error
    # `backfill --from` is passed as an argument with the name of a setting, `start`.
    if not error.is_argument:
        return error
    source = context.get_parameter_source(error.setting)
    for parameter in context.command.params:
        if parameter.name != error.setting:
            continue
        if source is ParameterSource.COMMANDLINE:
            return error.spelled(parameter.opts[0])
        if source is ParameterSource.ENVIRONMENT:
            return error.spelled(str(parameter.envvar))
    return error
