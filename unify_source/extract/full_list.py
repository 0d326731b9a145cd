"""Reads a list without a time filter: completely, once a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from typing import TypeVar

from unify_source.api.by_id import each_by_id
from unify_source.api.client import Client
from unify_source.api.connection import Parameters
from unify_source.api.pages import Page
from unify_source.common.errors import (
    ApiError,
    KeyRefused,
    RateLimited,
    ServerFailed,
    TooLarge,
    Unreachable,
)
from unify_source.common.errors.notices import Notices
from unify_source.common.resources import Resource
from unify_source.common.settings import Settings
from unify_source.extract.pagination import follow

Decoded = TypeVar("Decoded")

# How long to retry a broken list, in seconds: the run can do without it.
_PATIENCE = 5.0


class FullList:
    """A list without a time filter; `read_at` is when it was last read."""

    def __init__(
        self, resource: Resource, settings: Settings, client: Client, notices: Notices
    ) -> None:
        self.resource, self._notices = resource, notices
        self.read_at = datetime.now(timezone.utc)
        self._settings, self._client = settings, client

    def read(self, decode: Callable[[Iterator[bytes]], Decoded]) -> Decoded | None:
        """Decode the bodies of all its pages as they come; None if the list cannot be read."""
        try:
            return decode(self._bodies())
        except (RateLimited, Unreachable):
            # They concern every request, not this list alone.
            raise
        except (ApiError, KeyRefused) as error:
            # The rows of the main list matter more: failing here would stop them too.
            table = self.resource.parts[0].table.name
            self._notices.add(
                f"{error.what} This run fills the table {table} only from rows nested in other"
                " lists."
            )
            return None
        finally:
            self.read_at = datetime.now(timezone.utc)

    def _bodies(self) -> Iterator[bytes]:
        limits, size = self._settings.limits, 0
        parameters = [("limit", str(self._settings.page_size))]
        for page in follow(self._page, parameters, limits=limits):
            size += len(page.body)
            if size > limits.max_body_bytes:
                raise TooLarge(
                    f"The list {self.resource.path} is larger than {limits.max_body_bytes >> 10:,}"
                    " kB (max_body_bytes).",
                    "Raise max_body_bytes if it is that long.",
                )
            yield page.body

    def _page(self, parameters: Parameters) -> Page:
        try:
            patience = min(_PATIENCE, self._settings.retry_budget)
            return self._client.page(self.resource, parameters, patience)
        except (RateLimited, ServerFailed, Unreachable):
            return self._client.page(self.resource, parameters)

    def by_id(self, ids: Iterable[str]) -> dict[str, bytes | None]:
        """Return the row with each id: None if the API no longer has it, empty if unknown.

        A row that moved in the list while its pages were read may be missing from all of them, and
        one that was created since then is in none.
        """
        return each_by_id(
            self._client,
            self.resource,
            list(dict.fromkeys(ids)),
            workers=self._settings.workers,
            unavailable=lambda _: b"",
        )
