"""Commands that announce each statement to a test, before and after it is run.

A proxy reads the statements for Postgres. But DuckDB works within the process, and a lake is a
folder: there a process that finds a port in its environment announces what it asks DuckDB,
deltalake and fsspec for, and waits while the test changes the world.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from listening import listening

TELLS = "UNIFY_TEST_TELLS"

_OF_A_LAKE = (
    "deltalake.table TableMerger.execute",
    "dlt.common.libs.deltalake write_deltalake",
    "fsspec.implementations.local LocalFileSystem._open",
)


def prepare() -> None:
    """Let this process announce its statements if its environment names a port."""
    if asked := os.environ.get(TELLS):
        kind, port = asked.split()
        if kind == "duckdb":
            _put_between("duckdb DuckDBPyConnection.execute", _telling_each, int(port))
        else:
            for place in _OF_A_LAKE:
                _put_between(place, _telling, int(port))


def _put_between(place: str, telling: Callable[..., Any], port: int) -> None:
    module, path = place.split()
    *owners, name = path.split(".")
    owner: Any = import_module(module)
    for inner in owners:
        owner = getattr(owner, inner)
    setattr(owner, name, telling(getattr(owner, name), name, port))


def _telling(function: Callable[..., Any], name: str, port: int) -> Callable[..., Any]:
    def told(*args: Any, **kwargs: Any) -> Any:
        table = getattr(args[0], "_table", None) if args else None
        words = [name, table.table_uri() if table else "", *args[1:], *kwargs.values()]
        with _told(port, " ".join(map(str, words))):
            return function(*args, **kwargs)

    return told


def _telling_each(execute: Callable[..., Any], _name: str, port: int) -> Callable[..., Any]:
    def told(connection: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        # dlt sends the statements of a merge as one text, in a transaction.
        several = str(query).count(";") and not any(args)
        for one in connection.extract_statements(query) if several else [query]:
            with _told(port, getattr(one, "query", one)):
                result = execute(connection, one, *args, **kwargs)
        return result

    return told


@contextmanager
def _told(port: int, text: str) -> Iterator[None]:
    """Announce a statement, and wait until the test has done what it wants to do."""
    with socket.create_connection(("127.0.0.1", port)) as to:
        to.sendall(" ".join(text[:10_000].split()).encode(errors="replace") + b"\n")
        to.recv(1)
        try:
            yield
        finally:
            to.sendall(b".")
            to.recv(1)


@contextmanager
def heard(before: Callable[[str], bool], after: Callable[[bool], None]) -> Iterator[int]:
    """Listen at a port, and call both around each statement that a process announces there."""

    def hear(client: socket.socket) -> None:
        text = client.makefile().readline()
        is_hit = before(text)
        client.sendall(b".")
        client.recv(1)
        after(is_hit)
        client.sendall(b".")

    with listening(hear) as port:
        yield port
