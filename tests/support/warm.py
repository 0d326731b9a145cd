"""Commands and scripts that start warm: forked from a process that has imported what they import.

A new interpreter takes a second to import dlt and Arrow, and the tests run hundreds of commands. A
forked one is as real: a process with a folder, an environment, streams and signals of its own.
Tests of the start itself, of the interpreter or of a terminal start a new one all the same.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import resource
import runpy
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import announcing
import dying
from patience import PATIENCE

# Of Linux's prctl.h: who loses its parent becomes a child of ours, so that we can wait for it.
_SET_CHILD_SUBREAPER = 36
# Set from outside, a limit may come after a file that it should have prevented.
LARGEST_FILE = "UNIFY_TEST_LARGEST_FILE"
_one_at_a_time = threading.Lock()
# The interpreter and Arrow read these once, when they start.
_READ_ONCE = ("PYTHON", "LANG", "LC_", "ARROW_")
_IMPORTED = """
    unify_source.runs.analysis.export unify_source.runs.analysis.views
    unify_source.cli.app unify_source.cli.demo unify_source.cli.pipeline
    unify_source.cli.working_folder unify_source.runs.backfill unify_source.runs.check
    unify_source.runs.forget unify_source.runs.plan unify_source.runs.status unify_source.runs.sync
    unify_source.sandbox unify_source.runs.verification.verify
    adbc_driver_postgresql.dbapi click._textwrap dlt.common.libs.pyarrow
    dlt.destinations.impl.duckdb.duck dlt.destinations.impl.duckdb.factory
    dlt.destinations.impl.postgres.factory dlt.destinations.impl.postgres.postgres duckdb psycopg2
    pyarrow.dataset pyarrow.parquet pytz rich.console rich.progress rich.table
"""


def start(
    words: tuple[str, ...], environment: Mapping[str, str], **streams: Any
) -> subprocess.Popen[str]:
    """Start our command in the current folder, warm where that makes no difference to it."""
    return start_python(("-m", "unify_source", *words), environment, **streams)


def run(words: tuple[str, ...], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments: a script, or `-c` and a program, or `-m` and a module."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start_python(words, environment, **pipes) as process:
        try:
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def start_python(
    words: tuple[str, ...], environment: Mapping[str, str], **streams: Any
) -> subprocess.Popen[str]:
    """Start Python with these words, warm where that makes no difference."""
    # A script ends as Python does. Forked from 3.10, it then crashes in the libraries' threads,
    # which a fork does not have. Our command ends without waiting for them.
    ends_well = sys.version_info >= (3, 11) or words[0] == "-m"
    may_be_warm = (
        sys.platform == "linux"
        and ends_well
        and all(
            environment.get(name) == os.environ.get(name)
            for name in {*environment, *os.environ}
            if name.startswith(_READ_ONCE)
        )
    )
    kind = _Forked if may_be_warm else subprocess.Popen
    return kind([sys.executable, *words], env=environment, text=True, **streams)


class _Forked(subprocess.Popen[str]):
    """A program that another process forks, and that is a child of this one all the same."""

    def _execute_child(self, args: list[str], *given_on: Any) -> None:
        environment, pipes = given_on[5], given_on[9:15]
        given = [n if end == -1 else end for n, end in enumerate((pipes[0], pipes[3], pipes[5]))]
        asked = json.dumps([args[1:], str(Path.cwd()), dict(environment)])
        with _one_at_a_time:
            socket.send_fds(_warm(), [asked.encode()], given)
            self.pid = int(_warm().recv(100))
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


@cache
def _warm() -> socket.socket:
    """Start the process that forks: it ends when our end of its socket does."""
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def _serve(asking: socket.socket) -> None:
    """Fork a program for each request, and answer with its number."""
    while True:
        asked, given, _, _ = socket.recv_fds(asking, 1 << 20, 3)
        if not asked:
            os._exit(0)
        answer, answering = os.pipe()
        between = os.fork()
        if not between:
            if child := os.fork():
                os.write(answering, b"%d" % child)
                os._exit(0)
            _become(given, *json.loads(asked))
        # It has lost its parent only now; before that, no other process can wait for it.
        os.waitpid(between, 0)
        asking.send(os.read(answer, 100))
        for end in (answer, answering, *given):
            os.close(end)


def _become(given: list[int], words: list[str], folder: str, environment: dict[str, str]) -> None:
    """Be the program: an exception ends it as it ends any."""
    for name, end in enumerate(given):
        os.dup2(end, name)
    os.closerange(3, max(given) + 1)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    if limit := int(environment.get(LARGEST_FILE, "0")):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    dying.prepare()
    announcing.prepare()
    flag, *rest = words
    if flag == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif flag == "-c":
        sys.argv = ["-c", *rest[1:]]
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(rest[0], main.__dict__)
    else:
        sys.argv = words
        runpy.run_path(flag, run_name="__main__")
    sys.exit()


if __name__ == "__main__":
    sys.path.pop(0)
    # As the command sets them before it imports dlt and Arrow.
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    for module in _IMPORTED.split():
        import_module(module)
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
