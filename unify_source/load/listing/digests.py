"""Digests of a list without a time filter, which tell which of its tables have changed. Pure."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from unify_source.common.resources import KEY, Part, Resource
from unify_source.flatten.decode.decode import Batch
from unify_source.load.state.tail import digest_of, with_times_as_numbers


def digests_of(resource: Resource, listed: Batch) -> dict[str, str]:
    """Return a digest for each table, which is the same for the same list in any order.

    It includes the names of the table's columns, because one that a new version adds is null until
    the table is written.
    """
    rows = with_times_as_numbers(listed.rows.take(pc.sort_indices(listed.rows[KEY])))
    # By columns, which takes a quarter of the time that rows take.
    while any(map(pa.types.is_struct, rows.schema.types)):
        rows = rows.flatten()
    digests = {name: digest_of(rows[name].to_pylist()) for name in rows.schema.names}
    # A row that vanishes is gone, though it could not be read.
    odd = sorted(row.key for row in listed.unreadable)
    return {
        part.table.name: digest_of([part.table.schema().names, _read_by(part, digests), odd])
        for part in resource.parts
    }


def _read_by(part: Part, digests: dict[str, str]) -> dict[str, str]:
    if not part.path or any(part.linked()):
        return digests
    # A list is one column, with a name that ends with the path.
    path = ".".join((*part.path, ""))
    return {name: each for name, each in digests.items() if f"{name}.".startswith(path)}
