"""Signals to a process that is at work."""

from __future__ import annotations

import signal
import subprocess
import time


def assert_stops(process: subprocess.Popen[str], number: int = signal.SIGINT) -> None:
    """Send a process that waits a signal: it ends soon, and says that it was stopped."""
    time.sleep(0.3)
    asked = time.monotonic()
    process.send_signal(number)
    try:
        _, output = process.communicate(timeout=10)
    finally:
        process.kill()
    assert time.monotonic() - asked < 3
    assert process.returncode == 1
    assert "Error: Stopped." in output
    assert "Traceback" not in output
