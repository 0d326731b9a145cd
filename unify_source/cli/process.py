"""The process that runs a command: its memory, its screen and its exit code."""

from __future__ import annotations

import atexit
import ctypes
import gc
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from unify_source.cli.console import Screen, ScreenLog
from unify_source.cli.options import as_options
from unify_source.cli.streams import Outlet, protect
from unify_source.common.errors import ConfigurationError, UnifyError
from unify_source.common.errors.notices import ALWAYS
from unify_source.common.errors.redaction import redacted

if TYPE_CHECKING:
    from types import TracebackType

    import dlt

    from unify_source.cli.options import Options
    from unify_source.runs.report import Report

ExceptHook = Callable[[type[BaseException], BaseException, "TracebackType | None"], Any]

FAILED, QUARANTINED = 1, 3
_LOG_LEVEL = "RUNTIME__LOG_LEVEL"
STOPPED = "Nothing is lost: run it again and it resumes from here."
# M_ARENA_MAX of glibc's malloc.h.
_MOST_HEAPS = -8


def run(app: Callable[[], Any]) -> NoReturn:
    """Run the command line, and end the process with the documented exit code."""
    # dlt reads this, and Arrow the next, on import. Without it dlt reports usage.
    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
    # Arrow's own pools are no faster here, and retain a third more memory.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # glibc gives each thread a heap of its own, which together retain half as much again.
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_MOST_HEAPS, 2)
    sys.excepthook = _but_the_drivers_own(sys.excepthook)
    output = protect()
    code = 0
    try:
        app()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else FAILED if ended.code else 0
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
    # The work is done: Ctrl-C would only leave the working folder behind, with a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not _is_written(output):
        code = code or FAILED
    # Python would also collect garbage among all imported modules, which takes longer than many
    # a command. So do only the rest of what it does at exit.
    atexit._run_exitfuncs()  # noqa: SLF001 - there is no other way to call them
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _but_the_drivers_own(show: ExceptHook) -> ExceptHook:
    def show_others(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        # A Postgres that dies amid a COPY reports two errors. psycopg2 raises one, and prints the
        # other as the cause of a SystemError of its own.
        if kind is not SystemError or not type(error.__cause__).__module__.startswith("psycopg2"):
            show(kind, error, trace)

    return show_others


@contextmanager
def screen_of(options: Options, doing: str = "", stopped: str = STOPPED) -> Iterator[Screen]:
    """Yield a command's screen, and turn its errors into messages and exit codes.

    The screen shows `doing` at first. `stopped` is the next step shown after Ctrl-C.
    """
    os.environ.setdefault(_LOG_LEVEL, "INFO" if options.verbose else "CRITICAL")
    if not options.verbose:
        # S3's library drops errors of requests that it retries, and asyncio prints their traces.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    screen = Screen(as_json=options.json, quiet=options.quiet, verbose=options.verbose)
    log = logging.getLogger("unify_source")
    level = log.level
    log.setLevel(logging.ERROR if options.quiet else logging.WARNING)
    logging.getLogger(ALWAYS).setLevel(logging.WARNING)
    handler = ScreenLog(screen)
    log.addHandler(handler)
    if doing:
        screen.progress.begin(doing)
    try:
        _refuse_vanished_folder()
        _refuse_odd_log_level()
        yield screen
    except UnifyError as error:
        if options.verbose:
            sys.stderr.write(error.story or redacted(traceback.format_exc()))
        elif error.traceback_helps:
            error.next_step += " --verbose shows the log and the traceback."
        screen.error(as_options(error))
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        screen.error(UnifyError("Stopped.", stopped))
        raise SystemExit(FAILED) from None
    finally:
        screen.progress.close()
        log.removeHandler(handler)
        log.setLevel(level)


def _refuse_vanished_folder() -> None:
    # dlt asks for it as it is imported, and files are named from there.
    try:
        Path.cwd()
    except OSError:
        raise ConfigurationError(
            "The folder that this command was started in is gone.", "Change into one that exists."
        ) from None


def _refuse_odd_log_level() -> None:
    # dlt raises an error of logging's own as it starts.
    level = os.environ[_LOG_LEVEL]
    if not isinstance(logging.getLevelName(level), int):
        raise ConfigurationError(
            f"{_LOG_LEVEL} is {level[:40]!r}, which is not a level of logging.",
            "Use DEBUG, INFO, WARNING, ERROR or CRITICAL, or unset it.",
        )


@contextmanager
def importing() -> Iterator[None]:
    """Import dlt and Arrow without collecting garbage, and leave what they made out of collections.

    They make 140,000 objects that stay. A collection among them takes a tenth of the start, and a
    later one as much as reading thousands of rows.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def pipeline_of(options: Options, screen: Screen | None = None) -> dlt.Pipeline:
    """Open the pipeline that the options name, with its progress on the screen."""
    from unify_source.cli.pipeline import open_pipeline
    from unify_source.load.configuration.dlt_errors import explained

    with explained():
        return open_pipeline(
            options.pipeline_name,
            options.destination,
            options.dataset,
            progress=screen.progress if screen else None,
        )


def finish(options: Options, screen: Screen, report: Report, *, accept_quarantine: bool) -> None:
    """Print what a run did, and exit with 3 if rows are in quarantine."""
    screen.result(report.as_json(), report.as_lines())
    if report.quarantined and not accept_quarantine:
        if options.quiet:
            screen.warn(report.quarantine_line())
        sys.exit(QUARANTINED)


def _is_written(output: Outlet) -> bool:
    # The work is done, but the result was lost, on a full disk for example: that is a failure.
    sys.stdout.flush()
    if output.failure is None:
        return True
    sys.stderr.write(
        f"Error: The result could not be written to standard output: {output.failure.strerror}.\n"
        "What was loaded stays loaded: free some space there and run it again.\n"
    )
    return False
