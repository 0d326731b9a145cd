"""The contenders: each reads one sandbox, in its own process and folder.

python benchmarks/contenders.py NAME URL [DESTINATION]
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import requests

KEY = "sandbox-key"
CONNECTIONS = 8
DESTINATION = sys.argv[3] if len(sys.argv) > 3 else "duckdb"  # noqa: PLR2004 - it comes third
PATH = "/sequences/v1/enrollments"


def bare_download(url: str) -> None:
    """Read the same pages over the same number of connections, and drop them."""
    now = datetime.now(timezone.utc)
    ends = [now - timedelta(days=401 * i / CONNECTIONS) for i in range(CONNECTIONS + 1)]
    parts = [(ends[i + 1], ends[i]) for i in range(CONNECTIONS)]
    threads = [threading.Thread(target=_pages, args=(url, *part)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _pages(url: str, after: datetime, before: datetime) -> None:
    with requests.Session() as session:
        session.headers["x-api-key"] = KEY
        params = {
            "limit": "100",
            "updated_after": after.isoformat(),
            "updated_before": before.isoformat(),
        }
        while True:
            body = session.get(url + PATH, params=params, timeout=60).content
            # The cursor is at the end; parsing the page is the contenders' work.
            end = body[body.rindex(b'"next_cursor":') + 14 : -1]
            if end == b"null":
                return
            params["cursor"] = json.loads(end)


def sync(url: str) -> None:
    """Load with this connector's command."""
    _command(url, "sync")


def sync_hashed(url: str) -> None:
    """Load with the same command, and hash personal data."""
    os.environ.update(SOURCES__UNIFY__PII="hash", SOURCES__UNIFY__PII_KEY="key-of-the-benchmark")
    _command(url, "sync")


def backfill(url: str) -> None:
    """Reload everything with this connector's command."""
    _command(url, "backfill", "--from", "2000-01-01")


def verify(url: str) -> None:
    """Compare what `sync` has loaded with this connector's command."""
    _command(url, "verify")


def _command(url: str, *words: str) -> None:
    from unify_source.cli import app as cli

    os.environ.update(UNIFY_API_KEY=KEY, SOURCES__UNIFY__BASE_URL=url)
    where = ["--destination", DESTINATION, "--pipeline-name", "compared"]
    sys.argv = ["unify-source", *words, *where, "--workers", str(CONNECTIONS), "--quiet"]
    cli.main()


def rest_api(url: str, **how: Any) -> None:
    """Load with dlt's declarative source, as in its documentation."""
    import dlt
    from dlt.sources.rest_api import rest_api_source

    source = rest_api_source(
        {
            "client": {
                "base_url": url + "/sequences/v1/",
                "auth": {"type": "api_key", "name": "x-api-key", "api_key": KEY},
                "paginator": {
                    "type": "cursor",
                    "cursor_path": "next_cursor",
                    "cursor_param": "cursor",
                },
            },
            "resources": [
                {
                    "name": "enrollments",
                    "primary_key": "id",
                    "write_disposition": "merge",
                    "endpoint": {
                        "path": "enrollments",
                        "data_selector": "enrollments",
                        "params": {"limit": 100},
                        "incremental": {
                            "cursor_path": "updated_at",
                            "start_param": "updated_after",
                            "initial_value": "2000-01-01T00:00:00Z",
                        },
                    },
                }
            ],
        }
    )
    dlt.pipeline("compared", destination=DESTINATION, dataset_name="unify").run(source, **how)


def rest_api_parquet(url: str) -> None:
    """Load with the same source through Parquet files."""
    rest_api(url, loader_file_format="parquet")


def script(url: str) -> None:
    """Load with an afternoon's script: requests in a loop, dicts to dlt."""
    import dlt

    def rows() -> Iterator[list[dict[str, Any]]]:
        params = {"limit": "100"}
        while True:
            answer = requests.get(
                url + PATH, params=params, headers={"x-api-key": KEY}, timeout=60
            ).json()
            yield answer["enrollments"]
            if not answer["next_cursor"]:
                return
            params["cursor"] = answer["next_cursor"]

    pipeline = dlt.pipeline("compared", destination=DESTINATION, dataset_name="unify")
    pipeline.run(rows(), table_name="enrollments", primary_key="id", write_disposition="merge")


CONTENDERS: dict[str, Callable[[str], None]] = {
    "bare download": bare_download,
    "unify-source sync": sync,
    "unify-source sync, hashed": sync_hashed,
    "unify-source backfill": backfill,
    "unify-source verify": verify,
    "rest_api": rest_api,
    "rest_api, parquet": rest_api_parquet,
    "requests script": script,
}

if __name__ == "__main__":
    CONTENDERS[sys.argv[1]](sys.argv[2])
