"""Unify sequence enrollments, incrementally, in your own warehouse.

    import dlt
    from unify_source import unify_source

    pipeline = dlt.pipeline("unify_gtm", destination="duckdb", dataset_name="unify")
    pipeline.run(unify_source())
"""

from unify_source.source import unify_source

__all__ = ["unify_source"]
