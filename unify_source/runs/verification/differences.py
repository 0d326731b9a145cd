"""Finds the differences between the two sides, and confirms them, in SQL on digests.

A suspect counts only if the API, asked once more, still differs from the table, and if the row has
not changed since the comparison began, or since the last load.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pyarrow as pa

from unify_source.common.resources import LISTS, MAIN_LIST, Part, Resource
from unify_source.common.times import TICK
from unify_source.extract.window import Window
from unify_source.runs.verification.sides.api import GONE, Api
from unify_source.runs.verification.sides.buckets import parent_of
from unify_source.runs.verification.sides.scratch import AGAIN, CHANGED, NEWEST_OWNER, Scratch

MISSING, STALE, EXTRA, DUPLICATE, ORPHANED = KINDS = (
    "missing",
    "stale",
    "extra",
    "duplicate",
    "orphaned",
)

# A page has a hundred rows, a request by id one: for more rows, reading the list is cheaper.
MOST_BY_ID = 1_000
"""How many rows are asked for one by one; beyond that, the list is read."""
MOST_ASKED = 10_000
"""How many rows that are not in the list a comparison asks for by id.

Without a limit, an empty list would mean asking for all rows of the table.
"""
_SECOND = TICK * 1_000_000
_ROOT = MAIN_LIST.parts[0].table.name
_SUSPECTS = (
    "tbl VARCHAR, list VARCHAR, kind VARCHAR, id VARCHAR, owner VARCHAR,"
    " moment TIMESTAMPTZ, n BIGINT"
)
_DOUBLED = (
    "SELECT id, coalesce(d.owner, a.owner) AS owner, coalesce(d.moment, a.moment) AS moment,"
    " d.n - 1 AS n FROM ({}) AS d LEFT JOIN ({}) AS a USING (id)"
)


def parts(lists: tuple[Resource, ...]) -> Iterator[tuple[Resource, Part]]:
    """Yield the parts of lists, each with its list."""
    return ((resource, part) for resource in lists for part in resource.parts)


def suspect(scratch: Scratch, lists: tuple[Resource, ...], *, is_whole: bool) -> None:
    """Note in the table `suspects` what differs. `is_whole`: no range and no filters apply."""
    scratch.run(f"CREATE OR REPLACE TABLE suspects ({_SUSPECTS})")
    for resource, part in parts(lists):
        name = part.table.name
        for kind, query in _queries(scratch, resource, part, is_whole=is_whole):
            scratch.run(
                f"INSERT INTO suspects SELECT '{name}', '{resource.name}', '{kind}', id, owner,"
                f" moment, n FROM ({query}) WHERE id NOT IN (FROM unreadable)"
                " AND coalesce(owner, '') NOT IN (FROM unreadable)"
            )


def _queries(
    scratch: Scratch, resource: Resource, part: Part, *, is_whole: bool
) -> Iterator[tuple[str, str]]:
    name = part.table.name
    api, stored = f"api_{name}", f"stored_{name}"
    if part.fills_in:
        nested = _shown(f"{api}_nested ANTI JOIN {stored} USING (id)")
        yield MISSING, f"({nested}) ANTI JOIN {api} USING (id)"
        return
    # Rows without an equal first: nearly all have one, and take part in this join only.
    rest = _shown(f"({scratch.shown(name, equal=False)}) ANTI JOIN {stored} USING (id, digest)")
    same = f"SELECT id FROM {api} SEMI JOIN {stored} USING (id, digest)"
    yield MISSING, f"({rest}) ANTI JOIN {stored} USING (id)"
    yield STALE, f"({rest}) SEMI JOIN {stored} USING (id) ANTI JOIN ({same}) USING (id)"
    inside = _inside(resource, part)
    in_range = "true" if is_whole else f"({inside} OR id IN (SELECT id FROM {api}))"
    doubled = f"SELECT id FROM {stored} GROUP BY id HAVING count(*) > 1"
    held = f"FROM ({_held(f'{stored} SEMI JOIN ({doubled}) USING (id)')}) WHERE {in_range}"
    # The owner comes from the API: a person in the table does not say which row shows it.
    yield DUPLICATE, _DOUBLED.format(held, _shown(f"{api} SEMI JOIN ({doubled}) USING (id)"))
    orphaned = "false"
    if parent := parent_of(part.table):
        orphaned = f"(parent IS NULL OR parent NOT IN (SELECT id FROM stored_{parent.references}))"
        yield ORPHANED, f"FROM ({_held(f'{stored} WHERE {orphaned}')}) WHERE {in_range}"
    if not part.path or part.table.dies_with:
        extra = _held(f"{stored} ANTI JOIN {api} USING (id)")
        yield EXTRA, f"FROM ({extra}) WHERE {inside} AND NOT {orphaned}"


def _shown(rows: str) -> str:
    return (
        f"SELECT id, {NEWEST_OWNER} AS owner, max(moment) AS moment, 1 AS n FROM {rows} GROUP BY id"
    )


def _held(rows: str) -> str:
    return (
        "SELECT id, any_value(owner) AS owner, any_value(parent) AS parent, max(moment) AS moment,"
        f" bool_or(coalesce(inside, true)) AS inside, count(*) AS n FROM {rows} GROUP BY id"
    )


def _inside(resource: Resource, part: Part) -> str:
    """Return the condition for a stored row to be in the range, or to belong to one that is."""
    if not part.table.dies_with:
        return "inside" if not part.path else "false"
    root = resource.parts[0].table.name
    inside = f"SELECT id FROM stored_{root} WHERE coalesce(inside, true)"
    return f"owner IN ({inside} UNION ALL SELECT id FROM api_{root})"


def confirm(scratch: Scratch, api: Api, settled: datetime) -> None:
    """Ask the API again for every suspect; what still differs goes to `differences`.

    Rows that changed after `settled` do not count.
    """
    for resource in LISTS:
        _ask_again(scratch, api, resource)
    scratch.run(f"CREATE OR REPLACE TABLE differences ({_SUSPECTS})")
    if not scratch.run("FROM suspects LIMIT 1"):
        return
    # Last: by then, any newer version that the earlier requests may have seen is listed.
    now = api.client.server_time(MAIN_LIST) + _SECOND
    api.read(CHANGED, Window(settled + TICK, now), filtered=False)
    for resource, part in parts(LISTS):
        scratch.run(_confirmed(resource, part), settled)


def _ask_again(scratch: Scratch, api: Api, resource: Resource) -> None:
    root = resource.parts[0].table.name
    suspects = f"FROM suspects WHERE list = '{resource.name}' AND owner IS NOT NULL"
    shown = f"{suspects} AND kind IN ('{MISSING}', '{STALE}')"
    [(count, first, last)] = scratch.run(
        f"SELECT count(DISTINCT owner), min(moment), max(moment) {shown}"
    )
    if not resource.windowed and count:
        api.read_whole(AGAIN, resource)
    elif count > MOST_BY_ID:
        api.read(AGAIN, Window(first, last))
    owners = [
        owner
        for (owner,) in scratch.run(
            f"SELECT owner {suspects} AND kind <> '{DUPLICATE}'"
            f" AND owner NOT IN (SELECT id FROM again_{root})"
            f" GROUP BY owner ORDER BY bool_and(kind = '{EXTRA}'), owner"
        )
    ]
    api.ask(AGAIN, resource, owners[:MOST_ASKED])
    if unasked := owners[MOST_ASKED:]:
        scratch.put("unasked", pa.table({"id": unasked}))


def _confirmed(resource: Resource, part: Part) -> str:
    name, root = part.table.name, resource.parts[0].table.name
    again = f"again_{name}"
    if part.fills_in:
        again = f"(FROM {again}_nested UNION ALL FROM {again})"
    same = f"SELECT id FROM again_{name} JOIN stored_{name} USING (id, digest)"
    changed = (
        f"id IN (SELECT id FROM changed_{name}) OR owner IN (SELECT id FROM changed_{_ROOT})"
        f" OR id IN (SELECT id FROM {again} WHERE moment > $1)"
        f" OR owner IN (SELECT id FROM again_{root} WHERE moment > $1)"
    )
    gone = f"SELECT id FROM asked WHERE list = '{resource.name}' AND fate = '{GONE}'"
    # A child is also gone if its owner no longer shows it.
    is_gone = f"owner IN ({gone})"
    if part.table.dies_with:
        is_gone += f" OR owner IN (SELECT id FROM again_{root})"
    return f"""
        INSERT INTO differences SELECT * REPLACE (CASE
            WHEN kind IN ('{DUPLICATE}', '{ORPHANED}') THEN kind
            WHEN id IN (SELECT id FROM {again}) THEN CASE
                WHEN id NOT IN (SELECT id FROM stored_{name}) THEN '{MISSING}'
                WHEN id NOT IN ({same}) THEN '{STALE}' END
            WHEN kind = '{EXTRA}' AND ({is_gone}) THEN '{EXTRA}'
            WHEN owner IN (FROM unasked) THEN kind
            END AS kind)
        FROM suspects
        WHERE tbl = '{name}' AND list = '{resource.name}'
        AND (kind = '{DUPLICATE}' OR NOT coalesce({changed}, false))
    """
