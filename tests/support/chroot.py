"""A Dockerfile without Docker: its steps, and a chroot of Debian's in which they run one by one.

Needs root, and Debian's `debootstrap`. The base image is Debian with its own Python, whatever the
file names: no registry of images is asked.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

DEBIAN, MIRROR = "bookworm", "http://deb.debian.org/debian"
INCLUDED = "python3,python3-venv,ca-certificates"
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# The root is read-only but for /data, as with `docker run --read-only`, and the command is the
# first process of its own: no signal ends it that it does not handle.
_RUN = """
mount --bind "$1" "$1"
mount --bind "$2" "$1/data"
mount -t proc proc "$1/proc"
mount --bind /dev "$1/dev"
mount -o remount,bind,ro "$1"
shift 2
exec "$@"
"""


@dataclass
class Image:
    """The root of a stage, and how it is run."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    folder: str = "/"
    commands: dict[str, list[str]] = field(default_factory=dict)

    def start(self, data: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
        """Start the entry point, or its default command, as `docker run --read-only` would."""
        command = [*self.commands["ENTRYPOINT"], *(words or self.commands["CMD"])]
        return self.run(data, command, **environment)

    def run(self, data: Path, command: list[str], **environment: str) -> subprocess.Popen[str]:
        """Start any command in it, as Docker does to ask for its health."""
        given = [f"{k}={v}" for k, v in {**self.environment, **environment}.items()]
        inside = ["env", "-i", f"--chdir={self.folder}", *given, *command]
        return subprocess.Popen(
            [
                *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
                *("sh", "-ec", _RUN, "sh", str(self.root), str(data)),
                *("chroot", f"--userspec={self.user}", str(self.root), *inside),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def debian(folder: Path) -> Path:
    """Make the root of a Debian with Python."""
    root = folder / "debian"
    done = subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={INCLUDED}", DEBIAN, root, MIRROR],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
    # This machine's own, so that pip inside trusts what this machine trusts.
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    shutil.copy(f"/{CERTIFICATES}", root / CERTIFICATES)
    return root


def built(
    dockerfile: Path, context: Path, base: Path, folder: Path, arguments: Mapping[str, str]
) -> Image:
    """Take the steps of a Dockerfile one by one, and return the image of its last stage."""
    folder.mkdir()
    stages: dict[str, Image] = {}
    image: Image | None = None
    for word, rest in instructions(dockerfile):
        if word == "FROM":
            name = rest.rpartition(" AS ")[2] if " AS " in rest else "final"
            root = folder / name
            subprocess.run(["cp", "--archive", base, root], check=True)
            image = stages[name] = Image(root)
            continue
        assert image
        if word == "ARG":
            name, _, default = rest.partition("=")
            image.arguments[name] = arguments.get(name, default)
            continue
        _take(image, word, rest, context, stages)
    assert image
    return image


def instructions(dockerfile: Path) -> Iterator[tuple[str, str]]:
    """Yield each instruction of a Dockerfile with its arguments."""
    text = dockerfile.read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            yield word, rest.strip()


def _take(image: Image, word: str, rest: str, context: Path, stages: dict[str, Image]) -> None:
    if word == "RUN":
        pip = {k: v for k, v in os.environ.items() if k.startswith("PIP_")}
        done = subprocess.run(
            ["chroot", image.root, "/bin/sh", "-c", rest],
            env={"PATH": PATH, **pip, **image.arguments, **image.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{rest}\n{done.stdout}\n{done.stderr}"
    elif word == "COPY":
        _copy(image, shlex.split(rest), context, stages)
    elif word == "ENV":
        image.environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))
    elif word == "USER":
        image.user = rest
    elif word == "WORKDIR":
        image.folder = rest
    elif word in ("ENTRYPOINT", "CMD"):
        image.commands[word] = json.loads(rest)
    elif word == "HEALTHCHECK":
        image.commands[word] = json.loads(rest.partition("CMD ")[2])
    else:
        assert word == "VOLUME", f"{word} is an instruction that no step here takes"


def _copy(image: Image, words: list[str], context: Path, stages: dict[str, Image]) -> None:
    if words[0].startswith("--from="):
        context = stages[words.pop(0).removeprefix("--from=")].root
    *sources, target = words
    inside = image.root / target.lstrip("/")
    for source in sources:
        here = context / source.lstrip("/")
        if here.is_dir():
            shutil.copytree(here, inside, symlinks=True, dirs_exist_ok=True)
        else:
            inside.mkdir(parents=True, exist_ok=True)
            shutil.copy(here, inside)


def volume(folder: Path, image: Image) -> Path:
    """Make a volume that belongs to the user of an image."""
    folder.mkdir()
    user, group = map(int, image.user.split(":"))
    os.chown(folder, user, group)
    return folder


def ended(process: subprocess.Popen[str], seconds: float = 120) -> tuple[int, str, str]:
    """Return the exit code of a process, and what it wrote."""
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, out, err


def first_process(started: subprocess.Popen[str]) -> int:
    """Return the id, as seen from here, of the process that an image was started with."""
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text()
    return int(children)
