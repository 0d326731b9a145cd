"""Files of dlt's own that a full disk or a kill has left half written in a lake."""

from __future__ import annotations

import json
from typing import Any

import dlt

from unify_source.destinations.history import LOADS
from unify_source.dlt_seam import FSClientBase

_KEPT_BY_DLT = ("_dlt_pipeline_state", "_dlt_version", LOADS)


def delete_torn_files(pipeline: dlt.Pipeline) -> None:
    """Delete what dlt has not written to its end; only one run at a time may.

    dlt reads the newest of them first, and would fail for ever. The load that wrote it has not
    ended, and its rows are loaded again. In an object store a file is there as a whole or not.
    """
    client: Any = pipeline.destination_client()
    is_lake = isinstance(client, FSClientBase)
    if is_lake and client.config.protocol == "file":
        for table in _KEPT_BY_DLT:
            _delete_in(client.fs_client, client.get_table_dir(table))


def _delete_in(files: Any, folder: str) -> None:
    if not files.exists(folder):
        return
    files.invalidate_cache()
    # By the time of writing: names begin with a pipeline's. One that is whole was the end of a run
    # before which the same was done.
    for file in sorted(files.ls(folder, detail=True), key=lambda each: each["mtime"], reverse=True):
        if file["name"].endswith(".jsonl"):
            if _is_whole(files.read_bytes(file["name"])):
                return
            files.rm_file(file["name"])


def _is_whole(text: bytes | str) -> bool:
    """Tell whether a file of dlt's was written to its end."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
