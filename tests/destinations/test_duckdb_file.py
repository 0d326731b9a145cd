"""The DuckDB file of a new user opens in the DuckDB that they have."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import dlt
import duckdb
import pytest
from commands import command
from conftest import KEY
from dlt.destinations.exceptions import DatabaseTransientException

from unify_source import sync
from unify_source.load.configuration.dlt_errors import meaning
from unify_source.sandbox import Account, Sandbox

# What the header of a file says of the oldest DuckDB that reads it.
OF_1_0, OF_1_3 = 64, 66
GLOBAL_CONFIG = "DESTINATION__DUCKDB__CREDENTIALS__GLOBAL_CONFIG"


def storage_version(file: Path) -> int:
    header = file.read_bytes()[:20]
    assert header[8:12] == b"DUCK"
    return int.from_bytes(header[12:20], "little")


@pytest.fixture
def known(serve: Callable[..., Sandbox]) -> dict[str, str]:
    """Start a sandbox, and return what to set to reach it."""
    return {"SOURCES__UNIFY__BASE_URL": serve(Account(50)).url, "UNIFY_API_KEY": KEY}


def test_a_new_file_opens_in_every_duckdb_from_1_3_on(home: Path, known: dict[str, str]) -> None:
    for _ in range(2):
        assert command("sync", **known).returncode == 0
        assert storage_version(home / "unify_gtm.duckdb") == OF_1_3
    assert command("demo", "--enrollments", "50").returncode == 0
    assert storage_version(home / "unify_demo.duckdb") == OF_1_3


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


def make_folder(file: Path) -> str:
    file.mkdir()
    return "is a folder"


def make_pipe(file: Path) -> str:
    os.mkfifo(file)
    return "is not a file"


def make_text(file: Path) -> str:
    file.write_text("a text, such as a page of an error, saved under the name of the database")
    return "is not a DuckDB database"


def make_sqlite(file: Path) -> str:
    with closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE other (id)")
    return "is not a DuckDB database"


def make_link_to_nowhere(file: Path) -> str:
    file.symlink_to(file.parent / "not mounted" / "warehouse.duckdb")
    return "whose folder does not exist"


@pytest.mark.parametrize("words", [("sync",), ("check",), ("status",), ("models",)], ids=" ".join)
@pytest.mark.parametrize(
    "make", [make_folder, make_pipe, make_text, make_sqlite, make_link_to_nowhere]
)
def test_what_is_no_file_is_refused_before_any_request(
    make: Callable[[Path], str], words: tuple[str, ...], home: Path
) -> None:
    what = make(home / "unify_gtm.duckdb")

    ran = command(*words, UNIFY_API_KEY=KEY, SOURCES__UNIFY__BASE_URL="http://127.0.0.1:1")

    assert ran.returncode == 2, ran.stderr
    assert what in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("file", "what"),
    [
        (":memory:", "in memory, and gone with this run"),
        ("information_schema.duckdb", "the name of a schema of DuckDB's own"),
        ("PG_CATALOG.db", "the name of a schema of DuckDB's own"),
    ],
)
def test_a_database_in_memory_or_with_a_reserved_name_is_refused(
    file: str, what: str, home: Path
) -> None:
    for words in (("check",), ("sync",), ("status",)):
        ran = command(*words, UNIFY_API_KEY=KEY, DESTINATION__DUCKDB__CREDENTIALS=file)
        assert ran.returncode == 2, ran.stderr
        assert what in ran.stderr
    assert list(home.iterdir()) == []


def make_link(file: Path) -> None:
    file.symlink_to(file.parent / "warehouse.duckdb")


def test_dlts_setting_deletes_the_copies_of_a_load(home: Path, known: dict[str, str]) -> None:
    assert command("sync", **known, LOAD__TRUNCATE_STAGING_DATASET="true").returncode == 0

    with duckdb.connect(str(home / "unify_gtm.duckdb")) as database:
        for dataset, rows in (("unify", 50), ("unify_staging", 0)):
            (counted,) = database.sql(f"SELECT count(*) FROM {dataset}.enrollments").fetchall()
            assert counted == (rows,), dataset


@pytest.mark.long
@pytest.mark.parametrize("make", [Path.touch, make_link])
def test_an_empty_file_and_a_link_to_none_are_filled(
    make: Callable[[Path], None], home: Path, known: dict[str, str]
) -> None:
    file = home / "unify_gtm.duckdb"
    make(file)
    is_link = file.is_symlink()

    for words in (("check",), ("status",), ("sync",), ("sync",)):
        assert command(*words, **known).returncode == 0, words

    assert file.is_symlink() == is_link
    assert storage_version(file) == OF_1_3


def test_an_error_of_duckdbs_own_is_one_sentence(
    pipeline: dlt.Pipeline, known: dict[str, str]
) -> None:
    sync(pipeline, api_key=KEY, base_url=known["SOURCES__UNIFY__BASE_URL"])
    with duckdb.connect("unify_gtm.duckdb") as database:
        database.execute("ALTER TABLE unify.people DROP COLUMN email")

    ran = command("verify", **known)

    assert ran.returncode == 1
    assert "email" in ran.stderr
    assert "Traceback" not in ran.stderr


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
