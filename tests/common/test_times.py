from __future__ import annotations

from datetime import datetime

import shapes
from hypothesis import given

from unify_source.common.times import kept_instant, rfc3339


@given(shapes.moments)
def test_a_stored_time_is_read_as_the_instant_that_was_stored(moment: datetime) -> None:
    assert kept_instant(rfc3339(moment)) == kept_instant(moment.isoformat()) == moment
