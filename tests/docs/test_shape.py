"""`make shape` reports each violation with its place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pages import ROOT
from patience import PATIENCE

COMMENTED = "# One comment.\nVALUE = 1\n"


def shape(package: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "shape.py"), "--check", str(package)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def package(home: Path, files: dict[str, str]) -> Path:
    """Write a package whose every file has a comment."""
    root = home / "shaped"
    for name, text in {"__init__.py": "", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        (path.parent / "__init__.py").touch()
    return root


def test_a_package_within_the_limits_passes(home: Path) -> None:
    done = shape(package(home, {"api/client.py": COMMENTED, "api/pages.py": COMMENTED}))

    assert done.returncode == 0, done.stderr
    assert "Everything is within the limits." in done.stdout


def test_everything_beyond_a_limit_is_named_with_its_place(home: Path) -> None:
    crowd = {f"crowd/room_{number}.py": COMMENTED for number in range(10)}
    done = shape(
        package(
            home,
            {
                **crowd,
                "crowd/corner/chair.py": COMMENTED,
                "api/client.py": 'PATH = "/enrollments"\n',
                "long_file.py": "VALUE = 1\n" * 251,
                "long_function.py": "def drag() -> None:\n" + "    print()\n" * 40,
                "ring/one.py": "from shaped.ring import two\n",
                "ring/two.py": "from shaped.ring import one\n",
            },
        )
    )

    assert done.returncode == 1, done.stderr
    assert done.stdout.split("Beyond the limits:\n")[1].splitlines() == [
        "crowd holds 11 files and folders; the limit is 10.",
        "api/client.py:1 names one endpoint.",
        "long_file.py has 251 lines; the limit is 250.",
        "long_function.py:1 drag has 41 lines; the limit is 40.",
        "3.5% of the lines are comments; the limit is 4% or more.",
        "Import cycle: shaped.ring.one -> shaped.ring.two -> shaped.ring.one.",
        "Import cycle: shaped.ring.two -> shaped.ring.one -> shaped.ring.two.",
    ]


def test_the_package_itself_holds_no_more_names_than_any_folder(home: Path) -> None:
    done = shape(package(home, {f"room_{number}/door.py": COMMENTED for number in range(11)}))

    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1] == (
        "The package holds 11 files and folders; the limit is 10."
    )
