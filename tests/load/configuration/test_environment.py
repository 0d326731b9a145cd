"""Variables of other programs, and ambiguous names, are refused, not obeyed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pytest
from commands import command
from conftest import KEY
from dlt.common.configuration.container import Container
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from standing import account, change
from warehouse import shown, stored

from unify_source import sync, unify_source
from unify_source.cli.pipeline import open_pipeline
from unify_source.common.errors import ConfigurationError
from unify_source.runs.backfill import backfill
from unify_source.runs.check import check
from unify_source.sandbox import Account, Sandbox

Serve = Callable[..., Sandbox]

ELSEWHERE = {
    "DEV_MODE": "true",
    "PIPELINES__DEV_MODE": "1",
    "PIPELINES__UNIFY_GTM__DEV_MODE": "yes",
    "UNIFY_GTM__DEV_MODE": "True",
    "FULL_REFRESH": "true",
    "RESTORE_FROM_DESTINATION": "false",
    "UNIFY_GTM__RESTORE_FROM_DESTINATION": "0",
    "DATASET_NAME_LAYOUT": "mine_%s",
    "DESTINATION_NAME": "other",
    "CREDENTIALS": "never-shown.duckdb",
}
IN_SILENCE = {
    "RAISE_ON_FAILED_JOBS": "false",
    "LOAD__RAISE_ON_FAILED_JOBS": "no",
    "UNIFY_GTM__LOAD__RAISE_ON_FAILED_JOBS": "0",
    "LOAD__RAISE_ON_MAX_RETRIES": "0",
    "EXTRACT__NEXT_ITEM_MODE": "fifo",
    "DATA_WRITER__COERCE_TIMESTAMPS": "ms",
    "SOURCES__UNIFY__DATA_WRITER__COERCE_TIMESTAMPS": "s",
}
IMPOSSIBLE = {
    "WORKERS": "auto",
    "LOAD__WORKERS": "0",
    "UNIFY_GTM__EXTRACT__WORKERS": "-1",
    "STAGING_DATASET_NAME_LAYOUT": "%s",
    "DESTINATION__DUCKDB__STAGING_DATASET_NAME_LAYOUT": " %s ",
}
HARMLESS = {
    "WORKERS": "4",
    "DEV_MODE": "false",
    "RESTORE_FROM_DESTINATION": "true",
    "RAISE_ON_FAILED_JOBS": "1",
    "REFRESH": "drop_sources",
    "DATASET_NAME": "other",
    "PIPELINE_NAME": "other",
}
# How dlt writes its files is the user's choice, and the rows are the same.
OF_FILES = {
    "PARQUET_NORMALIZER__ADD_DLT_ID": "true",
    "NORMALIZE__PARQUET_NORMALIZER__ADD_DLT_LOAD_ID": "true",
    "JSON_NORMALIZER__ADD_DLT_ID": "false",
    "JSON_NORMALIZER__ADD_DLT_LOAD_ID": "false",
    "COERCE_TIMESTAMPS": "ms",
    "DATA_WRITER__ALLOW_TRUNCATED_TIMESTAMPS": "true",
    "DATA_WRITER__BUFFER_MAX_ITEMS": "7",
    "DATA_WRITER__COMPRESSION": "gzip",
    "DATA_WRITER__DISABLE_COMPRESSION": "true",
    "DATA_WRITER__FILE_MAX_ITEMS": "10",
    "DATA_WRITER__FLAVOR": "spark",
    "DATA_WRITER__ROW_GROUP_SIZE": "5",
    "DATA_WRITER__TIMESTAMP_TIMEZONE": "Europe/Berlin",
    "DATA_WRITER__VERSION": "1.0",
    "NORMALIZE__POOL_TYPE": "thread",
}


@pytest.fixture
def api(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    sandbox = serve(Account(50))
    monkeypatch.setenv("SOURCES__UNIFY__BASE_URL", sandbox.url)
    monkeypatch.setenv("UNIFY_API_KEY", KEY)
    Container()[PluggableRunContext].reload_providers()
    return sandbox


def opened(home: Path) -> dlt.Pipeline:
    return open_pipeline("unify_gtm", "duckdb", "unify", pipelines_dir=str(home / "dlt"))


@pytest.mark.parametrize("variable", [*ELSEWHERE, *IN_SILENCE, *IMPOSSIBLE])
def test_a_variable_that_would_break_a_promise_is_refused_by_name_before_any_request(
    variable: str, api: Sandbox, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = {**ELSEWHERE, **IN_SILENCE, **IMPOSSIBLE}[variable]
    monkeypatch.setenv(variable, value)

    for run in (sync, lambda pipeline: backfill(pipeline, "2026-01-01")):
        with pytest.raises(ConfigurationError, match=f"^{variable} in the environment") as caught:
            run(opened(home))
        assert "never-shown" not in str(caught.value)

    assert api.requests == []
    assert list(home.glob("*.duckdb")) == []


def test_the_command_exits_with_2_for_another_programs_variable(api: Sandbox) -> None:
    ran = command("sync", DEV_MODE="true")

    assert ran.returncode == 2
    assert ran.stderr.startswith("Error: DEV_MODE in the environment is set")
    assert api.requests == []


def test_a_value_that_dlt_cannot_parse_is_reported_with_its_variable(api: Sandbox) -> None:
    ran = command("sync", SOURCES__UNIFY__BASE_URL=api.url, POOL_TYPE="gevent")

    assert ran.returncode == 2
    assert "pool_type" in ran.stderr
    assert "POOL_TYPE" in ran.stderr
    assert "typing" not in ran.stderr


@pytest.mark.usefixtures("api")
def test_a_file_of_configuration_is_refused_as_well(home: Path) -> None:
    (home / ".dlt").mkdir()
    (home / ".dlt" / "config.toml").write_text("[load]\nraise_on_failed_jobs = false\n")
    Container()[PluggableRunContext].reload_providers()

    with pytest.raises(ConfigurationError, match=r"^load.raise_on_failed_jobs in config\.toml"):
        sync(opened(home))


def test_a_variable_that_changes_nothing_is_not_refused(
    api: Sandbox, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in HARMLESS.items():
        monkeypatch.setenv(variable, value)

    assert sync(opened(home)).enrollments == len(api.account)
    assert (home / "unify_gtm.duckdb").exists()


@pytest.mark.long
def test_a_refresh_for_another_program_drops_nothing_between_windows_and_runs(
    serve: Serve, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = serve(account(300))
    monkeypatch.setenv("REFRESH", "drop_sources")
    for changes in (0, 3):
        change(api.account, changes)
        report = sync(opened(home), api_key=KEY, base_url=api.url, page_size=50, window_rows=100)

        assert (report.enrollments < len(api.account)) == bool(changes)
        assert (report.dataset, stored("unify_gtm.duckdb")) == ("unify", shown(api.account))


def test_how_dlt_writes_files_changes_no_row_and_takes_no_run_out_of_the_ledger(
    api: Sandbox, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in OF_FILES.items():
        monkeypatch.setenv(variable, value)

    sync(opened(home))
    opened(home).run(unify_source())

    assert stored("unify_gtm.duckdb") == shown(api.account)
    with duckdb.connect("unify_gtm.duckdb") as connection:
        runs = connection.execute(
            "SELECT outcome, count(DISTINCT _dlt_id) FROM unify.unify_sync_runs GROUP BY 1"
        ).fetchall()
    assert runs == [("succeeded", 2)]


def test_credentials_that_name_their_destination_are_not_refused(
    api: Sandbox, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS", "other.duckdb")
    monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", "mine.duckdb")

    assert sync(opened(home)).enrollments == len(api.account)
    assert [file.name for file in home.glob("*.duckdb")] == ["mine.duckdb"]


def test_a_user_of_dlt_may_develop_on_a_dataset_of_their_own(api: Sandbox) -> None:
    pipeline = dlt.pipeline("mine", destination="duckdb", dataset_name="tried", dev_mode=True)

    pipeline.run(unify_source())

    assert pipeline.dataset_name.startswith("tried_2")
    assert sync(pipeline).dataset == pipeline.dataset_name
    assert api.requests


@pytest.mark.parametrize("variable", IN_SILENCE)
def test_a_user_of_dlt_gets_an_error_for_a_load_that_would_fail_silently(
    variable: str, api: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, IN_SILENCE[variable])
    dlt.pipeline("unify_gtm", destination="duckdb", dataset_name="unify")

    with pytest.raises(ConfigurationError, match=variable):
        unify_source()
    assert api.requests == []


SAME_NAMES = [
    ("unify_gtm", "unify", "unify.duckdb"),
    ("unify_gtm", "unify", "duckdb:///unify.duckdb"),
    ("unify_gtm", "unify", "unify.db"),
    ("unify_gtm", "unify", "UNIFY.duckdb"),
    ("unify_gtm", "unify", "unify.of.mine.duckdb"),
    ("unify_gtm", "unify", "unify_staging.duckdb"),
    ("unify_gtm", "Unify", "unify.duckdb"),
    ("unify", "unify", None),
    ("UNIFY", "unify", None),
]


@pytest.mark.parametrize(("name", "dataset", "file"), SAME_NAMES)
def test_a_file_and_a_dataset_of_one_name_are_refused_before_any_request(
    name: str,
    dataset: str,
    file: str | None,
    api: Sandbox,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_code = dlt.destinations.duckdb(file) if file else dlt.destinations.duckdb()
    by_code = dlt.pipeline(name, destination=in_code, dataset_name=dataset)
    with pytest.raises(ConfigurationError, match=r"(?i)^dataset 'unify"):
        sync(by_code)
    with pytest.raises(ConfigurationError, match=r"(?i)^dataset 'unify"):
        by_code.run(unify_source())

    if file:
        monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", file)
    by_setting = dlt.pipeline(f"{name}", destination="duckdb", dataset_name=dataset)
    with pytest.raises(ConfigurationError, match=r"(?i)^dataset 'unify"):
        sync(by_setting)

    assert api.requests == []
    assert [path for path in home.iterdir() if path.is_file()] == []


@pytest.mark.parametrize("file", ["unify_2.duckdb", "my-unify.duckdb"])
def test_a_file_of_another_name_is_not_refused(file: str, api: Sandbox) -> None:
    pipeline = dlt.pipeline(
        "other", destination=dlt.destinations.duckdb(file), dataset_name="unify"
    )

    pipeline.run(unify_source())

    assert api.requests


@pytest.mark.parametrize("naming", ["nowhere", "nowhere.at_all", "os.path", "os"])
def test_an_unknown_naming_convention_is_reported_in_a_sentence(
    naming: str, api: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCHEMA__NAMING", naming)
    pipeline = dlt.pipeline("unify_gtm", destination="duckdb", dataset_name="unify")

    with pytest.raises(ConfigurationError) as caught:
        sync(pipeline)

    assert naming.split(".", maxsplit=1)[0] in str(caught.value)
    assert api.requests == []


OF_DLT = {
    "RUNTIME__LOG_LEVEL": ("loud", "not a level of logging"),
    "RUNTIME__REQUEST_TIMEOUT": ("soon", "request_timeout"),
    "PROVIDERS__ENABLE_AWS_SECRETS": ("true", "AwsCredentials"),
    "STAGING_TYPE": ("filesystem", "STAGING_TYPE"),
    "STAGING_NAME": ("mine", "`mine`"),
}


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize("name", OF_DLT)
def test_a_variable_that_dlt_cannot_use_is_reported_in_a_sentence(name: str) -> None:
    value, sentence = OF_DLT[name]

    ran = command("status", **{name: value})

    assert (ran.returncode, "Traceback" in ran.stderr) == (2, False)
    assert sentence in ran.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["check"],
        ["sync"],
        ["backfill", "--from", "2026-01-01"],
        ["verify", "--repair"],
        ["status"],
        ["models"],
        ["report"],
        ["export", "people"],
        ["forget", "--person", "3c90c3cc-0d44-4b50-8888-8dd25736052a"],
    ],
    ids=lambda words: words[0],
)
def test_a_destination_without_tables_is_refused_before_any_request(
    words: list[str], api: Sandbox
) -> None:
    ran = command(*words, "--destination", "dummy")

    assert ran.returncode == 2
    assert ran.stderr.startswith("Error: --destination is 'dummy', which stores no tables.")
    assert not api.requests


@pytest.mark.usefixtures("api")
def test_a_function_as_the_destination_can_be_checked() -> None:
    @dlt.destination(name="taking")
    def take(_items: Any, _table: Any) -> None:
        raise AssertionError("called")

    assert check(dlt.pipeline("into_a_function", destination=take)).destination == "taking"
