"""What the locks of all destinations share: the holder of a lock, and how to wait for it."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from unify_source.common.dlt_seam import raise_if_signalled
from unify_source.common.errors import LockHeld

Holder = dict[str, str]
"""What is known about a lock's holder: `what` it is, `where` it runs, `since` when it holds it.

With a lease, also its `legacy` (see `Legacy`).
"""

Legacy = Callable[[list[str]], str]
"""Takes what runs that died have left for the next, and returns what this one would leave."""

_POLL_SECONDS = 0.05
_WARN_AFTER = 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Held:
    """A held lock: whether it is still held, and whether another run waits for it."""

    is_held: Callable[[], bool] = lambda: True
    is_wanted: Callable[[], bool] = lambda: False


def this_run() -> Holder:
    """Return this run as the holder of a lock, as other runs see it."""
    now = datetime.now(timezone.utc)
    return {
        "what": f"process {os.getpid()}",
        "where": socket.gethostname(),
        "since": now.isoformat(timespec="seconds"),
    }


class Wait:
    """Waits up to `timeout` seconds in all, and logs the holder if that takes a while."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._began = time.monotonic()
        self._has_warned = False

    def pause(self, holder: Callable[[], Holder], seconds: float = _POLL_SECONDS) -> None:
        """Sleep a moment. Raises LockHeld after the timeout, and what a signal raises."""
        waited = time.monotonic() - self._began
        if waited >= _WARN_AFTER and not self._has_warned:
            self._has_warned = True
            _log.warning("Waiting: the dataset is in use (%s).", _named(holder()))
        if waited >= self._timeout:
            raise LockHeld(
                f"The dataset is in use: {_named(holder())}, for longer than {self._timeout:g} s."
            )
        raise_if_signalled()
        time.sleep(seconds)


def _named(holder: Holder) -> str:
    where = f" on {holder['where']}" if "where" in holder else ""
    since = f" since {holder['since']}" if "since" in holder else ""
    return f"{holder.get('what', 'another run')}{where} has held it{since}"
