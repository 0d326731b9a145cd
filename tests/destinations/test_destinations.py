"""The page on destinations: its recipes configure dlt, its tables name what is tried."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dlt
import pytest
from conftest import KEY, LANE
from destinations import DESTINATIONS, Destination, DuckDB, Postgres
from dlt.common.configuration.container import Container
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from ducklakes import DuckLake
from loaded import loaded
from standing import Serve, change, load
from tables import ABOUT, SPEED
from warehouse import shown

from unify_source import sync, unify_source
from unify_source.common.errors import LoadFailed
from unify_source.sandbox import Account, Sandbox

PAGE = (Path(__file__).parents[2] / "docs" / "destinations.md").read_text()
PROJECT = (Path(__file__).parents[2] / "pyproject.toml").read_text()
RECIPES = re.findall(r"```toml\n(\[destination\.(\w+).*?)```", PAGE, re.DOTALL)
SPEED_ROWS = 10_000


@pytest.mark.parametrize(("recipe", "name"), RECIPES, ids=[name for _, name in RECIPES])
def test_a_recipe_configures_everything_that_dlt_needs(recipe: str, name: str, home: Path) -> None:
    (home / ".dlt").mkdir()
    (home / ".dlt" / "secrets.toml").write_text(recipe)
    Container()[PluggableRunContext].reload_providers()
    destination = dlt.destination(name)

    spec: Any = destination.spec()
    if hasattr(spec, "dataset_name"):
        spec._bind_dataset_name(dataset_name="unify")  # noqa: SLF001 - as dlt's pipeline does
    found: Any = destination.configuration(spec)

    assert found.is_resolved()
    assert found.credentials is None or found.credentials.is_resolved()
    parts = [found, found.credentials, getattr(found.credentials, "storage", {})]
    for value in re.findall(
        r'^(?:host|bucket_url|account|project_id) = "(.*)"', recipe, re.MULTILINE
    ):
        assert value in str([dict(part) for part in parts])


def test_the_page_has_a_recipe_for_every_extra_that_is_a_destination() -> None:
    extras = set(re.findall(r'^(\w+) = \["dlt\[', PROJECT, re.MULTILINE)) - {
        "delta",
        "iceberg",
        "s3",
    }
    assert extras <= {name for _, name in RECIPES}
    assert {"postgres", "filesystem"} <= {name for _, name in RECIPES}


def test_the_tables_of_the_page_name_every_destination_that_is_tried() -> None:
    names = [*(kind.name for kind in (*DESTINATIONS, *LANE)), DuckLake.name]
    assert list(ABOUT) == names
    for table in ("tried", "promises"):
        (rows,) = re.findall(rf"<!-- {table} -->\n(.*?)<!-- end of {table} -->", PAGE, re.DOTALL)
        assert re.findall(r"^\| (.+?) \|", rows, re.MULTILINE) == ["destination", *names]


@pytest.mark.lane
def test_the_speed_of_a_first_load_is_recorded(
    serve: Callable[..., Sandbox], warehouse: Destination, record_property: Callable[..., None]
) -> None:
    api = serve(Account(SPEED_ROWS))
    started = time.monotonic()

    sync(warehouse.pipeline(), api_key=KEY, base_url=api.url)

    record_property(SPEED, round(SPEED_ROWS / (time.monotonic() - started)))
    assert len(warehouse.keys("enrollments")) == SPEED_ROWS


@pytest.mark.long
@pytest.mark.parametrize("warehouse", [DuckDB, Postgres], ids=lambda kind: kind.name, indirect=True)
@pytest.mark.parametrize("table", ["enrollments", "mailboxes", "sequences"])
def test_the_error_for_a_table_that_was_dropped_says_how_to_restore_it(
    table: str, serve: Serve, warehouse: Destination
) -> None:
    api = loaded(warehouse, serve)
    warehouse.change(f"DROP TABLE unify.{table} CASCADE")
    change(api.account, 100)
    api.account.rename_sequence(api.account.sequences()[0]["id"], "Another")
    with pytest.raises(LoadFailed) as caught:
        load(warehouse, api)
    [(name, refresh)] = re.findall(
        r"(\w+) was dropped.* refresh='(\w+)', as docs/dlt.md", caught.value.next_step
    )
    source = unify_source(api_key=KEY, base_url=api.url).with_resources(name)

    warehouse.pipeline().drop().run(source, refresh=refresh)

    load(warehouse, api)
    assert warehouse.stored() == shown(api.account)
