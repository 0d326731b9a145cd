"""The README's parts."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


TEXT_OF = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the README's blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT_OF, re.DOTALL | re.MULTILINE)
