"""Runs on one dataset take turns: a lock that is kept where the data is, and dies with its holder.

DuckDB: a file beside the database, locked by the operating system. Postgres: an advisory lock in
the database. Other destinations can offer neither, so that their runs must not overlap.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dlt
from dlt.common.runtime.signals import raise_if_signalled
from dlt.destinations.exceptions import DatabaseException, DestinationConnectionError
from filelock import FileLock, Timeout

from unify_source.errors import ConfigurationError, LockHeld

LOCK_TIMEOUT = 60.0
_FOREVER = 1e9
_POLL_SECONDS = 0.05
# Postgres cuts the name of a session there.
_LONGEST_NAME = 63
# A machine that vanishes without a word lets go after a minute, not after the system's two hours.
_OF_THE_SESSION = {
    "tcp_keepalives_idle": 30,
    "tcp_keepalives_interval": 10,
    "tcp_keepalives_count": 3,
}
# The lock's session says nothing while a window is read. Servers below 14 end no idle ones.
_STAY = "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'"
_TRY = "SELECT pg_try_advisory_lock(hashtext(%s))"
_LET_GO = "SELECT pg_advisory_unlock(hashtext(%s))"
_HOLDER = (
    "FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted"
    " AND objsubid = 1 AND objid = (hashtext(%s)::bigint & 4294967295)::oid"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@dataclass(frozen=True)
class Held:
    """A lock that is held: whether it still is, and whether another run waits for it."""

    is_held: Callable[[], bool] = lambda: True
    is_wanted: Callable[[], bool] = lambda: False


class Turns:
    """Hands out turns on a pipeline's dataset; `turn` waits up to `timeout` seconds for the first.

    For the next it waits as long as it takes: who gave way is not ended by the other's long window.
    """

    def __init__(self, pipeline: dlt.Pipeline, timeout: float) -> None:
        if not 0 <= timeout < _FOREVER:
            raise ConfigurationError(
                f"lock_timeout is {timeout}, which is no number of seconds to wait.",
                "Choose 0 or more.",
            )
        self._pipeline = pipeline
        self._timeout = timeout
        self._locks: tuple[Held, ...] = ()

    def is_held(self) -> bool:
        """Tell whether the turn is still ours: the connection that holds it may have been lost."""
        return bool(self._locks) and all(lock.is_held() for lock in self._locks)

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
        with (
            _file_turn(folder / self._pipeline.pipeline_name, self._timeout) as of_folder,
            self._dataset_turn() as of_dataset,
        ):
            self._locks = (of_folder, of_dataset)
            self._timeout = _FOREVER
            try:
                yield
            finally:
                self._locks = ()

    def _dataset_turn(self) -> AbstractContextManager[Held]:
        kind = self._pipeline.destination.destination_type.rsplit(".")[-1]
        if kind == "duckdb":
            # Entering the client would open the file, which another run may have.
            client = self._pipeline.destination_client()
            if file := _database_file(client):
                return _database_turn(client, file, self._timeout)
        if kind == "postgres":
            return _postgres_turn(self._pipeline, self._timeout)
        return nullcontext(Held())


def _database_file(client: Any) -> Path | None:
    name = client.config.credentials._conn_str()  # noqa: SLF001 - dlt has no public name for it
    return None if name.startswith(":") or "://" in name else Path(name)


@contextmanager
def _database_turn(client: Any, file: Path, timeout: float) -> Iterator[Held]:
    until = time.monotonic() + timeout
    with _file_turn(file, timeout) as held:
        # Held open, for DuckDB writes all to disk whenever the last connection is closed.
        _open(client.sql_client, until, timeout)
        try:
            yield held
        finally:
            client.sql_client.close_connection()


@contextmanager
def _file_turn(file: Path, timeout: float) -> Iterator[Held]:
    note = file.with_name(file.name + ".lock.json")
    lock = FileLock(str(file) + ".lock")
    until = time.monotonic() + timeout
    try:
        # Who waits holds this one: so the holder sees it, and does not overtake it.
        with _acquired(_queue(file), until):
            _acquired(lock, until)
    except Timeout:
        raise _held(_read_note(note), timeout) from None
    try:
        note.write_text(json.dumps(_who()))
        yield Held(is_wanted=lambda: _is_queued_for(file))
    finally:
        with suppress(OSError):
            note.unlink()
        lock.release()


def _acquired(lock: FileLock, until: float) -> AbstractContextManager[Any]:
    # The lock's own waiting hears no signal.
    while True:
        try:
            return lock.acquire(timeout=0)
        except Timeout:
            if time.monotonic() >= until:
                raise
        _pause()


def _pause() -> None:
    raise_if_signalled()
    time.sleep(_POLL_SECONDS)


def _queue(file: Path) -> FileLock:
    return FileLock(str(file) + ".lock.next")


def _is_queued_for(file: Path) -> bool:
    try:
        with _queue(file).acquire(timeout=0):
            return False
    except Timeout:
        return True


def _open(client: Any, until: float, timeout: float) -> None:
    # Any program that has the file open keeps others from writing, a reader included.
    while True:
        try:
            client.open_connection()
        except DestinationConnectionError as error:
            if "Could not set lock" not in str(error):
                raise
            if time.monotonic() >= until:
                raise _held({"what": _database_holder(str(error))}, timeout) from None
            _pause()
        else:
            return


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
def _postgres_turn(pipeline: dlt.Pipeline, timeout: float) -> Iterator[Held]:
    until = time.monotonic() + timeout
    with pipeline.sql_client() as client:
        key = f"unify-source {client.dataset_name}"
        queue = f"{key}, next"
        for setting, value in _OF_THE_SESSION.items():
            client.execute_sql(f"SET {setting} = {value}")
        client.execute_sql(_STAY)
        # Who waits holds the second key: so the holder sees it, and does not overtake it.
        for wanted in (queue, key):
            while not _true(client, _TRY, wanted):
                if time.monotonic() >= until:
                    raise _held(_postgres_holder(client, key), timeout)
                _pause()
        client.execute_sql(_LET_GO, queue)
        # Others read it from here: a role may see the name of another's session, and little else.
        client.execute_sql("SELECT set_config('application_name', %s, false)", _session_name())
        try:
            yield Held(lambda: _holds(client, key), lambda: _is_locked(client, queue))
        finally:
            # A connection that broke has let go of the lock by itself.
            with suppress(Exception):
                client.execute_sql(_LET_GO, key)


def _is_locked(client: Any, key: str) -> bool:
    is_free = _true(client, _TRY, key)
    if is_free:
        client.execute_sql(_LET_GO, key)
    return not is_free


def _holds(client: Any, key: str) -> bool:
    try:
        return _true(client, f"SELECT count(*) = 1 {_HOLDER} AND pid = pg_backend_pid()", key)
    except DatabaseException:
        return False


def _true(client: Any, question: str, key: str) -> bool:
    found = client.execute_sql(question, key)
    return bool(found and found[0][0])


def _session_name() -> str:
    me = _who()
    return f"unify-source {me['since']} {me['what'].split()[-1]} {me['where']}"[:_LONGEST_NAME]


def _postgres_holder(client: Any, key: str) -> dict[str, str]:
    found = client.execute_sql(f"SELECT application_name {_HOLDER}", key)
    words = str(found[0][0]).split(" ", maxsplit=3) if found else []
    if len(words) < 4 or words[0] != "unify-source":  # noqa: PLR2004 - what `_session_name` writes
        return {}
    return {"since": words[1], "what": f"process {words[2]}", "where": words[3]}
