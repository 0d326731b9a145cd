"""Leaves out the rows of people who asked to be forgotten. Pure."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from hashlib import sha256

import pyarrow as pa
import pyarrow.compute as pc

from unify_source.flatten.decode.decode import Batch
from unify_source.resources import KEY, PEOPLE, Path, Resource

_ID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)


def digest_of(person_id: str, salt: str) -> str:
    """Return what is stored about a person: a hash of the id, never the id."""
    # A salt is enough, because ids are random and cannot all be tried. A secret key could change,
    # and then everybody who was forgotten would come back.
    return sha256(f"{salt} {person_id.lower()}".encode()).hexdigest()


@dataclass(frozen=True)
class Forgotten:
    """The people whose rows are left out, as salted hashes of their ids."""

    salt: str = ""
    digests: AbstractSet[str] = frozenset()

    def has(self, person_id: str) -> bool:
        """Tell whether a person is to be forgotten."""
        return digest_of(person_id, self.salt) in self.digests

    def without(self, resource: Resource, batch: Batch) -> Batch:
        """Return a batch without the rows of these people."""
        if not self.digests:
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


def _keys_at(rows: pa.Table, path: Path) -> pa.ChunkedArray:
    return pc.struct_field(rows[path[0]], [*path[1:], KEY])
