"""`check`: tries everything that a sync needs, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

import dlt
from typing_extensions import Unpack

from unify_source.api.client import Client
from unify_source.common.dlt_seam import raise_if_signalled
from unify_source.common.errors import (
    ConfigurationError,
    DestinationUnreachable,
    LoadFailed,
    NotPermitted,
    UnifyError,
)
from unify_source.common.resources import ENROLLMENT_LIST
from unify_source.common.settings import LOCK_TIMEOUT, Settings, SettingsArguments
from unify_source.destinations.locks.turns import opened_file, seconds_to_wait
from unify_source.destinations.scratch import try_writing
from unify_source.destinations.staging import refuse_shared_staging
from unify_source.load.configuration.dlt_errors import FAILED, SAFE, explained
from unify_source.load.configuration.environment import run_settings
from unify_source.runs.status import length_of

CLOCK_TOLERANCE = timedelta(seconds=60)
_PATIENCE_SECONDS = 8.0


@dataclass(frozen=True)
class Checked:
    """The result of a `check` that passed; a failure is an error."""

    base_url: str
    clock_off_by: timedelta
    destination: str
    dataset: str

    def as_json(self) -> dict[str, Any]:
        """Return it as what `--json` prints."""
        return {
            "key": "valid",
            "base_url": self.base_url,
            "clock_off_by_seconds": round(self.clock_off_by.total_seconds()),
            "destination": self.destination,
            "dataset": self.dataset,
            "writable": True,
        }

    def as_lines(self) -> list[str]:
        """Return it as plain sentences."""
        off = round(abs(self.clock_off_by.total_seconds()))
        return [
            f"The key is valid at {self.base_url}.",
            f"This machine's clock and the server's differ by {off} s.",
            f"{self.destination} can be written, dataset {self.dataset}.",
        ]


def check(
    pipeline: dlt.Pipeline,
    *,
    lock_timeout: float | str = LOCK_TIMEOUT.default,
    in_order: Callable[[str], None] = lambda _: None,
    **settings: Unpack[SettingsArguments],
) -> Checked:
    """Try the settings, the key, the clock and the destination, and leave nothing behind.

    `in_order` is called with a sentence for each check that passed, as soon as it is known. Raises
    ConfigurationError if a sync would fail because of its configuration or its rights at the
    destination, KeyRefused, DestinationUnreachable or an ApiError.
    """
    with explained(pipeline):
        seconds = seconds_to_wait(lock_timeout)
        given = run_settings(pipeline, **settings)
        off = _clock_off_by(given)
    checked = Checked(
        given.base_url, off, pipeline.destination.destination_name, pipeline.dataset_name
    )
    *of_the_api, of_the_destination = checked.as_lines()
    for line in of_the_api:
        in_order(line)
    try:
        with explained(pipeline), opened_file(pipeline, seconds):
            refuse_shared_staging(pipeline)
            try_writing(pipeline)
    except (LoadFailed, NotPermitted) as error:
        raise _unwritable(checked, error) from error.__cause__
    in_order(of_the_destination)
    return checked


def _unwritable(checked: Checked, error: LoadFailed | NotPermitted) -> UnifyError:
    # A destination that is away may come back; anything else needs another configuration.
    away = isinstance(error, DestinationUnreachable)
    is_known = away or isinstance(error, NotPermitted)
    failed = (type(error) if is_known else ConfigurationError)(
        f"{checked.destination} cannot be {'reached' if away else 'written'}, dataset"
        f" {checked.dataset}: {error.what.removeprefix(FAILED)}",
        error.next_step.replace(SAFE, "Before a sync, "),
    )
    failed.story, failed.traceback_helps = error.story, error.traceback_helps
    return failed


def _clock_off_by(settings: Settings) -> timedelta:
    # A person is waiting: report a server that cannot be reached within seconds.
    hasty = replace(
        settings,
        retry_budget=min(settings.retry_budget, _PATIENCE_SECONDS),
        request_timeout=min(settings.request_timeout, _PATIENCE_SECONDS),
    )
    off = datetime.now(timezone.utc) - Client(hasty, raise_if_signalled).server_time(
        ENROLLMENT_LIST
    )
    if abs(off) > CLOCK_TOLERANCE:
        side = "ahead of" if off > timedelta(0) else "behind"
        raise ConfigurationError(
            f"This machine's clock is {length_of(abs(off))} {side} the server's.",
            "Set it (for example with NTP): certificates and schedules depend on it. If it is"
            " right, the server's clock, or that of a proxy, is wrong: report it before you load.",
        )
    return off
