"""The command line as a person or a scheduler uses it: words in, lines and an exit code out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from importlib.metadata import version
from pathlib import Path

import pytest
from commands import command, only_json
from conftest import KEY
from warehouse import shown, stored

from unify_source.sandbox import Account, Clock, Sandbox

Serve = Callable[..., Sandbox]

COMMANDS = (
    "check",
    "sync",
    "backfill",
    "status",
    "verify",
    "forget",
    "models",
    "report",
    "export",
    "demo",
    "sandbox",
)


@pytest.fixture
def api(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """Start a sandbox, and name it and its key in the environment, as a user would."""
    sandbox = serve(Account(300))
    monkeypatch.setenv("SOURCES__UNIFY__BASE_URL", sandbox.url)
    monkeypatch.setenv("UNIFY_API_KEY", KEY)
    return sandbox


def test_the_version_is_that_of_the_distribution() -> None:
    ran = command("--version")

    assert (ran.returncode, ran.stdout) == (0, f"unify-source {version('unify-source')}\n")


def test_help_lists_the_commands_in_the_order_of_use() -> None:
    whole = command("--help")

    assert whole.returncode == 0
    listed = whole.stdout.partition("Commands:\n")[2].partition("\n\n")[0]
    assert tuple(line.split()[0] for line in listed.splitlines()) == COMMANDS


def test_every_command_has_help_of_its_own() -> None:
    for name in COMMANDS:
        ran = command(name, "--help")
        assert (ran.returncode, ran.stderr) == (0, "")
        assert f"Usage: python -m unify_source {name} " in ran.stdout
        if name != "sandbox":
            assert {"--json", "--quiet", "--verbose"} <= set(ran.stdout.split())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["sink"], "sink"),
        (["sync", "--fast"], "--fast"),
        (["sync", "extra"], "extra"),
        (["sync", "--workers", "many"], "--workers"),
    ],
)
def test_unknown_words_are_named_and_exit_with_2(words: list[str], sentence: str) -> None:
    ran = command(*words)

    assert ran.returncode == 2
    assert sentence in ran.stderr
    assert "Traceback" not in ran.stderr


def test_sync_says_what_it_loaded_and_then_that_nothing_changed(api: Sandbox) -> None:
    first, second = command("sync"), command("sync")

    assert (first.returncode, second.returncode) == (0, 0)
    loaded = len(api.account)
    assert first.stdout.startswith(f"{loaded} enrollments loaded into duckdb, dataset unify (")
    assert second.stdout.startswith("Nothing changed since the last run (")
    assert stored("unify_gtm.duckdb") == shown(api.account)


@pytest.mark.usefixtures("api")
def test_sync_without_changes_does_not_import_what_only_rows_need() -> None:
    program = (
        "import sys; sys.modules['pyarrow.parquet'] = None; import unify_source.cli.app as cli"
    )
    assert command("sync").returncode == 0

    # Other processes of the tests have imported it already.
    words = [sys.executable, "-c", f"{program}; cli.app(['sync'])"]
    second = subprocess.run(words, capture_output=True, text=True, check=False)

    assert second.stdout.startswith("Nothing changed since the last run ("), second.stderr


def test_sync_with_json_prints_one_object(api: Sandbox) -> None:
    ran = command("sync", "--json")

    result = only_json(ran)
    assert ran.returncode == 0
    tables = stored("unify_gtm.duckdb")
    assert result["enrollments"] == len(tables["enrollments"]) == 300
    assert result["requests"] == len(api.requests)
    newest = max(row[2] for row in tables["enrollments"])
    assert result["cursor"] == newest.isoformat()
    assert result["quarantined"] == 0


def test_quiet_prints_nothing_but_errors(api: Sandbox) -> None:
    ran = command("sync", "--quiet")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert stored("unify_gtm.duckdb") == shown(api.account)

    wrong = command("sync", "--quiet", UNIFY_API_KEY="another")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("Error: The API refused the key")


def test_quiet_hides_no_warning_of_what_later_runs_do_not_mend(serve: Serve) -> None:
    api = serve(Account(20, clock=Clock(datetime.now(timezone.utc) + timedelta(hours=1))))
    ran = command("sync", "--quiet", SOURCES__UNIFY__BASE_URL=api.url, UNIFY_API_KEY=KEY)

    assert (ran.returncode, ran.stdout) == (0, "")
    assert "later runs miss what changes" in ran.stderr


def test_an_error_with_json_is_one_object_too(api: Sandbox) -> None:
    ran = command("sync", "--json", UNIFY_API_KEY="another")

    result = only_json(ran)
    assert ran.returncode == result["exit_code"] == 2
    assert ran.stderr == f"Error: {result['error']}\n{result['next_step']}\n"
    assert [request.status for request in api.requests] == [401]


def test_pipeline_and_dataset_name_the_file_and_the_schema(api: Sandbox, home: Path) -> None:
    ran = command("sync", "--pipeline-name", "mine", "--dataset", "raw", "--quiet")

    assert ran.returncode == 0
    assert stored("mine.duckdb", "raw") == shown(api.account)
    assert [path.name for path in home.glob("*.duckdb")] == ["mine.duckdb"]


def test_the_environment_names_the_place_as_well_and_an_option_counts_more(
    api: Sandbox, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIFY_PIPELINE_NAME", "named")
    monkeypatch.setenv("UNIFY_DATASET", "gtm")

    loaded = command("sync", "--json", "--dataset", "sales")
    status = command("status", "--json")

    assert api.requests
    assert {only_json(loaded)["dataset"], only_json(status)["dataset"]} == {"sales", "gtm"}
    assert (home / "named.duckdb").exists()

    monkeypatch.setenv("UNIFY_DESTINATION", "sink")
    refused = command("status")
    assert refused.returncode == 2
    assert refused.stderr.startswith("Error: UNIFY_DESTINATION is 'sink', which dlt does not know.")


def test_a_file_and_a_dataset_of_one_name_are_refused(api: Sandbox, home: Path) -> None:
    ran = command("sync", "--pipeline-name", "unify", "--dataset", "unify")

    assert ran.returncode == 2
    assert "--dataset 'unify' has the same name as the DuckDB file unify.duckdb" in ran.stderr
    assert api.requests == []
    assert list(home.glob("*.duckdb")) == []


def test_a_folder_that_is_gone_ends_with_a_sentence(home: Path) -> None:
    (home / "gone").mkdir()
    line = f"cd gone && rmdir ../gone && exec {sys.executable} -m unify_source status"

    ran = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)

    assert ran.returncode == 2
    assert ran.stderr.startswith("Error: The folder that this command was started in is gone.")
    assert "Traceback" not in ran.stderr
