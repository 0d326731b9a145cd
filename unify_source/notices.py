"""What a run says once about the data: in the log at once, and in its report at the end."""

from __future__ import annotations

import logging
from collections.abc import Iterator

_log = logging.getLogger(__name__)


class Notices:
    """Collects sentences, and logs each as a warning when it comes for the first time."""

    def __init__(self) -> None:
        self._sentences: dict[str, None] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._sentences)

    def add(self, sentence: str) -> None:
        """Take one more sentence; it must quote no value of a row, which may be personal."""
        if sentence not in self._sentences:
            self._sentences[sentence] = None
            _log.warning(sentence)
