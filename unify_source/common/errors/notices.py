"""What a run reports once about the data: logged at once, and listed in its report at the end."""

from __future__ import annotations

import logging
from collections.abc import Iterator

ALWAYS = f"{__name__}.always"
"""The logger of what is to be shown even where other warnings are hidden."""

_log, _always = logging.getLogger(__name__), logging.getLogger(ALWAYS)


class Notices:
    """Collects sentences, and logs each as a warning the first time."""

    def __init__(self) -> None:
        self._sentences: dict[str, None] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._sentences)

    def add(self, sentence: str, *, always: bool = False) -> None:
        """Add a sentence, to be shown `always` if rows are at stake or no later run repeats it.

        It must not quote a row's value that may be personal.
        """
        if sentence not in self._sentences:
            self._sentences[sentence] = None
            (_always if always else _log).warning(sentence)
