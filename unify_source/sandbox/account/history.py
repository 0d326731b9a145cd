"""The times at which the enrollments of an account were last updated."""

from dataclasses import dataclass
from random import Random

from unify_source.sandbox.account.instants import DAY, MINUTE, SECOND

NEWEST = 10 * MINUTE
MOST_IN_NEWEST = 50

# A bulk edit gives all of its rows the same `updated_at`, more rows than fit on a page.
_GROUP = (50, 2000)
# The API's examples have fractions of zero, three and six digits.
_PRECISIONS = (SECOND, 1000, 1000, 1, 1)
_SMALL = 100


@dataclass(frozen=True)
class Span:
    """The span of an account's updates: `now` in microseconds, and `days` before it."""

    now: int
    days: int
    one_instant: int = 0
    crowded: float = 0.0

    @property
    def length(self) -> int:
        """The span in microseconds."""
        return self.days * DAY

    @property
    def longest(self) -> int:
        """The longest time between an enrollment's creation and last update, in microseconds."""
        return min(60 * DAY, self.length // 7)

    @property
    def first(self) -> int:
        """The instant before which no enrollment was created."""
        return self.now - self.length - self.longest

    @property
    def settled(self) -> int:
        """The instant at which the newest, sparse part begins."""
        return self.now - NEWEST


def rounded(us: int, chance: float) -> int:
    """Return an instant truncated to seconds, milliseconds or microseconds, by a chance 0 to 1."""
    return us - us % _PRECISIONS[int(chance * len(_PRECISIONS))]


def updates(size: int, span: Span, rng: Random) -> list[int]:
    """Return `size` instants in no order, followed by those of `span.one_instant`."""
    newest = _newest(size, span)
    crowd = min(round(size * span.crowded), size - newest)
    bulk = _groups(min(size // 10, size - newest - crowd), span, rng)
    scattered = size - newest - crowd - len(bulk)
    # As after an import: many rows in a hundredth of the time, so that windows of equal length
    # contain nearly all of them or hardly any.
    band = span.now - int(span.length * 0.3)
    return [
        *_between(span.settled + MINUTE, span.now, newest, rng),
        *_between(band - span.length // 100, band, crowd, rng),
        *bulk,
        *_between(span.now - span.length, span.settled, scattered, rng),
        *[span.now - span.length // 2] * span.one_instant,
    ]


def _newest(size: int, span: Span) -> int:
    if size < _SMALL:
        return 0
    return min(MOST_IN_NEWEST, max(1, size * NEWEST // span.length))


def _between(start: int, end: int, count: int, rng: Random) -> list[int]:
    width = end - start
    return [rounded(start + int(rng.random() * width), rng.random()) for _ in range(count)]


def _groups(count: int, span: Span, rng: Random) -> list[int]:
    """Return instants that many rows share, as after a bulk edit."""
    instants: list[int] = []
    while (left := count - len(instants)) >= _GROUP[0]:
        most = min(_GROUP[1], left)
        group = _GROUP[0] + int(rng.random() * (most - _GROUP[0] + 1))
        instants += _between(span.now - span.length, span.settled, 1, rng) * group
    return instants
