"""The libraries of a lake's table format, which dlt imports only after all rows have been read."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import dlt

from unify_source.common.dlt_seam import kind_of
from unify_source.common.errors import ConfigurationError
from unify_source.common.settings import DELTA, ICEBERG

_LIBRARIES = {DELTA: "deltalake", ICEBERG: "pyiceberg"}
_OF_CATALOG = "sqlalchemy"


def refuse_missing_library(pipeline: dlt.Pipeline, wanted: str) -> None:
    """Raise ConfigurationError if the library of a lake's format cannot be imported."""
    if kind_of(pipeline.destination) != "filesystem" or wanted not in _LIBRARIES:
        return
    library = _LIBRARIES[wanted]
    try:
        import_module(f"dlt.common.libs.{library}")
        if wanted == ICEBERG:
            library = _OF_CATALOG
            _refuse_missing_catalog(pipeline)
    except ImportError as error:
        raise ConfigurationError(
            f"is {wanted!r}, and its library {library} is not installed.",
            f"Install it: pip install 'unify-source[{wanted}]'.",
            setting="table_format",
        ) from error


def _refuse_missing_catalog(pipeline: dlt.Pipeline) -> None:
    try:
        import_module(_OF_CATALOG)
    except ImportError:
        # A catalog other than dlt's own may do without it.
        client: Any = pipeline.destination_client()
        client.get_open_table_catalog(ICEBERG)
