"""`make test-pythons` runs on every Python that works, and names the others."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT

MINE = "{}.{}".format(*sys.version_info)
FOUND = "import pythons, sys; print(pythons.interpreter(sys.argv[1]))"


def found(home: Path, version: str = MINE) -> str:
    """Return the Python that is found when the path is one folder."""
    environment = {"PATH": f"{home}/shims:{home}/bin", "PYENV_ROOT": str(home)}
    words = [sys.executable, "-c", FOUND, version]
    ran = subprocess.run(
        words, cwd=ROOT / "tests", env=environment, capture_output=True, text=True, check=True
    )
    return ran.stdout.strip()


def put(file: Path, *lines: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")
    file.chmod(stat.S_IRWXU)
    return file


@pytest.fixture
def shim(home: Path) -> Path:
    """Create the shim of pyenv for a version that is installed but not selected."""
    message = f"echo 'pyenv: python{MINE}: command not found' >&2"
    return put(home / "shims" / f"python{MINE}", "#!/bin/sh", message, "exit 127")


def working(file: Path) -> str:
    return str(put(file, "#!/bin/sh", f'exec {sys.executable} "$@"'))


@pytest.mark.usefixtures("shim")
def test_a_shim_that_does_not_run_is_not_a_python(home: Path) -> None:
    assert found(home) == "None"


@pytest.mark.parametrize(
    "lines", [["#!/nowhere/python"], ["no script"], ["#!/bin/sh", "echo 2.7"], ["#!/bin/sh"]]
)
def test_a_program_that_prints_no_version_is_not_a_python(lines: list[str], home: Path) -> None:
    put(home / "bin" / f"python{MINE}", *lines)

    assert found(home) == "None"


@pytest.mark.usefixtures("shim")
def test_a_python_later_in_the_path_is_found_behind_a_shim(home: Path) -> None:
    assert found(home) == "None"
    python = working(home / "bin" / f"python{MINE}")

    assert found(home) == python


@pytest.mark.usefixtures("shim")
def test_the_newest_python_of_pyenv_is_found_behind_a_shim(home: Path) -> None:
    for patch in ("2", "10", "9"):
        working(home / "versions" / f"{MINE}.{patch}" / "bin" / "python")
    put(home / "versions" / f"{MINE}.11" / "bin" / "python", "#!/bin/sh", "exit 1")

    assert found(home) == str(home / "versions" / f"{MINE}.10" / "bin" / "python")
