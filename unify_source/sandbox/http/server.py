"""A running sandbox: in a background thread for tests, or in a command until it is stopped."""

import asyncio
import contextlib
import gc
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from unify_source.sandbox.account.account import Account
from unify_source.sandbox.account.query import CURSORS, ORDERS
from unify_source.sandbox.http.answers import CLOSE
from unify_source.sandbox.http.app import App, Behaviour, Request
from unify_source.sandbox.http.faults import Armed, Fault
from unify_source.sandbox.invent.drift import Reshape

_HOST = "127.0.0.1"
_TURN = 0.1
_GRACE = 0.3
_SEQUENCE_EVERY = 10


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP, in which the application can close a connection."""

    def connection_made(  # type: ignore[override] # uvicorn's own narrowing
        self, transport: asyncio.Transport
    ) -> None:
        """Send each response without waiting for the client's ACK of its head, 40 ms on Linux."""
        # asyncio does so by itself, except for listeners created without naming TCP.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)

    def on_message_begin(self) -> None:
        """Give the application a way to close the transport."""
        super().on_message_begin()
        cast(dict[str, Any], self.scope)[CLOSE] = self.transport.close


class Server(uvicorn.Server):
    """uvicorn, but when it stops, clients have only a moment to read their responses."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, and cut off clients that wait for a response or do not read it."""
        # uvicorn waits for every response in progress, even one that a fault delays.
        asyncio.get_running_loop().call_later(_GRACE, self._abort)
        await super().shutdown(sockets)

    def _abort(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()


class Sandbox:
    """The API of an account, on loopback, for as long as the context lasts.

    `order` is the order of the lists: "updated", "updated_desc", "created" or "id". `cursor` is
    what a cursor contains: the last row's key ("keyset") or the number of rows before ("offset").
    With an offset, rows that move between two requests make others come twice or not at all. Each
    response takes `latency` seconds. `on_request` is called before each response is built, on the
    server's thread. Beyond `rate_limit` requests per second, the response is 429. `reshape`
    rewrites each enrollment before it is sent (see `DRIFTS`). `changes_per_second` changes happen
    by themselves, and after every tenth one a sequence is renamed, paused or resumed. Raises
    `ValueError` for an unknown order or cursor, and on entry `OSError` if `port` is taken.
    """

    def __init__(
        self,
        account: Account,
        *,
        key: str = "sandbox-key",
        port: int = 0,
        order: str = "updated",
        cursor: str = "keyset",
        latency: float = 0.0,
        faults: Iterable[Fault] = (),
        on_request: Callable[[Request], None] | None = None,
        rate_limit: float | None = None,
        reshape: Reshape | None = None,
        changes_per_second: float = 0.0,
    ) -> None:
        if order not in ORDERS:
            raise ValueError(f"no such order: {order!r}; there are {', '.join(ORDERS)}")
        if cursor not in CURSORS:
            raise ValueError(f"no such cursor: {cursor!r}; there are {', '.join(CURSORS)}")
        self.account = account
        self.key = key
        self._port = port
        reshapes = {"enrollments": reshape} if reshape else {}
        behaviour = Behaviour(key, order, cursor, latency, on_request, rate_limit, reshapes)
        self._app = App(account, behaviour)
        self._changes_per_second = changes_per_second
        self._stopping = threading.Event()
        self.arm(*faults)

    @property
    def url(self) -> str:
        """The base URL for a client."""
        return f"http://{_HOST}:{self._port}"

    @property
    def requests(self) -> list[Request]:
        """The requests so far, in order of arrival."""
        return self._app.requests

    def reset(self) -> None:
        """Forget the requests so far."""
        self._app.requests = []

    def arm(self, *faults: Fault) -> None:
        """Activate these faults and no others; their counts start at zero."""
        self._app.armed = [Armed(fault) for fault in faults]

    def __enter__(self) -> "Sandbox":  # noqa: PYI034 # typing.Self came with Python 3.11
        self._stopping.clear()
        # Bound here and not by uvicorn, so that the caller's thread gets the error if the port is
        # taken.
        listener = socket.create_server((_HOST, self._port), backlog=512)
        self._port = listener.getsockname()[1]
        self._server = Server(_config(self._app))
        self._threads = [threading.Thread(target=self._server.run, args=([listener],), daemon=True)]
        if self._changes_per_second:
            self._threads.append(threading.Thread(target=self._live, daemon=True))
        for thread in self._threads:
            thread.start()
        while not self._server.started and self._threads[0].is_alive():
            time.sleep(0.001)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._server.should_exit = True
        for thread in self._threads:
            thread.join()

    def _live(self) -> None:
        """Change the account at the requested rate; fractions of a change add up."""
        owed, total = 0.0, 0
        while not self._stopping.wait(_TURN):
            owed += self._changes_per_second * _TURN
            if due := int(owed):
                self.account.change(due, seed=total)
                if total // _SEQUENCE_EVERY != (total + due) // _SEQUENCE_EVERY:
                    self.account.edit_any_sequence(seed=total)
                owed, total = owed - due, total + due


def serve(
    account: Account,
    *,
    port: int,
    announce: Callable[[str], None],
    key: str = "sandbox-key",
    **options: Any,
) -> None:
    """Run a `Sandbox` with the same options until SIGINT or SIGTERM; on the main thread only.

    `announce` is called with the address once the server listens. All objects that exist by then
    are excluded from garbage collection for good: give it a process of its own.
    """
    stopped = threading.Event()
    # A full collection visits every row: at 300,000 rows, no response leaves for a third of a
    # second.
    gc.freeze()
    with _signals(stopped), Sandbox(account, key=key, port=port, **options) as sandbox:
        announce(sandbox.url)
        # Without a timeout for each wait, Windows would not let Ctrl-C through.
        while not stopped.wait(_TURN):
            pass


@contextlib.contextmanager
def _signals(stopped: threading.Event) -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _config(app: App) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        access_log=False,
        log_config=None,
        # uvicorn's own Date is the machine's clock, but a test can move this server's clock.
        date_header=False,
        server_header=False,
        backlog=512,
        timeout_graceful_shutdown=1,
    )
