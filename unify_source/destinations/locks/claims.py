"""Claims on a dataset, stored in it: files in a lake, rows in a database."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import dlt
from dlt.common.destination import AnyDestination

from unify_source.destinations.locks.wait import Holder
from unify_source.dlt_seam import FSClientBase, kind_of

TABLE = "_unify_lease"
"""The table of the claims in a database."""

_COLUMNS = (("turn", "text"), ("claim", "text"), ("beat", "bigint"), ("holder", "text"))
# ClickHouse alone requires the engine that stores a table.
_ENGINE = {"clickhouse": "ENGINE = MergeTree ORDER BY tuple()"}


@dataclass(frozen=True)
class Claim:
    """A claim on a turn. Its beat is 0 before the turn, and rises while a run holds the turn."""

    turn: str
    beat: int
    holder: Holder


class Claims(Protocol):
    """The claims in a dataset. A claim must be visible to every run as soon as `put` returns."""

    poll_seconds: float

    def put(self, name: str, claim: Claim) -> None:
        """Write a claim or its next beat."""

    def drop(self, name: str) -> bool:
        """Remove a claim; tell whether it existed, or may have."""

    def all(self) -> dict[str, Claim]:
        """Return the claims of all runs by name."""


@contextmanager
def claims_in(pipeline: dlt.Pipeline) -> Iterator[Claims | None]:
    """Yield the claims in a pipeline's dataset, None if the destination stores nothing."""
    client: Any = pipeline.destination_client()
    if isinstance(client, FSClientBase):
        yield ClaimFiles(client)
    elif hasattr(client, "sql_client"):
        with client:
            yield ClaimRows(client, pipeline.destination)
    else:
        yield None


class ClaimFiles:
    """A file for each claim, TURN-NAME.json, in a folder beside the dataset's.

    dlt creates the dataset's own folder, and fails if it already exists.
    """

    def __init__(self, client: Any) -> None:
        self._files, self._join = client.fs_client, client.pathlib.join
        self._folder = self._join(client.bucket_path, f"{client.dataset_name}_lease")
        self.poll_seconds = 0.1 if client.config.protocol == "file" else 1.0

    def put(self, name: str, claim: Claim) -> None:
        """Write a claim or its next beat."""
        self._files.makedirs(self._folder, exist_ok=True)
        text = json.dumps({"beat": claim.beat, **claim.holder})
        self._files.pipe_file(self._join(self._folder, f"{claim.turn}-{name}.json"), text.encode())

    def drop(self, name: str) -> bool:
        """Remove a claim; tell whether it existed."""
        files = [file for file in self._listed() if file.endswith(f"-{name}.json")]
        for file in files:
            with suppress(FileNotFoundError):
                self._files.rm_file(file)
        return bool(files)

    def all(self) -> dict[str, Claim]:
        """Return the claims of all runs by name."""
        claims: dict[str, Claim] = {}
        for file in self._listed():
            turn, _, name = file.rpartition("/")[2].removesuffix(".json").partition("-")
            # It may be removed or rewritten at this moment.
            with suppress(FileNotFoundError):
                claims[name] = _parsed(turn, self._files.cat_file(file))
        return claims

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

    def __init__(self, client: Any, destination: AnyDestination) -> None:
        self._client = client.sql_client
        self._one_at_a_time = threading.Lock()
        self._table = self._client.make_qualified_table_name(TABLE)
        exists, _ = client.get_storage_table(TABLE)
        if not exists:
            self._create(destination)

    def put(self, name: str, claim: Claim) -> None:
        """Write a claim or its next beat."""
        holder = json.dumps({key: _plain(value) for key, value in claim.holder.items()})
        self._run(
            f"INSERT INTO {self._table} (turn, claim, beat, holder)"  # noqa: S608 - our own names
            f" VALUES ('{claim.turn}', '{name}', {claim.beat}, '{holder}')"
        )

    def drop(self, name: str) -> bool:
        """Remove a claim; tell whether it existed, or may have."""
        self._run(f"DELETE FROM {self._table} WHERE claim = '{name}'")  # noqa: S608
        return True

    def all(self) -> dict[str, Claim]:
        """Return the claims of all runs by name."""
        beats = "SELECT turn, claim, max(beat), max(holder)"
        rows = self._run(f"{beats} FROM {self._table} GROUP BY turn, claim")
        return {name: Claim(turn, beat, json.loads(text)) for turn, name, beat, text in rows}

    def _run(self, statement: str) -> list[Any]:
        # A connection must not be used by two threads at once.
        with self._one_at_a_time:
            return list(self._client.execute_sql(statement) or [])

    def _create(self, destination: AnyDestination) -> None:
        types = destination.capabilities().get_type_mapper()
        table: Any = {"name": TABLE}
        columns = ", ".join(
            f"{name} {types.to_destination_type({'name': name, 'data_type': kind}, table)}"  # type: ignore[typeddict-item]
            for name, kind in _COLUMNS
        )
        # Another run may create them at the same moment. A lasting error shows in the next query.
        with suppress(Exception):
            if not self._client.has_dataset():
                self._client.create_dataset()
        with suppress(Exception):
            engine = _ENGINE.get(kind_of(destination), "")
            self._run(f"CREATE TABLE {self._table} ({columns}) {engine}")


def _parsed(turn: str, text: bytes) -> Claim:
    try:
        holder = json.loads(text)
        return Claim(turn, int(holder.pop("beat")), holder)
    except (ValueError, TypeError, KeyError, AttributeError):
        return Claim(turn, -1, {})


def _plain(text: str) -> str:
    return re.sub(r"[^\w .:+-]", "_", text)
