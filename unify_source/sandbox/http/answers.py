"""The responses that the API documents, and how a network breaks them."""

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_MESSAGES = {
    # The API documents the shape of its errors, but neither their texts nor their codes.
    400: ("bad_request", "The request is invalid."),
    401: ("unauthorized", "The API key is missing or not valid."),
    404: ("not_found", "There is nothing here."),
    405: ("method_not_allowed", "This address only answers GET."),
    429: ("rate_limited", "Too many requests."),
    500: ("error", "Something went wrong on our side."),
}
# An ASGI extension of this server: closes the connection once everything sent is on its way.
CLOSE = "sandbox.close"


def page(listing: str, rows: Sequence[bytes], next_cursor: str | None) -> Response:
    """Return rows as a page of the list with this name."""
    body = b'{"%b":[%b],"next_cursor":%b}' % (
        listing.encode(),
        b",".join(rows),
        json.dumps(next_cursor).encode(),
    )
    return Response(body, media_type="application/json")


def single(row: bytes) -> Response:
    """Return a single row."""
    return Response(row, media_type="application/json")


def error(status: int, **more: Any) -> Response:
    """Return the body that the API documents for a status, with further members."""
    word, message = _MESSAGES[status]
    body = json.dumps({"status": word, "message": message, **more}).encode()
    headers = {"allow": "GET"} if status == HTTPStatus.METHOD_NOT_ALLOWED else None
    return Response(body, status, headers, media_type="application/json")


class CutResponse(Response):
    """A response that breaks off after `share` of its body; with None, before its first byte."""

    def __init__(self, whole: Response, share: float | None) -> None:
        super().__init__(whole.body, whole.status_code, dict(whole.headers))
        self._share = share

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send that part, then close the connection."""
        if self._share is not None:
            part = bytes(self.body[: int(len(self.body) * self._share)])
            head = {"status": self.status_code, "headers": self.raw_headers}
            await send({"type": "http.response.start", **head})
            await send({"type": "http.response.body", "body": part, "more_body": True})
        scope[CLOSE]()
        # If this returned earlier, uvicorn would send a 500 of its own.
        while (await receive())["type"] != "http.disconnect":
            pass
