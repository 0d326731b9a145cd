"""A list read from its first page to its last, one request after another."""

from __future__ import annotations

from collections.abc import Iterator

from unify_source.api.client import Client
from unify_source.api.connection import Parameters
from unify_source.api.responses import Page
from unify_source.errors import RateLimited, ServerFailed, Unreachable
from unify_source.extract.pagination import follow
from unify_source.resources import Resource


def pages(
    client: Client, resource: Resource, parameters: Parameters, patience: float | None = None
) -> Iterator[bytes]:
    """Yield the body of every page of a list, in its order.

    With `patience`, a first page that is no page is tried for so many seconds only. Raises an
    ApiError; BrokenPage for a list that would never end.
    """

    def ask(asked: Parameters) -> Page:
        is_first = len(asked) == len(parameters)
        try:
            return client.page(resource, asked, patience if is_first else None)
        except (RateLimited, ServerFailed, Unreachable):
            if not is_first or patience is None:
                raise
            return client.page(resource, asked)

    for page in follow(ask, parameters):
        yield page.body
