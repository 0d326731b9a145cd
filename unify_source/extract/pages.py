"""A list read from its first page to its last, one request after another."""

from __future__ import annotations

from collections.abc import Iterator

from unify_source.api.client import Client
from unify_source.api.connection import Parameters
from unify_source.api.responses import Page
from unify_source.errors import BrokenPage, RateLimited, ServerFailed, Unreachable
from unify_source.resources import Resource


def pages(
    client: Client, resource: Resource, parameters: Parameters, patience: float | None = None
) -> Iterator[bytes]:
    """Yield the body of every page of a list, in its order.

    With `patience`, a first page that is no page is tried for so many seconds only. Raises an
    ApiError; BrokenPage for a list that would never end.
    """
    followed: set[str] = set()
    page = _first_page(client, resource, parameters, patience)
    yield page.body
    while page.next_cursor is not None:
        if page.next_cursor in followed:
            raise BrokenPage(
                f"The API sent the same next_cursor twice in its list of {resource.list_key}, so"
                " the list would never end.",
                "Nothing is lost: run it again. If it happens again, please report it to Unify.",
            )
        followed.add(page.next_cursor)
        page = client.page(resource, [*parameters, ("cursor", page.next_cursor)])
        yield page.body


def _first_page(
    client: Client, resource: Resource, parameters: Parameters, patience: float | None
) -> Page:
    try:
        return client.page(resource, parameters, patience)
    except (RateLimited, ServerFailed, Unreachable):
        return client.page(resource, parameters)
