"""A dlt run with our source logs nothing at dlt's default level."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import warm
from conftest import KEY
from destinations import DATASET, Destination, DuckDB, Postgres, opened
from standing import account, change
from warehouse import shown

from unify_source.sandbox import DRIFTS, Sandbox

THREE_LINES = f"""
import dlt
from unify_source import unify_source
pipeline = dlt.pipeline("unify_gtm", destination={{!r}}, dataset_name="{DATASET}")
pipeline.run(unify_source())
"""


def warnings(api: Sandbox, warehouse: Destination) -> str:
    """Run a script of a dlt user, in a process with dlt's default log level."""
    environment = {name: value for name, value in os.environ.items() if "LOG_LEVEL" not in name}
    settings = {"UNIFY_API_KEY": KEY, "SOURCES__UNIFY__BASE_URL": api.url}
    ran = warm.run(("-c", THREE_LINES.format(warehouse.dlt_name)), {**environment, **settings})
    assert ran.returncode == 0, ran.stderr
    # DuckDB says what it has not given back, as the interpreter ends.
    return "\n".join(line for line in ran.stderr.splitlines() if "|dlt|" in line)


@pytest.mark.long
@pytest.mark.parametrize("kind", [DuckDB, Postgres], ids=lambda kind: kind.name)
def test_a_first_run_and_one_that_brings_new_columns_warn_of_nothing(
    kind: type[Destination],
    serve: Callable[..., Sandbox],
    home: Path,
    request: pytest.FixtureRequest,
) -> None:
    changing = account(60)
    with opened(kind, home, request) as warehouse:
        assert warnings(serve(changing), warehouse) == ""
        change(changing, 30)
        assert warnings(serve(changing, reshape=DRIFTS["new-fields"]), warehouse) == ""
        assert warehouse.stored() == shown(changing)
