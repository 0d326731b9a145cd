"""Where settings are found: arguments, files, the environment, and never in another's variables."""

from __future__ import annotations

import inspect
import re
from datetime import timedelta
from pathlib import Path
from typing import Any, get_type_hints

import dlt
import pytest
import tomlkit
from commands import command
from dlt.common.configuration.container import Container
from dlt.common.configuration.specs.config_section_context import ConfigSectionContext
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from pages import ROOT
from typing_extensions import Unpack

from unify_source.common.errors import ConfigurationError
from unify_source.common.settings import (
    SECRETS,
    SETTINGS,
    RangeArguments,
    SettingsArguments,
    checked_settings,
)
from unify_source.common.settings.limits import LimitArguments
from unify_source.load.configuration.environment import run_settings
from unify_source.load.configuration.lookup import configured, configured_account
from unify_source.load.source import unify_source
from unify_source.runs.backfill import backfill
from unify_source.runs.check import check
from unify_source.runs.status import status
from unify_source.runs.sync import sync

GIVEN: dict[str, tuple[Any, str]] = {
    "pii": ("drop", " DROP "),
    "pii_keep": (["people.title", "mailboxes.*"], "mailboxes.*, people.title"),
    "base_url": ("http://localhost:1", "http://localhost:1"),
    "sequence_id": ("3c90c3cc-0d44-4b50-8888-8dd25736052a",) * 2,
    "status": (["DRAFT", "FINISHED"], "finished, draft"),
    "start": ("2026-01-31", "2026-01-31T00:00:00Z"),
    "lookback": (timedelta(minutes=30), "30m"),
    "page_size": (50, "50"),
    "workers": (4, "4"),
    "window_rows": (5_000, "5000"),
    "retry_budget": (30.5, "30.5"),
    "table_format": ("iceberg", "Iceberg"),
}


def write(file: str, text: str) -> None:
    Path(".dlt").mkdir(exist_ok=True)
    Path(".dlt", file).write_text(text, encoding="utf-8")
    Container()[PluggableRunContext].reload_providers()


@pytest.fixture(autouse=True)
def key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIFY_API_KEY", "a-key-of-the-test")
    Container()[PluggableRunContext].reload_providers()
    assert home


def toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


@pytest.mark.parametrize("name", GIVEN)
def test_a_setting_means_the_same_as_argument_in_a_file_and_in_the_environment(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, text = GIVEN[name]
    as_argument = configured(**{name: value})
    assert as_argument != configured()

    assert configured(**{name: text}) == as_argument
    with monkeypatch.context() as environment:
        environment.setenv(f"SOURCES__UNIFY__{name.upper()}", text)
        assert configured() == as_argument
    write("config.toml", f"[sources.unify]\n{name} = {toml(text)}\n")
    assert configured() == as_argument
    if not isinstance(value, timedelta):
        write("config.toml", f"[sources.unify]\n{name} = {toml(value)}\n")
        assert configured() == as_argument


def test_an_argument_comes_before_the_environment_and_that_before_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("config.toml", "[sources.unify]\nworkers = 2\npage_size = 20\nwindow_rows = 2000\n")
    monkeypatch.setenv("SOURCES__UNIFY__WORKERS", "3")
    monkeypatch.setenv("SOURCES__UNIFY__PAGE_SIZE", "30")

    settings = configured(workers=4, window_rows=None)

    assert (settings.workers, settings.page_size, settings.window_rows) == (4, 30, 2000)


@pytest.mark.parametrize("name", ["workers", "page_size", "lookback", "start", "status"])
def test_an_empty_argument_is_not_a_missing_one(name: str) -> None:
    write("config.toml", '[sources.unify]\nlookback = "1h"\nstatus = "DRAFT"\nworkers = 2\n')

    if name == "status":
        assert configured(status=[]).filters == ()
    elif name == "lookback":
        assert configured(lookback=0).lookback == timedelta()
    else:
        with pytest.raises(ConfigurationError, match=f"^{name} is ''"):
            configured(**{name: ""})


@pytest.mark.parametrize("lookup", [dlt.secrets.value, dlt.config.value, None])
def test_a_dlt_placeholder_is_resolved_from_configuration(lookup: Any) -> None:
    write("secrets.toml", '[sources.unify]\napi_key = "the-key-in-the-file"\n')

    assert configured(api_key=lookup).api_key == "the-key-in-the-file"


@pytest.mark.parametrize("name", SETTINGS)
def test_another_programs_variable_is_not_a_setting(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = configured()

    monkeypatch.setenv(name.upper(), "of another program")

    assert configured() == before


def test_a_pipeline_and_a_clone_of_the_source_have_sections_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOURCES__UNIFY__WORKERS", "2")
    monkeypatch.setenv("SOURCES__EMEA__WORKERS", "3")
    monkeypatch.setenv("NIGHTLY__SOURCES__UNIFY__WORKERS", "4")
    container = Container()

    def workers_in(context: ConfigSectionContext) -> int:
        with container.injectable_context(context):
            return configured().workers

    assert workers_in(ConfigSectionContext(sections=("sources", "emea", "emea"))) == 3
    assert workers_in(ConfigSectionContext(sections=("load",))) == 2
    assert workers_in(ConfigSectionContext(pipeline_name="nightly")) == 4


def test_a_command_reads_the_section_of_its_own_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIFY_API_KEY", "k")
    monkeypatch.setenv("SOURCES__UNIFY__WORKERS", "2")
    monkeypatch.setenv("NIGHTLY__SOURCES__UNIFY__WORKERS", "4")
    monkeypatch.setenv("NIGHTLY__SOURCES__UNIFY__ACCOUNT", "emea")
    nightly, hourly = (dlt.pipeline(name, destination="duckdb") for name in ("nightly", "hourly"))

    for pipeline, workers, account in ((nightly, 4, "emea"), (hourly, 2, None)):
        settings = run_settings(pipeline)
        assert (settings.workers, settings.account) == (workers, account)
        assert configured_account(pipeline, None) == account


@pytest.mark.parametrize(
    ("mistyped", "meant"),
    [("lookbak", "lookback"), ("page_sise", "page_size"), ("STATUSES", "status"), ("xyz", None)],
)
def test_a_misspelled_setting_is_refused_and_the_nearest_name_suggested(
    mistyped: str, meant: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(**given: Any) -> str:
        with pytest.raises(ConfigurationError, match=f"(?i){mistyped}") as caught:
            configured(**given)
        expected = f"Did you mean {meant}?" if meant else "Settings are api_key, "
        assert caught.value.next_step.startswith(expected)
        return caught.value.what

    assert "is not an argument" in refusal(**{mistyped: 1})
    with monkeypatch.context() as environment:
        environment.setenv(f"SOURCES__UNIFY__{mistyped.upper()}", "1")
        assert f"SOURCES__UNIFY__{mistyped.upper()}" in refusal()
    for file in ("config.toml", "secrets.toml"):
        write(file, f"[sources.unify]\n{mistyped} = 1\n")
        assert file in refusal()
        write(file, "")


def test_settings_that_dlt_reads_from_the_same_section_are_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOURCES__UNIFY__EXTRACT__WORKERS", "3")
    monkeypatch.setenv("SOURCES__UNIFY__ENROLLMENTS__UPDATED_AT__INITIAL_VALUE", "2026-01-01")
    write("config.toml", '[sources.unify]\nmax_parallel_items = 5\n[sources.unify.schema]\nx = "y"')

    assert configured() == checked_settings({"api_key": "a-key-of-the-test"})


@pytest.mark.parametrize("name", SECRETS)
def test_a_key_in_config_toml_is_refused_without_showing_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UNIFY_API_KEY")
    write("config.toml", f'[sources.unify]\n{name} = "never-seen"\n')

    with pytest.raises(ConfigurationError, match=rf"config\.toml.* {SECRETS[name]}") as caught:
        configured()

    assert "never-seen" not in str(caught.value)


@pytest.mark.parametrize(("flags", "name"), [(["--workers", "0"], "--workers"), ([], "workers")])
def test_an_error_names_an_option_only_if_it_was_given(flags: list[str], name: str) -> None:
    ran = command("sync", *flags, SOURCES__UNIFY__WORKERS="0")

    assert ran.returncode == 2
    assert ran.stderr.startswith(f"Error: {name} is '0', which is out of range.")


def test_a_configured_start_is_not_the_start_of_a_backfill() -> None:
    ran = command("backfill", "--from", "2026-01-01", SOURCES__UNIFY__START="someday")
    assert ran.returncode == 2
    assert ran.stderr.startswith("Error: start is 'someday'")

    ran = command("backfill", "--from", "someday")
    assert ran.stderr.startswith("Error: --from is 'someday'")


@pytest.mark.parametrize("wrong", [-1, "soon", float("nan"), 1e9])
def test_every_function_refuses_an_invalid_lock_timeout(wrong: Any, pipeline: dlt.Pipeline) -> None:
    for run in (
        lambda: sync(pipeline, lock_timeout=wrong, api_key="k"),
        lambda: backfill(pipeline, "2026-01-01", lock_timeout=wrong, api_key="k"),
        lambda: check(pipeline, lock_timeout=wrong, api_key="k"),
        lambda: status(pipeline, lock_timeout=wrong),
    ):
        with pytest.raises(ConfigurationError, match=rf"^lock_timeout is '{wrong}'"):
            run()


def test_an_error_of_a_function_names_its_argument(pipeline: dlt.Pipeline) -> None:
    with pytest.raises(ConfigurationError, match=r"^start is 2026-02-01.*later than the end"):
        backfill(pipeline, "2026-02-01", "2026-01-01")


def test_every_public_function_accepts_every_setting_with_its_type() -> None:
    facts = get_type_hints(SettingsArguments)
    assert Any not in facts.values()
    assert get_type_hints(RangeArguments) == {n: t for n, t in facts.items() if n != "start"}
    source = get_type_hints(inspect.unwrap(unify_source), include_extras=False)
    limits = get_type_hints(LimitArguments)
    assert {n: t for n, t in source.items() if n in facts} | limits == facts
    assert source["limits"] == Unpack[LimitArguments]
    for door in (sync, backfill):
        assert "Unpack[" in str(inspect.signature(door).parameters["settings"].annotation)


def test_the_example_of_the_configuration_shows_the_defaults() -> None:
    text = (ROOT / ".dlt" / "config.toml").read_text(encoding="utf-8")
    shown = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)

    section = tomlkit.parse(shown).unwrap()["sources"]["unify"]

    assert section == {
        name: setting.default if setting.is_text else int(setting.default)
        for name, setting in SETTINGS.items()
        if setting.default
    }
