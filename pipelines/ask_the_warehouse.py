"""Ask a question of what was loaded, through dlt: the same on every destination.

Prints the replies of each category, the latest first.
"""

from __future__ import annotations

import dlt

QUESTION = """
SELECT c.category, count(*) AS replies, max(r.received_at) AS latest
FROM reply_classifications c
JOIN reply_email_messages r ON r.id = c.reply_email_message_id
GROUP BY c.category
ORDER BY latest DESC
"""

if __name__ == "__main__":
    pipeline = dlt.pipeline("unify_gtm", destination="duckdb", dataset_name="unify")
    with pipeline.sql_client() as warehouse:
        for category, replies, latest in warehouse.execute_sql(QUESTION) or []:
            print(f"{category:<10} {replies:>8,}  {latest:%Y-%m-%d %H:%M}")
