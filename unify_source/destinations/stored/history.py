"""Reads the loads and schema versions that a destination has stored, in their true order.

dlt regards the one with the latest time as the newest. If a machine's clock is ahead, that is its
last one, until the others catch up.
"""

from __future__ import annotations

import json
import re
import time
from base64 import b64encode
from collections.abc import Collection
from datetime import datetime
from typing import Any

import dlt
from dlt.common.destination.exceptions import DestinationUndefinedEntity

from unify_source.common.dlt_seam import FSClientBase, kind_of, load_after
from unify_source.common.resources import DESCRIBED
from unify_source.common.settings import SECTION
from unify_source.common.times import aware, kept_instant
from unify_source.destinations.stored.contents import selected

LOADS = "_dlt_loads"
_KEPT_BY_DLT = ("_dlt_pipeline_state", "_dlt_version", LOADS)
_LONGEST_WRITE = 60.0
# LOAD.FILE.parquet, where the load is the second at which it began, with a fraction.
_FILE_OF_ROWS = re.compile(r"(^|[/\\])\d+\.\d+\.\w+\.parquet$")
# More than a load writes into the folder of a table.
_LAST_FILES = 100
_PARQUET = b"PAR1"
"""The last bytes of a complete Parquet file."""

_read: dict[str, tuple[str, dict[str, Any]]] = {}
"""Schema versions by hash, as text and parsed: a stored version never changes."""


def schema_versions(client: Any, name: str) -> list[str]:
    """Return the hashes of a stored schema's versions, newest first."""
    if isinstance(client, FSClientBase):
        return _schema_versions_in_files(client, name)
    newest = f"WHERE schema_name = '{name}' ORDER BY version DESC, inserted_at DESC"
    return [version for (version,) in selected(client, "_dlt_version", "version_hash", newest)]


def newest_schema(client: Any, name: str) -> dlt.Schema | None:
    """Return the newest version of a stored schema, None before the first load."""
    for text, _ in _schemas(client, schema_versions(client, name)[:1]):
        return dlt.Schema.from_stored_schema(json.loads(text))
    return None


def stored_hints(client: Any, hint: str) -> list[dict[str, Any]]:
    """Return each table's value of a hint, or None, from all versions of our stored schemas.

    A source that was renamed, or of which one resource was run alone, has a schema of another name.
    """
    stored = {name: schema_versions(client, name) for name in {SECTION, *_schema_names(client)}}
    ours = (
        versions
        for name, versions in stored.items()
        if name == SECTION or any(hint in text for text, _ in _schemas(client, versions[:1]))
    )
    return [
        {table: has.get(hint) for table, has in schema["tables"].items()}
        for versions in ours
        for _, schema in _schemas(client, versions)
    ]


def keep_order(pipeline: dlt.Pipeline, name: str) -> None:
    """Let a pipeline's next load come after all loads in its destination, with the newest schema.

    A schema that the destination does not know is newer than all of its own.
    """
    client = pipeline.destination_client()
    load_after_all(client)
    older = schema_versions(client, name)[1:]
    if pipeline.schemas[name].stored_version_hash in older and (
        schema := newest_schema(client, name)
    ):
        pipeline.schemas.save_schema(schema)


def delete_torn_files(pipeline: dlt.Pipeline, *, is_locked: bool = True) -> None:
    """Delete files that dlt has not written completely.

    dlt reads its own newest file first, and would fail forever; so would any query of the rows.
    The load that was writing it has not ended, and its rows are loaded again. An object store has
    only complete files. Unless the dataset `is_locked`, another run may be writing a file that was
    changed within a minute.
    """
    if kind_of(pipeline.destination) != "filesystem":
        return
    client: Any = pipeline.destination_client()
    if client.config.protocol == "file":
        until = time.time() - (0 if is_locked else _LONGEST_WRITE)
        for table in _KEPT_BY_DLT:
            _delete_in(client.fs_client, client.get_table_dir(table), until)
        for ours in DESCRIBED:
            _delete_rows_in(client.fs_client, client.get_table_dir(ours.name), until)


def newest_load(client: Any) -> str | None:
    """Return the greatest load id; None before the first load.

    In a database, the loads of other sources count too; an id that is not a time is not dlt's.
    """
    if isinstance(client, FSClientBase):
        loads = [load for _, load, _ in _loads_in_files(client, 1)]
    else:
        # Without LIMIT, which not every database has.
        loads = [load for (load,) in selected(client, LOADS, "max(load_id)", "WHERE load_id < 'A'")]
    return loads[0] if loads else None


def load_after_all(client: Any) -> None:
    """Let the next load of this process have a greater id than all loads in a destination.

    An id is the time at which a load began, by its machine's clock, and dlt restores the state with
    the greatest id. If a clock is ahead, that is its last load, until the others catch up.
    """
    if load := newest_load(client):
        load_after(load)


def finished_loads(client: Any, loads: Collection[str]) -> set[str]:
    """Return those of these loads of which every table has been merged.

    dlt writes a load's row with status 0 last. A load without it may have ended between any two.
    """
    if isinstance(client, FSClientBase):
        try:
            names = client.list_table_files(LOADS)
        except DestinationUndefinedEntity:
            return set()
        return {load for load in loads if any(f"__{load}." in name for name in names)}
    since = f"WHERE status = 0 AND load_id >= '{min(loads)}'"
    return set(loads) & {load for (load,) in selected(client, LOADS, "load_id", since)}


def last_loads(client: Any, most: int) -> list[tuple[datetime, str, int]]:
    """Return the times, ids and statuses (0 is success) of the last loads, newest first."""
    if isinstance(client, FSClientBase):
        rows = _loads_in_files(client, most)
    else:
        # By id: ids only rise, because each run makes sure of that, whatever its clock says.
        ours = f"WHERE schema_name = '{SECTION}'"
        last = f"{ours} ORDER BY load_id DESC LIMIT {most}"
        rows = selected(client, LOADS, "inserted_at, load_id, status", last)
    return [(aware(at), load, status) for at, load, status in rows]


def _loads_in_files(client: Any, most: int) -> list[tuple[datetime, str, int]]:
    try:
        # A file's name ends with the load's id, which is the time when it began, in seconds.
        names = sorted(n for n in client.list_table_files(LOADS) if f"{SECTION}__" in n)
    except DestinationUndefinedEntity:
        return []
    texts = (client.fs_client.read_text(name) for name in reversed(names[-most:]))
    # The next run deletes files that a full disk has truncated: see `delete_torn_files`.
    loads = [json.loads(text) for text in texts if _is_whole(text)]
    return [(kept_instant(f["inserted_at"]), f["load_id"], f["status"]) for f in loads]


def _schemas(client: Any, versions: list[str]) -> list[tuple[str, dict[str, Any]]]:
    if unread := [version for version in versions if version not in _read]:
        with client:
            for version in unread:
                text = client.get_stored_schema_by_hash(version).schema
                _read[version] = text, json.loads(text)
    return [_read[version] for version in versions]


def _schema_names(client: Any) -> set[str]:
    if isinstance(client, FSClientBase):
        return set(map(_schema_of, _schema_files(client)))
    # Without DISTINCT, which takes DuckDB 2 MB, however few the rows are.
    return {name for (name,) in selected(client, "_dlt_version", "schema_name")}


def _schema_of(file: str) -> str:
    return file.rsplit("__", 2)[0]


def _schema_files(client: Any) -> list[str]:
    # SCHEMA__SECOND__HASH.jsonl: the hash is in hexadecimal there, so that it fits into a path.
    try:
        files = client.list_table_files("_dlt_version")
    except DestinationUndefinedEntity:
        return []
    return [name for name in map(client.pathlib.basename, files) if name.count("__") > 1]


def _schema_versions_in_files(client: Any, name: str) -> list[str]:
    last = sorted((n for n in _schema_files(client) if _schema_of(n) == name), reverse=True)
    hashes = [n.rpartition("__")[2].partition(".")[0] for n in last]
    stored = [b64encode(bytes.fromhex(each)).decode() for each in hashes]
    numbers = {s["version_hash"]: s["version"] for _, s in _schemas(client, stored)}
    return sorted(stored, key=numbers.__getitem__, reverse=True)


def _delete_in(files: Any, folder: str, until: float) -> None:
    if not files.exists(folder):
        return
    files.invalidate_cache()
    # By modification time: the names begin with the pipeline's. A complete file belongs to a run
    # that deleted all incomplete ones before it.
    for file in sorted(files.ls(folder, detail=True), key=lambda each: each["mtime"], reverse=True):
        if file["name"].endswith(".jsonl"):
            if _is_whole(files.read_bytes(file["name"])):
                return
            if file["mtime"] <= until:
                files.rm_file(file["name"])


def _delete_rows_in(files: Any, folder: str, until: float) -> None:
    if not files.exists(folder):
        return
    files.invalidate_cache()
    # By name, which begins with the load's time: a folder may have thousands of files. A load
    # writes several at once, so a complete one may come after one that is not. In the folders of
    # Delta and Iceberg tables, which list what they hold, no file has such a name.
    names = filter(_FILE_OF_ROWS.search, files.ls(folder, detail=False))
    for name in sorted(names, reverse=True)[:_LAST_FILES]:
        if files.tail(name, len(_PARQUET)) != _PARQUET and files.info(name)["mtime"] <= until:
            files.rm_file(name)


def _is_whole(text: bytes | str) -> bool:
    """Tell whether one of dlt's files is complete."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
