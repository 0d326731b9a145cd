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
from dlt.common.normalizers.json import relational
from dlt.extract import extract

MOST = 1_000
"""How many answers are kept: a process may go on to make types, with every source that it makes."""


def prepare_dlt() -> None:
    """Let dlt derive once what it would derive again and again, in this process from now on."""
    # For each table and each value of configuration, dlt evaluates the hints of the same types
    # again. For its metrics, it also writes each table's columns as YAML, in Python instead of C.
    # With what is repeated for each table beside that, it is a fifth of a run without news.
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
    _validate_once()


def _validate_once() -> None:
    # For each table of each schema that it opens, dlt validates again what all tables propagate to
    # those nested in them.
    normalizer: Any = relational.DataItemNormalizer
    validate = normalizer._validate_normalizer_config.__func__  # noqa: SLF001
    valid: dict[Any, None] = {}

    @wraps(validate)
    def validated(cls: type, of: Any, config: Any) -> None:
        how = cls, type(of.naming), of.naming.max_length
        if (*how, repr(config)) not in valid:
            validate(cls, of, config)
            # As it is now: the names in it have been normalized.
            _keep(valid, (*how, repr(config)), None)

    normalizer._validate_normalizer_config = classmethod(validated)  # noqa: SLF001


def _keep(answers: dict[Any, Any], question: Any, answer: Any) -> None:
    if len(answers) >= MOST:
        answers.clear()
    answers[question] = answer


def infer_json(is_json: Callable[[pa.Field], bool]) -> None:
    """Let dlt infer JSON from the Arrow fields that `is_json` knows, in this process from now on.

    Otherwise it would infer text for them, and warn that a hint contradicts that.
    """
    # Imported here: it imports Arrow's Parquet, 5 MB that a run without rows does not need.
    from dlt.common.libs import pyarrow as dlt_pyarrow  # noqa: PLC0415

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
            known = derive(hint, **how)
            _keep(derived, hint, known)
        return known

    return answer
