"""dlt answers the same for less: what it derives again and again takes a sixth of a small load.

It derives the hints of a few types thousands of times in a load (its own note at the place says
that a cache is due), and writes each table's columns as YAML, for its metrics, in pure Python.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import yaml
from dlt.common import typing, validation
from dlt.common.configuration import resolve
from dlt.common.configuration.providers import environ
from dlt.common.configuration.specs import base_configuration
from dlt.extract import extract


def make_lean() -> None:
    """Save dlt that work in this process and in its forks."""
    vars(validation)["get_type_hints"] = lambda spec, **_: _hints(spec)
    is_secret_hint = _cached_if_hashable(base_configuration.is_secret_hint)
    for module in (base_configuration, environ, resolve):
        vars(module)["is_secret_hint"] = is_secret_hint
    if yaml.__with_libyaml__:
        vars(extract)["yaml"] = SimpleNamespace(dump=partial(yaml.dump, Dumper=yaml.CDumper))


@cache
def _hints(spec: type) -> Any:
    return vars(typing)["get_type_hints"](spec, globalns=vars(sys.modules[spec.__module__]))


def _cached_if_hashable(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    cached = cache(function)

    def answer(hint: Any) -> Any:
        try:
            return cached(hint)
        except TypeError:
            return function(hint)

    return answer
