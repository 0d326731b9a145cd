"""Registers every secret of the configuration for redaction, before anything can quote one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import dlt
from dlt.common.configuration.exceptions import ConfigurationException

from unify_source.common.dlt_seam import providers, resolved_secrets
from unify_source.common.errors.redaction import holds_password, keep_out

_SECTIONED = re.compile(r"__|^(UNIFY_API_KEY|PGPASSWORD|CREDENTIALS|PASSWORD)$", re.IGNORECASE)
_SECRET = re.compile(r"passw|secret|token|key|passphrase", re.IGNORECASE)


def keep_secrets_out(pipeline: dlt.Pipeline | None = None) -> None:
    """Register the secrets in the environment, the files and a pipeline's code."""
    _keep_out([*_in_environment(), *_in_files(), *_in_code(pipeline)])


def keep_resolved_secrets_out() -> None:
    """Register the secrets that dlt resolved for the current step, such as from a vault."""
    _keep_out(leaf for name, value in resolved_secrets() for leaf in _leaves(name, value))


def _keep_out(values: Iterable[tuple[str, str]]) -> None:
    for name, value in values:
        if holds_password(value) or _SECRET.search(name):
            keep_out(value)


def _in_environment() -> Iterator[tuple[str, str]]:
    for name, value in os.environ.items():
        if _SECTIONED.search(name):
            yield from _leaves(name.rpartition("__")[2], value)


def _in_files() -> Iterator[tuple[str, str]]:
    # A file that cannot be read is reported where its values are needed.
    with suppress(ConfigurationException):
        for provider in providers():
            yield from _leaves("", getattr(provider, "_config_doc", {}))


def _in_code(pipeline: dlt.Pipeline | None) -> Iterator[tuple[str, str]]:
    if pipeline and pipeline.destination:
        credentials = pipeline.destination.config_params.get("credentials")
        yield from _leaves("credentials", credentials)
        yield from _leaves("password", getattr(credentials, "password", None))


def _leaves(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        # The key of a service account, as JSON.
        with suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(str(key), inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _leaves(name, inner)
    elif isinstance(value, str):
        yield name, value
