"""Keeps secrets out of what dlt writes: the trace, the messages of failed jobs, and its log.

dlt stores a driver's messages literally, and a driver may quote the connection string.
"""

from __future__ import annotations

from typing import Any

import dlt

from unify_source.common.dlt_seam import clean_job_messages, dlt_log, watch_steps
from unify_source.common.errors.redaction import redact, redacted
from unify_source.load.configuration.secrets import keep_resolved_secrets_out, keep_secrets_out


def redact_dlt(pipeline: dlt.Pipeline | None) -> None:
    """Strike secrets out of the log and the files of every pipeline in this process from now on.

    Those of the configuration and of this pipeline's code are known at once.
    """
    keep_secrets_out(pipeline)
    watch_steps(_STEPS)
    clean_job_messages(_clean_message)
    if log := dlt_log():
        log.addFilter(redact)


class _Steps:
    """Cleans each step when it ends, before dlt writes the trace."""

    def on_start_trace(self, *_: Any) -> None:
        pass

    def on_start_trace_step(self, *_: Any) -> None:
        pass

    def on_end_trace_step(
        self, trace: Any, _step: Any, _pipeline: Any, step_info: Any, *_: Any
    ) -> None:
        keep_resolved_secrets_out()
        step = trace.steps[-1]
        trace.steps[-1] = step._replace(
            step_exception=_clean(step.step_exception),
            exception_traces=_clean(step.exception_traces),
        )
        trace.resolved_config_values[:] = [
            each._replace(value=_clean(each.value), default_value=_clean(each.default_value))
            for each in trace.resolved_config_values
        ]
        for package in getattr(step_info, "load_packages", ()):
            for jobs in package.jobs.values():
                jobs[:] = [job._replace(failed_message=_clean(job.failed_message)) for job in jobs]

    def on_end_trace(self, *_: Any) -> None:
        pass


_STEPS = _Steps()


def _clean_message(message: str) -> str:
    # Before it is written, because a killed process cleans nothing. The secrets of the destination
    # may have been resolved only after the load had begun.
    keep_resolved_secrets_out()
    return redacted(message)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    return value
