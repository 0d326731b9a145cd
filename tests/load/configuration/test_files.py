"""An unreadable configuration file is reported with file, line and name, and without values."""

from __future__ import annotations

import codecs
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import command
from dlt.common.configuration.container import Container
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext

from unify_source.common.errors import ConfigurationError
from unify_source.load.configuration.dlt_errors import explained

BROKEN = {
    "is written as UTF-16": codecs.BOM_UTF16_LE + 'api_key = "case-key"'.encode("utf-16-le"),
    "begins with a byte order mark": codecs.BOM_UTF8 + b'[sources.unify]\napi_key = "case-key"\n',
    "has a character in line 2 that is not UTF-8": '[a]\n# é\nk = "case-key"'.encode("latin-1"),
    ", line 2 (api_key), is not TOML": b"[sources.unify]\napi_key = case-key\n",
}


@pytest.mark.parametrize("problem", BROKEN)
def test_a_file_that_cannot_be_read_says_what_is_wrong_with_it(problem: str, home: Path) -> None:
    (home / ".dlt").mkdir()
    (home / ".dlt" / "secrets.toml").write_bytes(BROKEN[problem])

    for words in (["sync"], ["check", "--json"], ["status", "--verbose"]):
        ran = command(*words)
        assert ran.returncode == 2
        assert problem in ran.stderr
        assert "secrets.toml" in ran.stderr
        assert "case-key" not in ran.stdout + ran.stderr
        assert "--verbose" in words or "Traceback" not in ran.stderr


def make_link_to_nothing(file: Path) -> str:
    file.symlink_to(file.parent / "not mounted")
    return "which does not exist"


def make_pipe(file: Path) -> str:
    os.mkfifo(file)
    return "is a pipe"


def make_folder(file: Path) -> str:
    file.mkdir()
    return "is a folder"


@pytest.mark.parametrize("name", ["config.toml", "secrets.toml"])
@pytest.mark.parametrize("make", [make_folder, make_pipe, make_link_to_nothing])
def test_what_should_be_a_file_and_is_none_is_refused_instead_of_ignored(
    make: Callable[[Path], str], name: str, home: Path
) -> None:
    (home / ".dlt").mkdir()
    what = make(home / ".dlt" / name)

    for words in (["sync"], ["check"], ["status"]):
        ran = command(*words, UNIFY_API_KEY="case-key")
        assert ran.returncode == 2, ran.stderr
        assert f".dlt/{name}" in ran.stderr
        assert what in ran.stderr
    shutil.rmtree(home / ".dlt")


TWICE = [
    ('[sources.unify]\nbase_url = "https://a"\nbase_url = "https://b"\n', 3, "base_url"),
    ("[sources.unify]\nworkers = 2\n\n[load]\nx = 1\n[sources.unify]\nx = 2\n", 6, "unify"),
    ("[sources.unify]\nworkers = 2\n[sources.unify]\n", 3, "unify"),
    ("[sources.unify]\nworkers = 2\n[[sources.unify]]\nx = 1\n", 3, "unify"),
    ("[sources]\nunify = 1\n[sources.unify]\n", 3, "unify"),
    ("[sources]\nunify.workers = 1\nunify.workers = 1\n", 3, "workers"),
    ("workers = 1\nworkers = 1\n", 2, "workers"),
    ("unify = { workers = 1, workers = 2 }\n", 1, "workers"),
    ("[a]\r\nx = 1\r\nx = 2\r\n", 3, "x"),
    ("[a]\rx = 1\rx = 2\r", 3, "x"),
    ('[a]\nb = """\nx = 1\nx = 2\n"""\nx = 1\n\nx = 1\n', 8, "x"),
    ("[sources]\nunify.workers = 1\n[sources.unify]\npage_size = 2\n", 3, ""),
]
NO_TOML = [
    ("a = case-key\n", 1, "a"),
    ("a =\n", 1, "a"),
    ("a\n", 1, ""),
    ("a: 1\n", 1, ""),
    ("a = True\n", 1, "a"),
    ("a = 007\n", 1, "a"),
    ("a = 2026-13-45\n", 1, "a"),
    ("a = 1 b = 2\n", 1, "a"),
    ("a = \u201ccase-key\u201d\n", 1, "a"),
    ('a = "case-key\n', 1, "a"),
    ('a = "case-key\0"\n', 1, "a"),
    ('a = "C:\\Users\\case-key"\n', 1, "a"),
    ("[sources.unify\n", 1, ""),
    ("[]\n", 1, ""),
    ('export a = "case-key"\n', 1, ""),
    ("<<<<<<< HEAD\n", 1, ""),
    (" = 1\n", 1, ""),
    ("a = [1,\ncase-key\n", 2, ""),
    # The rest of a private key, which looks like a name.
    ("a = -----BEGIN\ncase-key=\n", 1, "a"),
    ('a = """\ncase-key=', 2, ""),
    (f"a = {'[' * 3000}\n", 1, "a"),
]


@pytest.fixture
def file(home: Path) -> Path:
    (home / ".dlt").mkdir()
    return Path(".dlt", "config.toml")


def read() -> str:
    """Return the error for a file that cannot be read."""
    with pytest.raises(ConfigurationError) as caught, explained():
        Container()[PluggableRunContext].reload_providers()
    assert "case-key" not in str(caught.value)
    return caught.value.what


@pytest.mark.parametrize(("text", "line", "name"), TWICE)
def test_a_repeated_name_is_reported_with_its_line(
    text: str, line: int, name: str, file: Path
) -> None:
    file.write_bytes(text.encode())

    named = repr(name) if name else "a name"
    assert read() == f"{file}, line {line}, has {named} a second time."


@pytest.mark.parametrize(("text", "line", "name"), NO_TOML)
def test_invalid_toml_is_reported_with_its_file_and_line(
    text: str, line: int, name: str, file: Path
) -> None:
    file.write_bytes(f"# A file\n[sources.unify]\n{text}".encode())

    named = f" ({name})" if name else ""
    assert read() == f"{file}, line {line + 2}{named}, is not TOML."


def test_a_file_without_read_permission_is_named(file: Path) -> None:
    file.symlink_to("/proc/self/mem")

    assert read().startswith(f"{file} cannot be read: ")
