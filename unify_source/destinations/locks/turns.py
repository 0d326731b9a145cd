"""Lets runs on one dataset take turns, by a lock beside the data that dies with its holder.

DuckDB: a file beside the database, locked by the operating system. Postgres: an advisory lock in
the database. Elsewhere a lease: a claim that its holder renews, and that expires if it dies.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import dlt
from dlt.destinations.exceptions import DestinationConnectionError
from filelock import FileLock, Timeout

from unify_source.common.dlt_seam import kind_of
from unify_source.common.errors import LoadFailed
from unify_source.common.settings import LOCK_TIMEOUT
from unify_source.destinations.duckdb_file import (
    NO_MERGES,
    duckdb_database,
    file_of,
    make_readable_by_older,
)
from unify_source.destinations.locks.lease import leased_turn
from unify_source.destinations.locks.postgres import postgres_turn
from unify_source.destinations.locks.wait import Held, Holder, Legacy, Wait, this_run

_FOREVER = 1e9


class Turns:
    """Hands out turns on a pipeline's dataset; `turn` waits up to `timeout` seconds for the first.

    For later ones it waits as long as it takes: a run that let another in must not fail because
    that one's window is long. With a lease, `legacy` passes on what runs that died have left.
    """

    def __init__(
        self, pipeline: dlt.Pipeline, timeout: float | str, legacy: Legacy = lambda _: ""
    ) -> None:
        self._pipeline, self._legacy = pipeline, legacy
        self._timeout = seconds_to_wait(timeout)
        self._locks: tuple[Held, ...] = ()
        self._taken = ExitStack()

    def take(self) -> None:
        """Take a turn unless this is one already; it is kept until `release`. Raises LockHeld."""
        if not self._locks:
            self._taken.enter_context(self.turn())

    def release(self) -> None:
        """Give up the turn."""
        self._taken.close()

    def refuse_lost(self) -> None:
        """Raise LoadFailed if the lock was lost: its connection broke, or its lease expired."""
        if not self._locks or not all(lock.is_held() for lock in self._locks):
            raise LoadFailed(
                "This run lost its lock on the dataset: the connection broke, or it could not renew"
                " its claim. The window in progress was not committed.",
                "Nothing is lost: run it again and it resumes from there.",
            )

    def is_wanted(self) -> bool:
        """Tell whether another run waits for the turn that this one has."""
        return any(lock.is_wanted() for lock in self._locks)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold dlt's working folder, which two projects may share, and the dataset.

        Raises LockHeld.
        """
        folder = Path(self._pipeline.pipelines_dir)
        folder.mkdir(parents=True, exist_ok=True)
        wait = Wait(self._timeout)
        with (
            # Always the folder before the dataset: two runs that locked them in different orders
            # could deadlock.
            _file_turn(folder / self._pipeline.pipeline_name, wait) as of_folder,
            self._dataset_turn(wait) as of_dataset,
        ):
            self._locks = (of_folder, of_dataset)
            self._timeout = _FOREVER
            try:
                yield
            finally:
                self._locks = ()

    def _dataset_turn(self, wait: Wait) -> AbstractContextManager[Held]:
        kind = kind_of(self._pipeline.destination)
        if kind == "duckdb":
            # Entering the client would open the file, which another run may have.
            client = self._pipeline.destination_client()
            file = file_of(client)
            # A database in memory belongs to this process alone.
            return _database_turn(client, file, wait) if file else nullcontext(Held())
        if kind == "postgres":
            return postgres_turn(self._pipeline, wait)
        return leased_turn(self._pipeline, wait, self._legacy)


def seconds_to_wait(timeout: float | str) -> float:
    """Return a timeout as a number. Raises ConfigurationError for an invalid one."""
    return float(str(LOCK_TIMEOUT.read("lock_timeout", timeout)))


@contextmanager
def opened_file(pipeline: dlt.Pipeline, timeout: float | str) -> Iterator[None]:
    """Hold a pipeline's DuckDB file open, if it has one that exists, without taking turns.

    Waits for a process that has it open. Leaves no lock file behind. Raises LockHeld.
    """
    seconds = seconds_to_wait(timeout)
    database = duckdb_database(pipeline)
    if database is None or not database.has_content:
        yield
        return
    client: Any = pipeline.destination_client()
    with _held_open(client.sql_client, Wait(seconds)):
        yield


@contextmanager
def _held_open(client: Any, wait: Wait) -> Iterator[None]:
    while holder := _opened_by(client):
        wait.pause(holder.copy)
    # Only a run knows whether rows are too long to be merged. Other commands merge none.
    client.execute_sql(NO_MERGES)
    try:
        yield
    finally:
        client.close_connection()


@contextmanager
def _database_turn(client: Any, file: Path, wait: Wait) -> Iterator[Held]:
    with _file_turn(file, wait) as held:
        make_readable_by_older(client.config.credentials, file)
        # Held open, because DuckDB checkpoints whenever the last connection is closed.
        with _held_open(client.sql_client, wait):
            yield held


@contextmanager
def _file_turn(file: Path, wait: Wait) -> Iterator[Held]:
    note = file.with_name(file.name + ".lock.json")
    lock = FileLock(str(file) + ".lock")
    # A waiting run holds this one, so that the holder sees it and lets it go first.
    with _acquired(_queue(file), note, wait):
        _acquired(lock, note, wait)
    try:
        # Only for people: a file lock does not say who holds it.
        note.write_text(json.dumps(this_run()))
        yield Held(is_wanted=lambda: _is_queued_for(file))
    finally:
        with suppress(OSError):
            # Before the lock is released: later the note could be that of the next holder.
            note.unlink()
        lock.release()


def _acquired(lock: FileLock, note: Path, wait: Wait) -> AbstractContextManager[Any]:
    # filelock's own waiting ignores signals.
    while True:
        with suppress(Timeout):
            return lock.acquire(timeout=0)
        wait.pause(lambda: _read_note(note))


def _queue(file: Path) -> FileLock:
    return FileLock(str(file) + ".lock.next")


def _is_queued_for(file: Path) -> bool:
    try:
        with _queue(file).acquire(timeout=0):
            return False
    except Timeout:
        return True


def _opened_by(client: Any) -> Holder | None:
    # Any program that has the file open, even a reader, prevents others from writing.
    try:
        client.open_connection()
    except DestinationConnectionError as error:
        # dlt raises this error for any file that cannot be opened. Only DuckDB's text says that it
        # is locked, and waiting helps only then.
        if "Could not set lock" not in str(error):
            raise
        _, _, holder = str(error).partition("Conflicting lock is held in ")
        return {"what": holder.split(". ", maxsplit=1)[0] or "another program"}
    return None


def _read_note(note: Path) -> Holder:
    try:
        # It may be incomplete, or left by a run that was killed: nothing relies on it.
        holder = json.loads(note.read_text())
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}
