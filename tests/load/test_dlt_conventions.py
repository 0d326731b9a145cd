"""dlt's conventions: what a dlt user does with any source works with this one.

Each lever works on each table, or is refused in a sentence before the first request.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dlt
import pyarrow as pa
import pytest
from conftest import IS_SOAK, KEY
from destinations import Destination, DuckDB, Postgres, opened
from loaded import once
from standing import account, change
from warehouse import shown

from unify_source import make_models, sync, unify_source
from unify_source.common.resources import ALL_TABLES, BY_NAME, LEDGER, QUARANTINE
from unify_source.common.times import parse_instant
from unify_source.load.packages import state_of
from unify_source.sandbox import DRIFTS, Sandbox

# A root, a part of it, a child, a list's part, and what cannot be read.
ALONE = ["enrollments", "people", "reply_classifications", "users", QUARANTINE.name]

Serve = Callable[..., Sandbox]
Rows = list[tuple[Any, ...]]


@pytest.fixture(params=[DuckDB, Postgres], ids=lambda kind: kind.name)
def warehouse(request: pytest.FixtureRequest, home: Path) -> Iterator[Destination]:
    """Yield an empty DuckDB or Postgres."""
    with opened(request.param, home, request) as found:
        yield found


# A refusal, the schema, the trace and the state are the same for any destination.
before_any_destination = pytest.mark.parametrize(
    "warehouse", [DuckDB], indirect=True, ids=["duckdb"]
)


@pytest.fixture
def api(serve: Serve) -> Sandbox:
    """Start a sandbox whose clock stands still."""
    return serve(account(240))


def source(api: Sandbox, **settings: Any) -> Any:
    return unify_source(api_key=KEY, base_url=api.url, **settings)


def pipeline(warehouse: Destination, **options: Any) -> dlt.Pipeline:
    """Open a pipeline as a user of dlt does."""
    found: dlt.Pipeline = dlt.pipeline(
        "unify_gtm", destination=warehouse.dlt_name, dataset_name="unify", **options
    )
    return found


def first_run(api: Sandbox, warehouse: Destination) -> dlt.Pipeline:
    """Return a pipeline whose first run one test has made, and the others get a copy of."""
    folder = Path(os.environ["DLT_DATA_DIR"])
    once(warehouse, "conventions", folder, lambda: pipeline(warehouse).run(source(api)))
    return pipeline(warehouse)


def count(warehouse: Destination, table: str) -> int:
    return len(warehouse.keys(table))


def cursors(pipeline: dlt.Pipeline) -> dict[str, Any]:
    resources = pipeline.state["sources"]["unify"]["resources"]
    return {
        name: state["incremental"]["updated_at"]["last_value"]
        for name, state in resources.items()
        if "incremental" in state
    }


def assert_refused(api: Sandbox, run: Callable[[], Any], *words: str) -> None:
    """Assert that a run ends in a sentence before any request."""
    api.reset()
    with pytest.raises(Exception) as refused:  # noqa: PT011 - dlt wraps what a resource raises
        run()
    assert all(word in str(refused.value) for word in words), str(refused.value)
    assert api.requests == []


def test_each_table_is_a_resource(api: Sandbox) -> None:
    names = [table.name for table in ALL_TABLES]
    assert list(source(api).resources) == names
    assert list(source(api).selected_resources) == names


def test_a_map_masks_the_arrow_table_of_one_resource(api: Sandbox, warehouse: Destination) -> None:
    def masked(people: pa.Table) -> pa.Table:
        index = people.schema.get_field_index("email")
        return people.set_column(index, "email", pa.array(["masked"] * len(people)))

    users = source(api)
    users.people.add_map(masked)
    pipeline(warehouse).run(users)

    emails = {email for (email,) in warehouse.reads("people", ["email"])}
    assert emails == {"masked"}
    assert "masked" not in {email for (email,) in warehouse.reads("mailboxes", ["email"])}
    assert count(warehouse, "people") == len(shown(api.account)["people"])


@pytest.mark.mostly_on_duckdb
def test_a_filter_of_rows_drops_them_from_one_resource(
    api: Sandbox, warehouse: Destination
) -> None:
    source_ = source(api)
    source_.mailboxes.add_map(lambda table: table.slice(0, 1))
    pipeline(warehouse).run(source_)

    assert count(warehouse, "mailboxes") == 1
    assert count(warehouse, "enrollments") == 240


def all_filtered(resource: Any) -> None:
    resource.add_filter(lambda _rows: False)


def all_sliced_away(resource: Any) -> None:
    resource.add_map(lambda rows: rows.slice(0, 0))


def all_yielded_to_nobody(resource: Any) -> None:
    resource.add_yield_map(lambda _rows: iter(()))


@pytest.mark.parametrize(
    ("warehouse", "kind", "drop"),
    [
        (DuckDB, None, all_filtered),
        (DuckDB, None, all_sliced_away),
        (DuckDB, None, all_yielded_to_nobody),
        pytest.param(DuckDB, "insert_values", all_filtered, marks=pytest.mark.long),
        (Postgres, None, all_filtered),
        pytest.param(Postgres, "parquet", all_filtered, marks=pytest.mark.long),
        pytest.param(Postgres, "insert_values", all_filtered, marks=pytest.mark.long),
    ],
    indirect=["warehouse"],
)
def test_tables_that_lose_every_row_to_a_step_are_there_from_the_first_run_with_every_column(
    api: Sandbox, warehouse: Destination, kind: Any, drop: Callable[[Any], None]
) -> None:
    source_ = source(api)
    for resource in source_.resources.values():
        drop(resource)
    loaded = pipeline(warehouse)
    loaded.run(source_, loader_file_format=kind)

    for table in ALL_TABLES:
        assert {column.name for column in table.columns} <= set(warehouse.columns(table.name))
        assert count(warehouse, table.name) == 0
    loaded.run(source(api), refresh="drop_data")
    assert warehouse.stored() == shown(api.account)


@pytest.mark.mostly_on_duckdb
def test_a_map_gets_a_table_without_rows_as_an_arrow_table(
    serve: Serve, warehouse: Destination
) -> None:
    def with_domain(people: pa.Table) -> pa.Table:
        return people.append_column("domain", pa.nulls(people.num_rows, pa.string()))

    source_ = source(serve(account(0)))
    source_.people.add_map(with_domain)
    source_.people.add_metrics(lambda rows, _meta, seen: seen.update(rows=rows.num_rows))
    pipeline(warehouse).run(source_)
    assert "domain" in warehouse.columns("people")


@pytest.mark.mostly_on_duckdb
def test_one_table_may_lose_every_row_while_others_keep_theirs_and_feed_transformers(
    api: Sandbox, warehouse: Destination
) -> None:
    source_ = with_transformer(source(api), "people").parallelize()
    all_filtered(source_.people)
    pipeline(warehouse).run(source_)

    assert count(warehouse, "people") == 0
    assert warehouse.stored() == {**shown(api.account), "people": []}


def test_the_dataset_reads_the_tables_back(api: Sandbox, warehouse: Destination) -> None:
    loaded = first_run(api, warehouse)

    dataset = loaded.dataset()
    assert len(dataset.enrollments.fetchall()) == 240
    assert dataset.enrollments.fetchone()
    counted = dict(dataset.row_counts().fetchall())
    assert counted == {table.name: count(warehouse, table.name) for table in ALL_TABLES}


def test_a_selection_loads_its_tables_and_moves_the_cursor_of_no_other(
    api: Sandbox, warehouse: Destination
) -> None:
    loaded = first_run(api, warehouse)
    before = cursors(loaded)
    change(api.account, 100)

    loaded.run(source(api).with_resources("people", "plays"))

    assert warehouse.stored()["people"] == shown(api.account)["people"]
    assert warehouse.stored() != shown(api.account)
    after = cursors(loaded)
    assert {name for name in after if after[name] != before[name]} == {"people", "plays"}
    loaded.run(source(api))
    assert warehouse.stored() == shown(api.account)


@pytest.mark.mostly_on_duckdb
@pytest.mark.rounds
def test_each_table_can_be_loaded_alone_and_the_next_full_run_is_complete(
    api: Sandbox, warehouse: Destination
) -> None:
    loaded = pipeline(warehouse)
    alone = list(BY_NAME) if IS_SOAK else ALONE
    for number, table in enumerate(alone, 1):
        loaded.run(source(api).with_resources(table))
        stored = {name for name in loaded.default_schema.data_table_names() if name in BY_NAME}
        assert stored == set(alone[:number])
        if table != QUARANTINE.name:
            columns = [column.name for column in BY_NAME[table].columns if column.name == "id"]
            assert len(warehouse.reads(table, columns)) == len(shown(api.account)[table])
    change(api.account, 50)

    loaded.run(source(api))

    assert warehouse.stored() == shown(api.account)


@pytest.mark.mostly_on_duckdb
def test_a_resource_with_the_disposition_skip_is_not_loaded(
    api: Sandbox, warehouse: Destination
) -> None:
    source_ = source(api)
    source_.people.apply_hints(write_disposition="skip")
    loaded = pipeline(warehouse)
    loaded.run(source_)
    assert "people" not in cursors(loaded)
    assert count(warehouse, "enrollments") == 240

    loaded.run(source(api))
    assert warehouse.stored() == shown(api.account)


def test_hints_of_one_table_stay_with_it(api: Sandbox, warehouse: Destination) -> None:
    source_ = source(api)
    source_.people.apply_hints(columns={"crm_owner": {"data_type": "text"}})
    loaded = pipeline(warehouse)
    loaded.run(source_)

    tables = loaded.default_schema.tables
    assert [name for name in BY_NAME if "crm_owner" in tables[name]["columns"]] == ["people"]
    assert warehouse.stored() == shown(api.account)


@before_any_destination
@pytest.mark.parametrize("disposition", ["replace", "append"])
def test_another_write_disposition_is_refused_and_refresh_suggested(
    api: Sandbox, warehouse: Destination, disposition: Any
) -> None:
    loaded = first_run(api, warehouse)
    assert_refused(
        api,
        lambda: loaded.run(source(api), write_disposition=disposition),
        disposition,
        "refresh",
    )
    assert warehouse.stored() == shown(api.account)


@pytest.mark.mostly_on_duckdb
def test_the_merge_of_a_run_keeps_children_with_their_parents(
    api: Sandbox, warehouse: Destination
) -> None:
    loaded = pipeline(warehouse)
    loaded.run(source(api), write_disposition="merge")
    gone = next(row for row in api.account.rows() if row["reply_email_message"])
    now = (api.account.clock.now() + timedelta(minutes=1)).isoformat()
    api.account.put_many([{**gone, "reply_email_message": None, "updated_at": now}])
    api.account.clock.advance(timedelta(minutes=2))

    loaded.run(source(api), write_disposition="merge")

    assert warehouse.stored() == shown(api.account)


@before_any_destination
@pytest.mark.parametrize(
    "keys", [{"primary_key": "email"}, {"columns": {"email": {"merge_key": True}}}]
)
def test_another_key_is_refused(api: Sandbox, warehouse: Destination, keys: Any) -> None:
    source_ = source(api)
    source_.people.apply_hints(**keys)
    assert_refused(api, lambda: pipeline(warehouse).run(source_), "people", "email", "id")


@before_any_destination
def test_another_name_of_a_table_is_refused(api: Sandbox, warehouse: Destination) -> None:
    source_ = source(api)
    source_.people.apply_hints(table_name="contacts")
    assert_refused(api, lambda: pipeline(warehouse).run(source_), "table_name", "contacts")


@before_any_destination
@pytest.mark.parametrize(
    ("refused", "hints"),
    [
        ("incremental of enrollments", {"incremental": dlt.sources.incremental("updated_at")}),
        ("dedup_sort of enrollments", {"columns": {"updated_at": {"dedup_sort": "asc"}}}),
        ("dedup_sort of people", {"columns": {"email": {"dedup_sort": "desc"}}}),
        ("hard_delete of reply_classifications", {"columns": {"gone": {"hard_delete": True}}}),
        ("parent_table_name of people", {"parent_table_name": "enrollments"}),
        (
            "write_disposition of people",
            {"write_disposition": {"disposition": "merge", "deduplicated": True}},
        ),
    ],
)
def test_a_hint_that_would_lose_rows_is_refused(
    api: Sandbox, warehouse: Destination, refused: str, hints: dict[str, Any]
) -> None:
    source_ = source(api)
    source_.resources[refused.rsplit(maxsplit=1)[-1]].apply_hints(**hints)
    assert_refused(api, lambda: pipeline(warehouse).run(source_), refused, "Leave")


@pytest.mark.usefixtures("home")
def test_a_table_format_that_other_tables_of_a_lake_do_not_have_is_refused(api: Sandbox) -> None:
    source_ = source(api, table_format="parquet")
    source_.people.apply_hints(table_format="iceberg")
    lake = dlt.pipeline("a_lake", destination=dlt.destinations.filesystem("lake"))
    assert_refused(api, lambda: lake.run(source_), "table_format of people", "'parquet'")


def keys_of(rows: pa.Table) -> Iterator[list[dict[str, str]]]:
    yield [{"key": key} for key in rows["id"].to_pylist()]


def with_transformer(source_: Any, table: str, **hints: Any) -> Any:
    source_.resources.add(
        dlt.transformer(keys_of, data_from=source_.resources[table], name="keys", **hints)
    )
    return source_


@pytest.mark.mostly_on_duckdb
def test_a_transformer_has_hints_of_its_own(api: Sandbox, warehouse: Destination) -> None:
    loaded, hints = pipeline(warehouse), {"primary_key": "key", "write_disposition": "merge"}
    for _ in range(2):
        loaded.run(with_transformer(source(api), "reply_email_messages", **hints))
        change(api.account, 100)

    table: Any = loaded.default_schema.tables["keys"]
    assert "x-merge-destination-scope" not in table
    replies = {row[0] for row in warehouse.stored()["reply_email_messages"]}
    assert replies <= {key for (key,) in warehouse.reads("keys", ["key"])}


@before_any_destination
@pytest.mark.parametrize("how", ["a pipe", "skip", "deselected"])
def test_a_table_that_would_only_feed_a_transformer_is_refused(
    api: Sandbox, warehouse: Destination, how: str
) -> None:
    source_ = source(api)
    if how == "a pipe":
        run: Any = source_.people | dlt.transformer(keys_of, name="keys")
    else:
        run = with_transformer(source_, "people")
        if how == "skip":
            run.people.write_disposition = "skip"
        else:
            run.people.selected = False
    assert_refused(api, lambda: pipeline(warehouse).run(run), "keys is fed by people", "Select")


@before_any_destination
def test_another_name_of_a_resource_is_refused(api: Sandbox, warehouse: Destination) -> None:
    renamed = source(api).people.with_name("contacts")
    assert_refused(api, lambda: pipeline(warehouse).run(renamed), "people", "'contacts'")


@pytest.mark.parametrize("resources", [(), ("people",)], ids=["all", "people"])
def test_a_limit_loads_a_sample_and_the_next_full_run_is_complete(
    serve: Serve, warehouse: Destination, resources: tuple[str, ...]
) -> None:
    api = serve(account(2_000))
    sample = source(api)
    loaded = pipeline(warehouse)
    loaded.run((sample.with_resources(*resources) if resources else sample).add_limit(1))

    assert len(api.requests) <= 5
    assert 0 < count(warehouse, "people") <= 200
    loaded.run(source(api))
    assert warehouse.stored() == shown(api.account)


@pytest.mark.mostly_on_duckdb
def test_limits_of_rows_and_of_time_also_end_a_sample(serve: Serve, warehouse: Destination) -> None:
    api = serve(account(2_000))
    loaded = pipeline(warehouse)
    loaded.run(source(api).add_limit(150, count_rows=True))
    assert 100 <= count(warehouse, "enrollments") <= 200

    loaded.run(source(api).add_limit(max_time=0.01))
    assert count(warehouse, "enrollments") < 2_000


def interval(api: Sandbox) -> tuple[Any, Any, list[dict[str, Any]]]:
    rows = api.account.rows()
    first, last = (parse_instant(rows[at]["updated_at"]) for at in (100, 200))
    assert first
    assert last
    inside = [row for row in rows if first <= (parse_instant(row["updated_at"]) or last) < last]
    return first, last, inside


@pytest.mark.parametrize("by", ["sync", "three lines"])
def test_an_orchestrators_interval_is_loaded_exactly_and_the_cursor_stays(
    api: Sandbox, warehouse: Destination, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    first, last, inside = interval(api)
    loaded = pipeline(warehouse)
    with monkeypatch.context() as environment:
        environment.setenv("DLT_INTERVAL_START", first.isoformat())
        environment.setenv("DLT_INTERVAL_END", last.isoformat())
        if by == "sync":
            sync(loaded, api_key=KEY, base_url=api.url)
        else:
            interval_of: Any = dlt.sources.incremental(allow_external_schedulers=True)
            loaded.run(source(api, updated_at=interval_of))
        assert warehouse.stored() == shown(inside, api.account.sequences())
        assert cursors(loaded) == {}

    loaded.run(source(api))
    before = cursors(loaded)
    assert len(set(before.values())) == 1
    monkeypatch.setenv("DLT_INTERVAL_START", first.isoformat())
    monkeypatch.setenv("DLT_INTERVAL_END", last.isoformat())
    sync(loaded, api_key=KEY, base_url=api.url)
    assert cursors(loaded) == before


@before_any_destination
@pytest.mark.parametrize("name", ["DLT_INTERVAL_START", "DLT_INTERVAL_END"])
def test_half_an_interval_is_refused_by_name(
    api: Sandbox, warehouse: Destination, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "2026-05-01T00:00:00Z")
    assert_refused(api, lambda: sync(pipeline(warehouse), api_key=KEY, base_url=api.url), name)


@pytest.mark.parametrize(
    "odd",
    [
        {"cursor_path": "created_at"},
        {"last_value_func": min},
        {"range_start": "open"},
    ],
    ids=str,
)
def test_an_incremental_that_this_source_cannot_apply_is_refused(
    api: Sandbox, odd: dict[str, Any]
) -> None:
    with pytest.raises(Exception, match=next(iter(odd))):
        source(api, updated_at=dlt.sources.incremental(**{"cursor_path": "updated_at", **odd}))


@pytest.mark.parametrize("mode", ["evolve", "discard_value", "discard_row", "freeze"])
def test_a_schema_contract_does_what_dlt_documents(
    api: Sandbox, serve: Serve, warehouse: Destination, mode: Any
) -> None:
    living = api.account
    loaded = first_run(api, warehouse)
    before, columns = warehouse.stored(), set(warehouse.columns("enrollments"))
    change(living, 30)
    changed = serve(living, reshape=DRIFTS["new-fields"])

    def run() -> Any:
        return loaded.run(source(changed), schema_contract={"columns": mode})

    if mode == "freeze":
        with pytest.raises(Exception, match="beta_"):
            run()
        return
    run()
    assert (set(warehouse.columns("enrollments")) != columns) == (mode == "evolve")
    kept = before if mode == "discard_row" else shown(living)
    assert warehouse.stored()["enrollments"] == kept["enrollments"]


@pytest.mark.mostly_on_duckdb
@pytest.mark.parametrize("mode", ["discard_value", "discard_row", "freeze"])
def test_a_contract_that_would_discard_a_whole_table_is_refused(
    api: Sandbox, warehouse: Destination, mode: Any
) -> None:
    loaded = pipeline(warehouse)
    loaded.run(source(api).with_resources("people"))

    def run(*tables: str) -> Any:
        return loaded.run(source(api).with_resources(*tables), schema_contract={"tables": mode})

    assert_refused(api, lambda: run("people", "plays"), mode, "plays does not exist yet")
    change(api.account, 30)
    run("people")
    people = {(row[0],) for row in shown(api.account)["people"]}
    assert set(warehouse.reads("people", ["id"])) == people


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_file_format_that_cannot_carry_arrow_tables_is_refused(
    api: Sandbox, warehouse: Destination, kind: Any
) -> None:
    loaded = pipeline(warehouse)
    try:
        assert_refused(api, lambda: loaded.run(source(api), loader_file_format=kind), kind)
    except AssertionError:
        # dlt itself refuses what the destination does not know at all.
        assert kind not in (loaded.destination.capabilities().supported_loader_file_formats or [])
    assert not loaded.has_pending_data


@pytest.mark.parametrize(
    ("warehouse", "kind"),
    [(DuckDB, "insert_values"), (Postgres, "parquet"), (Postgres, "insert_values")],
    indirect=["warehouse"],
)
def test_any_other_file_format_loads(api: Sandbox, warehouse: Destination, kind: Any) -> None:
    pipeline(warehouse).run(source(api), loader_file_format=kind)
    assert warehouse.stored() == shown(api.account)


@pytest.mark.rounds
@pytest.mark.parametrize(
    ("warehouse", "mode"),
    [
        (DuckDB, "drop_sources"),
        (DuckDB, "drop_data"),
        (Postgres, "drop_resources"),
        *([(Postgres, "drop_data")] if IS_SOAK else []),
    ],
    indirect=["warehouse"],
)
def test_refresh_reloads_everything(api: Sandbox, warehouse: Destination, mode: Any) -> None:
    loaded = first_run(api, warehouse)
    api.reset()
    loaded.run(source(api), refresh=mode)

    assert warehouse.stored() == shown(api.account)
    assert sum(("limit", "100") in request.query for request in api.requests) >= 3


def test_views_outlive_dropped_tables_on_duckdb_and_are_named_before_postgres_refuses(
    api: Sandbox, warehouse: Destination
) -> None:
    loaded = first_run(api, warehouse)
    make_models(loaded)
    if isinstance(warehouse, Postgres):
        words = ("unify_models.fct_enrollments", " more. ", "refresh='drop_data'")
        assert_refused(api, lambda: loaded.run(source(api), refresh="drop_sources"), *words)
        loaded.run(source(api), refresh="drop_data")
        assert warehouse.stored() == shown(api.account)
        warehouse.change("DROP SCHEMA unify_models CASCADE")

    loaded.run(source(api), refresh="drop_sources")

    assert warehouse.stored() == shown(api.account)
    if isinstance(warehouse, DuckDB):
        assert warehouse.ask("SELECT count(*) FROM unify_models.fct_enrollments") == [(240,)]


@pytest.mark.mostly_on_duckdb
def test_refresh_of_one_table_reloads_that_one(api: Sandbox, warehouse: Destination) -> None:
    loaded = first_run(api, warehouse)
    loaded.run(source(api).with_resources("people"), refresh="drop_data")
    assert warehouse.stored() == shown(api.account)
    loaded.run(source(api))
    assert warehouse.stored() == shown(api.account)


@pytest.mark.parametrize(
    ("warehouse", "naming"),
    [(DuckDB, "direct"), (DuckDB, "sql_ci_v1"), (Postgres, "sql_cs_v1")],
    indirect=["warehouse"],
)
def test_naming_conventions_name_the_tables(
    api: Sandbox, warehouse: Destination, monkeypatch: pytest.MonkeyPatch, naming: str
) -> None:
    monkeypatch.setenv("SCHEMA__NAMING", naming)
    pipeline(warehouse).run(source(api))
    assert warehouse.stored() == shown(api.account)


@pytest.mark.mostly_on_duckdb
def test_a_dev_pipeline_loads_into_a_dataset_of_its_own(
    api: Sandbox, warehouse: Destination
) -> None:
    loaded = pipeline(warehouse, dev_mode=True)
    loaded.run(source(api))
    assert loaded.dataset_name.startswith("unify_")
    assert dict(loaded.dataset().row_counts().fetchall())["enrollments"] == 240


@pytest.mark.mostly_on_duckdb
def test_an_attached_pipeline_resumes(api: Sandbox, warehouse: Destination) -> None:
    first_run(api, warehouse)
    change(api.account, 20)
    attached = dlt.attach("unify_gtm", destination=warehouse.dlt_name, dataset_name="unify")
    api.reset()
    attached.run(source(api))
    assert warehouse.stored() == shown(api.account)
    assert len(api.requests) <= 5


def test_nesting_cloning_sections_and_exports_work(
    api: Sandbox, warehouse: Destination, home: Path
) -> None:
    source_ = source(api)
    source_.max_table_nesting = 0
    loaded = pipeline(warehouse, export_schema_path=str(home / "schemas"))
    loaded.run(source_.clone())
    assert warehouse.stored() == shown(api.account)
    assert "enrollments" in (home / "schemas" / "unify.schema.yaml").read_text()


def test_resources_are_read_in_parallel_and_with_a_progress_shown(
    api: Sandbox, warehouse: Destination
) -> None:
    pipeline(warehouse, progress="log").run(source(api).parallelize())
    assert warehouse.stored() == shown(api.account)


def test_a_source_can_be_run_twice(api: Sandbox, warehouse: Destination) -> None:
    source_, loaded = source(api), pipeline(warehouse)
    loaded.run(source_)
    change(api.account, 100)
    loaded.run(source_)
    assert warehouse.stored() == shown(api.account)


@pytest.mark.usefixtures("home")
def test_a_function_as_the_destination_gets_every_row_and_then_what_changed(
    api: Sandbox,
) -> None:
    taken: set[tuple[str, Any]] = set()

    @dlt.destination(batch_size=100)
    def take(items: Any, table: Any) -> None:
        if table["name"] == "enrollments":
            taken.update(zip(*items.select(["id", "updated_at"]).to_pydict().values(), strict=True))

    def enrollments() -> set[tuple[str, Any]]:
        return {(row["id"], parse_instant(row["updated_at"])) for row in api.account.rows()}

    into = dlt.pipeline("into_a_function", destination=take)
    into.run(source(api))
    assert taken == enrollments()

    before = set(taken)
    change(api.account, 20)
    sync(into, api_key=KEY, base_url=api.url)
    assert taken == before | enrollments()


@pytest.mark.parametrize("table", [None, "people"])
def test_without_a_pipeline_a_source_and_each_resource_yield_arrow_tables(
    api: Sandbox, table: str | None
) -> None:
    dlt.pipeline("none").deactivate()
    items = list(source(api).resources[table] if table else source(api))
    assert all(isinstance(item, pa.Table) for item in items)
    name = table or "enrollments"
    expected = {row[0] for row in shown(api.account)[name]}
    assert any(set(item["id"].to_pylist()) == expected for item in items)


@before_any_destination
def test_the_schema_describes_tables_columns_references_and_personal_data(
    api: Sandbox, warehouse: Destination
) -> None:
    loaded = first_run(api, warehouse)

    stored = loaded.default_schema.tables
    for table in ALL_TABLES:
        assert stored[table.name]["description"] == table.description
        for column in table.columns:
            hints: Any = stored[table.name]["columns"][column.name]
            assert hints["description"] == column.description
            assert bool(hints.get("x-annotation-pii")) == column.pii
        wanted = {c.references for c in table.columns if c.references}
        known: Any = stored[table.name].get("references", [])
        assert {reference["referenced_table"] for reference in known} == wanted
    diagram = loaded.default_schema.to_mermaid()
    assert "enrollments }|--|| people" in diagram


@before_any_destination
def test_the_trace_names_the_endpoints_and_counts_what_was_read(
    api: Sandbox, warehouse: Destination
) -> None:
    loaded = pipeline(warehouse)
    loaded.run(source(api))

    assert loaded.last_trace
    assert loaded.last_trace.last_extract_info
    info = loaded.last_trace.last_extract_info.asdict()
    inputs = {item["resource_name"]: item for item in info["inputs"]}
    assert set(inputs) == {*BY_NAME, LEDGER.name}
    assert inputs["people"]["location"] == api.url
    assert inputs["users"]["endpoints"] == ["/sequences/v1/sequences"]
    [metrics] = [m for m in info["resource_metrics"] if m["resource_name"] == "enrollments"]
    counts = metrics["custom_metrics"]
    assert counts["rows"] == 240
    assert counts["quarantined"] == 0
    assert counts["pages"] >= 3
    assert counts["requests"] == len(api.requests)


@before_any_destination
def test_the_state_is_that_of_the_resource_of_enrollments(
    api: Sandbox, warehouse: Destination
) -> None:
    loaded = first_run(api, warehouse)
    assert state_of(loaded)["version"] == 2
    assert os.environ.get("DLT_INTERVAL_START") is None
