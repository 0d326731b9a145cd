"""Claims of runs, stored in the dataset they are about: files in a lake, rows in a database.

A run claims its turn, and each load the rows that it is about to merge.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import dlt
from dlt.common.destination import AnyDestination

from unify_source.common.dlt_seam import FSClientBase, kind_of
from unify_source.destinations.databases import table_exists
from unify_source.destinations.locks.wait import Holder

LEASE = "lease"
"""Where the claims on turns are: in the table `_unify_lease`, or in the folder `DATASET_lease`."""

_COLUMNS = (("turn", "text"), ("claim", "text"), ("beat", "bigint"), ("holder", "text"))
# ClickHouse requires the engine that stores a table. Synapse's own would not store a long text.
_STORED = {"clickhouse": "ENGINE = MergeTree ORDER BY tuple()", "synapse": "WITH (HEAP)"}


@dataclass(frozen=True)
class Claim:
    """A claim on a turn. Its beat is 0 before the turn, and rises while a run holds the turn.

    Of a merge, the holder is what is merged. Of a forgotten person, the turn is the hash's key.
    """

    turn: str
    beat: int
    holder: Holder


class Claims(Protocol):
    """The claims in a dataset. A claim must be visible to every run as soon as `put` returns."""

    poll_seconds: float
    exists: bool
    """Whether the place of the claims exists, or a claim does not need one."""

    def has_dataset(self) -> bool:
        """Tell whether there is a dataset, or a claim does not need one."""

    def put(self, name: str, claim: Claim) -> None:
        """Write a claim or its next beat."""

    def drop(self, *names: str) -> bool:
        """Remove claims; tell whether any existed, or may have."""

    def all(self) -> dict[str, Claim]:
        """Return the claims of all runs by name."""

    def names(self) -> frozenset[tuple[str, str]]:
        """Return the turn and the name of each claim, without reading the claims themselves."""


@contextmanager
def claims_in(
    pipeline: dlt.Pipeline, place: str = LEASE, *, exists: bool | None = None
) -> Iterator[Claims | None]:
    """Yield the claims in a pipeline's dataset, None if the destination stores nothing.

    Asks a database whether the place `exists` unless that is known: some take seconds to answer.
    """
    client: Any = pipeline.destination_client()
    if isinstance(client, FSClientBase):
        yield ClaimFiles(client, place)
    elif hasattr(client, "sql_client"):
        with client:
            table = f"_unify_{place}"
            if exists is None:
                exists = table_exists(pipeline, client, table)
            yield ClaimRows(client, pipeline.destination, table, exists=exists)
    else:
        yield None


class ClaimFiles:
    """A file for each claim, TURN-NAME.json, in a folder beside the dataset's.

    dlt creates the dataset's own folder, and fails if it already exists.
    """

    exists = True

    def __init__(self, client: Any, place: str) -> None:
        self._files, self._join = client.fs_client, client.pathlib.join
        self._folder = self._join(client.bucket_path, f"{client.dataset_name}_{place}")
        self.poll_seconds = 0.1 if client.config.protocol == "file" else 1.0

    def has_dataset(self) -> bool:
        """Tell that a claim does not need one."""
        return True

    def put(self, name: str, claim: Claim) -> None:
        """Write a claim or its next beat."""
        self._files.makedirs(self._folder, exist_ok=True)
        text = json.dumps({"beat": claim.beat, **claim.holder})
        self._files.pipe_file(self._join(self._folder, f"{claim.turn}-{name}.json"), text.encode())

    def drop(self, *names: str) -> bool:
        """Remove claims; tell whether any existed."""
        ends = tuple(f"-{name}.json" for name in names)
        files = [file for file in self._listed() if file.endswith(ends)]
        for file in files:
            with suppress(FileNotFoundError):
                self._files.rm_file(file)
        return bool(files)

    def all(self) -> dict[str, Claim]:
        """Return the claims of all runs by name."""
        claims: dict[str, Claim] = {}
        for file in self._listed():
            turn, name = _turn_and_name(file)
            # It may be removed or rewritten at this moment.
            with suppress(FileNotFoundError):
                claims[name] = _parsed(turn, self._files.cat_file(file))
        return claims

    def names(self) -> frozenset[tuple[str, str]]:
        """Return the turn and the name of each claim, without reading the claims themselves."""
        return frozenset(map(_turn_and_name, self._listed()))

    def _listed(self) -> list[str]:
        # fsspec caches listings, and would miss what other runs have written since.
        self._files.invalidate_cache()
        try:
            files = self._files.ls(self._folder, detail=False)
        except FileNotFoundError:
            return []
        return [str(file) for file in files if str(file).endswith(".json")]


class ClaimRows:
    """A row for each beat of each claim: an INSERT is what all databases have in common."""

    poll_seconds = 1.0

    def __init__(
        self, client: Any, destination: AnyDestination, table: str, *, exists: bool
    ) -> None:
        self._client, self._destination, self.exists = client.sql_client, destination, exists
        self._one_at_a_time = threading.Lock()
        self._name, self._table = table, self._client.make_qualified_table_name(table)

    def has_dataset(self) -> bool:
        """Tell whether there is a dataset."""
        return self.exists or bool(self._client.has_dataset())

    def put(self, name: str, claim: Claim) -> None:
        """Write a claim or its next beat, and create the table and the dataset if need be."""
        if not self.exists:
            self._create()
        insert = f"INSERT INTO {self._table} (turn, claim, beat, holder) VALUES (%s, %s, %s, %s)"  # noqa: S608 - our own names
        # First, so that the greatest text is that of the last beat.
        holder = json.dumps({"beat": f"{claim.beat:010}", **claim.holder})
        self._run(insert, claim.turn, name, claim.beat, holder)
        self.exists = True

    def drop(self, *names: str) -> bool:
        """Remove claims; tell whether any existed, or may have."""
        if not names:
            return False
        marks = ", ".join(["%s"] * len(names))
        self._run(f"DELETE FROM {self._table} WHERE claim IN ({marks})", *names)  # noqa: S608
        return True

    def all(self) -> dict[str, Claim]:
        """Return the claims of all runs by name."""
        if not self.exists:
            return {}
        beats = "SELECT turn, claim, max(beat), max(holder)"
        rows = self._run(f"{beats} FROM {self._table} GROUP BY turn, claim")
        return {name: Claim(turn, beat, json.loads(text)) for turn, name, beat, text in rows}

    def names(self) -> frozenset[tuple[str, str]]:
        """Return the turn and the name of each claim, without reading the claims themselves."""
        rows = self._run(f"SELECT turn, claim FROM {self._table}") if self.exists else []  # noqa: S608
        return frozenset((turn, name) for turn, name in rows)

    def _run(self, statement: str, *values: Any) -> list[Any]:
        # A connection must not be used by two threads at once.
        with self._one_at_a_time:
            return list(self._client.execute_sql(statement, *values) or [])

    def _create(self) -> None:
        """Create the table, and the dataset if need be."""
        types = self._destination.capabilities().get_type_mapper()
        table: Any = {"name": self._name}
        columns = ", ".join(
            f"{name} {types.to_destination_type({'name': name, 'data_type': kind}, table)}"  # type: ignore[typeddict-item]
            for name, kind in _COLUMNS
        )
        # Another run may create them at the same moment: whether there is a table, it shows itself.
        with suppress(Exception):
            if not self._client.has_dataset():
                self._client.create_dataset()
        stored = _STORED.get(kind_of(self._destination), "")
        try:
            self._run(f"CREATE TABLE {self._table} ({columns}) {stored}")
        except Exception:
            if not self._can_read():
                raise

    def _can_read(self) -> bool:
        with suppress(Exception):
            self._run(f"SELECT turn FROM {self._table} WHERE 1 = 0")  # noqa: S608
            return True
        return False


def _turn_and_name(file: str) -> tuple[str, str]:
    turn, _, name = file.rpartition("/")[2].removesuffix(".json").partition("-")
    return turn, name


def _parsed(turn: str, text: bytes) -> Claim:
    try:
        holder = json.loads(text)
        return Claim(turn, int(holder.pop("beat")), holder)
    except (ValueError, TypeError, KeyError, AttributeError):
        return Claim(turn, -1, {})
