"""Sorted rows, found by bisection."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

Key = tuple[int, str]

# Beyond this share of the whole, sorting again is faster than moving single keys.
_MANY = 200


class Listed(Protocol):
    """A row of one of the API's lists. Times in microseconds."""

    @property
    def id(self) -> str:
        """The id, unique within its list."""

    @property
    def created(self) -> int:
        """When it was created."""

    @property
    def updated(self) -> int:
        """When it was last changed."""


T = TypeVar("T", bound=Listed)


class View(Generic[T]):
    """The keys of the matching rows, sorted by position, and by id if positions are equal."""

    def __init__(
        self, position: Callable[[T], int], matches: Callable[[T], bool], rows: Iterable[T]
    ) -> None:
        self._position = position
        self._matches = matches
        self.keys: list[Key] = sorted((position(row), row.id) for row in rows if matches(row))

    def replace(self, old: Sequence[T], new: Sequence[T]) -> None:
        """Remove the keys of `old` rows and insert those of `new` ones."""
        gone = [(self._position(row), row.id) for row in old if self._matches(row)]
        come = [(self._position(row), row.id) for row in new if self._matches(row)]
        if (len(gone) + len(come)) * _MANY > len(self.keys):
            drop = set(gone)
            self.keys = sorted([key for key in self.keys if key not in drop] + come)
            return
        for key in gone:
            del self.keys[bisect_left(self.keys, key)]
        for key in come:
            insort(self.keys, key)

    def page(
        self,
        bounds: tuple[int, int] | None,
        after: Key | int | None,
        limit: int,
        *,
        backwards: bool,
    ) -> tuple[list[Key], bool]:
        """Return up to `limit` keys in inclusive bounds, and whether more follow.

        They come after a key, or after a number of keys, counted now.
        """
        start, end = 0, len(self.keys)
        if bounds:
            start = bisect_left(self.keys, (bounds[0], ""))
            # Both bounds are inclusive, as the API documents them.
            end = bisect_left(self.keys, (bounds[1] + 1, ""))
        if backwards:
            if isinstance(after, int):
                end = max(start, end - after)
            elif after:
                end = min(end, bisect_left(self.keys, after))
            first = max(start, end - limit)
            return self.keys[first:end][::-1], first > start
        if isinstance(after, int):
            # Counted in the current list: a row that has moved since the last page shifts all
            # others, so one comes twice or not at all. That is what an offset does.
            start += after
        elif after:
            start = max(start, bisect_right(self.keys, after))
        return self.keys[start : min(end, start + limit)], start + limit < end
