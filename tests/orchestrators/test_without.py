"""What a user sees who lacks an extra."""

from __future__ import annotations

import subprocess
import sys


def test_without_dagster_the_error_says_what_to_install() -> None:
    program = "import sys; sys.modules['dagster'] = None; import unify_source.dagster"

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("ModuleNotFoundError: unify_source.dagster needs dagster")
    assert last.endswith("pip install 'unify-source[dagster]'.")
