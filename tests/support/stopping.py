"""Signals to a process that is at work."""

from __future__ import annotations

import signal
import subprocess
import time


def assert_stops(process: subprocess.Popen[str], number: int = signal.SIGINT) -> None:
    """Send a signal to a waiting process: it ends long before its wait would, and says so."""
    time.sleep(0.3)
    process.send_signal(number)
    try:
        _, output = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "Error: Stopped." in output
    assert "Traceback" not in output
