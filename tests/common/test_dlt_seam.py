"""Uses of dlt that its documentation does not cover: each failure says what dlt changed."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Iterator
from importlib.metadata import requires
from inspect import signature
from pathlib import Path
from typing import Annotated, Any
from weakref import ref

import dlt
import pyarrow as pa
import pytest
import yaml
from dlt.common import validation
from dlt.common.configuration import resolve
from dlt.common.configuration.providers import environ
from dlt.common.configuration.specs import (
    base_configuration,
)
from dlt.common.exceptions import DictValidationException
from dlt.common.libs import pyarrow as dlt_pyarrow
from dlt.common.normalizers.json import relational
from dlt.common.normalizers.json.typing import RelationalNormalizerConfig
from dlt.common.schema.typing import TColumnSchema, TStoredSchema, TTableSchema
from dlt.common.storages.load_package import PackageStorage, create_load_id
from dlt.common.time import increasing_precise_time
from dlt.common.typing import TSecretStrValue
from dlt.extract import extract
from dlt.pipeline import trace as dlt_trace
from dlt.pipeline.exceptions import PipelineStepFailed

from unify_source.common import dlt_seam
from unify_source.common.dlt_seam.derived import MOST
from unify_source.common.resources import JSON_METADATA
from unify_source.flatten.tables import is_json
from unify_source.load.packages import state_of


def ids() -> Iterator[pa.Table]:
    yield pa.table({"id": ["a"]})


def pipeline(destination: Any = "duckdb") -> dlt.Pipeline:
    made: dlt.Pipeline = dlt.pipeline("seam", destination=destination, dataset_name="data")
    return made


def test_dlt_has_an_upper_bound() -> None:
    bounds = [name for name in requires("unify-source") or [] if name.startswith("dlt<")]
    assert bounds, "dlt_seam uses what the next dlt may change"


@pytest.mark.parametrize("name", ["duckdb", "postgres"])
def test_a_destination_takes_explicit_capabilities(name: str) -> None:
    destination = pipeline(name).destination
    before = destination.capabilities()
    assert before.supports_ddl_transactions, "dlt no longer says that DDL is transactional"
    assert before.supports_transactions is None, (
        "dlt knows by now whether rows are merged in transactions: drop merge_in_transactions"
    )
    dlt_seam.merge_in_transactions(destination)
    assert destination.capabilities().supports_transactions is True, (
        "dlt no longer takes a destination's capabilities from its caps_params"
    )


def test_a_running_resource_sees_its_pipeline_source_and_destination() -> None:
    seen: dict[str, Any] = {}

    def rows() -> Iterator[pa.Table]:
        seen["load"] = dlt_seam.load_id()
        seen["pipeline"] = dlt_seam.active_pipeline()
        seen["running"] = dlt_seam.running_pipeline()
        seen["resources"] = list(dlt_seam.running_resources() or ())
        caps = dlt_seam.capabilities()
        seen["dialect"] = caps.sqlglot_dialect if caps else None
        yield from ids()

    running = pipeline()
    source = dlt.source(
        lambda: [
            dlt.resource(rows, name="one"),
            dlt.resource(lambda: iter(()), name="two", write_disposition="skip"),
            dlt.resource(ids, name="three", selected=False),
        ],
        name="seam",
    )
    [load] = running.run(source()).loads_ids

    assert seen["load"] == load, "dlt no longer tells a resource the id of its load"
    assert seen["pipeline"] is running, "dlt no longer makes the running pipeline the active one"
    assert seen["running"] is running, "dlt no longer tells a resource which pipeline runs it"
    assert seen["resources"] == ["one"], "dlt no longer tells a resource which others run with it"
    assert seen["dialect"] == "duckdb", "dlt no longer tells a resource the destination's abilities"


@pytest.mark.parametrize("refresh", ["drop_data", "drop_resources", "drop_sources"])
def test_a_running_resource_sees_which_tables_are_emptied_first(refresh: Any) -> None:
    seen: list[frozenset[str]] = []
    dropped: list[frozenset[str]] = []

    def rows() -> Iterator[pa.Table]:
        seen.append(dlt_seam.emptied_tables())
        dropped.append(dlt_seam.dropped_tables())
        yield from ids()

    source = dlt.source(lambda: [dlt.resource(rows, name="one")], name="seam")
    running = pipeline()
    running.run(source())
    running.run(source(), refresh=refresh)

    assert seen == [frozenset(), {"one"}], "dlt no longer tells a load which tables it empties"
    assert dropped[1] == (set() if refresh == "drop_data" else {"one"}), (
        "dlt no longer tells a load which tables it drops"
    )


@pytest.mark.parametrize("refresh", ["drop_data", "drop_resources", "drop_sources"])
def test_a_running_resource_keeps_a_table_that_would_be_emptied(refresh: Any) -> None:
    def rows() -> Iterator[pa.Table]:
        dlt_seam.keep_when_refreshed("one")
        yield from ids()

    source = dlt.source(lambda: [dlt.resource(rows, name="one")], name="seam")
    running = pipeline()
    running.run(source())
    running.run(source(), refresh=refresh)

    with running.sql_client() as client:
        kept = client.execute_sql("SELECT id FROM data.one")
    assert kept == [("a",), ("a",)], "dlt empties tables by another list than the package's"


def test_a_running_resource_takes_a_column_out_of_the_schema_and_not_out_of_the_table() -> None:
    def rows(column: str) -> Iterator[pa.Table]:
        dlt_seam.forget_column("one", "old")
        dlt_seam.forget_column("two", "old")
        yield pa.table({"id": [column], column: [1]})

    def source(column: str) -> Any:
        return dlt.source(lambda: [dlt.resource(rows(column), name="one")], name="seam")()

    running = pipeline()
    running.run(source("old"))
    running.run(source("new"))

    assert list(running.default_schema.tables["one"]["columns"])[:2] == ["id", "new"], (
        "dlt keeps the schema of a source elsewhere than in dlt.current.source_schema()"
    )
    with running.sql_client() as client:
        kept = client.execute_sql("SELECT id, old, new FROM data.one ORDER BY 1")
    assert kept == [("new", None, 1), ("old", 1, None)]


def test_outside_of_a_run_there_is_neither_a_source_nor_a_destination() -> None:
    pipeline().deactivate()
    assert dlt_seam.active_pipeline() is None, "dlt keeps a pipeline active that was deactivated"
    assert dlt_seam.running_resources() is None, "dlt knows a source where none runs"
    assert dlt_seam.capabilities() is None, "dlt knows a destination where nothing runs"


def test_intervals_are_off_unless_a_launcher_allows_them() -> None:
    assert dlt_seam.allows_external_schedulers() is False, "dlt lets intervals apply by default"


def test_the_state_of_a_resource_is_where_the_cursor_is_read(home: Path) -> None:
    def rows() -> Iterator[pa.Table]:
        dlt.current.resource_state()["mark"] = 1
        yield from ids()

    running = dlt.pipeline(
        "seam", destination="duckdb", dataset_name="data", pipelines_dir=str(home / "dlt")
    )
    source = dlt.source(lambda: [dlt.resource(rows, name="enrollments")], name="unify")
    running.run(source())
    assert state_of(running) == {"mark": 1}, (
        "dlt moved a resource's state from sources -> NAME -> resources -> NAME"
    )
    with running.destination_client() as client:
        stored = dlt_seam.load_pipeline_state_from_destination("seam", client)  # type: ignore[arg-type]
    assert stored, "dlt no longer restores a pipeline's state from its destination by this name"
    source_state: Any = stored["sources"]["unify"]
    assert dlt_seam.resource_state(source_state, "enrollments") == {"mark": 1}, (
        "dlt stores a resource's state elsewhere"
    )


def test_arrow_tables_are_written_as_parquet_if_that_is_supported() -> None:
    assert dlt_seam.fastest_format("insert_values", ["insert_values", "parquet"]) in (
        "parquet",
        "insert_values",
    ), "dlt no longer finds a writer for Arrow tables"
    assert dlt_seam.fastest_format("parquet", ["insert_values", "parquet"]) == "parquet", (
        "dlt no longer writes Arrow tables in the preferred format"
    )


def test_signals_are_handled_between_two_steps() -> None:
    with dlt_seam.intercepted_signals():
        dlt_seam.raise_if_signalled()


def test_dlt_looks_for_working_folders_where_we_leave_them(home: Path) -> None:
    assert Path(dlt_seam.default_pipelines_dir()) == home / "dlt" / "pipelines", (
        "dlt's own commands look for working folders elsewhere than in its data folder"
    )


def test_a_pipeline_remembers_where_to_look_for_a_file_without_a_path(home: Path) -> None:
    first = pipeline()
    first.set_local_state_val("initial_cwd", str(home / "first"))
    dlt_seam.empty_working_folder(first)
    client: Any = pipeline().destination_client()
    assert dlt_seam.database_of(client.config.credentials) == str(home / "first" / "seam.duckdb"), (
        "dlt looks for a DuckDB file elsewhere than in the pipeline's first folder"
    )


def test_placeholders_for_configuration_are_distinguished_from_values() -> None:
    assert dlt_seam.stands_for_configuration(dlt.config.value), "dlt.config.value is a value by now"
    assert dlt_seam.stands_for_configuration(dlt.secrets.value)
    assert not dlt_seam.stands_for_configuration("a value")


def test_a_destination_is_known_to_be_a_function_or_to_have_tables() -> None:
    of = {name: dlt.destination(name) for name in ("duckdb", "filesystem", "dummy")}
    assert {name: dlt_seam.has_tables(each) for name, each in of.items()} == {
        "duckdb": True,
        "filesystem": True,
        "dummy": False,
    }, "dlt no longer tells by its class whether a client has SQL"
    assert not any(map(dlt_seam.is_function, of.values()))
    into_a_function: Any = dlt.destination(lambda _items, _table: None)()
    assert dlt_seam.is_function(into_a_function)


def test_the_names_that_dlt_reads_for_a_source_are_known() -> None:
    names = dlt_seam.names_in_a_sources_section()
    assert {"max_parallel_items", "next_item_mode", "schema_contract", "extract"} <= names, (
        "dlt reads other names in the section of a source"
    )


def test_a_module_is_notified_of_a_step_before_its_trace_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Watch:
        def on_end_trace_step(self, trace: Any, step: Any, *_: Any) -> None:
            trace.steps[-1] = step._replace(step_exception="replaced")

        on_start_trace = on_start_trace_step = on_end_trace = lambda *_: None

    monkeypatch.setattr(dlt_trace, "TRACKING_MODULES", [])
    dlt_seam.watch_steps(Watch())
    running = pipeline()
    running.extract(ids(), table_name="ids")
    trace = pipeline().last_trace
    assert trace
    assert [step.step_exception for step in trace.steps] == ["replaced"], (
        "dlt no longer lets a module of trace.TRACKING_MODULES replace a step before it is written"
    )


def test_a_function_is_called_before_a_step_with_its_pipeline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[Any] = []
    monkeypatch.setattr(dlt_trace, "TRACKING_MODULES", [])
    dlt_seam.watch_steps(dlt_seam.BeforeStep("extract", called.append))
    running = pipeline()
    running.run(ids(), table_name="ids")

    assert called == [running], "dlt no longer tells a module that a step begins, or of which name"


def test_the_log_of_dlt_exists_once_there_is_a_pipeline() -> None:
    pipeline()
    log = dlt_seam.dlt_log()
    assert log, "dlt keeps its logger elsewhere"
    assert log.name == "dlt"


@pytest.mark.lane
def test_dlt_adds_a_tables_condition_to_its_merge_into_delta(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from dlt.common.libs import deltalake  # noqa: PLC0415 - of the lane

    takes = list(signature(deltalake.merge_delta_table).parameters)
    assert takes[:3] == ["table", "data", "schema"], "dlt calls its merge into Delta otherwise"
    schema: Any = {"x-merge-source-filter": "target.id = 'a'"}
    condition, _ = deltalake._delta_merge_predicates(schema)  # noqa: SLF001
    assert condition == "target.id = 'a'", (
        "dlt no longer passes a table's condition to its merge into Delta"
    )
    merged: list[Any] = []
    monkeypatch.setattr(deltalake, "merge_delta_table", lambda *given: merged.append(given[2]))
    dlt_seam.limit_delta_merges(lambda *_: condition)
    call: Any = deltalake.merge_delta_table
    call(None, pa.table({}), {"name": "x"})
    assert merged == [{"name": "x", **schema}]


def test_what_dlt_writes_of_a_failed_job_is_cleaned_first(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dlt.destination(loader_file_format="parquet", batch_size=0)
    def failing(_items: Any, _table: Any) -> None:
        raise ValueError("a secret")

    for name in ("fail_job", "retry_job", "save_pending_transition"):
        monkeypatch.setattr(PackageStorage, name, getattr(PackageStorage, name))
    monkeypatch.setenv("LOAD__RAISE_ON_MAX_RETRIES", "1")
    dlt_seam.clean_job_messages(lambda message: message.replace("secret", "***"))
    with pytest.raises(PipelineStepFailed):
        pipeline(failing).run(ids(), table_name="ids", loader_file_format="parquet")

    messages = [file.read_text() for file in home.rglob("*.exception")]
    assert [text for text in messages if "a ***" in text], "dlt writes its jobs' errors elsewhere"
    assert not [text for text in messages if "secret" in text]


def test_a_load_gets_a_greater_id_than_one_of_a_clock_that_is_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(increasing_precise_time, "_last", increasing_precise_time())
    ahead = str(float(create_load_id()) + 3_600)

    dlt_seam.load_after(ahead)
    ids = [create_load_id() for _ in range(3)]

    assert sorted({ahead, *ids}) == [ahead, *ids], "dlt no longer takes ids from that clock"


def test_a_client_takes_the_configuration_and_the_schema_that_are_known(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = pipeline()
    running.run(ids(), table_name="ids")
    with dlt_seam.quick_clients(running):
        first: Any = running.destination_client()
        monkeypatch.setenv("DESTINATION__DUCKDB__CREDENTIALS", str(home / "other.duckdb"))
        second: Any = running.destination_client()
        assert second.config is first.config, (
            "dlt no longer asks a destination's own `configuration` for that of each client"
        )
        running.default_schema.update_table({"name": "more", "columns": {}})
        assert "more" in running.destination_client().schema.tables, (
            "dlt no longer keeps a live schema for a pipeline, or asks for it by another name"
        )
        elsewhere: Any = dlt.pipeline(
            "seam", destination=running.destination, dataset_name="other"
        ).destination_client()
        assert elsewhere.sql_client.dataset_name == "other", (
            "dlt no longer keeps what it resolves a configuration from in its attributes"
        )
    after: Any = running.destination_client()
    assert dlt_seam.database_of(after.config.credentials) == str(home / "other.duckdb")


def test_dlt_infers_json_from_a_field_that_is_marked_as_such() -> None:
    dlt_seam.infer_json(is_json)
    fields = [pa.field("a", pa.string(), metadata=JSON_METADATA), pa.field("b", pa.string())]

    columns = dlt_pyarrow.py_arrow_to_table_schema_columns(pa.schema(fields))

    types = {name: column["data_type"] for name, column in columns.items()}
    assert types == {"a": "json", "b": "text"}, (
        "dlt no longer infers columns with py_arrow_to_table_schema_columns"
    )


def test_what_dlt_derives_from_types_it_derives_once_and_with_the_same_result() -> None:
    dlt_seam.prepare_dlt()
    kept = {
        "get_type_hints": [validation],
        "is_secret_hint": [base_configuration, environ, resolve],
    }
    for name, modules in kept.items():
        for module in modules:
            derive = vars(module).get(name)
            assert hasattr(derive, "__wrapped__"), f"dlt no longer has {name} in {module.__name__}"
    hints: Any = vars(validation)["get_type_hints"]
    for spec in (TTableSchema, TColumnSchema, TStoredSchema):
        how = {"globalns": vars(sys.modules[spec.__module__])}
        assert hints(spec, **how) == hints(spec, **how) == hints.__wrapped__(spec, **how), (
            f"dlt asks for the hints of {spec.__name__} in another way"
        )
    is_secret: Any = vars(base_configuration)["is_secret_hint"]
    for hint in (str, TSecretStrValue, TSecretStrValue | None, dict[str, str], Annotated[int, []]):
        assert is_secret(hint) is is_secret(hint) is is_secret.__wrapped__(hint)
    columns = {"id": {"name": "id", "description": "Größe: 'a' \n#"}}
    assert yaml.safe_load(vars(extract)["yaml"].dump(columns, sort_keys=False)) == columns, (
        "dlt writes the columns of its metrics in another way"
    )


def test_what_tables_propagate_is_validated_although_it_is_validated_once() -> None:
    dlt_seam.prepare_dlt()
    validate: Any = relational.DataItemNormalizer._validate_normalizer_config  # noqa: SLF001
    assert hasattr(validate, "__wrapped__"), "dlt validates what tables propagate elsewhere"
    for name in ("Of Root", "of_root", "Of Root"):
        given = {"propagation": {"tables": {"one": {"_dlt_id": name}}}}
        validate(dlt.Schema("any"), given)
        assert given == {"propagation": {"tables": {"one": {"_dlt_id": "of_root"}}}}
    for _ in range(2):
        with pytest.raises(DictValidationException):
            validate(dlt.Schema("any"), {"propagation": {"roots": {}}})


def test_a_normalizer_of_a_user_validates_its_own_configuration() -> None:
    class OwnConfig(RelationalNormalizerConfig, total=False):
        own: str

    class Own(relational.DataItemNormalizer):
        RELATIONAL_CONFIG_TYPE = OwnConfig

    dlt_seam.prepare_dlt()
    given: Any = {"own": "any"}
    for _ in range(2):
        Own._validate_normalizer_config(dlt.Schema("any"), given)  # noqa: SLF001
        with pytest.raises(DictValidationException):
            relational.DataItemNormalizer._validate_normalizer_config(dlt.Schema("any"), given)  # noqa: SLF001


def test_types_that_a_process_goes_on_to_make_are_not_kept_for_ever() -> None:
    dlt_seam.prepare_dlt()
    is_secret: Any = vars(base_configuration)["is_secret_hint"]
    made = [type(f"Made{number}", (), {}) for number in range(2 * MOST)]
    for each in made:
        assert is_secret(each) is False
    left = [ref(each) for each in made]
    del made, each
    gc.collect()
    assert sum(each() is not None for each in left) <= MOST


def test_each_part_of_the_seam_is_tried_here() -> None:
    named = re.findall(r"dlt_seam\.(\w+)", Path(__file__).read_text(encoding="utf-8"))
    assert set(dlt_seam.__all__) - set(named) == {"ConfiguredValue"}


def test_a_source_and_what_comes_after_read_the_sections_of_the_open_pipeline() -> None:
    seen: list[Any] = []

    def made() -> list[Any]:
        seen.append(dlt_seam.config_sections())
        return []

    pipeline()
    dlt.source(made, name="own", section="here")()
    inside, after = *seen, dlt_seam.config_sections()

    assert inside == ("seam", ("sources", "here", "own")), "dlt reads a source's settings elsewhere"
    assert after == ("seam", ()), "dlt no longer makes the pipeline that was opened the active one"


PLACES = (
    "SEAM__SOURCES__HERE__OWN__SIZE",
    "SEAM__SOURCES__SIZE",
    "SEAM__SIZE",
    "SOURCES__HERE__OWN__SIZE",
    "SOURCES__HERE__SIZE",
    "SOURCES__SIZE",
    "SIZE",
)


@pytest.mark.parametrize("first", range(len(PLACES)))
def test_a_setting_is_looked_up_where_dlt_looks_first(
    first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in PLACES[first:]:
        monkeypatch.setenv(place, place)
    pipeline()
    taken: list[str] = []

    def made(size: str = dlt.config.value) -> list[Any]:
        taken.append(size)
        return []

    dlt.source(made, name="own", section="here")()
    sections = ("sources", "here", "own")
    setting = dlt_seam.look_up("size", sections, "seam")

    assert setting
    assert taken == [setting.value] == [PLACES[first]], "dlt looks up settings in another order"
    own = dlt_seam.look_up("size", sections, "seam", with_bare_variables=False)
    assert (own and own.value) == (None if PLACES[first] == "SIZE" else PLACES[first])


def test_secrets_that_a_source_took_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCES__HERE__OWN__TOKEN", "of-the-source")
    dlt.source(lambda token=dlt.secrets.value: [token][:0], name="own", section="here")()
    taken = dict(dlt_seam.resolved_secrets())

    assert taken.get("token") == "of-the-source", "dlt no longer keeps which secrets it resolved"


def test_configuration_comes_from_variables_and_two_files() -> None:
    names = [each.name for each in dlt_seam.providers()]
    wanted = ["Environment Variables", "secrets.toml", "config.toml"]
    assert [name for name in names if name in wanted] == wanted, "dlt reads settings elsewhere"


def test_a_resource_that_another_feeds_is_found() -> None:
    one = dlt.resource(ids, name="one")
    two = dlt.transformer(lambda table: table, data_from=one, name="two")
    three = dlt.transformer(lambda table: table, data_from=two, name="three")

    assert dlt_seam.feeds("one", [one, three]) == "three", "dlt chains resources in another way"
    assert dlt_seam.feeds("three", [one, two, three]) is None


def test_tables_that_a_step_left_without_rows_are_dropped_unless_they_create_one() -> None:
    empty = pa.table({"id": pa.array([], pa.string())})
    left = dlt_seam.with_rows_only(dlt.resource(ids, name="left"))
    made = dlt_seam.with_rows_only(dlt.resource([dlt_seam.without_rows(empty)], name="made"))
    left.add_map(lambda table: table.slice(0, 0))
    running = pipeline()
    running.run([left, made])

    names = set(running.default_schema.data_table_names())
    assert names == {"made"}, "dlt no longer runs our filter after the steps that a user adds"
    assert [dlt_seam.is_written(each) for each in (empty, {"id": "a"})] == [False, True]


def test_the_mark_of_a_table_without_rows_passes_the_steps_that_a_user_adds() -> None:
    def marked() -> Iterator[Any]:
        yield dlt.mark.materialize_table_schema()

    def made(item: Any) -> pa.Table:
        assert dlt_seam.is_mark(item)
        return dlt_seam.without_rows(pa.table({"id": pa.array([], pa.string())}))

    rows = dlt_seam.with_rows_only(dlt.resource(marked, name="one"), made)
    rows.add_filter(lambda _rows: False)
    rows.add_map(lambda rows: rows.nothing)
    rows.add_yield_map(lambda _rows: iter(()))
    running = pipeline()
    running.run(rows)

    assert "one" in running.default_schema.data_table_names(), "dlt's steps drop the mark"


def test_a_run_without_news_stores_its_state_if_that_is_forced() -> None:
    def stored() -> int:
        with running.sql_client() as client:
            return int((client.execute_sql("SELECT count(*) FROM _dlt_pipeline_state") or [])[0][0])

    running = pipeline()
    rows = dlt.resource(ids, name="one")
    running.run(rows)
    running.run(rows)
    assert stored() == 1, "dlt stores a state that has not changed"
    with running.managed_state(extract_state=False) as state:
        dlt_seam.force_state_extract(state)
    running.run(rows)

    assert stored() == 2, "dlt no longer stores a state that it is told to extract"
    client: Any = running.destination_client()
    with client:
        kept = dlt_seam.load_pipeline_state_from_destination("seam", client)
    assert kept
    assert kept["pipeline_name"] == "seam", "dlt reads a stored state in another way"


def test_looking_at_a_dataset_leaves_the_working_folder_of_its_pipeline_alone() -> None:
    running = pipeline()
    running.run(dlt.resource(ids, name="one"))
    running.extract(dlt.resource(ids, name="two"))
    waiting = running.list_extracted_load_packages()

    with dlt_seam.looking_at(running) as looking:
        assert looking.dataset().one.fetchall()
        assert looking.pipelines_dir != running.pipelines_dir
        looking.run(dlt.resource(ids, name="three"))

    assert running.list_extracted_load_packages() == waiting != []
    assert dlt_seam.active_pipeline() is running, "dlt stays with the pipeline that looked"


def test_the_kinds_of_clients_are_told_apart() -> None:
    file = pipeline().destination_client()
    lake = pipeline(dlt.destinations.filesystem("lake")).destination_client()

    assert [isinstance(c, dlt_seam.FSClientBase) for c in (file, lake)] == [False, True]
    renamed: Any = dlt.destinations.duckdb(destination_name="warehouse")
    assert dlt_seam.kind_of(renamed) == "duckdb", "dlt names the kinds of destinations otherwise"
    assert isinstance(file, dlt_seam.WithStagingDataset), "dlt stages rows of DuckDB elsewhere"
