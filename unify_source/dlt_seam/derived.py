"""What dlt derives from types, with JSON among them, and once instead of thousands of times."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import yaml
from dlt.common import validation
from dlt.common.configuration import resolve
from dlt.common.configuration.providers import environ
from dlt.common.configuration.specs import base_configuration
from dlt.common.destination import client, utils
from dlt.common.libs import pyarrow as dlt_pyarrow
from dlt.extract import extract
from dlt.normalize import worker


def prepare_dlt(is_json: Callable[[pa.Field], bool]) -> None:
    """Let dlt infer JSON from Arrow fields, and derive all else once, in this process from now on.

    Without this, it would infer text for the fields that `is_json` knows, and warn that a hint
    contradicts that.
    """
    _infer_json(is_json)
    _derive_once()


def _derive_once() -> None:
    # For each table and each value of configuration, dlt evaluates the hints of the same types
    # again. For its metrics, it also writes each table's columns as YAML, in Python instead of C.
    # That is a sixth of a small load.
    get_type_hints = vars(validation)["get_type_hints"]
    if hasattr(get_type_hints, "__wrapped__"):
        return
    # Always called with the names of the type's module, which follow from the type.
    vars(validation)["get_type_hints"] = _once(get_type_hints)
    is_secret_hint = _once(base_configuration.is_secret_hint)
    for module in (base_configuration, environ, resolve):
        vars(module)["is_secret_hint"] = is_secret_hint
    if yaml.__with_libyaml__:
        vars(extract)["yaml"] = SimpleNamespace(dump=partial(yaml.dump, Dumper=yaml.CDumper))
    _count_once()
    _prepare_tables_from_arguments()


def _count_once() -> None:
    # dlt asks for a configuration's length to see whether there is one, and counts its fields.
    configured: Any = base_configuration.BaseConfiguration
    count = configured.__len__
    lengths: dict[type, int] = {}

    @wraps(count)
    def length(configuration: Any) -> int:
        kind = type(configuration)
        if kind not in lengths:
            lengths[kind] = count(configuration)
        return lengths[kind]

    configured.__len__ = length


def _prepare_tables_from_arguments() -> None:
    # A load prepares tables 250 times. For each, dlt resolves a configuration, although the only
    # value that it can have, the capabilities, is among the arguments.
    prepare: Any = utils.prepare_load_table

    @wraps(prepare)
    def prepared(tables: Any, table: Any, destination_capabilities: Any = None) -> Any:
        if destination_capabilities is None:
            return prepare(tables, table)
        return prepare.__wrapped__(tables, table, destination_capabilities)

    for module in (client, utils, worker):
        vars(module)["prepare_load_table"] = prepared


def _infer_json(is_json: Callable[[pa.Field], bool]) -> None:
    infer = dlt_pyarrow.py_arrow_to_table_schema_columns
    if hasattr(infer, "__wrapped__"):
        return

    @wraps(infer)
    def inferred(schema: pa.Schema) -> Any:
        columns = infer(schema)
        for item in schema:
            if is_json(item):
                columns[item.name]["data_type"] = "json"
        return columns

    dlt_pyarrow.py_arrow_to_table_schema_columns = inferred


def _once(derive: Callable[..., Any]) -> Callable[..., Any]:
    derived: dict[Any, Any] = {}

    @wraps(derive)
    def answer(hint: Any, **how: Any) -> Any:
        try:
            known = derived.get(hint, derived)
        except TypeError:
            # Not every type is hashable.
            return derive(hint, **how)
        if known is derived:
            known = derived[hint] = derive(hint, **how)
        return known

    return answer
