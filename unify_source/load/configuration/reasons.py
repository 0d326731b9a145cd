"""What an error of a driver or of the system means: by its code, or by its words if it has none."""

from __future__ import annotations

import errno
import os
import re

from unify_source.common.resources import BY_NAME

_FIXES = {
    errno.ENOSPC: "free some disk space",
    errno.EDQUOT: "free some disk space",
    errno.EFBIG: "raise the limit on the size of files, or free some disk space",
    errno.ENOENT: "make sure that nothing removes files of a run",
    errno.ENOTDIR: "make sure that the folder exists",
    errno.EIO: "make sure that the disk or network folder works",
    errno.ESTALE: "make sure that the disk or network folder works",
}
_DISK_ERRORS = tuple(_FIXES.keys() - {errno.ENOENT})
_DENIALS = (errno.EACCES, errno.EPERM, errno.EROFS)
# The codes of Postgres are the same in every language: no right, and a transaction or a whole
# server that is read-only.
_DENIED_CODES = ("42501", "25006")
# DuckDB opens a file with an error of its own, and in read-only mode refuses each statement.
_DENIED = re.compile(
    "|".join(re.escape(os.strerror(number)) for number in _DENIALS) + "|attached in read-only mode"
)
_REFUSED_CODES = ("28000", "28P01", "3D000")
# DuckDB has no error of its own where a commit or a checkpoint fails for lack of memory.
_NO_MEMORY = re.compile(r"out of memory error|failed to (pin|allocate) ", re.IGNORECASE)
MORE_MEMORY = (
    "DuckDB holds 2,048 rows at once, and these are too long for its memory. Give it more: set"
    ' DESTINATION__DUCKDB__CREDENTIALS__GLOBAL_CONFIG=\'{"memory_limit": "2GB"}\''
)
"""What to do if rows are too long for DuckDB's memory."""

REACH = "make sure that the destination can be reached"
# The words of the drivers of databases and of S3 if nobody answers.
_UNREACHABLE = re.compile(
    r"closed the connection|connection (is |was |has been |already )?(refused|reset|closed|lost)"
    r"|terminating connection|could not (connect|receive|send|translate host name)"
    r"|timeout expired|timed out|no route to host|network is unreachable"
    r"|the database system is|too many (clients|connections)|remaining connection slots"
    r"|SlowDown|ServiceUnavailable|status code: 503",
    re.IGNORECASE,
)
# Their words for an address, a user or a password that will never connect.
_REFUSED = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|not permitted to log in"
    r"|FATAL: +(permission denied for database|(database|role) .* does not exist)"
    r"|does not support SSL|certificate verify failed|root certificate file .* does not exist"
    r"|invalid (dsn|connection option|sslmode value|port number|integer value .* connection)",
    re.IGNORECASE,
)

_NO_TABLE = re.compile(r'(?:Table with name|relation) "?(?:\w+\.)?(\w+)"? does not exist')

# An answer in the server's own language, which comes without its code. One that quotes a user or a
# database is about credentials; a server that starts, or is full, quotes nothing.
_ANSWER = re.compile(r"failed: [^\s:]+: {2}.*")
_QUOTES = frozenset('"„“”»«「『')


def is_denied(cause: BaseException) -> bool:
    """Tell whether the user lacks a right at a destination that can be reached."""
    if isinstance(cause, OSError):
        return cause.errno in _DENIALS
    if code := _code(cause):
        return code in _DENIED_CODES
    return bool(_DENIED.search(str(cause)))


def is_refused(cause: BaseException) -> bool:
    """Tell whether this address, user or password will never connect."""
    text = str(cause)
    if _code(cause) in _REFUSED_CODES or _REFUSED.search(text):
        return True
    answer = _ANSWER.search(text)
    return bool(answer and _QUOTES & set(answer[0])) and not _UNREACHABLE.search(text)


def _code(cause: BaseException) -> str | None:
    """Return the SQLSTATE of an error of Postgres; it has none if connecting failed."""
    return getattr(cause, "pgcode", None)


def fix(cause: BaseException) -> str:
    """Return what to do before another try; `REACH` if the destination did not answer."""
    if isinstance(cause, OSError) and cause.errno in _FIXES:
        return _FIXES[cause.errno]
    text = str(cause)
    if _NO_MEMORY.search(text):
        return MORE_MEMORY
    for number in _DISK_ERRORS:
        # DuckDB, Postgres and deltalake raise errors of their own, in the system's words.
        if os.strerror(number) in text:
            return _FIXES[number]
    if (dropped := _NO_TABLE.search(text)) and dropped[1] in BY_NAME:
        # dlt creates no table that its schema has.
        return (
            f"{dropped[1]} was dropped, and not by dlt. Create it again with"
            " refresh='drop_resources', as docs/dlt.md shows,"
        )
    # A commit to Delta that got no answer is retried, and conflicts with itself.
    if "concurrent transaction" in text:
        return "make sure that nothing else writes to these tables"
    is_away = _UNREACHABLE.search(text) or _ANSWER.search(text)
    return REACH if is_away else "fix the cause"
