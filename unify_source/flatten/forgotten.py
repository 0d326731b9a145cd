"""Leaves out the rows of people who asked to be forgotten. Pure."""

from __future__ import annotations

import hmac
import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from secrets import token_hex

import pyarrow as pa
import pyarrow.compute as pc

from unify_source.common.resources import KEY, PEOPLE, Path, Resource
from unify_source.flatten.decode.decode import Batch

_ID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class Forgotten:
    """The people whose rows are left out; their ids are not stored."""

    hashes: AbstractSet[tuple[str, str]] = frozenset()
    """For each person, a key and the HMAC-SHA-256 of the id under that key."""

    def has(self, person_id: str) -> bool:
        """Tell whether a person is to be forgotten."""
        return any((key, _hash(key, person_id)) in self.hashes for key in self._keys)

    def hash_of(self, person_id: str) -> tuple[str, str]:
        """Return what is to be stored of a person who is not among them yet."""
        # A key of the dataset's own: if it were `pii_key`, everybody would return with a new one.
        # The same for all people, so that a run hashes each id once, however many are forgotten.
        key = min(self._keys, default=token_hex(16))
        return key, _hash(key, person_id)

    @cached_property
    def _keys(self) -> frozenset[str]:
        return frozenset(key for key, _ in self.hashes)

    def without(self, resource: Resource, batch: Batch) -> Batch:
        """Return a batch without the rows of these people."""
        if not self.hashes:
            return batch
        rows = batch.rows
        for path in (part.path for part in resource.parts if part.table is PEOPLE):
            people = _keys_at(rows, path)
            theirs = [key for key in pc.unique(people).to_pylist() if key and self.has(key)]
            # A row without a person stays: null is in no set.
            is_theirs = pc.is_in(people, value_set=pa.array(theirs, people.type))
            rows = rows.filter(pc.invert(is_theirs))
        # An unreadable row may name a person anywhere.
        unreadable = [
            row for row in batch.unreadable if not any(map(self.has, _ID.findall(row.raw)))
        ]
        return Batch(rows, unreadable)


def _hash(key: str, person_id: str) -> str:
    return hmac.digest(key.encode(), person_id.lower().encode(), "sha256").hex()


def _keys_at(rows: pa.Table, path: Path) -> pa.ChunkedArray:
    return pc.struct_field(rows[path[0]], [*path[1:], KEY])
