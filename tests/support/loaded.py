"""Datasets as a first load leaves them: one test makes each, and the others get a copy of it."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from destinations import MACHINES, Destination
from standing import Serve, account, load

from unify_source.sandbox import Sandbox


def loaded(warehouse: Destination, serve: Serve, size: int = 300) -> Sandbox:
    """Serve an account that stands still, which an empty warehouse holds then as loaded once."""
    api: Sandbox = serve(account(size))
    once(warehouse, str(size), Path(MACHINES), lambda: load(warehouse, api))
    return api


def once(warehouse: Destination, name: str, folder: Path, run: Callable[[], Any]) -> None:
    """Make a run, or restore what it left in an empty warehouse and in the folder of its pipelines.

    The name says which run it is.
    """
    kept = _kept() / f"{warehouse.dlt_name} {name}"
    if kept.exists():
        warehouse.restore(kept)
        shutil.copytree(kept / "pipelines", folder)
    else:
        run()
        if warehouse.keep(kept):
            shutil.copytree(folder, kept / "pipelines")


@cache
def _kept() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="unify-loaded-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
