"""An exported file has the rows of its table or model, in every format."""

from __future__ import annotations

import csv
import json
import os
import resource
import sys
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dlt
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import command, only_json
from conftest import KEY
from modeled import both

from unify_source import export
from unify_source.common.errors import ConfigurationError
from unify_source.runs.analysis.files import part_of
from unify_source.sandbox import DRIFTS, Account, Sandbox

Rows = list[tuple[Any, ...]]

BERLIN = ZoneInfo("Europe/Berlin")
NAMES = (
    "enrollments",
    "reply_email_messages",
    "send_schedules",
    "fct_enrollments",
    "cohort_weekly",
)
HOSTILE = ("=1+1", "+49 30 1", "@SUM(A1)", "-1", "007", 'a "b", c', "two\nlines", "", "Ω 🤖")


@pytest.fixture(scope="module")
def pipelines(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: str
) -> Iterator[dict[str, dlt.Pipeline]]:
    """Yield a pipeline on each database, with hostile subjects and undocumented fields."""
    folder = tmp_path_factory.mktemp("export")
    account = Account(60)
    replied = [row for row in account.rows() if row["reply_email_message"]]
    for row, subject in zip(replied, HOSTILE, strict=False):
        reply = {**row["reply_email_message"], "subject": subject}
        account.put({**row, "reply_email_message": reply})
    with (
        Sandbox(account, key=KEY, reshape=DRIFTS["new-fields"]) as api,
        both(folder, postgres_server, api) as loaded,
    ):
        yield {database.kind: database.pipeline(folder) for database in loaded}


@pytest.mark.parametrize("kind", ["duckdb", "postgres"])
def test_each_format_holds_every_row_of_a_table_or_model(
    pipelines: dict[str, dlt.Pipeline], kind: str
) -> None:
    for name in NAMES:
        written = {export(pipelines[kind], name, f"{name}.{ending}") for ending in ENDINGS}

        texts, values, cells = of_csv(name), of_parquet(name), of_xlsx(name)

        assert {one.rows for one in written} == {len(values)} != {0}
        assert texts == [tuple(as_text(value) for value in row) for row in values]
        assert cells == [tuple(map(as_cell, row)) for row in values]


def test_subjects_stay_text_whatever_they_look_like(pipelines: dict[str, dlt.Pipeline]) -> None:
    export(pipelines["duckdb"], "reply_email_messages", "replies.xlsx")

    sheet = openpyxl.load_workbook("replies.xlsx").active
    kinds = {cell.value: cell.data_type for row in sheet.iter_rows() for cell in row}

    present = [subject for subject in HOSTILE if subject in kinds and subject]
    assert {"=1+1", "@SUM(A1)", "-1", "007"} <= set(present)
    assert {kinds[subject] for subject in present} == {"s"}


def test_times_are_written_in_the_readers_zone(pipelines: dict[str, dlt.Pipeline]) -> None:
    for ending in ENDINGS:
        export(pipelines["postgres"], "enrollments", f"e.{ending}", time_zone="Europe/Berlin")

    [text, *_], [value, *_], [cell, *_] = of_csv("e"), of_parquet("e"), of_xlsx("e")

    moment: datetime = value[1]
    assert pq.read_schema("e.parquet").field("created_at").type == pa.timestamp(
        "us", "Europe/Berlin"
    )
    assert text[1] == moment.astimezone(BERLIN).isoformat()
    assert text[1].endswith(("+01:00", "+02:00"))
    assert cell[1] == as_cell(moment.astimezone(BERLIN).replace(tzinfo=None))


def test_parquet_keeps_the_types_of_undocumented_columns(
    pipelines: dict[str, dlt.Pipeline],
) -> None:
    for kind, pipeline in pipelines.items():
        export(pipeline, "enrollments", f"{kind}.parquet")
        types = {field.name: field.type for field in pq.read_schema(f"{kind}.parquet")}
        assert types["beta_count"] == pa.int64()
        assert types["beta_share"] == pa.float64()
        assert types["beta_flag"] == pa.bool_()
        [row, *_] = pq.read_table(f"{kind}.parquet").to_pylist()
        assert json.loads(row["beta_list"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"name": "enrolments"}, "There is no table or model 'enrolments'"),
        ({"name": "people", "file": "people.ods"}, "people.ods ends with '.ods'"),
        ({"name": "people", "file": "people"}, "people ends with 'no format'"),
        ({"name": "people", "file": "nowhere/people.csv"}, "nowhere/people.csv cannot be written"),
        ({"name": "people", "time_zone": "Mars/Olympus"}, "time_zone is 'Mars/Olympus'"),
        ({"name": "people", "time_zone": ""}, "time_zone is ''"),
    ],
)
def test_an_impossible_export_is_refused_and_leaves_no_file(
    pipelines: dict[str, dlt.Pipeline], home: Path, given: dict[str, str], sentence: str
) -> None:
    before = sorted(home.iterdir())

    with pytest.raises(ConfigurationError) as refused:
        export(pipelines["duckdb"], **given)

    assert sentence in str(refused.value)
    assert sorted(home.iterdir()) == before


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("ending", ["csv", "parquet", "xlsx"])
def test_on_a_full_disk_an_export_ends_in_a_sentence_and_the_old_file_is_kept(
    pipelines: dict[str, dlt.Pipeline], home: Path, ending: str
) -> None:
    target = home / f"people.{ending}"
    target.write_text("older")
    target.with_name(f".{target.name}-{os.getpid()}").symlink_to("/dev/full")

    with pytest.raises(ConfigurationError, match="No space left on device") as refused:
        export(pipelines["duckdb"], "people", target)

    assert f"{target} cannot be written" in str(refused.value)
    assert "Free some space there" in str(refused.value)
    assert list(home.iterdir()) == [target]
    assert target.read_text() == "older"


def test_a_full_temporary_folder_is_named(pipelines: dict[str, dlt.Pipeline], home: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))
    try:
        with pytest.raises(ConfigurationError, match="No temporary file can be written in"):
            export(pipelines["postgres"], "people", "people.xlsx")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert list(home.iterdir()) == []


def test_a_text_too_long_for_a_sheet_is_refused_and_the_old_file_kept(
    pipelines: dict[str, dlt.Pipeline],
) -> None:
    Path("plays.xlsx").write_text("older")
    with pipelines["postgres"].sql_client() as client:
        client.execute_sql("UPDATE unify.plays SET name = repeat('long', 10000)")

    with pytest.raises(ConfigurationError, match="a cell of 32,767 characters"):
        export(pipelines["postgres"], "plays", "plays.xlsx")

    assert Path("plays.xlsx").read_text() == "older"
    assert export(pipelines["postgres"], "plays").rows > 0


def test_without_xlsxwriter_the_extra_is_named(
    pipelines: dict[str, dlt.Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)

    with pytest.raises(ConfigurationError) as refused:
        export(pipelines["duckdb"], "plays", "plays.xlsx")

    assert "pip install 'unify-source[xlsx]'" in refused.value.next_step


def test_the_command_writes_a_csv_and_reports_it(
    pipelines: dict[str, dlt.Pipeline],
) -> None:
    with pipelines["postgres"].sql_client() as client:
        dsn = client.credentials.to_native_representation()

    ran = command(
        *("export", "people", "--destination", "postgres", "--json"),
        DESTINATION__POSTGRES__CREDENTIALS=dsn,
    )

    assert ran.returncode == 0, ran.stderr
    rows = len(of_csv("people"))
    assert only_json(ran) == {
        "command": "export",
        "name": "people",
        "file": "people.csv",
        "rows": rows,
    }


ENDINGS = ("csv", "parquet", "xlsx")


def of_csv(name: str) -> list[tuple[str, ...]]:
    with Path(f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return [tuple(row) for row in csv.reader(file)][1:]


def of_parquet(name: str) -> Rows:
    return [tuple(row.values()) for row in pq.read_table(f"{name}.parquet").to_pylist()]


def of_xlsx(name: str) -> Rows:
    sheet = openpyxl.load_workbook(f"{name}.xlsx").active
    return list(sheet.iter_rows(values_only=True))[1:]


def as_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.astimezone(ZoneInfo("UTC")).isoformat()
    return "" if value is None else str(value)


def as_cell(value: Any) -> Any:
    """Return a value as it is read back from a sheet: without zone, in milliseconds."""
    if isinstance(value, datetime):
        local = value.astimezone(timezone.utc).replace(tzinfo=None) if value.tzinfo else value
        return pytest.approx(local, abs=timedelta(milliseconds=1))
    if isinstance(value, date):
        return datetime.combine(value, time())
    return value


@pytest.mark.parametrize("folder", [".", "..", "/", "reports"])
def test_a_folder_in_place_of_a_file_is_refused(folder: str, home: Path) -> None:
    (home / "reports").mkdir()

    with pytest.raises(ConfigurationError, match="it is a folder"), part_of(Path(folder)):
        pass
