"""Unify sequence enrollments, incrementally, in your own warehouse.

import dlt
from unify_source import unify_source

pipeline = dlt.pipeline("unify_gtm", destination="duckdb", dataset_name="unify")
pipeline.run(unify_source())
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unify_source.common.errors import UnifyError
    from unify_source.load.source import unify_source
    from unify_source.runs.analysis.export import export
    from unify_source.runs.analysis.report.report import report
    from unify_source.runs.analysis.views import make_models
    from unify_source.runs.backfill import backfill
    from unify_source.runs.forget import forget
    from unify_source.runs.sync import sync
    from unify_source.runs.verification.verify import verify

__all__ = [
    "UnifyError",
    "backfill",
    "export",
    "forget",
    "make_models",
    "report",
    "sync",
    "unify_source",
    "verify",
]
__version__ = version("unify-source")

_ROOMS = {
    "UnifyError": "common.errors",
    "backfill": "runs.backfill",
    "export": "runs.analysis.export",
    "forget": "runs.forget",
    "make_models": "runs.analysis.views",
    "report": "runs.analysis.report.report",
    "sync": "runs.sync",
    "unify_source": "load.source",
    "verify": "runs.verification.verify",
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        # dlt and Arrow take half a second to import, which `--help` should not wait for.
        if name in _ROOMS:
            return getattr(import_module(f"unify_source.{_ROOMS[name]}"), name)
        raise AttributeError(f"module 'unify_source' has no attribute {name!r}")
