"""A column of times is cast to the same instants as `parse_instant` reads."""

from __future__ import annotations

import pyarrow as pa
import pytest
from conftest import IS_SOAK
from hypothesis import given, settings
from hypothesis import strategies as st

from unify_source.common.times import parse_instant
from unify_source.flatten.decode.instants import instants

NEIGHBOURS: tuple[list[str | None], ...] = (
    [],
    ["2026-01-31T08:00:00Z"],
    ["2026-01-31T08:00:00.123456789Z"],
    ["2026-01-31T08:00:00+01:00", None],
)
TIMES = (
    "2026-01-31T08:00:00Z",
    "2026-01-31T08:00:00.123456+05:30",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999-00:01",
)
EDITS = st.lists(
    st.tuples(
        st.integers(0, 32),
        st.text("0123456789TtZz+-:. ,W", max_size=1),
        st.integers(0, 1),
    ),
    max_size=3,
)


def edited(text: str, edits: list[tuple[int, str, int]]) -> str:
    """Replace, insert or delete random characters."""
    for at, letter, skipped in edits:
        text = text[:at] + letter + text[at + skipped :]
    return text


@settings(max_examples=1_000 if IS_SOAK else 100)
@given(st.builds(edited, st.sampled_from(TIMES), EDITS), st.sampled_from(NEIGHBOURS))
def test_a_text_is_the_same_instant_or_none_in_any_column(
    text: str, neighbours: list[str | None]
) -> None:
    column = pa.array([text, *neighbours])
    expected = parse_instant(text)

    if expected is None:
        with pytest.raises(pa.ArrowInvalid):
            instants(column)
    else:
        assert instants(column)[0].as_py() == expected
