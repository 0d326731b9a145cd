"""Explains why a configuration file cannot be read, without quoting its values."""

from __future__ import annotations

import codecs
import re
from bisect import bisect_left
from pathlib import Path

import tomlkit
from tomlkit.exceptions import TOMLKitError

from unify_source.common.errors import ConfigurationError
from unify_source.common.errors.redaction import shown

# What `>` writes in Windows PowerShell. To a TOML parser, it is a control character in line 1.
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_NAME = re.compile(r'Key "([\w.-]+)" already exists')
# A line of a PEM key may also end with =, but it does not have small letters alone.
_KEY = re.compile(r"\s*([a-z_]{1,40})\s*=")


def refuse_no_file(path: Path) -> None:
    """Raise ConfigurationError where a file of settings is something else: dlt would ignore it.

    Docker makes a folder of a file that it is to mount and does not find.
    """
    if path.is_symlink() and not path.exists():
        raise ConfigurationError(
            f"{path} is a link to {path.readlink()}, which does not exist.",
            "Mount or create that file, or delete the link.",
        )
    if path.is_dir() or path.is_fifo():
        raise ConfigurationError(
            f"{path} should be a file, but is {'a folder' if path.is_dir() else 'a pipe'}: no"
            " setting in it would be read.",
            "Put the file there, or remove it.",
        )


def unreadable_file(paths: list[str]) -> ConfigurationError:
    """Return the error for the first of these files that cannot be read as TOML.

    Of the parser's message, only the line and the name of a key are shown: it also quotes values,
    which may be secrets.
    """
    files = [file for path in paths if (file := Path(path)).is_file()]
    for file in files:
        if error := _unreadable(file):
            return error
    return ConfigurationError(
        f"{' or '.join(map(str, files))} cannot be read as TOML.",
        "Correct it, and run it again.",
    )


def _unreadable(file: Path) -> ConfigurationError | None:
    try:
        content = file.read_bytes()
    except OSError as refusal:
        return ConfigurationError(
            f"{file} cannot be read: {refusal.strerror}.", "Let this user read it, or remove it."
        )
    if problem := _encoding(content):
        return ConfigurationError(f"{file} {problem}.", "Save it as UTF-8 without a BOM.")
    lines = file.read_text(encoding="utf-8").split("\n")
    error = _error(lines)
    if error is None:
        return None
    if _is_repeated(error):
        # For a name in a table, the parser reports no line; for a table, the last one. It fails in
        # the same way for all longer parts of the file.
        line = 1 + bisect_left(
            range(1, len(lines)), 1, key=lambda end: _is_repeated(_error(lines[:end]))
        )
        name = _NAME.search(str(error))
        return ConfigurationError(
            f"{file}, line {line}, has {shown(name[1]) if name else 'a name'} a second time.",
            "Write each name and each [section] once.",
        )
    line = getattr(error, "line", 1)
    key = _KEY.match("".join(lines[line - 1 : line]))
    return ConfigurationError(
        f"{file}, line {line}{f' ({key[1]})' if key else ''}, is not TOML.",
        'Write each value as name = "text", in straight quotes.',
    )


def _error(lines: list[str]) -> TOMLKitError | None:
    try:
        tomlkit.parse("\n".join(lines))
    except TOMLKitError as error:
        return error
    return None


def _is_repeated(error: TOMLKitError | None) -> bool:
    return bool(error and (_NAME.search(str(error)) or not hasattr(error, "line")))


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
