"""The error tree: each error says what happened, with the value, and what to do next.

UnifyError                      exit code 1 unless shown otherwise
├── ConfigurationError          2  an invalid setting, found before the first request
│   ├── KeyRefused              2  HTTP 401 and 403
│   └── NotPermitted            2  the destination denies this user what a run needs
├── ApiError                       the API did not answer as it should
│   ├── RequestRefused             HTTP 400 and other 4xx, with the server's own errors[]
│   │   └── NotFound               HTTP 404
│   ├── RateLimited                HTTP 429 for longer than the retry budget
│   ├── ServerFailed               HTTP 5xx for longer than the retry budget
│   ├── Unreachable                no connection, or none that lasted
│   ├── BrokenPage                 not JSON, no list, a cursor that repeats
│   ├── TooLarge                   a body or a list beyond `max_body_bytes`
│   └── RowUnavailable             one row cannot be read; the others can
├── LoadFailed                     the destination did not accept the data
│   └── DestinationUnreachable     no connection to it, or none that lasted
└── LockHeld                    5  another run held the dataset for too long
"""

from __future__ import annotations

from unify_source.common.errors.redaction import redacted


class UnifyError(Exception):
    """An error that a tired person can act on: `what` happened and `next_step` to take.

    Known secrets are redacted in both. `story` is the redacted traceback of the cause, set where
    the cause itself may contain a secret. `traceback_helps` is true if dlt or the system failed.
    """

    exit_code = 1
    story = ""
    traceback_helps = False

    def __init__(self, what: str, next_step: str) -> None:
        self.what = redacted(what)
        self.next_step = redacted(next_step)
        super().__init__(self.what, self.next_step)

    def __str__(self) -> str:
        return f"{self.what} {self.next_step}"


class ConfigurationError(UnifyError):
    """A setting or an argument is invalid; nothing was requested.

    `setting` is its name, if one is to blame, and `what` then begins with it. `is_argument` is
    false for a value from configuration.
    """

    exit_code = 2
    is_argument = True

    def __init__(self, what: str, next_step: str, *, setting: str | None = None) -> None:
        super().__init__(f"{setting} {what}" if setting else what, next_step)
        self.setting = setting

    def spelled(self, name: str) -> ConfigurationError:
        """Return the error under the name by which the caller knows the setting."""
        problem = self.what.removeprefix(f"{self.setting} ")
        return type(self)(problem, self.next_step, setting=name)


class KeyRefused(ConfigurationError):
    """The API does not know the key, or denies it access."""


class NotPermitted(ConfigurationError):
    """The destination can be reached, but denies this user something that a run needs."""

    traceback_helps = True


class ApiError(UnifyError):
    """The API did not answer as it should; `status` is the HTTP status, if there was one.

    `retry_after` is the wait in seconds that the server asked for, if it did.
    """

    def __init__(self, what: str, next_step: str, *, status: int | None = None) -> None:
        super().__init__(what, next_step)
        self.status = status
        self.retry_after: float | None = None


class RequestRefused(ApiError):
    """The API refused the request; `codes` are the server's error codes."""

    def __init__(
        self, what: str, next_step: str, *, status: int, codes: tuple[str, ...] = ()
    ) -> None:
        super().__init__(what, next_step, status=status)
        self.codes = codes


class NotFound(RequestRefused):
    """There is nothing at that address or with that id."""


class RateLimited(ApiError):
    """The API kept answering 429 until the retry budget was spent."""


class ServerFailed(ApiError):
    """The API kept failing until the retry budget was spent."""


class Unreachable(ApiError):
    """No connection lasted for a whole response until the retry budget was spent."""


class BrokenPage(ApiError):
    """A response with status 200 is not what the API promises."""


class TooLarge(ApiError):
    """A body, or a list that is read as a whole, is larger than `max_body_bytes`."""


class RowUnavailable(ApiError):
    """One row could not be read by its id: it may stay as it is, and the run continues."""


class LoadFailed(UnifyError):
    """The destination did not accept the data; the next run reads it again."""

    traceback_helps = True


class DestinationUnreachable(LoadFailed):
    """The destination did not answer, or the connection broke: another try may succeed."""


class LockHeld(UnifyError):
    """Another run, or another program, holds the dataset; nothing was loaded.

    `setting` is the caller's name for the setting `lock_timeout`.
    """

    exit_code = 5

    def __init__(self, what: str, setting: str = "lock_timeout") -> None:
        super().__init__(
            what, f"Nothing was loaded: run it again later, or wait longer with {setting}."
        )
