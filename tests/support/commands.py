"""The command, run as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import warm

Ran = subprocess.CompletedProcess[str]


def command(*words: str, **environment: str) -> Ran:
    """Run the command in the test's folder, and tell it no more than a user would."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RUNTIME__")}
    return warm.run(("-m", "unify_source", *words), {**inherited, **environment})


def only_json(ran: Ran) -> dict[str, Any]:
    """Return the only JSON object on standard output."""
    result = json.loads(ran.stdout)
    assert isinstance(result, dict)
    assert ran.stdout.count("\n") == 1
    return result
