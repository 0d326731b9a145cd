"""Commands that announce each statement to a test, before and after it is run.

For Postgres, a proxy reads the statements. But DuckDB runs within the process, and a lake is a
folder. So a process with a port in its environment announces its calls to DuckDB, deltalake and
fsspec there, and waits while the test changes the world.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from listening import listening

ANNOUNCE_TO = "UNIFY_TEST_ANNOUNCE_TO"

_OF_A_LAKE = (
    "deltalake.table TableMerger.execute",
    "dlt.common.libs.deltalake write_deltalake",
    "fsspec.implementations.local LocalFileSystem._open",
)


def prepare() -> None:
    """Let this process announce its statements if its environment names a port."""
    if address := os.environ.get(ANNOUNCE_TO):
        kind, port = address.split()
        if kind == "duckdb":
            _put_between("duckdb DuckDBPyConnection.execute", _announcing_each, int(port))
        else:
            for place in _OF_A_LAKE:
                _put_between(place, _announcing, int(port))


def _put_between(place: str, announcing: Callable[..., Any], port: int) -> None:
    module, path = place.split()
    *owners, name = path.split(".")
    owner: Any = import_module(module)
    for inner in owners:
        owner = getattr(owner, inner)
    setattr(owner, name, announcing(getattr(owner, name), name, port))


def _announcing(function: Callable[..., Any], name: str, port: int) -> Callable[..., Any]:
    def announced(*args: Any, **kwargs: Any) -> Any:
        table = getattr(args[0], "_table", None) if args else None
        words = [name, table.table_uri() if table else "", *args[1:], *kwargs.values()]
        with _announced(port, " ".join(map(str, words))):
            return function(*args, **kwargs)

    return announced


def _announcing_each(execute: Callable[..., Any], _name: str, port: int) -> Callable[..., Any]:
    def announced(connection: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        # dlt sends the statements of a merge as one text, in a transaction.
        several = str(query).count(";") and not any(args)
        for one in connection.extract_statements(query) if several else [query]:
            with _announced(port, getattr(one, "query", one)):
                result = execute(connection, one, *args, **kwargs)
        return result

    return announced


@contextmanager
def _announced(port: int, text: str) -> Iterator[None]:
    """Announce a statement, and wait until the test is done with it."""
    with socket.create_connection(("127.0.0.1", port)) as to:
        to.sendall(" ".join(text[:10_000].split()).encode(errors="replace") + b"\n")
        to.recv(1)
        try:
            yield
        finally:
            to.sendall(b".")
            to.recv(1)


@contextmanager
def announcements(before: Callable[[str], bool], after: Callable[[bool], None]) -> Iterator[int]:
    """Listen on a port, and call both around each statement that a process announces there."""

    def attend(client: socket.socket) -> None:
        text = client.makefile().readline()
        is_hit = before(text)
        client.sendall(b".")
        client.recv(1)
        after(is_hit)
        client.sendall(b".")

    with listening(attend) as port:
        yield port
