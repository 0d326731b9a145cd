"""Estimates from sample pages how many rows a window holds, and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from unify_source.api.client import Client
from unify_source.api.connection import Parameters
from unify_source.api.pages import Page
from unify_source.common.resources import Resource
from unify_source.common.settings import Settings
from unify_source.common.times import EPOCH, TICK
from unify_source.extract.cuts.slicing import a_page, instants, is_in_order
from unify_source.extract.pagination import follow
from unify_source.extract.window import Window, cut

_LOOKS_AT_A_PART = 8
# A window that seems to hold more than this share of all rows is sampled again, in halves.
_LARGE = 1 / 8
_MOST_HALVINGS = 32
_SHORTEST = timedelta(seconds=1)
# More pages of one instant are a burst, whose rows are not all counted.
_MOST_PAGES = 5


@dataclass(frozen=True)
class Estimate:
    """A window and the number of its rows: counted, or guessed from the density of a page.

    It is a lower bound if many rows share an instant and were not all read.
    """

    window: Window
    rows: int
    is_counted: bool
    is_lower_bound: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether another sample would add nothing."""
        return self.is_counted or _length(self.window) < 2 * _SHORTEST


def rows_over_time(
    client: Client, resource: Resource, settings: Settings, window: Window, parts: int
) -> list[Estimate]:
    """Return a window in equal parts, each with its estimated number of rows.

    Asks for about eight pages of each part, `workers` at a time, and for a few more in dense parts.
    It is usually right within a fifth, or within a factor of two if the list is not in the order of
    time. A burst of more than five pages, or one that begins behind other rows, is not counted in
    full; the part is marked so if the order of the list shows the burst. Raises an ApiError.
    """
    with ThreadPoolExecutor(settings.workers) as pool:

        def measured(windows: Sequence[Window]) -> list[Estimate]:
            waiting = [pool.submit(_measured, client, resource, settings, each) for each in windows]
            try:
                return [each.result() for each in waiting]
            except BaseException:
                # Otherwise leaving the `with` would wait for every queued page, even after Ctrl-C.
                pool.shutdown(wait=False, cancel_futures=True)
                raise

        estimates = _looked_at_again(measured(_apart(window, parts * _LOOKS_AT_A_PART)), measured)
    return [
        _together(
            part, [estimate for estimate in estimates if part.holds(_middle(estimate.window))]
        )
        for part in _evenly(window, parts)
    ]


def _together(part: Window, estimates: Sequence[Estimate]) -> Estimate:
    return Estimate(
        part,
        sum(estimate.rows for estimate in estimates),
        is_counted=all(estimate.is_counted for estimate in estimates),
        is_lower_bound=any(estimate.is_lower_bound for estimate in estimates),
    )


def _looked_at_again(
    estimates: list[Estimate], measured: Callable[[Sequence[Window]], list[Estimate]]
) -> list[Estimate]:
    for _ in range(_MOST_HALVINGS):
        doubtful = [estimate for estimate in estimates if not estimate.is_settled]
        largest = max(doubtful, key=lambda estimate: estimate.rows, default=None)
        if largest is None or largest.rows <= _LARGE * sum(estimate.rows for estimate in estimates):
            break
        estimates.remove(largest)
        estimates += measured(_apart(largest.window, 2))
    return estimates


def _measured(client: Client, resource: Resource, settings: Settings, window: Window) -> Estimate:
    """Count a window's rows, or guess them from its first page, and a few more in a burst."""
    listed = _listed(client, resource, settings, window)
    pages: list[list[datetime]] = []
    seen: list[datetime] = []
    for page, is_last in listed:
        pages.append(page)
        seen += page
        if is_last:
            return Estimate(window, len(seen), is_counted=True)
        if len(set(seen)) > 1 or len(pages) == _MOST_PAGES:
            break
    is_one_instant = len(set(seen)) == 1
    if seen and not is_one_instant and is_in_order(seen) and pages[-1]:
        end = window.before if seen[0] < seen[-1] else window.after or EPOCH
        left = abs(end - seen[-1]) / a_page(dict(enumerate(pages, 1)))
        rows = round(len(seen) + left * len(pages[-1]))
        return Estimate(
            window, rows, is_counted=False, is_lower_bound=_is_amid_a_burst(seen, listed)
        )
    if not seen or _length(window) < _SHORTEST:
        return Estimate(window, len(seen), is_counted=False, is_lower_bound=True)
    beside = _measured(client, resource, settings, _beside(window, seen[0]))
    rows = 4 * beside.rows + (len(seen) if is_one_instant else 0)
    is_lower_bound = is_one_instant or beside.is_lower_bound
    return Estimate(window, rows, is_counted=False, is_lower_bound=is_lower_bound)


def _listed(
    client: Client, resource: Resource, settings: Settings, window: Window
) -> Iterator[tuple[list[datetime], bool]]:
    """Yield the instants of each page of a window, and whether it is the last."""

    def page(parameters: Parameters) -> Page:
        return client.page(resource, parameters)

    parameters = [*settings.filters, ("limit", str(settings.page_size))]
    for each in follow(page, parameters, window, settings.limits):
        yield instants(each), each.next_cursor is None


def _is_amid_a_burst(
    seen: Sequence[datetime], listed: Iterator[tuple[list[datetime], bool]]
) -> bool:
    """Tell whether the last instant has more rows than any other, beyond the next page too."""
    edge, rows_of = seen[-1], Counter(seen)
    if rows_of[edge] == 1 or rows_of.most_common(1)[0][1] > rows_of[edge]:
        return False
    page, is_last = next(listed)
    return not is_last and set(page) == {edge}


def _beside(window: Window, instant: datetime) -> Window:
    """Return a quarter of a window, from the middle of the longer side of an instant."""
    longer = max(cut(window, [instant]), key=_length)
    half = _length(window) / 8
    return Window(_middle(longer) - half, _middle(longer) + half)


def _evenly(window: Window, parts: int) -> list[Window]:
    step = _length(window) / parts
    return cut(window, [window.before - step * number for number in range(1, parts)])


def _apart(window: Window, parts: int) -> list[Window]:
    # An instant that many rows share, such as midnight, may be a boundary, and must count once.
    first, *others = _evenly(window, parts)
    return [first, *(Window((other.after or EPOCH) + TICK, other.before) for other in others)]


def _middle(window: Window) -> datetime:
    return window.before - _length(window) / 2


def _length(window: Window) -> timedelta:
    return window.before - (window.after or EPOCH)
