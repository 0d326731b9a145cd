"""Each safeguard's line and test exist."""

from __future__ import annotations

import pytest
from safeguards import HOME, SAFEGUARDS


@pytest.mark.parametrize("name", SAFEGUARDS)
def test_each_safeguard_is_once_in_its_file_and_has_its_test(name: str) -> None:
    guard = SAFEGUARDS[name]
    file, test = guard.test.split("::")

    assert (HOME / "unify_source" / guard.file).read_text().count(guard.line) == 1
    assert f"def {test}(" in (HOME / "tests" / file).read_text()
