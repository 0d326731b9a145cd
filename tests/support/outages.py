"""Faults of a destination, at a statement or a request of a run: it goes away, or is full.

Nothing of the run is replaced. The path to Postgres or to S3 is cut, the folder with a DuckDB file
or with a lake is moved, and a limit on the size of files stands in for the end of a disk. A bucket
has no end: there a server that refuses to write stands in for it.
"""

from __future__ import annotations

import re
import resource
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from announcing import ANNOUNCE_TO, announcements
from postgres import Server, ask
from servers import s3_environment
from statements import BucketProxy, StatementProxy
from turns import wait_until

BEFORE, AFTER = "before", "after"


class Outage(NamedTuple):
    """What fails, from before or after a statement on, and whether it is mended at once."""

    is_full: bool
    begins: str
    is_mended: bool


AWAY, FULL = "goes away and stays away", "disk full, and stays full"
OUTAGES = {
    "goes away during a statement": Outage(False, BEFORE, True),
    "goes away before it answers a statement": Outage(False, AFTER, True),
    AWAY: Outage(False, BEFORE, False),
    "disk full during a statement": Outage(True, BEFORE, True),
    FULL: Outage(True, BEFORE, False),
}

WHILE_READING = {
    "goes away during a request": Outage(False, BEFORE, True),
    AWAY: OUTAGES[AWAY],
    "disk full during a request": Outage(True, BEFORE, True),
    FULL: OUTAGES[FULL],
}

Moment = Callable[[int, str, int], bool]
"""Tells of a statement, or a request, by its number, its text and how many were struck before."""


def at(is_there: Callable[[int], bool]) -> Moment:
    """Return the moment of statements, or requests, with some numbers."""
    return lambda number, _text, _struck: is_there(number)


def first(pattern: str) -> Moment:
    """Return the moment of the first statement that has such a text."""
    expression = re.compile(pattern, re.DOTALL | re.IGNORECASE)
    return lambda _number, text, struck: not struck and bool(expression.search(text))


MERGE = "a statement of a merge"
MOMENTS: dict[str, Moment] = {
    "first statement": at(lambda number: number == 0),
    # DuckDB's second, Postgres's both in one, Delta's in a folder and in a bucket.
    MERGE: first(
        r'^INSERT INTO "unify"\."enrollments"'
        r'|^DELETE FROM "unify"\."enrollments".*INSERT INTO|^execute .*/enrollments'
        r"|^(PUT|POST) \S+/enrollments/"
    ),
    "commit of the load": first(
        r'INSERT INTO "unify"\."_dlt_loads"|_dlt_loads/\S+ w|^PUT \S+/_dlt_loads/'
    ),
    "every third statement": at(lambda number: number % 3 == 2),
}


class World:
    """Where a destination is, and what can happen to it during a run."""

    is_cut: ClassVar[bool] = False
    process: subprocess.Popen[str] | None = None
    reached: Mapping[str, str] = MappingProxyType({})
    """The environment by which a run reaches it, instead of its own."""

    def watched(self, striking: Striking) -> AbstractContextManager[dict[str, str]]:
        """Strike a run that has this environment."""
        raise NotImplementedError

    def grow(self) -> None:
        """Make the next write reach a limit on the size of files."""

    def leave(self) -> None:
        """Let nothing reach it."""
        raise NotImplementedError

    def come_back(self) -> None:
        """Let it be reached again."""
        raise NotImplementedError

    def fill(self) -> None:
        """Let nothing be written any more."""
        raise NotImplementedError

    def make_room(self) -> None:
        """Let all be written again."""
        raise NotImplementedError


class Folder(World):
    """A folder that the run itself writes to."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder, self._kind = folder, kind
        self._away = folder.with_suffix(".away")

    @contextmanager
    def watched(self, striking: Striking) -> Iterator[dict[str, str]]:
        with announcements(striking.before, striking.after) as port:
            yield {ANNOUNCE_TO: f"{self._kind} {port}"}

    def leave(self) -> None:
        self._folder.rename(self._away)
        # Otherwise a missing folder might be created again.
        self._folder.touch()

    def come_back(self) -> None:
        if self._away.exists():
            self._folder.unlink()
            self._away.rename(self._folder)

    def fill(self) -> None:
        self._limit(0)

    def make_room(self) -> None:
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        # It may ask before it is known here.
        wait_until(lambda: self.process)
        assert self.process
        with suppress(ProcessLookupError):
            limits = (size, resource.RLIM_INFINITY)
            resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, limits)


class Database(World):
    """A server of Postgres behind a proxy."""

    is_cut = True

    # A file of its log is smaller, and the largest table is made larger.
    _LARGEST_FILE = 1_100_000

    def __init__(self, server: Server, dsn: str, proxy: StatementProxy) -> None:
        self._server, self._dsn, self._proxy = server, dsn, proxy
        self.reached = {"DESTINATION__POSTGRES__CREDENTIALS": proxy.url}

    @contextmanager
    def watched(self, striking: Striking) -> Iterator[dict[str, str]]:
        self._proxy.before, self._proxy.after = striking.before, striking.after
        yield {**self.reached}

    def grow(self) -> None:
        # Rows that were not committed are not there, but take their place until a vacuum.
        rows = 'SELECT stored.* FROM "unify"."enrollments" AS stored, generate_series(1, 60)'
        ask(self._dsn, f'BEGIN; INSERT INTO "unify"."enrollments" {rows}; ROLLBACK')

    def leave(self) -> None:
        self._proxy.leave()

    def come_back(self) -> None:
        self._proxy.come_back()

    def fill(self) -> None:
        self._server.limit_files(self._LARGEST_FILE)

    def make_room(self) -> None:
        self._server.limit_files(resource.RLIM_INFINITY)


class Bucket(World):
    """A server that speaks S3, behind a proxy."""

    is_cut = True

    def __init__(self, proxy: BucketProxy) -> None:
        self._proxy = proxy
        self.reached = s3_environment(f"http://{proxy.at}")

    @contextmanager
    def watched(self, striking: Striking) -> Iterator[dict[str, str]]:
        self._proxy.before, self._proxy.after = striking.before, striking.after
        yield {**self.reached}

    def leave(self) -> None:
        self._proxy.leave()

    def come_back(self) -> None:
        self._proxy.come_back()

    def fill(self) -> None:
        self._proxy.is_full = True

    def make_room(self) -> None:
        self._proxy.is_full = False


class Striking:
    """Counts the statements or requests of a run, and lets an outage come at a moment."""

    def __init__(self, outage: Outage, moment: Moment, world: World) -> None:
        self._outage, self._is_hit, self._world = outage, moment, world
        self._numbers = count()
        self._one_at_a_time = threading.Lock()
        self._is_out = False
        self.struck = 0

    def before(self, text: str) -> bool:
        """Note that a statement is about to be run; tell whether it is one to strike at."""
        with self._one_at_a_time:
            is_hit = self._is_hit(next(self._numbers), text, self.struck)
            self.struck += is_hit
            if is_hit and self._outage.begins == BEFORE:
                self._begin()
        return is_hit

    def after(self, is_hit: bool) -> None:  # noqa: FBT001 - the result of `before`
        """Note that a statement has been run."""
        begins_here = self._outage.begins == AFTER
        with self._one_at_a_time:
            if is_hit and begins_here:
                self._begin()
            elif self._outage.is_mended and is_hit != begins_here:
                self.end()

    def end(self) -> None:
        """End the outage."""
        if self._is_out:
            self._is_out = False
            (self._world.make_room if self._outage.is_full else self._world.come_back)()

    def _begin(self) -> None:
        if self._is_out:
            return
        self._is_out = True
        (self._world.fill if self._outage.is_full else self._world.leave)()
        # A statement whose connection was cut never ends.
        if self._outage.is_mended and self._world.is_cut and not self._outage.is_full:
            self.end()
