"""The DuckDB file of a new user opens in the DuckDB that they have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dlt
import duckdb
import pytest
from commands import command
from conftest import KEY
from dlt.destinations.exceptions import DatabaseTransientException

from unify_source import sync
from unify_source.configuration.dlt_errors import meaning
from unify_source.sandbox import Account, Sandbox

# What the header of a file says of the oldest DuckDB that reads it.
OF_1_0, OF_1_2 = 64, 65
GLOBAL_CONFIG = "DESTINATION__DUCKDB__CREDENTIALS__GLOBAL_CONFIG"


def storage_version(file: Path) -> int:
    header = file.read_bytes()[:20]
    assert header[8:12] == b"DUCK"
    return int.from_bytes(header[12:20], "little")


@pytest.fixture
def known(serve: Callable[..., Sandbox]) -> dict[str, str]:
    """Start a sandbox, and return what to set to reach it."""
    return {"SOURCES__UNIFY__BASE_URL": serve(Account(50)).url, "UNIFY_API_KEY": KEY}


def test_a_new_file_opens_in_every_duckdb_from_1_2_on(home: Path, known: dict[str, str]) -> None:
    for _ in range(2):
        assert command("sync", **known).returncode == 0
        assert storage_version(home / "unify_gtm.duckdb") == OF_1_2
    assert command("demo", "--enrollments", "50").returncode == 0
    assert storage_version(home / "unify_demo.duckdb") == OF_1_2


def test_an_existing_file_keeps_its_format(home: Path, known: dict[str, str]) -> None:
    file = home / "unify_gtm.duckdb"
    with duckdb.connect(str(file), config={"storage_compatibility_version": "latest"}):
        pass
    newest = storage_version(file)

    assert command("sync", **known).returncode == 0
    assert storage_version(file) == newest


def test_the_format_in_dlts_own_setting_is_used(home: Path, known: dict[str, str]) -> None:
    asked = '{"storage_compatibility_version": "v1.0.0"}'

    assert command("sync", **known, **{GLOBAL_CONFIG: asked}).returncode == 0
    assert storage_version(home / "unify_gtm.duckdb") == OF_1_0


def test_a_memory_limit_set_through_dlt_is_kept(
    pipeline: dlt.Pipeline, known: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(GLOBAL_CONFIG, '{"memory_limit": "1GiB"}')
    # Every connection of a process to one file has the same limit.
    with duckdb.connect("unify_gtm.duckdb") as database:
        sync(pipeline, api_key=KEY, base_url=known["SOURCES__UNIFY__BASE_URL"])
        limit = database.execute("SELECT current_setting('memory_limit')").fetchone()
    assert limit == ("1.0 GiB",)


def test_duckdb_without_enough_memory_is_an_error_that_names_its_setting() -> None:
    long = "SELECT list(repeat('x', 1000000) || number) FROM range(100) AS numbers(number)"
    with (
        duckdb.connect(config={"memory_limit": "10MB", "temp_directory": ""}) as database,
        pytest.raises(duckdb.OutOfMemoryException) as caught,
    ):
        database.execute(long).fetchall()

    error = str(meaning(DatabaseTransientException(caught.value)))

    assert "Nothing is lost" in error
    assert GLOBAL_CONFIG in error
    assert "memory_limit" in error
