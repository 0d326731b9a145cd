"""What dlt and the system raise, as a UnifyError: what happened and what to do next."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from dlt.common.configuration.exceptions import ConfigurationException
from dlt.common.destination.exceptions import DestinationException
from dlt.common.exceptions import MissingDependencyException, SignalReceivedException
from dlt.pipeline.exceptions import PipelineStepFailed

from unify_source.dlt_seam import intercepted_signals
from unify_source.errors import ConfigurationError, LoadFailed, UnifyError
from unify_source.redaction import redacted

_LONGEST = 300
_MEND = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room on the disk",
    errno.EACCES: "let this user write there",
    errno.EPERM: "let this user write there",
    errno.EROFS: "let this user write there",
    errno.ENOENT: "see to it that nothing removes files of a run",
}


@contextmanager
def explained() -> Iterator[None]:
    """Raise a UnifyError where dlt or the system fails, KeyboardInterrupt where a signal did.

    A signal lets the load that is under way end, or stops reading at once; a second one kills.
    """
    try:
        # dlt forgets a signal that came during a step of its own, unless this stands around all.
        with intercepted_signals():
            yield
    except SignalReceivedException:
        raise KeyboardInterrupt from None
    except ConfigurationException as error:
        raise _misconfigured(error) from error
    except MissingDependencyException as error:
        raise _not_installed(error) from error
    except BrokenPipeError:
        # Whoever read what is shown has gone: nothing failed.
        raise
    except _failures() as error:
        raise _explanation(error) from error


def _failures() -> tuple[type[Exception], ...]:
    # dlt wraps what queries raise, and lets through what connecting to Postgres raises.
    driver = sys.modules.get("psycopg2")
    return (PipelineStepFailed, DestinationException, OSError, *((driver.Error,) if driver else ()))


def _explanation(error: BaseException) -> BaseException:
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, (UnifyError, KeyboardInterrupt)):
            return cause
        if isinstance(cause, SignalReceivedException):
            return KeyboardInterrupt()
        if isinstance(cause, ConfigurationException):
            return _misconfigured(cause)
        if isinstance(cause, MissingDependencyException):
            return _not_installed(cause)
    return LoadFailed(
        f"The load failed: {_first_line(causes[-1])}.",
        f"Nothing is lost: {_mend(causes[-1])} and run it again; --verbose shows the whole story.",
    )


def _mend(cause: BaseException) -> str:
    number = cause.errno if isinstance(cause, OSError) else None
    return _MEND.get(number or 0, "mend it")


def _misconfigured(error: BaseException) -> ConfigurationError:
    return ConfigurationError(
        f"The configuration is incomplete or wrong: {_first_line(error)}.",
        "Set it in .dlt/config.toml, .dlt/secrets.toml or the environment.",
    )


def _not_installed(error: MissingDependencyException) -> ConfigurationError:
    return ConfigurationError(
        f"{error.caller} needs packages that are not installed.",
        f"Install them: pip install {' '.join(map(repr, error.dependencies))}.",
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        nested = getattr(error, "exception", None)
        error = nested if isinstance(nested, BaseException) else error.__cause__


def _first_line(error: BaseException) -> str:
    # dlt says first that a connection failed, and why only at the end.
    text = redacted(_text(error)).rsplit("The actual reason given is:", 1)[-1]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:_LONGEST].rstrip(".:")


def _text(error: BaseException) -> str:
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    # Its own text has the number in front, and the name as Python writes it.
    return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
