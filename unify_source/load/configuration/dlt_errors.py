"""Turns errors of dlt and the system into a UnifyError: what happened and what to do next."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import metadata, requires
from json import JSONDecodeError

import dlt
from dlt.common.configuration.exceptions import (
    ConfigurationException,
    ConfigValueCannotBeCoercedException,
)
from dlt.common.configuration.providers.toml import TomlProviderReadException
from dlt.common.exceptions import (
    DltException,
    MissingDependencyException,
    SignalReceivedException,
)
from dlt.common.normalizers.naming.exceptions import NormalizersException
from dlt.common.schema.exceptions import InvalidSchemaName
from dlt.destinations.impl.duckdb.exceptions import InvalidInMemoryDuckdbCredentials

from unify_source.common.dlt_seam import intercepted_signals, quick_clients
from unify_source.common.errors import (
    ConfigurationError,
    DestinationUnreachable,
    LoadFailed,
    NotPermitted,
    UnifyError,
)
from unify_source.common.errors.redaction import (
    has_unencoded_password,
    keep_out,
    redacted,
    redacted_logs,
)
from unify_source.load.configuration.dlt_files import redact_dlt
from unify_source.load.configuration.files import unreadable_file
from unify_source.load.configuration.reasons import REACH, fix, is_denied, is_refused
from unify_source.load.configuration.unresolved import secret_value, unresolved

FAILED, SAFE = "The run failed: ", "Nothing is lost: "
_US = "unify-source"
_LONGEST = 300
_ENCODE = (
    "In an address, write a password's @ as %40, : as %3A, / as %2F, # as %23, % as %25 and a"
    " blank as %20."
)


_MISCONFIGURED = (
    ConfigurationException,
    NormalizersException,
    InvalidSchemaName,
    InvalidInMemoryDuckdbCredentials,
)


@contextmanager
def explained(pipeline: dlt.Pipeline | None = None) -> Iterator[None]:
    """Raise a UnifyError if dlt or the system fails, KeyboardInterrupt after a signal.

    A signal lets a load in progress finish, or stops reading at once; a second one kills. No
    error, log record or file of dlt's shows a secret of the configuration or of the pipeline's
    code.
    """
    clients = quick_clients(pipeline) if pipeline else nullcontext()
    try:
        redact_dlt(pipeline)
        # dlt forgets a signal that arrives during one of its steps, unless this encloses them all.
        with intercepted_signals(), redacted_logs(), clients:
            yield
    except SignalReceivedException:
        raise KeyboardInterrupt from None
    except BrokenPipeError:
        # The reader of the output has exited: nothing failed.
        raise
    except _failures() as error:
        raise_explained(error)


def raise_explained(error: BaseException) -> None:
    """Raise the UnifyError for an error of dlt or the system, with that as cause if it is safe."""
    # Credentials that are no address hold no password that could be told by its place.
    keep_out(secret_value(error) or "", with_parts=False)
    explanation = _explanation(error)
    story = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    if isinstance(explanation, UnifyError):
        explanation.story = redacted(story)
    # A script's traceback shows the cause, and would show a secret with it.
    raise explanation from (error if redacted(story) == story else None)


def meaning(error: BaseException) -> BaseException:
    """Return what `explained` would raise in place of an error."""
    is_explained = isinstance(error, (*_failures(), SignalReceivedException))
    return _explanation(error) if is_explained else error


def _failures() -> tuple[type[Exception], ...]:
    # dlt wraps errors of queries, but not those of connecting to Postgres or S3, nor those of
    # queries of our own.
    drivers = (
        getattr(sys.modules.get(module), name, OSError)
        for module, name in (
            ("psycopg2", "Error"),
            ("duckdb", "Error"),
            ("botocore.exceptions", "BotoCoreError"),
        )
    )
    return (DltException, OSError, *drivers)


def _explanation(error: BaseException) -> BaseException:
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, (UnifyError, KeyboardInterrupt)):
            return cause
        if isinstance(cause, SignalReceivedException):
            return KeyboardInterrupt()
        if isinstance(cause, TomlProviderReadException):
            return unreadable_file(cause.full_paths)
        if isinstance(cause, _MISCONFIGURED):
            return _misconfigured(cause)
        if isinstance(cause, MissingDependencyException):
            return _not_installed(cause)
    return _failed(causes[-1])


def _failed(cause: BaseException) -> UnifyError:
    if isinstance(cause, JSONDecodeError):
        return LoadFailed(
            "A file that dlt keeps beside the tables is incomplete.",
            "A full disk or a kill leaves such a file: free some disk space, and run unify-source"
            " sync, which deletes it and loads its rows again.",
        )
    if is_denied(cause):
        return NotPermitted(
            f"{FAILED}{_first_line(cause)}.",
            f"{_hint(cause)}{SAFE}let this user write there and run it again.",
        )
    if is_refused(cause):
        return ConfigurationError(
            f"The destination refused the connection: {_first_line(cause)}.",
            f"{_hint(cause)}Correct its credentials in .dlt/secrets.toml or the environment, or"
            " grant this user access there.",
        )
    what_helps = fix(cause)
    kind = DestinationUnreachable if what_helps == REACH else LoadFailed
    return kind(
        f"{FAILED}{_first_line(cause)}.",
        f"{_hint(cause)}{SAFE}{what_helps} and run it again.",
    )


def _hint(cause: BaseException) -> str:
    # Postgres knows how to fix some of its errors, and says so last.
    match = re.search(r"^HINT:\s*(.+)$", str(cause), re.MULTILINE)
    hint = f"Postgres says: {match[1].strip()} " if match else ""
    return f"{_ENCODE} {hint}" if has_unencoded_password() else hint


def _misconfigured(error: BaseException) -> ConfigurationError:
    if isinstance(error, ConfigValueCannotBeCoercedException):
        name = error.field_name
        return ConfigurationError(
            f"dlt's setting {name} has an invalid value.",
            "Correct it in .dlt/config.toml or the environment, where dlt also reads another"
            f" program's variable {name.upper()}.",
        )
    if isinstance(error, InvalidInMemoryDuckdbCredentials):
        return ConfigurationError(
            "DuckDB's database would be in memory, and gone with this run.",
            "Name a file in DESTINATION__DUCKDB__CREDENTIALS.",
        )
    if isinstance(error, InvalidSchemaName):
        return ConfigurationError(
            f"is {error.name!r}, which dlt refuses.",
            "Use letters, digits and _, at most 64 of them.",
            setting="pipeline_name",
        )
    encode = f" {_ENCODE}" if has_unencoded_password() else ""
    return ConfigurationError(
        f"The configuration is incomplete or wrong: {unresolved(error) or _first_line(error)}.",
        "Correct .dlt/config.toml, .dlt/secrets.toml or the environment: docs/destinations.md has a"
        f" recipe for each destination.{encode}",
    )


def _not_installed(error: MissingDependencyException) -> ConfigurationError:
    wanted = [_extra(name) or name for name in error.dependencies]
    return ConfigurationError(
        f"{error.caller} needs packages that are not installed.",
        f"Install them: pip install {' '.join(map(repr, wanted))}.",
    )


def _extra(dependency: str) -> str | None:
    """Return our own extra with the package that dlt asks for, such as `unify-source[delta]`."""
    name = dependency.partition("[")[2].rstrip("]")
    bringing = [
        match[1]
        for line in requires(_US) or ()
        if dependency in line and (match := re.search(r"extra == [\"']([\w-]+)", line))
    ]
    known = metadata(_US).get_all("Provides-Extra") or []
    extra = name if name in known else next(iter(bringing), None)
    return f"{_US}[{extra}]" if extra else None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        nested = getattr(error, "exception", None)
        error = nested if isinstance(nested, BaseException) else error.__cause__


def _first_line(error: BaseException) -> str:
    # dlt says first that a connection failed, and the reason only at the end.
    text = redacted(_text(error)).rsplit("The actual reason given is:", 1)[-1]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:_LONGEST].rstrip(".:")


def _text(error: BaseException) -> str:
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    # Its str() begins with the number, and quotes the file name as Python does.
    return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
