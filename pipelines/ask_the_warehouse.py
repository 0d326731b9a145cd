"""Query the models through dlt, with the same SQL on every database.

Prints for each sequence how many of the contacted people replied, the best one first.
"""

from __future__ import annotations

import dlt

from unify_source import make_models

QUESTION = """
SELECT sequence_name, delivered, human_replies, human_reply_percent
FROM unify_models.sequence_funnel
ORDER BY human_reply_percent DESC NULLS LAST, sequence_name
"""

if __name__ == "__main__":
    pipeline = dlt.pipeline("unify_gtm", destination="duckdb", dataset_name="unify")
    make_models(pipeline)
    with pipeline.sql_client() as warehouse:
        for name, delivered, replies, percent in warehouse.execute_sql(QUESTION) or []:
            rate = "unknown" if percent is None else f"{percent} %"
            print(f"{replies:>8,} of {delivered:>8,} {rate:>8}  {name}")
