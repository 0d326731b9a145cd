"""Where dlt finds configuration, and what it took from there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dlt.common.configuration import is_secret_hint
from dlt.common.configuration.container import Container
from dlt.common.configuration.providers import EnvironProvider
from dlt.common.configuration.providers.provider import ConfigProvider
from dlt.common.configuration.specs.config_section_context import ConfigSectionContext
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from dlt.common.configuration.utils import get_resolved_traces
from dlt.common.typing import ConfigValueSentinel
from dlt.extract.pipe_iterator import PipeIterator


@dataclass(frozen=True)
class ConfiguredValue:
    """A value of configuration: where it stands, in words for an error, and in which sections."""

    value: Any
    where: str
    sections: tuple[str, ...] = ()
    is_variable: bool = False
    may_be_secret: bool = True


def look_up(
    name: str,
    sections: tuple[str, ...],
    pipeline_name: str | None = None,
    *,
    with_bare_variables: bool = True,
) -> ConfiguredValue | None:
    """Return what dlt takes for a name in these sections, from the closest to the widest.

    Without `with_bare_variables` a variable of just that name is not looked at: it may be another
    program's.
    """
    # dlt's own order: the pipeline's sections before all others, then provider by provider, and in
    # each from the closest section to none at all.
    for pipeline in (pipeline_name, None) if pipeline_name else (None,):
        for provider in providers():
            is_environment = isinstance(provider, EnvironProvider)
            for length in range(len(sections), -1, -1):
                path = sections[:length]
                if is_environment and not with_bare_variables and not path and not pipeline:
                    continue
                value, key = provider.get_value(name, object, pipeline, *path)
                if value is not None:
                    return ConfiguredValue(
                        value=value,
                        where=f"{key} in {'the environment' if is_environment else provider.name}",
                        sections=(*([pipeline] if pipeline else []), *path),
                        is_variable=is_environment,
                        may_be_secret=provider.supports_secrets,
                    )
    return None


def stands_for_configuration(value: Any) -> bool:
    """Tell whether an argument is `dlt.config.value` or `dlt.secrets.value`: "look it up"."""
    return isinstance(value, ConfigValueSentinel)


def names_in_a_sources_section() -> set[str]:
    """Return what dlt itself reads in the section of a source."""
    own = PipeIterator.PipeIteratorConfiguration().get_resolvable_fields()
    return {"schema_contract", "max_table_nesting", "schema", "name", "section", *own}


def providers() -> Sequence[ConfigProvider]:
    """Return where dlt keeps configuration: environment, files, vaults; the first comes first.

    Raises dlt's error for a setting of its runtime that cannot be, which it itself raises only once
    and then goes on without a log.
    """
    context = Container()[PluggableRunContext]
    context.context.runtime_config  # noqa: B018 - it is read as it is asked for
    return context.providers.providers


def config_sections() -> tuple[str | None, tuple[str, ...]]:
    """Return the pipeline and the sections that dlt reads configuration for just now."""
    context = Container()[ConfigSectionContext]
    return context.pipeline_name, tuple(context.sections or ())


def resolved_secrets() -> Iterator[tuple[str, Any]]:
    """Yield name and value of each secret that the step under way took from configuration."""
    for found in get_resolved_traces().resolved_traces:
        if is_secret_hint(found.hint):
            yield found.key, found.value
