"""What is wrong with a file of configuration that cannot be read, without quoting from it."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from unify_source.errors import ConfigurationError

# What `>` of Windows PowerShell writes. To a TOML parser it is a control character in line 1.
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def unreadable_file(paths: list[str], reason: str) -> ConfigurationError:
    """Return the error for the first of these files that cannot be read as TOML.

    `reason` is the parser's; only the line is taken from it, for it quotes what may be a secret.
    """
    files = [file for path in paths if (file := Path(path)).is_file()]
    for file in files:
        if problem := _encoding(file.read_bytes()):
            return ConfigurationError(f"{file} {problem}.", "Save it as UTF-8, without a mark.")
    line = re.search(r"\bline (\d+)", reason)
    where = f", line {line[1]}" if line else ""
    return ConfigurationError(
        f"{' or '.join(map(str, files))}{where}, is not TOML.",
        'Write each value as name = "text", in straight quotes, and each name once.',
    )


def _encoding(content: bytes) -> str | None:
    if content.startswith(_UTF16):
        return "is written as UTF-16"
    if content.startswith(codecs.BOM_UTF8):
        return "begins with a byte order mark"
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        return f"has a character in line {line} that is not UTF-8"
    return None
