"""Where dlt looks for configuration, and which values it has taken."""

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

from unify_source.common.dlt_seam.running import active_pipeline


@dataclass(frozen=True)
class ConfiguredValue:
    """A value of configuration: where it is set, in words for an error, and in which sections."""

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
    """Return the value that dlt takes for a name in these sections, from the closest to the widest.

    Without `with_bare_variables`, a variable with only that name is ignored: it may belong to
    another program.
    """
    # dlt's own order: the pipeline's sections before all others, then provider by provider, and in
    # each from the closest section to no section.
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
    """Return the names and sections that dlt itself reads in a source's section."""
    own = PipeIterator.PipeIteratorConfiguration().get_resolvable_fields()
    sections = {"schema", "extract", "data_writer"}
    return {"schema_contract", "max_table_nesting", "name", "section", *sections, *own}


def providers() -> Sequence[ConfigProvider]:
    """Return dlt's places of configuration by priority: environment, files, vaults.

    Raises dlt's error for an invalid setting of its runtime, which dlt itself raises only once
    before it goes on without a log.
    """
    context = Container()[PluggableRunContext]
    context.context.runtime_config  # noqa: B018 - a property that reads it
    return context.providers.providers


def config_sections() -> tuple[str | None, tuple[str, ...]]:
    """Return the pipeline and the sections for which dlt currently reads configuration.

    Outside a step of a pipeline that is the active one, as where dlt makes a source.
    """
    context, active = Container()[ConfigSectionContext], active_pipeline()
    name = active.pipeline_name if active else None
    return context.pipeline_name or name, tuple(context.sections or ())


def resolved_secrets() -> Iterator[tuple[str, Any]]:
    """Yield the name and value of each secret that the current step took from configuration."""
    for trace in get_resolved_traces().resolved_traces:
        if is_secret_hint(trace.hint):
            yield trace.key, trace.value
