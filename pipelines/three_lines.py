"""Load with plain dlt: each further run loads what changed since the last.

The key is read from UNIFY_API_KEY, or from api_key under [sources.unify] in .dlt/secrets.toml.
"""

from __future__ import annotations

import dlt

from unify_source import unify_source

if __name__ == "__main__":
    pipeline = dlt.pipeline("unify_gtm", destination="duckdb", dataset_name="unify")
    print(pipeline.run(unify_source()))
