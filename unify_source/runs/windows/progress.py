"""What a run reports about its progress, to any display."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from datetime import timedelta

from dlt.common.runtime.collector_base import Collector

from unify_source.extract.window import Window


class WindowProgress(Collector):
    """A dlt collector that also shows the progress of a run, from before its first request."""

    def connecting(self, address: str) -> None:
        """Show that a run begins, with requests to this address."""

    def began(self, total: timedelta | None) -> None:
        """Show that reading begins, and the range of `updated_at` to load, if known."""

    def expects(self, rows: int) -> None:
        """Show a share of about this many rows, rather than of a range."""

    @abstractmethod
    def window_done(self, left: timedelta) -> None:
        """Show that a window was loaded, and the range of `updated_at` that is left."""

    def doing(self, what: str) -> None:
        """Show what the run does now."""

    def rows_read(self, count: int) -> None:
        """Count rows that the run itself read, rather than a step of dlt."""


def progress_of(collector: Collector, address: str) -> WindowProgress | None:
    """Return the collector if it shows a run's progress, and show the address on it."""
    if not isinstance(collector, WindowProgress):
        return None
    collector.connecting(address)
    return collector


def show_began(
    progress: WindowProgress | None, windows: Sequence[Window], *, is_known: bool
) -> None:
    """Show that reading these windows begins, with their length if that `is_known`."""
    lengths = [each.before - each.after for each in windows if each.after]
    is_known = is_known and len(lengths) == len(windows)
    if progress:
        progress.began(sum(lengths, timedelta()) if is_known else None)
