"""What dlt derives from types: JSON too, and once in place of thousands of times in a run."""

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
    """Let dlt infer JSON from Arrow fields, and derive the rest once, in this process from now on.

    It would infer text from the fields that `is_json` knows, and warn that a hint says otherwise.
    """
    _infer_json(is_json)
    _derive_once()


def _derive_once() -> None:
    # For each table and each value of configuration dlt evaluates the hints of the same types anew,
    # and writes the columns of each table as YAML, for its metrics, in Python in place of C: a
    # sixth of a small load.
    get_type_hints = vars(validation)["get_type_hints"]
    if hasattr(get_type_hints, "__wrapped__"):
        return
    # Always asked for with the names of the type's module, which follow from the type.
    vars(validation)["get_type_hints"] = _once(get_type_hints)
    is_secret_hint = _once(base_configuration.is_secret_hint)
    for module in (base_configuration, environ, resolve):
        vars(module)["is_secret_hint"] = is_secret_hint
    if yaml.__with_libyaml__:
        vars(extract)["yaml"] = SimpleNamespace(dump=partial(yaml.dump, Dumper=yaml.CDumper))
    _count_once()
    _prepare_tables_as_told()


def _count_once() -> None:
    # Whether a configuration was given dlt asks by its length, and counts its fields each time.
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


def _prepare_tables_as_told() -> None:
    # A load prepares tables 250 times. dlt resolves a configuration for each, although all that it
    # could find, the capabilities, is among the arguments.
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
            # Not every type can be a key.
            return derive(hint, **how)
        if known is derived:
            known = derived[hint] = derive(hint, **how)
        return known

    return answer
