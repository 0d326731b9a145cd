"""A schedule, simulated without threads in any order of work, leaves nothing out."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from accounts import START
from conftest import IS_SOAK
from hypothesis import given, settings
from hypothesis import strategies as st

from unify_source.api.outline import Version
from unify_source.api.pages import Page
from unify_source.extract.cuts.slice import Slice
from unify_source.extract.portion import Check, Portion
from unify_source.extract.schedule import Schedule
from unify_source.extract.window import Window

Row = tuple[datetime, int]
LENGTH = timedelta(days=400)


@dataclass
class Hand:
    """A worker with a slice: the rows that the server lists, and those it has read so far."""

    slice_: Slice
    rows: list[Row]
    page_size: int
    read: int = 0

    def go_on(self, schedule: Schedule, numbers: dict[Portion, set[int]]) -> bool:
        """Read a page; return whether the slice was read to its end, or cut."""
        page = self.rows[self.read : self.read + self.page_size]
        self.read += self.page_size
        portion = self.slice_.portion
        assert not portion.queue.has_ended
        portion.queue.put(b"{}", len(page))
        versions = [Version(str(number), at.isoformat()) for at, number in page]
        self.slice_.note(Page(b"{}", None, "rows", versions))
        numbers.setdefault(portion, set()).update(number for _, number in page)
        is_due = schedule.count_page(self.slice_)
        if self.read >= len(self.rows):
            return True
        return is_due and schedule.cut(self.slice_, [at for at, _ in page])


def assert_read_again(rows: list[Row], suspect: list[Slice], pieces: list[Window]) -> None:
    """Assert that pieces of one page cover the slices that rows may have been skipped of."""
    for slice_ in suspect:
        inside = [piece for piece in pieces if slice_.window.holds(piece.before)]
        listed = [at for at, _ in rows if slice_.window.holds(at)]
        assert all(any(piece.holds(at) for piece in pieces) for at in listed)
        for piece in inside:
            held = [at for at in listed if piece.holds(at)]
            assert len(held) <= 10 + 2 or len(set(held)) <= 3


@st.composite
def lists(draw: st.DrawFn) -> list[Row]:
    """Draw up to a thousand rows, alone or in bursts, in the order of a server's list."""
    chance = Random(draw(st.integers(0, 10**9)))
    instants = draw(st.sampled_from([1, 20, 10**6, 10**6]))
    burst = draw(st.sampled_from([1.0, 0.01]))
    size = draw(st.sampled_from([0, 1, 40, 1_000, 1_000, 1_000]))
    at = [chance.randrange(instants) / instants for _ in range(size)]
    at = [each if chance.random() < 0.1 else each * burst for each in at]
    rows = [(START + LENGTH * each, number) for number, each in enumerate(at)]
    order = draw(st.sampled_from(["ascending", "descending", "none"]))
    return rows if order == "none" else sorted(rows, reverse=order == "descending")


@settings(max_examples=2_000 if IS_SOAK else 100)
@given(
    rows=lists(),
    page_size=st.sampled_from([1, 5, 10]),
    workers=st.integers(1, 16),
    enough=st.none() | st.sampled_from([1, 2, 5, 20, 50]),
    newest_first=st.booleans(),
    seed=st.integers(0, 10**9),
)
def test_every_portion_is_read_completely_and_together_they_cover_everything(
    rows: list[Row],
    page_size: int,
    workers: int,
    enough: int | None,
    newest_first: bool,  # noqa: FBT001 - drawn
    seed: int,
) -> None:
    chance = Random(seed)
    whole = Window(START, START + 2 * LENGTH)
    schedule = Schedule([whole], workers=workers, enough=enough, newest_first=newest_first)
    hands: list[Hand] = []
    numbers: dict[Portion, set[int]] = {}
    suspect: dict[Portion, list[Slice]] = defaultdict(list)
    again: dict[Portion, list[Window]] = defaultdict(list)
    ended: list[Window] = []
    steps = 0

    while schedule.portions:
        steps += 1
        assert steps < 50_000, "it never ends"
        first = schedule.portions[0]
        if first.queue.has_ended:
            assert numbers[first] >= {number for at, number in rows if first.window.holds(at)}
            assert_read_again(rows, suspect[first], again[first])
            ended.append(schedule.portions.popleft().window)
            continue
        # A load asks for the next portion in the end, and only then is there room.
        if chance.random() < 0.01:
            first.queue.ask()
        able = [hand for hand in hands if not hand.slice_.portion.queue.is_full]
        if schedule.is_ready and len(hands) < workers and chance.random() < 0.5:
            work = schedule.take()
            assert not work.portion.queue.has_ended
            if isinstance(work, Slice):
                listed = [row for row in rows if work.window.holds(row[0])]
                hands.append(Hand(work, listed, page_size))
                continue
            if isinstance(work, Check):
                # Without the server's clock any change may have been one of theirs.
                suspect[work.portion] += [each for each in work.slices if not each.is_cut]
                schedule.checked(work, None)
            else:
                again[work.portion].append(work.window)
            schedule.done(work)
        elif able:
            hand = chance.choice(able)
            if hand.go_on(schedule, numbers):
                hands.remove(hand)
                schedule.done(hand.slice_)
        else:
            first.queue.ask()

    assert schedule.is_over
    assert not hands
    if newest_first:
        ended.reverse()
    assert [each.after for each in ended] == [whole.after, *(each.before for each in ended[:-1])]
    assert ended[-1].before == whole.before
