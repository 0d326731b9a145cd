"""Hashes or drops personal data, before a row is compared, remembered or written. Pure.

Everything after the parser, including digests in the state and the files of a load, sees rows only
as they may be stored. Only the facts in `common/resources/` say what is personal. A field that they
do not know is treated as personal too.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from unify_source.common.resources import (
    CURSOR,
    FLAG,
    KEY,
    TEXT,
    WHOLE,
    Column,
    Path,
    Resource,
    Table,
)
from unify_source.common.settings import Settings
from unify_source.common.settings.limits import USUAL, Limits
from unify_source.common.settings.privacy import ALL_FIELDS, DROP, HASH, KEEP
from unify_source.common.times import parse_instant, rfc3339
from unify_source.flatten.decode.decode import Batch
from unify_source.flatten.decode.json_text import levels, parsed, text_of
from unify_source.flatten.decode.more import MORE_KEY
from unify_source.flatten.decode.unreadable import Unreadable
from unify_source.flatten.forgotten import Forgotten

_TYPES = {TEXT: str, FLAG: bool, WHOLE: int}


@dataclass(frozen=True)
class Privacy:
    """How a run treats personal data: `apply` returns rows as they may be stored.

    `kept` are the fields, as TABLE.FIELD, that the user declared not personal. A row beyond the
    `limits` is not parsed.
    """

    mode: str = KEEP
    key: bytes = field(default=b"", repr=False)
    kept: frozenset[str] = frozenset()
    forgotten: Forgotten = field(default_factory=Forgotten)
    limits: Limits = USUAL

    @classmethod
    def of(cls, settings: Settings, forgotten: Forgotten | None = None) -> Privacy:
        """Return the treatment that the settings ask for, without the forgotten people."""
        key = (settings.pii_key or "").encode() if settings.pii == HASH else b""
        kept = frozenset(settings.pii_keep or ())
        return cls(settings.pii, key, kept, forgotten or Forgotten(), settings.limits)

    def apply(self, resource: Resource, batch: Batch) -> Batch:
        """Return a decoded batch as it may be stored, of the same schema."""
        batch = self.forgotten.without(resource, batch)
        if self.mode == KEEP:
            return batch
        unreadable = [self._set_aside(resource, row) for row in batch.unreadable]
        rows = batch.rows.combine_chunks()
        if len(rows):
            [whole] = rows.to_struct_array().chunks
            rows = pa.Table.from_struct_array(self._objects(resource, whole, ()))
        return Batch(rows, unreadable)

    def value(self, value: Any, column: Column | None = None) -> str | None:
        """Return what is stored in place of a personal value: its keyed hash, or nothing.

        HMAC-SHA-256 in hexadecimal, of a text itself, or of the JSON text of any other value. The
        same address has the same hash in every table.
        """
        if value is None or self.mode == DROP:
            return None
        text = value if isinstance(value, str) else text_of(value)
        if column and column.is_email:
            text = text.strip().lower()
        return hmac.digest(self.key, text.encode(), sha256).hex()

    def _hides(self, table: Table, name: str) -> bool:
        return self.kept.isdisjoint({f"{table.name}.{name}", f"{table.name}.{ALL_FIELDS}"})

    def _objects(self, resource: Resource, objects: pa.Array, path: Path) -> pa.Array:
        if pa.types.is_list(objects.type):
            return _relisted(objects, self._objects(resource, pc.list_flatten(objects), path))
        part = resource.part_at(path)
        columns = {column.name: column for column in part.own()}
        arrays = []
        for item in objects.type:
            child = objects.field(item.name)
            if item.name == MORE_KEY:
                child = self._more(part.table, child)
            elif pa.types.is_nested(item.type):
                child = self._objects(resource, child, (*path, item.name))
            elif columns[item.name].pii and self._hides(part.table, item.name):
                child = self._column(child, columns[item.name])
            arrays.append(child)
        # Without a mask, `from_arrays` would turn a null object into one whose keys are null.
        mask = pc.is_null(objects) if objects.null_count else None
        return pa.StructArray.from_arrays(arrays, fields=list(objects.type), mask=mask)

    def _column(self, texts: pa.Array, column: Column) -> pa.Array:
        if self.mode == DROP:
            return pa.nulls(len(texts), texts.type)
        # Hashing takes most of the time, so each text is hashed once, however many rows share it.
        encoded = texts.dictionary_encode()
        hashes = [self.value(text, column) for text in encoded.dictionary.to_pylist()]
        return pa.array(hashes, TEXT).take(encoded.indices)

    def _more(self, table: Table, more: pa.Array) -> pa.Array:
        if more.null_count == len(more):
            return more
        return pa.array([text and self._fields(table, text) for text in more.to_pylist()], TEXT)

    def _fields(self, table: Table, text: str) -> str | None:
        # An object is one value, including its keys: some objects have addresses as keys.
        fields = {
            name: self.value(value) if self._hides(table, name) else value
            for name, value in parsed(text).items()
        }
        fields = {name: value for name, value in fields.items() if value is not None}
        return text_of(fields) if fields else None

    def _set_aside(self, resource: Resource, row: Unreadable) -> Unreadable:
        """Return a row for the quarantine, keeping only values that may be stored."""
        known: dict[str, Any] = {KEY: row.id} if row.id else {}
        known |= {CURSOR: rfc3339(row.updated_at)} if row.updated_at else {}
        try:
            value = self._known(resource, self._parsed(row.raw), resource.promised_type(), ())
            raw = text_of(value or known)
        except (ValueError, TypeError):  # text that is not Unicode among them
            raw = text_of(known)
        # Two rows without an id, of which nothing else is kept, must stay two.
        digest = self.value(row.raw) or row.key
        return replace(row, reason=row.plain_reason, raw=raw, digest=digest)

    def _parsed(self, raw: str) -> Any:
        # Checked before parsing: the parser recurses, and allocates memory for all of its input.
        limits = self.limits
        if len(raw) > limits.max_row_bytes or levels(raw.encode()) > limits.max_depth:
            raise ValueError("too much to be read")
        return parsed(raw)

    def _known(self, resource: Resource, value: Any, kind: pa.DataType, path: Path) -> Any:
        """Return the parts of a value that have a promised place and the promised type."""
        if pa.types.is_list(kind):
            items = value if type(value) is list else []
            known = [self._known(resource, item, kind.value_type, path) for item in items]
            return [item for item in known if item]
        if pa.types.is_struct(kind):
            return self._known_object(resource, value, kind, path) if type(value) is dict else None
        if type(value) is not _TYPES.get(kind):
            return None
        if path in set(resource.instants()):
            return value if parse_instant(str(value)) else None
        table = resource.part_at(path[:-1]).table
        column = table.column(path[-1])
        is_hidden = column.pii and self._hides(table, column.name)
        return self.value(value, column) if is_hidden else value

    def _known_object(
        self, resource: Resource, value: dict[str, Any], kind: pa.StructType, path: Path
    ) -> dict[str, Any]:
        items = {
            item.name: self._known(resource, value.get(item.name), item.type, (*path, item.name))
            for item in kind
        }
        return {name: item for name, item in items.items() if item is not None}


def _relisted(lists: pa.ListArray, items: pa.Array) -> pa.ListArray:
    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    ends = pc.cumulative_sum(lengths).cast(pa.int32())
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    mask = pc.is_null(lists) if lists.null_count else None
    return pa.ListArray.from_arrays(offsets, items, type=lists.type, mask=mask)
