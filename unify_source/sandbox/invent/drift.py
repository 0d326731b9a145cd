"""Ways in which a beta API changes under its clients."""

import hashlib
from collections.abc import Callable

from unify_source.sandbox.invent.rows import Document

Reshape = Callable[[Document], Document]

_ODD_ONES_IN = 100


def new_fields(row: Document) -> Document:
    """Return a row with unknown fields: scalars of each type, nested objects, a list."""
    known = (part for part in ("sequence", "person", "reply_email_message") if row.get(part))
    more = {part: {**row[part], **_additions(row)} for part in known}
    return {**row, **more, **_additions(row)}


def changed_types(row: Document) -> Document:
    """Return a row as it is; about one in a hundred, chosen by id, breaks the documentation."""
    digest = hashlib.sha256(str(row.get("id")).encode()).digest()
    if int.from_bytes(digest[:4], "big") % _ODD_ONES_IN:
        return row
    # Each breaks something else: a type, the cursor, the key, an object, a time.
    without_time = {key: value for key, value in row.items() if key != "updated_at"}
    broken = (
        {**row, "is_paused": "true"},
        without_time,
        {**row, "id": None},
        {**row, "mailbox": "sales@acme.example.com"},
        {**row, "created_at": 1_767_225_600},
        {**row, "person": None},
        {**row, "status": 3},
        {**row, "updated_at": "yesterday"},
    )
    return broken[digest[4] % len(broken)]


def page_example(row: Document) -> Document:
    """Return a row in the form of an older reference page: no status, play or categories."""
    older = {key: row[key] for key in row if key not in ("status", "enrolled_by_play")}
    if reply := row.get("reply_email_message"):
        ids = [{"id": one["id"]} for one in reply["classifications"]]
        older["reply_email_message"] = {**reply, "classifications": ids}
    return older


def _additions(row: Document) -> Document:
    size = len(str(row.get("id")))
    return {
        "beta_text": "new",
        "beta_count": size,
        "beta_share": 0.25,
        "beta_flag": True,
        "beta_at": row.get("created_at"),
        "beta_nothing": None,
        "beta_object": {"level": "one", "inner": {"level": "two", "count": 2}},
        "beta_list": ["a", "b"],
    }


DRIFTS: dict[str, Reshape] = {
    "new-fields": new_fields,
    "changed-types": changed_types,
    "page-example": page_example,
}
