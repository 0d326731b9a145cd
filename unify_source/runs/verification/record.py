"""Writes the differences into a table of the dataset."""

from __future__ import annotations

import logging

import dlt
import pyarrow as pa
from dlt.pipeline.exceptions import PipelineStepFailed

from unify_source.common.dlt_seam import looking_at
from unify_source.common.errors import LockHeld
from unify_source.common.errors.redaction import redacted
from unify_source.common.resources import DIFFERENCES, INSTANT, TEXT
from unify_source.common.settings import Settings
from unify_source.destinations.comments import keep_described
from unify_source.destinations.forgotten.deletion import take_back_differences
from unify_source.destinations.forgotten.people import forgotten
from unify_source.destinations.locks.turns import opened_file
from unify_source.flatten.tables import with_account
from unify_source.load.ledger.apart import append_to
from unify_source.runs.verification.comparison import Comparison
from unify_source.runs.verification.sides.scratch import Scratch

_log = logging.getLogger(__name__)


def record(
    pipeline: dlt.Pipeline,
    settings: Settings,
    lock_timeout: float | str,
    comparison: Comparison,
    sides: Scratch,
    run_id: str,
) -> None:
    """Add the differences of a comparison to the table, which the first one creates.

    If it cannot be written, a warning is logged: the verdict matters more.
    """
    rows = sides.arrow(
        "SELECT tbl AS table_name, kind, id AS key, CAST(moment AS DATE) AS day FROM differences"
        " WHERE kind IS NOT NULL"
    )
    if not len(rows):
        return
    rows = rows.add_column(0, "verify_id", pa.repeat(pa.scalar(run_id, TEXT), len(rows)))
    at = pa.repeat(pa.scalar(comparison.began, INSTANT), len(rows))
    rows = with_account(rows.add_column(1, "verified_at", at), settings.account)
    try:
        with looking_at(pipeline) as looking, opened_file(looking, lock_timeout):
            if forgotten(looking, settings.account) == comparison.forgotten:
                append_to(looking, settings.table_format, DIFFERENCES.name, rows)
                keep_described(looking)
            # Checked again: they may name a person who was forgotten while they were written.
            if forgotten(looking, settings.account) != comparison.forgotten:
                take_back_differences(looking, run_id)
                _warn("a person was forgotten meanwhile. Verify again.")
    except (LockHeld, PipelineStepFailed) as error:
        _warn(error.what if isinstance(error, LockHeld) else redacted(str(error.exception)))


def _warn(cause: str) -> None:
    _log.warning("The differences were not written to %s: %s", DIFFERENCES.name, cause)
