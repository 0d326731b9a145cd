"""Asks for single rows by their ids, several at a time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from unify_source.api.client import Client
from unify_source.errors import RowUnavailable
from unify_source.resources import Resource

_log = logging.getLogger(__name__)


def rows_by_id(
    client: Client, resource: Resource, ids: Sequence[str], *, workers: int, otherwise: str
) -> tuple[bytes, list[str]]:
    """Return a page of the rows with these ids, and the ids that the API no longer has.

    A row that cannot be had stops nothing: the log says so, and what happens `otherwise`.
    """

    def row(key: str) -> bytes | None:
        try:
            return client.row(resource, key)
        except RowUnavailable as error:
            _log.warning("%s %s", error.what, otherwise)
            return b""

    with ThreadPoolExecutor(workers) as pool:
        answers = dict(zip(ids, pool.map(row, ids), strict=True))
    gone = [key for key, body in answers.items() if body is None]
    rows = b",".join(body for body in answers.values() if body)
    return b'{"%s":[%s]}' % (resource.list_key.encode(), rows), gone
