"""What a run reports once about the data: logged at once, and listed in its report at the end."""

from __future__ import annotations

import logging
from collections.abc import Iterator

_log = logging.getLogger(__name__)


class Notices:
    """Collects sentences, and logs each as a warning the first time."""

    def __init__(self) -> None:
        self._sentences: dict[str, None] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._sentences)

    def add(self, sentence: str) -> None:
        """Add a sentence; it must not quote a row's value that may be personal."""
        if sentence not in self._sentences:
            self._sentences[sentence] = None
            _log.warning(sentence)
