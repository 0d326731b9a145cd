"""What a run needs and no import does: the key with its settings, and where the tables are."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import dlt
from pydantic import Field

from unify_source.cli.pipeline import open_pipeline
from unify_source.common.errors import ConfigurationError, UnifyError

PIPELINE, DATASET = "unify_gtm", "unify"
# What makes two datasets of two accounts, on a database that ignores case as well.
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


class UnifyAccount(dg.ConfigurableResource):
    """The API's key, and any other setting of the source.

    Without `api_key` the source's own configuration says it (UNIFY_API_KEY). Where accounts are
    partitions, each account's key is read from the environment: `key_variable` names the variable,
    with the account's name in capitals, and `settings_of` has what it does not share with others.
    Runs at once on one account share its quota: give each its part as `requests_per_5min`.
    """

    api_key: str | None = None
    key_variable: str = "UNIFY_API_KEY_{account}"
    settings: dict[str, Any] = Field(default_factory=dict)
    settings_of: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def arguments(self, account: str | None = None) -> dict[str, Any]:
        """Return the settings for `sync`, `backfill` and `verify`. Raises ConfigurationError."""
        # Read here and not by Dagster: an account that is added later needs no other configuration.
        if account is None:
            return {**self.settings, "api_key": self.api_key}
        variable = self.key_variable.format(account=account.upper())
        if not os.environ.get(variable):
            raise ConfigurationError(
                f"The account {account!r} has no API key: {variable} is not set.",
                f"Set {variable} where Dagster's runs are executed.",
            )
        own = self.settings_of.get(account, {})
        return {**self.settings, **own, "api_key": os.environ[variable]}


class UnifyDataset(dg.ConfigurableResource):
    """A dataset in one of dlt's destinations.

    Without `credentials` dlt's own configuration says them. Where accounts are partitions, each has
    a dataset of its own: the account's name follows that of the dataset, and takes the place of
    `{account}` in `credentials`.
    """

    destination: str = "duckdb"
    credentials: str | None = None
    dataset: str = DATASET
    pipeline_name: str = PIPELINE
    lock_timeout: float = 600

    def pipeline(self, account: str | None = None) -> dlt.Pipeline:
        """Open the pipeline of one account, in a working folder that is removed at exit."""
        if account is None:
            return open_pipeline(
                self.pipeline_name, self.destination, self.dataset, credentials=self.credentials
            )
        # A pipeline's name is that of its working folder, which two accounts must not share.
        refuse_odd_name(account)
        return open_pipeline(
            f"{self.pipeline_name}_{account}",
            self.destination,
            f"{self.dataset}_{account}",
            credentials=self.credentials and self.credentials.replace("{account}", account),
        )


def refuse_odd_name(account: str) -> None:
    """Raise ConfigurationError for an account whose dataset might also be another's."""
    if not _NAME.fullmatch(account):
        raise ConfigurationError(
            f"The account {account!r} cannot be part of a dataset's name.",
            "Name it in lower case: letters and digits, with single _ between them.",
        )


@contextmanager
def failing_as_dagster_does() -> Iterator[None]:
    """Turn an error into Dagster's own, without retries if none can help."""
    try:
        yield
    except UnifyError as error:
        # Not `from` it: its cause may contain secrets that the error itself has redacted.
        raise dg.Failure(
            str(error),
            metadata={"exit_code": error.exit_code, "next_step": error.next_step},
            allow_retries=not isinstance(error, ConfigurationError),
        ) from None
