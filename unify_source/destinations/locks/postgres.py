"""Locks a dataset in Postgres with an advisory lock, which ends with its holder's session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import dlt
from dlt.destinations.exceptions import DatabaseException

from unify_source.destinations.locks.wait import Held, Holder, Wait, this_run

# Postgres truncates a session's name to this length.
_LONGEST_NAME = 63
# A machine that vanishes without a word loses its lock after a minute, not the default two hours.
_OF_THE_SESSION = {
    "tcp_keepalives_idle": 30,
    "tcp_keepalives_interval": 10,
    "tcp_keepalives_count": 3,
}
# The lock's session is idle while a window is read. Servers before 14 do not end idle sessions.
_STAY = "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'"
# An advisory lock is a number, shared by the whole database. Two datasets whose names hash alike
# would share it, which is slow but safe.
_TRY = "SELECT pg_try_advisory_lock(hashtext(%s))"
_LET_GO = "SELECT pg_advisory_unlock(hashtext(%s))"
# `pg_locks` shows a lock of one 64-bit number in two halves, the lower in `objid`, and marks it
# with `objsubid` 1. hashtext is signed, an oid is unsigned.
_HOLDER = (
    "FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted"
    " AND objsubid = 1 AND objid = (hashtext(%s)::bigint & 4294967295)::oid"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@contextmanager
def postgres_turn(pipeline: dlt.Pipeline, wait: Wait) -> Iterator[Held]:
    """Hold a pipeline's dataset. Raises LockHeld."""
    with pipeline.sql_client() as client:
        key = f"unify-source {client.dataset_name}"
        queue = f"{key}, next"
        for setting, value in _OF_THE_SESSION.items():
            client.execute_sql(f"SET {setting} = {value}")
        client.execute_sql(_STAY)
        # A waiting run holds the second key: the holder sees it, and lets it go first.
        for wanted in (queue, key):
            # Polled: `pg_advisory_lock` would wait inside the driver, where signals do not arrive.
            while not _true(client, _TRY, wanted):
                wait.pause(lambda: _holder(client, key))
        client.execute_sql(_LET_GO, queue)
        # Others read it from here: a role sees the name of another role's session, but little else.
        client.execute_sql("SELECT set_config('application_name', %s, false)", _session_name())
        try:
            yield Held(lambda: _holds(client, key), lambda: _is_locked(client, queue))
        finally:
            # If the connection broke, the lock is already released.
            with suppress(Exception):
                client.execute_sql(_LET_GO, key)


def _is_locked(client: Any, key: str) -> bool:
    is_free = _true(client, _TRY, key)
    if is_free:
        client.execute_sql(_LET_GO, key)
    return not is_free


def _holds(client: Any, key: str) -> bool:
    try:
        # Only if this very session holds it: after the connection broke, a new session holds
        # nothing.
        return _true(client, f"SELECT count(*) = 1 {_HOLDER} AND pid = pg_backend_pid()", key)
    except DatabaseException:
        return False


def _true(client: Any, question: str, key: str) -> bool:
    rows = client.execute_sql(question, key)
    return bool(rows and rows[0][0])


def _session_name() -> str:
    me = this_run()
    return f"unify-source {me['since']} {me['what'].split()[-1]} {me['where']}"[:_LONGEST_NAME]


def _holder(client: Any, key: str) -> Holder:
    rows = client.execute_sql(f"SELECT application_name {_HOLDER}", key)
    words = str(rows[0][0]).split(" ", maxsplit=3) if rows else []
    if len(words) < 4 or words[0] != "unify-source":  # noqa: PLR2004 - what `_session_name` writes
        return {}
    return {"since": words[1], "what": f"process {words[2]}", "where": words[3]}
