"""What a run reports once about the data: logged at once, and listed in its report at the end."""

from __future__ import annotations

import logging
from collections.abc import Iterator

ONCE = f"{__name__}.once"
"""The logger of what no later run repeats, so that it can be shown where others are hidden."""

_log, _once = logging.getLogger(__name__), logging.getLogger(ONCE)


class Notices:
    """Collects sentences, and logs each as a warning the first time."""

    def __init__(self) -> None:
        self._sentences: dict[str, None] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._sentences)

    def add(self, sentence: str, *, once: bool = False) -> None:
        """Add a sentence, `once` if no later run repeats it.

        It must not quote a row's value that may be personal.
        """
        if sentence not in self._sentences:
            self._sentences[sentence] = None
            (_once if once else _log).warning(sentence)
