"""Runs on one dataset take turns: a lock that is kept where the data is, and dies with its holder.

DuckDB: a file beside the database, locked by the operating system. Postgres: an advisory lock in
the database. Other destinations can offer neither, so that their runs must not overlap.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dlt
from dlt.destinations.exceptions import DestinationConnectionError
from filelock import FileLock, Timeout

from unify_source.errors import ConfigurationError, LockHeld

LOCK_TIMEOUT = 60.0
_FOREVER = 1e9
_POLL_SECONDS = 0.05


class Turns:
    """Hands out turns on a pipeline's dataset; `turn` waits up to `timeout` seconds for one."""

    def __init__(self, pipeline: dlt.Pipeline, timeout: float) -> None:
        if not 0 <= timeout < _FOREVER:
            raise ConfigurationError(
                f"lock_timeout is {timeout}, which is no number of seconds to wait.",
                "Choose 0 or more.",
            )
        self._pipeline = pipeline
        self._timeout = timeout

    def is_wanted(self) -> bool:
        """Tell whether another run waits for the turn that this one has."""
        database = _database_file(self._pipeline) if self._kind() == "duckdb" else None
        return any(_is_queued_for(file) for file in (self._folder(), database) if file)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold dlt's working folder, which two projects may share, and the dataset.

        Raises LockHeld.
        """
        folder = self._folder()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _file_turn(folder, self._timeout), self._dataset_turn():
            yield

    def _folder(self) -> Path:
        return Path(self._pipeline.pipelines_dir) / self._pipeline.pipeline_name

    def _kind(self) -> str:
        return self._pipeline.destination.destination_type.rsplit(".")[-1]

    def _dataset_turn(self) -> AbstractContextManager[None]:
        kind = self._kind()
        if kind == "duckdb" and (file := _database_file(self._pipeline)):
            return _database_turn(self._pipeline, file, self._timeout)
        if kind == "postgres":
            return _postgres_turn(self._pipeline, self._timeout)
        return nullcontext()


def _database_file(pipeline: dlt.Pipeline) -> Path | None:
    # Entering the client would open the file, which another run may have.
    credentials: Any = pipeline.destination_client().config.credentials
    name = credentials._conn_str()  # noqa: SLF001 - dlt has no public name for the file
    return None if name.startswith(":") or "://" in name else Path(name)


@contextmanager
def _database_turn(pipeline: dlt.Pipeline, file: Path, timeout: float) -> Iterator[None]:
    until = time.monotonic() + timeout
    with _file_turn(file, timeout):
        # Held open, for DuckDB writes all to disk whenever the last connection is closed.
        client = _opened(pipeline, until, timeout)
        try:
            yield
        finally:
            client.close_connection()


@contextmanager
def _file_turn(file: Path, timeout: float) -> Iterator[None]:
    note = file.with_name(file.name + ".lock.json")
    lock = FileLock(str(file) + ".lock")
    until = time.monotonic() + timeout
    try:
        # Who waits holds this one: so the holder sees it, and does not overtake it.
        with _queue(file).acquire(timeout=timeout, poll_interval=_POLL_SECONDS):
            left = max(0.0, until - time.monotonic())
            lock.acquire(timeout=left, poll_interval=_POLL_SECONDS)
    except Timeout:
        raise _held(_read_note(note), timeout) from None
    try:
        note.write_text(json.dumps(_who()))
        yield
    finally:
        with suppress(OSError):
            note.unlink()
        lock.release()


def _queue(file: Path) -> FileLock:
    return FileLock(str(file) + ".lock.next")


def _is_queued_for(file: Path) -> bool:
    try:
        with _queue(file).acquire(timeout=0):
            return False
    except Timeout:
        return True


def _opened(pipeline: dlt.Pipeline, until: float, timeout: float) -> Any:
    # Any program that has the file open keeps others from writing, a reader included.
    while True:
        client: Any = pipeline.destination_client()
        try:
            client.sql_client.open_connection()
        except DestinationConnectionError as error:
            if "Could not set lock" not in str(error):
                raise
            if time.monotonic() >= until:
                raise _held({"what": _database_holder(str(error))}, timeout) from None
            time.sleep(_POLL_SECONDS)
        else:
            return client.sql_client


def _database_holder(message: str) -> str:
    start = message.find("Conflicting lock is held in ")
    return message[start + 28 :].split(". ", maxsplit=1)[0] if start >= 0 else "another program"


def _who() -> dict[str, str]:
    now = datetime.now(timezone.utc)
    return {
        "what": f"process {os.getpid()}",
        "where": socket.gethostname(),
        "since": now.isoformat(timespec="seconds"),
    }


def _read_note(note: Path) -> dict[str, str]:
    try:
        found = json.loads(note.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _held(holder: dict[str, str], timeout: float) -> LockHeld:
    who = holder.get("what", "another run")
    where = f" on {holder['where']}" if "where" in holder else ""
    since = f" since {holder['since']}" if "since" in holder else ""
    return LockHeld(
        f"The dataset is in use: {who}{where} has held it{since}, for longer than {timeout:g} s.",
        "Nothing was loaded: run it again later, or wait longer with --lock-timeout.",
    )


@contextmanager
def _postgres_turn(pipeline: dlt.Pipeline, timeout: float) -> Iterator[None]:
    key = f"unify-source {pipeline.dataset_name}"
    until = time.monotonic() + timeout
    with pipeline.sql_client() as client:
        me = _who()
        name = f"unify-source {me['where'][:30]} {os.getpid()}"
        client.execute_sql(f"SET application_name = '{name}'")
        while not _true(client, "SELECT pg_try_advisory_lock(hashtext(%s))", key):
            if time.monotonic() >= until:
                raise _held(_postgres_holder(client, key), timeout)
            time.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            # A connection that broke has let go of the lock by itself.
            with suppress(Exception):
                client.execute_sql("SELECT pg_advisory_unlock(hashtext(%s))", key)


def _true(client: Any, question: str, key: str) -> bool:
    found = client.execute_sql(question, key)
    return bool(found and found[0][0])


def _postgres_holder(client: Any, key: str) -> dict[str, str]:
    found = client.execute_sql(
        "SELECT a.application_name, coalesce(host(a.client_addr), 'this machine'), a.query_start"
        " FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory'"
        " AND l.granted AND l.objid = (hashtext(%s)::bigint & 4294967295)::oid",
        key,
    )
    if not found:
        return {}
    what, where, since = found[0]
    return {"what": what, "where": where, "since": since.isoformat(timespec="seconds")}
