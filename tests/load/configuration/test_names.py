"""A name or a section that nobody reads is refused, wherever it stands below the source's."""

from __future__ import annotations

from pathlib import Path

import dlt
import pytest
from commands import command, only_json
from dlt.common.configuration.container import Container
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext

from unify_source.common.errors import ConfigurationError
from unify_source.common.settings import checked_settings
from unify_source.load.configuration.lookup import configured

KEY = "a-key-of-the-test"
PERSON = "3c90c3cc-0d44-4b50-8888-8dd25736052a"


def write(text: str, file: str = "config.toml") -> None:
    Path(".dlt").mkdir(exist_ok=True)
    Path(".dlt", file).write_text(text, encoding="utf-8")
    Container()[PluggableRunContext].reload_providers()


def put(path: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a name below the source's section to 1, in the environment or in a file."""
    *section, name = path.split(".")
    if place == "environment":
        monkeypatch.setenv(f"SOURCES__UNIFY__{path.replace('.', '__')}".upper(), "1")
    else:
        write(f"[{'.'.join(('sources', 'unify', *section))}]\n{name} = 1\n", place)


@pytest.fixture(autouse=True)
def key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIFY_API_KEY", KEY)
    Container()[PluggableRunContext].reload_providers()
    assert home


UNREAD = {
    "lokback": "lookback",
    "unify.lokback": "lookback",
    "unify.unify.lookback": "lookback",
    "api.key": "api_key",
    "enrollments.lokback": "lookback",
    "enrollments.lookback": "lookback",
    "lookback.x": "lookback",
    "lokback.minutes": "lookback",
    "emea.lokback": "lookback",
    "xyz.q": None,
}


@pytest.mark.parametrize("path", UNREAD)
@pytest.mark.parametrize("place", ["environment", "config.toml", "secrets.toml"])
def test_a_name_in_a_section_that_nobody_reads_is_refused(
    path: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(path, place, monkeypatch)

    with pytest.raises(ConfigurationError, match=rf"^{path} is not a setting.* {place}") as caught:
        configured()

    meant = f"Did you mean {UNREAD[path]}?" if UNREAD[path] else "Settings are api_key, "
    assert caught.value.next_step.startswith(meant)


@pytest.mark.parametrize("place", ["environment", "config.toml"])
def test_a_name_in_the_section_of_the_running_pipeline_is_refused_too(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dlt.pipeline("nightly", destination="duckdb")
    assert configured().lookback
    if place == "environment":
        monkeypatch.setenv("NIGHTLY__SOURCES__UNIFY__LOKBACK", "1")
    else:
        write("[nightly.sources.unify]\nlokback = 1\n")

    with pytest.raises(ConfigurationError, match=f"^lokback is not a setting.* {place}"):
        configured()


@pytest.mark.parametrize("words", [["status"], ["forget", "--person", PERSON]])
def test_a_command_without_an_api_refuses_a_mistyped_name_as_well(words: list[str]) -> None:
    ran = command(*words, "--json", SOURCES__UNIFY__ACOUNT="emea")

    assert ran.returncode == 2
    refusal = only_json(ran)
    assert refusal["error"].startswith("acount is not a setting, but is set in the environment")
    assert refusal["next_step"] == "Did you mean account?"


def test_a_variable_that_ends_where_a_name_should_follow_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOURCES__UNIFY__", "100")

    with pytest.raises(ConfigurationError, match=r"as SOURCES__UNIFY__\."):
        configured()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('sources = "x"', "sources"),
        ('[sources]\nunify = "x"', "sources.unify"),
        ('[[sources.unify]]\nlookback = "zzz"', "sources.unify"),
        ("[[sources]]\nx = 1", "sources"),
    ],
)
def test_what_should_be_the_section_and_is_none_is_refused(text: str, what: str) -> None:
    write(text)

    with pytest.raises(ConfigurationError, match=rf"^{what} in config\.toml is not a section"):
        configured()


def test_an_empty_section_is_refused() -> None:
    write("[sources.unify.lokback]")

    with pytest.raises(ConfigurationError, match=r"^lokback is not a setting") as caught:
        configured()

    assert caught.value.next_step == "Did you mean lookback?"


@pytest.mark.parametrize(
    "path",
    [
        "max_table_nesting",
        "schema_contract.tables",
        "schema.naming",
        "schema.json_normalizer.config.x",
        "extract.workers",
        "data_writer.buffer_max_items",
        "unify.extract.workers",
        "unify.data_writer.buffer_max_items",
        "unify.max_table_nesting",
        "enrollments.max_table_nesting",
        "enrollments.schema_contract",
        "enrollments.updated_at.initial_value",
        "emea.lookback",
        "emea.extract.workers",
    ],
)
@pytest.mark.parametrize("place", ["environment", "config.toml"])
def test_what_dlt_and_a_clone_of_the_source_read_is_accepted(
    path: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(path, place, monkeypatch)

    assert configured() == checked_settings({"api_key": KEY})


def test_another_source_may_have_any_section() -> None:
    write('[sources]\nother = "x"\n[sources.third]\nlokback = 1\n')

    assert configured() == checked_settings({"api_key": KEY})
