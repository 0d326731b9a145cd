"""dlt's own commands show the pipelines of our commands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import command
from conftest import KEY
from patience import PATIENCE

from unify_source.sandbox import Account, Sandbox

Serve = Callable[..., Sandbox]


def dlt_pipeline(*words: str) -> str:
    ran = subprocess.run(
        [str(Path(sys.executable).with_name("dlt")), "pipeline", *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.parametrize("own_folder", [pytest.param(False, marks=pytest.mark.long), True])
def test_dlt_shows_a_pipeline_that_the_command_ran(
    serve: Serve, home: Path, *, own_folder: bool
) -> None:
    api = serve(Account(300))
    known = {"SOURCES__UNIFY__BASE_URL": api.url, "UNIFY_API_KEY": KEY}
    folder = str(home / "runs")
    ran = command("sync", *(["--pipelines-dir", folder] if own_folder else []), **known)
    assert ran.returncode == 0, ran.stderr

    where = ["--pipelines-dir", folder] if own_folder else []
    info = dlt_pipeline(*where, "unify_gtm", "info")
    assert "duckdb" in info
    assert "Found pipeline unify_gtm" in info
    assert "Run started at" in dlt_pipeline(*where, "unify_gtm", "trace")
    assert "enrollments_quarantine" in dlt_pipeline(*where, "unify_gtm", "schema")
