"""The sandbox in a process of its own, which says over a pipe what was asked of it.

python benchmarks/server.py ROWS LATENCY

Prints its address; then for each line it reads: how many requests came since the last one. A line
with a number makes so many changes first.
"""

from __future__ import annotations

import gc
import sys

from unify_source.sandbox import Account, Sandbox


def main() -> None:
    """Serve until the input ends."""
    account = Account(int(sys.argv[1]))
    # A full collection stands still for a fifth of a second at a million rows.
    gc.freeze()
    with Sandbox(account, key="sandbox-key", latency=float(sys.argv[2])) as api:
        print(api.url, flush=True)
        for number, line in enumerate(sys.stdin):
            if line.strip():
                account.change(int(line), seed=number)
            print(len(api.requests), flush=True)
            api.reset()


if __name__ == "__main__":
    main()
