"""The command, run as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

Ran = subprocess.CompletedProcess[str]


def command(*words: str, **environment: str) -> Ran:
    """Run the command in the test's folder, with no more said than a user would say."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RUNTIME__")}
    return subprocess.run(
        [sys.executable, "-m", "unify_source", *words],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def only_json(ran: Ran) -> dict[str, Any]:
    """Return the one JSON object that standard output is."""
    found = json.loads(ran.stdout)
    assert isinstance(found, dict)
    assert ran.stdout.count("\n") == 1
    return found
