"""Asks for single rows by their ids, several at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from unify_source.api.client import Client
from unify_source.common.errors import RowUnavailable
from unify_source.common.resources import Resource

_log = logging.getLogger(__name__)

# Rows that are asked for again may be the longest of all.
AT_ONCE, PAGE_BYTES = 64, 8 << 20


def rows_by_id(
    client: Client, resource: Resource, ids: Sequence[str], *, workers: int, otherwise: str
) -> Iterator[tuple[bytes, list[str]]]:
    """Yield pages of the rows with these ids, each with ids that the API no longer has.

    A page ends soon after `PAGE_BYTES`. A row that cannot be read does not stop the others: it is
    logged, with what happens `otherwise`.
    """

    def unavailable(error: RowUnavailable) -> bytes:
        _log.warning("%s %s", error.what, otherwise)
        return b""

    for rows in some_by_id(client, resource, ids, workers=workers, unavailable=unavailable):
        yield page_with(resource, rows), [key for key, row in rows.items() if row is None]


def some_by_id(
    client: Client,
    resource: Resource,
    ids: Sequence[str],
    *,
    workers: int,
    unavailable: Callable[[RowUnavailable], bytes | None],
) -> Iterator[dict[str, bytes | None]]:
    """Yield what `each_by_id` returns, in parts of little more than `PAGE_BYTES`."""
    rows: dict[str, bytes | None] = {}
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        rows |= each_by_id(client, resource, some, workers=workers, unavailable=unavailable)
        is_last = start + AT_ONCE >= len(ids)
        if is_last or sum(len(row or b"") for row in rows.values()) > PAGE_BYTES:
            yield rows
            rows = {}


def each_by_id(
    client: Client,
    resource: Resource,
    ids: Sequence[str],
    *,
    workers: int,
    unavailable: Callable[[RowUnavailable], bytes | None],
) -> dict[str, bytes | None]:
    """Return the row with each of these ids, None where the API no longer has it.

    `unavailable` returns a substitute for a row that cannot be read.
    """

    def row(key: str) -> bytes | None:
        try:
            return client.row(resource, key)
        except RowUnavailable as error:
            return unavailable(error)

    with ThreadPoolExecutor(workers) as pool:
        return dict(zip(ids, pool.map(row, ids), strict=True))


def page_with(resource: Resource, rows: Mapping[str, bytes | None]) -> bytes:
    """Return a page of the rows that could be read."""
    items = b",".join(row for row in rows.values() if row)
    return b'{"%s":[%s]}' % (resource.list_key.encode(), items)
