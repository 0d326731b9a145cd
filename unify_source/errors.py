"""The error tree: each error says what happened, with the value, and what to do next.

UnifyError                      exit code 1 unless said otherwise
├── ConfigurationError          2  a setting that cannot be, before the first request
│   └── KeyRefused              2  HTTP 401 and 403
├── ApiError                       the API did not do what was asked
│   ├── RequestRefused             HTTP 400 and other 4xx, with the server's own errors[]
│   │   └── NotFound               HTTP 404
│   ├── RateLimited                HTTP 429 for longer than the retry budget
│   ├── ServerFailed               HTTP 5xx for longer than the retry budget
│   ├── Unreachable                no connection, or none that lasted
│   ├── BrokenPage                 not JSON, no list, a cursor that repeats
│   └── RowUnavailable             one row that cannot be had; the others can
├── LoadFailed                     the destination did not take the data
│   └── DestinationUnreachable     no connection to it, or none that lasted
└── LockHeld                    5  another run held the dataset for too long
"""

from __future__ import annotations

from unify_source.redaction import redacted


class UnifyError(Exception):
    """An error that a tired person can act on: `what` happened and `next_step` to take.

    Secrets that are known by then are struck out of both. `story` is the traceback of what caused
    it, without secrets, where the cause itself may hold one.
    """

    exit_code = 1
    story = ""

    def __init__(self, what: str, next_step: str) -> None:
        self.what = redacted(what)
        self.next_step = redacted(next_step)
        super().__init__(self.what, self.next_step)

    def __str__(self) -> str:
        return f"{self.what} {self.next_step}"


class ConfigurationError(UnifyError):
    """A setting or an argument that cannot be; nothing was requested.

    Where one is to blame, `setting` is its name, and `what` begins with it. `is_argument` unless it
    stands in configuration.
    """

    exit_code = 2
    is_argument = True

    def __init__(self, what: str, next_step: str, *, setting: str | None = None) -> None:
        super().__init__(f"{setting} {what}" if setting else what, next_step)
        self.setting = setting

    def spelled(self, name: str) -> ConfigurationError:
        """Return the error with the name that the caller gave the setting by."""
        problem = self.what.removeprefix(f"{self.setting} ")
        return type(self)(problem, self.next_step, setting=name)


class KeyRefused(ConfigurationError):
    """The API does not know the key, or does not let it in."""


class ApiError(UnifyError):
    """The API did not do what was asked; `status` is the HTTP status where there was one.

    `retry_after` is the wait in seconds that the server asked for, None where it did not.
    """

    def __init__(self, what: str, next_step: str, *, status: int | None = None) -> None:
        super().__init__(what, next_step)
        self.status = status
        self.retry_after: float | None = None


class RequestRefused(ApiError):
    """The API refused the request as it stood; `codes` are the server's own."""

    def __init__(
        self, what: str, next_step: str, *, status: int, codes: tuple[str, ...] = ()
    ) -> None:
        super().__init__(what, next_step, status=status)
        self.codes = codes


class NotFound(RequestRefused):
    """There is nothing at that address or by that id."""


class RateLimited(ApiError):
    """The API kept answering 429 until the retry budget was spent."""


class ServerFailed(ApiError):
    """The API kept failing until the retry budget was spent."""


class Unreachable(ApiError):
    """No connection, or none that lasted for a whole answer, until the retry budget was spent."""


class BrokenPage(ApiError):
    """An answer with status 200 that is not what the API promises."""


class RowUnavailable(ApiError):
    """One row could not be had by its id: it may stay as it is, and the run goes on."""


class LoadFailed(UnifyError):
    """The destination did not take the data; the next run reads it again."""


class DestinationUnreachable(LoadFailed):
    """Nobody answered at the destination, or not to the end: another time it may."""


class LockHeld(UnifyError):
    """Another run, or another program, has the dataset; nothing was loaded.

    `setting` is the name that the caller gives the one by which a run waits longer.
    """

    exit_code = 5

    def __init__(self, what: str, setting: str = "lock_timeout") -> None:
        super().__init__(
            what, f"Nothing was loaded: run it again later, or wait longer with {setting}."
        )
