"""Datasets as a first load leaves them: one test makes each, and the others get a copy of it."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from destinations import MACHINES, Destination
from standing import Serve, account, load

from unify_source.sandbox import Sandbox


def loaded(warehouse: Destination, serve: Serve, size: int = 300) -> Sandbox:
    """Serve an account that stands still, which an empty warehouse holds then as loaded once."""
    api: Sandbox = serve(account(size))
    kept = _kept() / f"{warehouse.dlt_name} {size}"
    if kept.exists():
        warehouse.restore(kept)
        shutil.copytree(kept / MACHINES, MACHINES)
    else:
        load(warehouse, api)
        if warehouse.keep(kept):
            shutil.copytree(MACHINES, kept / MACHINES)
    return api


@cache
def _kept() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="unify-loaded-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
