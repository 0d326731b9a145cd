"""Refuses settings with which a run would load elsewhere, lose its state, or hide a failure.

dlt takes its switches from any variable with their bare name: another program's DEV_MODE or
CREDENTIALS would redirect a run, which would then report success. Its WORKERS=auto would fail every
load, after all pages have been read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath

import dlt
from typing_extensions import Unpack

from unify_source.common.dlt_seam import ConfiguredValue, has_tables, is_function, kind_of, look_up
from unify_source.common.errors import ConfigurationError
from unify_source.common.settings import SECTION, Settings, SettingsArguments
from unify_source.destinations.duckdb_file import duckdb_database, refuse_no_file
from unify_source.destinations.lakes.libraries import refuse_missing_library
from unify_source.load.configuration.lookup import configured


@dataclass(frozen=True)
class _Switch:
    """A switch of dlt's: where dlt looks for it, which values are refused, and why."""

    name: str
    sections: tuple[str, ...]
    is_unsafe: Callable[[ConfiguredValue], bool]
    harm: str
    of_source: bool = False


def _is_on(setting: ConfiguredValue) -> bool:
    return str(setting.value).strip().lower() not in ("", "0", "false", "f", "no", "n", "off")


def _is_off(setting: ConfiguredValue) -> bool:
    return not _is_on(setting)


def _is_no_count(setting: ConfiguredValue) -> bool:
    text = str(setting.value).strip()
    return not text.isdecimal() or int(text) == 0


def _is_the_name_itself(setting: ConfiguredValue) -> bool:
    return str(setting.value).strip() == "%s"


def _is_coarser_than_ours(setting: ConfiguredValue) -> bool:
    return setting.sections[-1:] == _WRITER and str(setting.value).strip() in ("s", "ms")


def _is_bare(setting: ConfiguredValue) -> bool:
    # If it is in a file of the project or has a section, it was meant for dlt.
    return setting.is_variable and not setting.sections


# Before the first load, a trial under another name would pass: only these very names are reserved.
_OF_DUCKDB = re.compile("information_schema|pg_catalog|system|temp", re.IGNORECASE)
_OF_DUCKDB_ALONE = re.compile("information_schema|pg_catalog", re.IGNORECASE)
_OF_POSTGRES = re.compile("information_schema|pg_.*", re.IGNORECASE)
_RESERVED = {
    "duckdb": _OF_DUCKDB,
    "motherduck": _OF_DUCKDB,
    "postgres": _OF_POSTGRES,
    "redshift": _OF_POSTGRES,
}

_PIPELINES, _LOAD, _EXTRACT = ("pipelines", "{pipeline}"), ("load",), ("extract",)
_DESTINATION = ("destination", "{destination}")
_WRITER = ("data_writer",)
_ELSEWHERE = "rows would be loaded to another place than the one named"
_IN_SILENCE = "a failed load would end as if it had succeeded"
_SWITCHES = (
    _Switch("dev_mode", _PIPELINES, _is_on, "every run would reload all into a new dataset"),
    _Switch("full_refresh", _PIPELINES, _is_on, "every run would reload all into a new dataset"),
    _Switch("restore_from_destination", _PIPELINES, _is_off, "every run would reload everything"),
    _Switch("dataset_name_layout", _PIPELINES, _is_bare, _ELSEWHERE),
    _Switch("destination_name", _PIPELINES, _is_bare, _ELSEWHERE),
    _Switch("credentials", _DESTINATION, _is_bare, _ELSEWHERE),
    _Switch(
        "staging_dataset_name_layout",
        _DESTINATION,
        _is_the_name_itself,
        "each load would empty the tables, since the staging dataset would have the same name",
    ),
    *(
        _Switch("workers", (step,), _is_no_count, "a step of dlt needs a number of workers above 0")
        for step in ("extract", "normalize", "load")
    ),
    *(
        _Switch(
            "coerce_timestamps",
            sections,
            _is_coarser_than_ours,
            "times would lose their microseconds, or every load would fail because they would",
            of_source=True,
        )
        for sections in (_WRITER, ("sources", *_WRITER), ("sources", SECTION, *_WRITER))
    ),
    _Switch("raise_on_failed_jobs", _LOAD, _is_off, _IN_SILENCE, of_source=True),
    _Switch(
        "raise_on_max_retries",
        _LOAD,
        _is_off,
        "a load that keeps failing would be retried forever",
        of_source=True,
    ),
    _Switch(
        "next_item_mode",
        _EXTRACT,
        lambda setting: str(setting.value) != "round_robin",
        "tables would not be written in the order that keeps them complete",
        of_source=True,
    ),
)


def run_settings(pipeline: dlt.Pipeline, **given: Unpack[SettingsArguments]) -> Settings:
    """Return the settings of a run. Raises ConfigurationError if it could not load with them."""
    refuse_unsafe(pipeline)
    # Its own section counts, even if another pipeline was opened since.
    pipeline.activate()
    settings = configured(**given)
    refuse_missing_library(pipeline, settings.table_format)
    return settings


def refuse_unsafe(pipeline: dlt.Pipeline, *, of_source: bool = False) -> None:
    """Raise ConfigurationError for a switch or a name that would break a run's promises.

    The commands refuse them all. With `of_source`, for a pipeline that a user of dlt runs, only
    those are refused that could silently lose rows: a development dataset, another dataset or no
    state are then the user's choice. What is written in code (`dlt.pipeline(dev_mode=True)`) is
    never refused.
    """
    names = {
        "pipeline": pipeline.pipeline_name,
        "destination": pipeline.destination.destination_name,
    }
    for switch in _SWITCHES:
        if of_source and not switch.of_source:
            continue
        sections = tuple(part.format(**names) for part in switch.sections)
        setting = look_up(switch.name, sections, pipeline.pipeline_name)
        if setting and switch.is_unsafe(setting) and _is_in_effect(switch.name, pipeline):
            raise ConfigurationError(
                f"{setting.where} is set, and dlt uses it: {switch.harm}.",
                f"Unset it for this run, or if it is intended, set {_meant(switch, names)} instead."
                if switch.is_unsafe is _is_bare
                else "Unset it for this run.",
            )
    if not of_source:
        _refuse_no_tables(pipeline)
    _refuse_reserved_name(pipeline)
    refuse_ambiguous_names(pipeline)
    if database := duckdb_database(pipeline):
        refuse_no_file(database)


def _refuse_no_tables(pipeline: dlt.Pipeline) -> None:
    destination = pipeline.destination
    if not has_tables(destination) and not is_function(destination):
        raise ConfigurationError(
            f"is {destination.destination_name!r}, which stores no tables.",
            "Name one that does, such as duckdb or postgres.",
            setting="destination",
        )


def _refuse_reserved_name(pipeline: dlt.Pipeline) -> None:
    kind, name = kind_of(pipeline.destination), pipeline.dataset_name or ""
    if (reserved := _RESERVED.get(kind)) and reserved.fullmatch(name.strip()):
        raise ConfigurationError(
            f"is {name!r}, a name that {kind} keeps for itself.",
            "Choose another name for the dataset.",
            setting="dataset",
        )


def refuse_ambiguous_names(pipeline: dlt.Pipeline) -> None:
    """Raise ConfigurationError if DuckDB cannot tell its file from a dataset of the same name.

    DuckDB names a database after its file, up to the first dot, and ignores upper and lower case.
    """
    database = duckdb_database(pipeline)
    if database is None:
        return
    name = PurePath(database.file).name.split(".")[0]
    if _OF_DUCKDB_ALONE.fullmatch(name):
        raise ConfigurationError(
            f"The DuckDB file {database.file.name} has the name of a schema of DuckDB's own.",
            "Choose another name for the file, which is named after the pipeline unless set.",
        )
    for dataset in (database.dataset, database.staging_dataset):
        if name.casefold() == dataset.casefold():
            raise ConfigurationError(
                f"{dataset!r} has the same name as the DuckDB file {database.file.name}, so DuckDB"
                " could not tell them apart.",
                "Choose another name for the dataset, or for the file, which is named after the"
                " pipeline unless set.",
                setting="dataset",
            )


def _is_in_effect(name: str, pipeline: dlt.Pipeline) -> bool:
    # Code takes precedence over configuration.
    if name in ("dev_mode", "full_refresh"):
        return pipeline.dev_mode
    if name == "credentials":
        return not pipeline.destination.config_params.get("credentials")
    return True


def _meant(switch: _Switch, names: dict[str, str]) -> str:
    return "__".join([*switch.sections, switch.name]).format(**names).upper()
