"""Strategies for what the API documents, and for what it may send one day."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ids = st.uuids(version=4).map(str)
moments = st.datetimes(
    datetime(2000, 1, 1),  # noqa: DTZ001 - the zone is given apart
    datetime(2030, 1, 1),  # noqa: DTZ001 - the zone is given apart
    timezones=st.just(timezone.utc),
)


def written(moment: datetime, digits: int = 6, offset: int = 0) -> str:
    """Write an instant as RFC 3339 with this many fractional digits, at this offset in minutes."""
    local = moment.astimezone(timezone(timedelta(minutes=offset)))
    fraction = f".{local.microsecond:06}"[: digits + 1] if digits else ""
    zone = local.strftime("%z")
    return local.strftime("%Y-%m-%dT%H:%M:%S") + fraction + f"{zone[:3]}:{zone[3:]}"


instants = moments.map(written)
nullable_text = st.none() | text

sequences = st.fixed_dictionaries({"id": ids, "name": text, "is_paused": st.booleans()})
people = st.fixed_dictionaries(
    {
        "id": ids,
        "email": text,
        "first_name": nullable_text,
        "last_name": nullable_text,
        "linkedin_url": nullable_text,
    }
)
mailboxes = st.fixed_dictionaries(
    {
        "id": ids,
        "email": text,
        "display_name": nullable_text,
        "is_paused": st.booleans(),
        "is_unauthorized": st.booleans(),
    }
)
plays = st.fixed_dictionaries({"id": ids, "name": text})
classifications = st.fixed_dictionaries(
    {"id": ids, "category": st.sampled_from(["AUTOMATED", "NEGATIVE", "NEUTRAL", "POSITIVE"])}
)
replies = st.fixed_dictionaries(
    {
        "id": ids,
        "subject": nullable_text,
        "received_at": st.none() | instants,
        "classifications": st.lists(classifications, max_size=3),
    }
)
FLAGS = ("blocked", "bounced", "canceled", "excluded", "opted_out", "paused", "replied")
enrollments: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "id": ids,
        "created_at": instants,
        "updated_at": instants,
        "sequence": sequences,
        "person": people,
        "mailbox": mailboxes,
        "enrolled_by_play": st.none() | plays,
        "reply_email_message": st.none() | replies,
        "status": st.sampled_from(["DRAFT", "IN_PROGRESS", "FINISHED"]),
        **{f"is_{flag}": st.booleans() for flag in FLAGS},
        "started_at": st.none() | instants,
        "ended_at": st.none() | instants,
    }
)

# A key with U+0000 is a reason for quarantine: see the tests of decoding.
keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | instants
    | st.sampled_from(["2026-01-31", "2026-01-31 08:00:00", "12:30", ""])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)

# The texts of JSON values, with what no Python value spells: numbers, escapes and nesting.
hostile_values = anything.map(json.dumps) | st.sampled_from(
    [
        "-0",
        "1e400",
        "12345678901234567890",
        "[1.50,1E2]",
        r'"\ud800"',
        r'"\udc00"',
        r'"\u0000"',
        r'{"\u0000":1}',
        r'"\/\"[{"',
        "NaN",
        "01",
        "[" * 70 + "]" * 70,
        '{"a":' * 1_500 + "1" + "}" * 1_500,
        "[" * 1_015 + "]" * 1_015,
        "[null]",
        '[{"id":"c1","$more":"x"},{"id":"c2"}]',
        '[{"id":"c1","id":"c2"}]',
        '{"id":"p1","$more":"x"}',
        '"9999-12-31T23:59:59-05:00"',
        '"0000-01-01T00:00:00Z"',
        '"2026-01-31T08:00:00.123456789+05:30"',
    ]
)
