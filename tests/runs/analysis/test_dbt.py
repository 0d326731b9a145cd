"""The models as a dbt package: it installs from git, builds, and its tests notice damage.

dbt wants libraries of its own, so it runs from the environment that `make test-dbt` makes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import postgres
import pytest
import yaml
from conftest import KEY
from pages import ROOT, blocks, page
from patience import PATIENCE

from unify_source import make_models, sync
from unify_source.cli.pipeline import open_pipeline
from unify_source.common.resources import DESCRIBED, DIFFERENCES, LEDGER
from unify_source.runs.analysis.models import PACKAGE, models
from unify_source.sandbox import Account, Sandbox

Ask = Callable[[str], Any]

DBT = ROOT / ".venv-dbt" / "bin" / "dbt"
# Otherwise dbt reports usage.
PRIVATE = {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "NO_COLOR": "1"}
DAMAGE = {
    "source_relationships_unify_enrollments_person_id": (
        "UPDATE unify.enrollments SET person_id = 'nobody'"
        " WHERE id = (SELECT min(id) FROM unify.enrollments)"
    ),
    "source_unique_unify_plays_id": "INSERT INTO unify.plays SELECT * FROM unify.plays",
    "source_not_null_unify_reply_classifications_id": (
        "ALTER TABLE unify.reply_classifications ALTER COLUMN id DROP NOT NULL;"
        "UPDATE unify.reply_classifications SET id = NULL"
        " WHERE id = (SELECT min(id) FROM unify.reply_classifications)"
    ),
}
LONG_AGO = "{0} = {0} - INTERVAL '4 days'"
QUIET = f"UPDATE unify._dlt_loads SET {LONG_AGO.format('inserted_at')}"
STALE = f"UPDATE unify.unify_sync_runs SET {LONG_AGO.format('finished_at')}"

pytestmark = pytest.mark.dbt


class Project:
    """A dbt project that installed the package from git, on a database with loaded tables."""

    def __init__(self, folder: Path, ask: Ask) -> None:
        self.folder = folder
        self.ask = ask

    def dbt(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run dbt in the project."""
        return subprocess.run(
            [str(DBT), *words],
            cwd=self.folder,
            env={**os.environ, **PRIVATE},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def target(self, file: str) -> Any:
        """Return a file that dbt wrote."""
        return json.loads((self.folder / "target" / file).read_text())

    def results(self, file: str = "run_results.json") -> dict[str, str]:
        """Return how each node of the last run ended."""
        results = self.target(file)["results"]
        return {result["unique_id"].split(".", 2)[2]: result["status"] for result in results}


@pytest.fixture(scope="module", params=["duckdb", "postgres"])
def project(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres_server: str
) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("dbt")
    with postgres.database(postgres_server) as dsn, Sandbox(Account(200), key=KEY) as api:
        file = str(folder / "unify_gtm.duckdb")
        credentials, target = (
            (file, {"type": "duckdb", "path": file})
            if request.param == "duckdb"
            else (dsn, _of_postgres(dsn))
        )
        pipeline = open_pipeline(
            "unify_gtm",
            request.param,
            "unify",
            credentials=credentials,
            pipelines_dir=str(folder / "dlt"),
        )
        sync(pipeline, api_key=KEY, base_url=api.url)
        make_models(pipeline)
        dbt_project = Project(_project(folder, target), _asking(credentials))
        done = dbt_project.dbt("deps")
        assert done.returncode == 0, done.stdout
        yield dbt_project


def test_the_package_builds_and_answers_as_the_command_does(project: Project) -> None:
    done = project.dbt("build")

    assert done.returncode == 0, done.stdout
    assert set(project.results().values()) == {"success", "pass"}
    assert "Deprecated" not in done.stdout
    for model in models():
        answers = [project.ask(f"SELECT * FROM {s}.{model}") for s in ("shop", "unify_models")]
        assert sorted(map(str, answers[0])) == sorted(map(str, answers[1])), model


def test_the_docs_of_dbt_explain_every_table_model_and_column(project: Project) -> None:
    done = project.dbt("docs", "generate")

    assert done.returncode == 0, done.stdout
    manifest, catalog = (project.target(name) for name in ("manifest.json", "catalog.json"))
    for kind, facts in (
        ("sources", {table.name: table for table in DESCRIBED}),
        ("nodes", models()),
    ):
        explained = {
            each["name"]: each for each in manifest[kind].values() if each["name"] in facts
        }
        there = {each["metadata"]["name"]: each for each in catalog[kind].values()}
        assert set(explained) == set(facts) <= set(there)
        for name, fact in facts.items():
            columns = explained[name]["columns"]
            assert explained[name]["description"].strip() == fact.description
            assert {key: _one_line(value["description"]) for key, value in columns.items()} == {
                column.name: column.description
                for column in fact.columns
                if not getattr(column, "is_internal", False)
            }
            assert set(columns) <= set(there[name]["columns"])


def test_tables_are_fresh_after_a_run_without_changes_and_stale_without_a_run(
    project: Project,
) -> None:
    project.ask(QUIET)
    assert project.dbt("source", "freshness").returncode == 0
    project.ask(STALE)

    assert project.dbt("source", "freshness").returncode == 1

    assert project.results("sources.json") == {"unify.unify_sync_runs": "error"}


def test_each_damage_fails_the_test_that_is_named_for_it(project: Project) -> None:
    for statement in DAMAGE.values():
        project.ask(statement)

    assert project.dbt("test", "--select", "source:unify").returncode == 1

    failed = {name for name, status in project.results().items() if status != "pass"}
    assert len(failed) == len(DAMAGE)
    assert all(any(name.startswith(test) for name in failed) for test in DAMAGE), failed


def test_a_dataset_without_the_tables_of_newer_versions_builds(project: Project) -> None:
    for table in (DIFFERENCES, LEDGER):
        project.ask(f"DROP TABLE unify.{table.name} CASCADE")

    done = project.dbt("run", "--select", "freshness", "last_verify", "open_differences")

    assert done.returncode == 0, done.stdout
    assert project.ask("SELECT count(*) FROM shop.open_differences") == [(0,)]
    assert project.ask("SELECT count(*) FROM shop.freshness WHERE last_run_at IS NULL") == [(11,)]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _project(folder: Path, target: dict[str, Any]) -> Path:
    project = folder / "shop"
    project.mkdir()
    [packages] = [b for b in blocks("yaml", page("models")) if b.startswith("packages:")]
    [package] = yaml.safe_load(packages)["packages"]
    package["git"] = _repository(folder / "repository", package["subdirectory"]).as_uri()
    files = {
        "dbt_project.yml": {"name": "shop", "version": "1.0.0", "profile": "shop"},
        "packages.yml": {"packages": [package]},
        "profiles.yml": {
            "shop": {"target": "here", "outputs": {"here": {**target, "schema": "shop"}}}
        },
    }
    for name, content in files.items():
        (project / name).write_text(yaml.safe_dump(content))
    return project


def _repository(folder: Path, subdirectory: str) -> Path:
    # As it stands here, whether it is committed or not.
    shutil.copytree(PACKAGE, folder / subdirectory)
    author = ["-c", "user.name=someone", "-c", "user.email=someone@example.test"]
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "Package"]):
        subprocess.run(["git", *author, *words], cwd=folder, check=True)
    return folder


def _of_postgres(dsn: str) -> dict[str, Any]:
    parts = urlsplit(dsn)
    return {
        "type": "postgres",
        "host": parts.hostname,
        "port": parts.port,
        "user": parts.username,
        "password": parts.password,
        "dbname": parts.path.lstrip("/"),
    }


def _asking(credentials: str) -> Ask:
    def ask(question: str) -> Any:
        if credentials.startswith("postgresql"):
            return postgres.ask(credentials, question)
        with duckdb.connect(credentials) as connection:
            return connection.execute(question).fetchall()

    return ask
