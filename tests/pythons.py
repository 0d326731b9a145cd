"""Runs the demo and the promises on the oldest and the newest Python that this machine has.

Also prints the versions that dlt supports and the machine lacks, which were not tried.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SUPPORTED = ("3.10", "3.11", "3.12", "3.13", "3.14")
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
HOME = Path(__file__).resolve().parents[1]


def interpreter(version: str) -> str | None:
    """Return a Python of this version that works: from the path, or the newest of pyenv's."""
    of_path = [
        path
        for folder in os.get_exec_path()
        if (path := shutil.which(f"python{version}", path=folder))
    ]
    of_pyenv = sorted(
        PYENV.glob(f"versions/{version}.*/bin/python"),
        key=lambda path: [int(part) for part in re.findall(r"\d+", path.parts[-3])],
        reverse=True,
    )
    return next((path for path in [*of_path, *map(str, of_pyenv)] if is_here(path, version)), None)


def is_here(path: str, version: str) -> bool:
    """Tell whether a Python runs: pyenv puts one that fails for a version that is not chosen."""
    words = [path, "-c", "import ensurepip, sys; print(*sys.version_info[:2], sep='.')"]
    try:
        ran = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError:
        return False
    return ran.returncode == 0 and ran.stdout.strip() == version


def run(version: str, python: str) -> bool:
    """Install what is locked into an environment of its own; run the demo and the promises."""
    environment = HOME / f".venv-{version}"
    environment.mkdir(exist_ok=True)
    own = str(environment / "bin" / "python")
    commands: list[list[str]] = [
        [python, "-m", "venv", str(environment)],
        [own, "-m", "pip", "install", "--quiet", "--requirement", str(HOME / "requirements.lock")],
        [own, "-m", "pip", "install", "--quiet", "--no-deps", "--editable", str(HOME)],
        [own, "-m", "unify_source", "demo", "--enrollments", "2000"],
        [own, "-m", "pytest", "-n", "2", "-m", "promise and not lane", str(HOME / "tests")],
    ]
    return all(
        subprocess.run(words, cwd=environment, check=False).returncode == 0 for words in commands
    )


def main() -> int:
    """Return 0 if all that was tried holds."""
    found = {version: interpreter(version) for version in SUPPORTED}
    present = {version: python for version, python in found.items() if python}
    for version in SUPPORTED:
        if version not in present:
            print(f"Python {version} is not on this machine: NOT TRIED.")  # noqa: T201
    if not present:
        return 1
    tried = dict.fromkeys((next(iter(present)), list(present)[-1]))
    failed = [version for version in tried if not run(version, present[version])]
    for version in tried:
        print(f"Python {version}: {'FAILED' if version in failed else 'holds'}.")  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
