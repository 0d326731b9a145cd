"""What a run reports of its progress, to any display."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from datetime import timedelta

from dlt.common.runtime.collector_base import Collector

from unify_source.extract.window import Window


class WindowProgress(Collector):
    """A collector of dlt's that also shows how a run gets on, from before its first request."""

    def connecting(self, address: str) -> None:
        """Show that a run begins, with requests to this address."""

    def began(self, total: timedelta | None) -> None:
        """Show that the first window is read, and the range of `updated_at` to load, if known."""

    @abstractmethod
    def window_done(self, left: timedelta) -> None:
        """Show that a window is loaded, and what range of `updated_at` is left to load."""

    def doing(self, what: str) -> None:
        """Show what the run does from here on."""

    def rows_read(self, count: int) -> None:
        """Count rows that were read by the run itself, and not by a step of dlt."""


def progress_of(collector: Collector, address: str) -> WindowProgress | None:
    """Return a collector that shows a run's progress, if it is one, having shown the address."""
    if not isinstance(collector, WindowProgress):
        return None
    collector.connecting(address)
    return collector


def show_began(
    progress: WindowProgress | None, windows: Sequence[Window], *, is_known: bool
) -> None:
    """Show that these windows are to be read; how long they are where that `is_known`."""
    lengths = [each.before - each.after for each in windows if each.after]
    is_known = is_known and len(lengths) == len(windows)
    if progress:
        progress.began(sum(lengths, timedelta()) if is_known else None)
