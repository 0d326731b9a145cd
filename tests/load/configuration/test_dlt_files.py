"""Nothing that dlt writes holds a secret: not its trace, nor its failed jobs, nor its log."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dlt
import psycopg2
import pytest
from commands import command
from conftest import KEY
from dlt.common.destination.exceptions import DestinationTerminalException
from dlt.common.exceptions import DltException
from dlt.common.typing import TDataItems
from dlt.pipeline.exceptions import PipelineStepFailed
from patience import PATIENCE

from unify_source import unify_source
from unify_source.common.dlt_seam import dlt_log
from unify_source.sandbox import Account, Sandbox

Serve = Callable[..., Sandbox]

PASSWORDS = [
    "p@ss-w0rd-7",
    "p/ss-w0rd-7",
    "p ss-w0rd-7",
    "p%ss-w0rd-7",
    "p:ss@w0rd-7",
    "p?ss-w0rd-7",
]
ADDRESSES = [
    *(f"postgresql://loader:{password}@127.0.0.1:1/warehouse" for password in PASSWORDS),
    *(f"postgresql://loader:{quote(p, safe='')}@127.0.0.1:1/warehouse" for p in PASSWORDS),
    *(f"host=127.0.0.1 port=1 user=loader password='{password}'" for password in PASSWORDS),
]
PARTS = ("ss-w0rd-7", "w0rd-7", KEY)


@pytest.fixture
def log(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Collect what dlt logs at DEBUG."""
    monkeypatch.setenv("RUNTIME__LOG_LEVEL", "DEBUG")
    # The first pipeline of a process sets up the log.
    dlt.pipeline("first", pipelines_dir=str(home))
    written, logger = io.StringIO(), dlt_log()
    assert logger
    handler, level = logging.StreamHandler(written), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield written
    logger.removeHandler(handler)
    logger.setLevel(level)


def shown(folder: Path, *texts: str) -> list[str]:
    """Return the files and texts that contain part of a secret."""
    files = {
        str(path): path.read_bytes().decode(errors="replace")
        for path in folder.rglob("*")
        if path.is_file()
    }
    everywhere = {**files, **{f"text {number}": text for number, text in enumerate(texts)}}
    return [place for place, text in everywhere.items() if any(part in text for part in PARTS)]


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_file_of_a_load_that_could_not_connect_holds_a_password(
    address: str, serve: Serve, home: Path, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", address)
    pipeline = dlt.pipeline("p", destination="postgres", dataset_name="d", pipelines_dir=str(home))

    with pytest.raises((DltException, psycopg2.Error)):
        pipeline.run(unify_source(api_key=KEY, base_url=serve(Account(5)).url))

    assert log.getvalue()
    assert shown(home, log.getvalue(), str(pipeline.last_trace)) == []


@pytest.mark.parametrize("error", [DestinationTerminalException, ValueError])
def test_no_file_of_a_failed_job_holds_what_the_driver_quoted(
    error: type[Exception], serve: Serve, home: Path, log: io.StringIO, monkeypatch: Any
) -> None:
    monkeypatch.setenv("LOAD__RAISE_ON_MAX_RETRIES", "2")
    monkeypatch.setenv("DESTINATION__QUOTING__PASSWORD", PASSWORDS[0])

    @dlt.destination(name="quoting", loader_file_format="parquet", batch_size=0)
    def quoting(_items: TDataItems, _table: Any, password: str = dlt.secrets.value) -> None:
        raise error(f"could not connect with {password!r}, {password.partition('@')[2]} and {KEY}")

    pipeline = dlt.pipeline("p", destination=quoting, pipelines_dir=str(home))
    source = unify_source(api_key=KEY, base_url=serve(Account(5)).url)
    with pytest.raises(PipelineStepFailed):
        pipeline.run(source.with_resources("people"))

    messages = [file.read_text() for file in home.rglob("*.exception")]
    assert messages
    assert [text for text in messages if "could not connect with '***'" in text]
    assert "could not connect with '***'" in str(pipeline.last_trace)
    assert shown(home, log.getvalue(), str(pipeline.last_trace)) == []


KILLED_IN_MID_LOAD = """
import os, signal, sys
import dlt, psycopg2
from unify_source import unify_source

calls = []

@dlt.destination(name="quoting", loader_file_format="parquet", batch_size=0)
def quoting(_items, _table, password: str = dlt.secrets.value):
    calls.append(1)
    if len(calls) > 1:
        os.kill(os.getpid(), signal.SIGKILL)
    # libpq takes what follows the first @ for a host, and quotes it.
    psycopg2.connect(f"postgresql://loader:{password}@127.0.0.1:1/warehouse")

pipeline = dlt.pipeline("p", destination=quoting, pipelines_dir=sys.argv[1])
pipeline.run(unify_source(base_url=sys.argv[2]).with_resources("people"))
"""


def test_a_load_killed_while_retrying_leaves_no_password_from_libpq(
    serve: Serve, home: Path
) -> None:
    given = {"DESTINATION__QUOTING__PASSWORD": PASSWORDS[0], "SOURCES__UNIFY__API_KEY": KEY}
    words = [sys.executable, "-c", KILLED_IN_MID_LOAD, str(home), serve(Account(5)).url]
    ran = subprocess.run(
        words,
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    messages = [file.read_text() for file in home.rglob("*.exception")]
    assert ran.returncode == -signal.SIGKILL
    assert [text for text in messages if "could not translate host name" in text]
    assert shown(home, ran.stdout, ran.stderr) == []


@pytest.mark.parametrize("destination", ["postgres", "duckdb"])
def test_nothing_that_a_failed_command_leaves_or_logs_holds_a_secret(
    destination: str, serve: Serve, home: Path
) -> None:
    words = ["--destination", destination, "--pipelines-dir", str(home / "kept"), "--verbose"]
    (home / "broken.duckdb").write_text("not a database")
    ran = command(
        "sync",
        *words,
        UNIFY_API_KEY=KEY,
        TMPDIR=str(home),
        RUNTIME__LOG_LEVEL="DEBUG",
        SOURCES__UNIFY__BASE_URL=serve(Account(5)).url,
        SOURCES__UNIFY__RETRY_BUDGET="1",
        DESTINATION__POSTGRES__CREDENTIALS=ADDRESSES[0],
        DESTINATION__DUCKDB__CREDENTIALS=str(home / "broken.duckdb"),
    )

    assert ran.returncode in (1, 2)
    assert shown(home, ran.stdout, ran.stderr) == []
