"""The sandbox in its own process, which reports the number of requests over a pipe.

python benchmarks/server.py ROWS LATENCY

Prints its address; then, for each line that it reads, the number of requests since the last one. If
the line is a number, so many changes are made first.
"""

from __future__ import annotations

import gc
import sys

from unify_source.sandbox import Account, Sandbox


def main() -> None:
    """Serve until the input ends."""
    account = Account(int(sys.argv[1]))
    # A full garbage collection takes a fifth of a second at a million rows.
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
