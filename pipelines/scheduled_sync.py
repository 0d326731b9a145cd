"""Load what changed since the last run: for cron, GitHub Actions or any other scheduler.

The exit code is that of `unify-source sync`: 0 done, 1 failed (run it again), 2 misconfigured, 3
loaded but with rows in quarantine, 5 another run held the dataset. Use your own destination: the
state is stored with the data, so this may run on any machine.
"""

from __future__ import annotations

import sys

import dlt

from unify_source import UnifyError, sync

QUARANTINED = 3


def main() -> int:
    """Load, print one line, and return the exit code."""
    pipeline = dlt.pipeline("unify_gtm", destination="duckdb", dataset_name="unify")
    try:
        report = sync(pipeline)
    except UnifyError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(report.as_lines()[0])
    return QUARANTINED if report.quarantined else 0


if __name__ == "__main__":
    sys.exit(main())
