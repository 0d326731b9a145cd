"""All uses of dlt that its documentation does not cover, in one place.

Because of these, pyproject.toml has an upper bound for `dlt`: for each of them, a test in
tests/load/test_dlt_seam.py says what dlt has changed.
"""

from unify_source.dlt_seam.clients import quick_clients
from unify_source.dlt_seam.configuration import (
    ConfiguredValue,
    config_sections,
    look_up,
    names_in_a_sources_section,
    providers,
    resolved_secrets,
    stands_for_configuration,
)
from unify_source.dlt_seam.derived import prepare_dlt
from unify_source.dlt_seam.destinations import (
    FSClientBase,
    WithStagingDataset,
    database_of,
    fastest_format,
    kind_of,
    merge_in_transactions,
)
from unify_source.dlt_seam.lakes import limit_delta_merges
from unify_source.dlt_seam.pipelines import (
    BeforeStep,
    active_pipeline,
    clean_job_messages,
    default_pipelines_dir,
    dlt_log,
    empty_working_folder,
    force_state_extract,
    intercepted_signals,
    load_after,
    load_pipeline_state_from_destination,
    looking_at,
    raise_if_signalled,
    resource_state,
    running_pipeline,
    watch_steps,
)
from unify_source.dlt_seam.running import (
    allows_external_schedulers,
    capabilities,
    dropped_tables,
    emptied_tables,
    feeds,
    forget_column,
    keep_when_refreshed,
    load_id,
    running_resources,
    with_rows_only,
    without_rows,
)

__all__ = [
    "BeforeStep",
    "ConfiguredValue",
    "FSClientBase",
    "WithStagingDataset",
    "active_pipeline",
    "allows_external_schedulers",
    "capabilities",
    "clean_job_messages",
    "config_sections",
    "database_of",
    "default_pipelines_dir",
    "dlt_log",
    "dropped_tables",
    "emptied_tables",
    "empty_working_folder",
    "fastest_format",
    "feeds",
    "force_state_extract",
    "forget_column",
    "intercepted_signals",
    "keep_when_refreshed",
    "kind_of",
    "limit_delta_merges",
    "load_after",
    "load_id",
    "load_pipeline_state_from_destination",
    "look_up",
    "looking_at",
    "merge_in_transactions",
    "names_in_a_sources_section",
    "prepare_dlt",
    "providers",
    "quick_clients",
    "raise_if_signalled",
    "resolved_secrets",
    "resource_state",
    "running_pipeline",
    "running_resources",
    "stands_for_configuration",
    "watch_steps",
    "with_rows_only",
    "without_rows",
]
