"""The tables that runs write about themselves: the ledger, and what a verify found."""

from __future__ import annotations

from unify_source.common.resources.model import DAY, INSTANT, KEY, TEXT, WHOLE, Column, Table

LEDGER = Table(
    name="unify_sync_runs",
    description="One row for each run: what it loaded, what it cost, and how it ended.",
    newest="started_at",
    columns=(
        Column(KEY, TEXT, "The run's id."),
        Column(
            "kind",
            TEXT,
            "`sync`, `backfill`, `verify` or `repair`; `dlt` for `pipeline.run(unify_source())`,"
            " `refresh` if it emptied tables.",
        ),
        Column("pipeline", TEXT, "The pipeline's name."),
        Column(
            "outcome",
            TEXT,
            "`running`, `waiting` for another run, `succeeded`, `failed` or `killed`.",
        ),
        Column("error", TEXT, "The type of the error that it failed with; null if it has not."),
        Column("started_at", INSTANT, "When it began, by the clock of its machine."),
        Column("finished_at", INSTANT, "When it ended; null while it runs, or if it was killed."),
        Column("seconds", WHOLE, "How long it took, in seconds."),
        Column(
            "window_from",
            INSTANT,
            "The start of the range of `updated_at` that it read; null if it read everything.",
        ),
        Column(
            "window_to",
            INSTANT,
            "The end of that range: all changes before it are loaded.",
        ),
        Column("cursor_before", INSTANT, "The cursor when it began; null before the first load."),
        Column("cursor_after", INSTANT, "The cursor when it ended; a backfill does not move it."),
        Column("rows_loaded", WHOLE, "How many rows it wrote, in all tables together."),
        Column(
            "rows_by_table",
            # As text, which every destination accepts in a statement and in a file.
            TEXT,
            "How many rows it wrote, by table, as JSON: each enrollment once, other rows as often"
            " as they were read.",
        ),
        Column("requests", WHOLE, "Requests to the API, retries included."),
        Column("retries", WHOLE, "Requests that were sent again after a failure."),
        Column("rate_limited", WHOLE, "Requests that the API answered with 429."),
        Column("quarantined", WHOLE, "Rows that it put into quarantine."),
        # Null, not 0, if it is unknown which rows of the lookback earlier runs had seen.
        Column(
            "late_rows",
            WHOLE,
            "New rows whose `updated_at` the cursor had already passed; null if that is unknown.",
        ),
        Column(
            "latest_late_seconds",
            WHOLE,
            "How many seconds the latest of `late_rows` was behind the cursor.",
        ),
        Column(
            "lookback_seconds",
            WHOLE,
            "The run's `lookback`: a row that is later than that is missed.",
        ),
        Column("verdict", TEXT, "The result of a `verify` or `repair`: `equal` or `different`."),
        Column("differences", WHOLE, "How many rows differed when it ended."),
        Column("connector_version", TEXT, "The version of unify-source."),
        Column("dlt_version", TEXT, "The version of dlt."),
    ),
)

DIFFERENCES = Table(
    name="unify_verify_differences",
    description="One row for each row that a `verify` found to differ from the API. The first"
    " difference, or `unify-source models`, creates it.",
    newest="verified_at",
    columns=(
        Column("verify_id", TEXT, "The id of its run in `unify_sync_runs`."),
        Column("verified_at", INSTANT, "When that verify began."),
        Column("table_name", TEXT, "The table that the row is in, or is missing from."),
        Column("kind", TEXT, "`missing`, `stale`, `extra`, `duplicate` or `orphaned`."),
        Column("key", TEXT, "The `id` of the row."),
        Column("day", DAY, "The day, in UTC, of its `updated_at`, or of its enrollment's."),
    ),
)
