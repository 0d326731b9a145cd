"""Explains which values of the configuration dlt lacks or cannot read, without quoting any."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dlt.common.configuration.exceptions import (
    ConfigFieldMissingException,
    FieldLookupTraces,
    InvalidNativeValue,
    LookupTraces,
)

_TOP = "DESTINATION__"


def unresolved(error: BaseException) -> str | None:
    """Return what is missing or unreadable, by the variable that would set it."""
    if isinstance(error, ConfigFieldMissingException):
        names = list(dict.fromkeys(_missing(error.traces, error.fields)))
        listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
        return f"{listed} {'is' if len(names) == 1 else 'are'} not set"
    if isinstance(error, InvalidNativeValue):
        where = ".".join(error.embedded_sections) or "a setting"
        expected = str(error.inner_exception).split("\n")[0].rstrip(".")
        return f"dlt cannot read the value of {where}. {expected}"
    return None


def secret_value(error: BaseException | None) -> object:
    """Return the value that dlt could not read, None if another error came first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if value := getattr(error, "native_value", None):
            return value
        seen.add(id(error))
        error = getattr(error, "inner_exception", None) or error.__cause__ or error.__context__
    return None


def _missing(traces: FieldLookupTraces, fields: Iterable[str]) -> Iterator[str]:
    for field in fields:
        for trace in traces[field]:
            if isinstance(trace, LookupTraces):
                inner = list(_missing(trace.traces, trace.traces))
                # If nothing of an address is set, the whole address is what a user sets.
                is_whole = not trace.resolved_fields_set and inner[0].startswith(_TOP)
                yield from [inner[0].rpartition("__")[0]] if is_whole else inner
        keys = [key for trace in traces[field] if (key := getattr(trace, "key", None))]
        if keys:
            yield next((key for key in keys if key.startswith(_TOP)), field)
