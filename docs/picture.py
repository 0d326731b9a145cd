"""Draws `report.png` again: the top of the report on the demo's data, in headless Chromium.

    python docs/picture.py

The picture carries the digest of the templates that it was drawn from, so that a test can tell when
they have changed since.
"""

from __future__ import annotations

import hashlib
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import dlt

from unify_source import report, sync
from unify_source.runs.analysis.models import PACKAGE
from unify_source.sandbox import Account, Sandbox

PICTURE = Path(__file__).with_name("report.png")
TEMPLATES = PACKAGE.with_name("report") / "templates"
ROWS = 20_000
SIZE = "1000,1170"

_KEY = "a-key-of-the-sandbox"
_MARK = b"templates\0"
# The signature and the header; the text follows, before the pixels.
_HEADER = 8 + 25


def digest() -> str:
    """Return the digest of the report's templates."""
    files = sorted(TEMPLATES.iterdir())
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def drawn_from(picture: Path = PICTURE) -> str:
    """Return the digest of the templates that a picture was drawn from; empty without one."""
    _, mark, text = picture.read_bytes().partition(b"tEXt" + _MARK)
    return text[: len(digest())].decode() if mark else ""


def draw(picture: Path = PICTURE) -> None:
    """Load the demo's enrollments, and draw their report."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        sys.exit("There is no Chromium: make chromium installs it.")
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder, "report.html"), Path(folder, "report.png")
        database = dlt.destinations.duckdb(str(Path(folder, "unify_demo.duckdb")))
        pipeline = dlt.pipeline(
            "unify_demo", pipelines_dir=folder, destination=database, dataset_name="unify"
        )
        with Sandbox(Account(ROWS), key=_KEY) as api:
            sync(pipeline, api_key=_KEY, base_url=api.url)
        report(pipeline, page)
        words = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        words += ["--blink-settings=preferredColorScheme=1", f"--window-size={SIZE}"]
        words += [f"--user-data-dir={folder}/browser", f"--screenshot={shot}", page.as_uri()]
        subprocess.run([browser, *words], check=True, capture_output=True, timeout=120)  # noqa: S603 - our own words
        picture.write_bytes(_marked(shot.read_bytes()))


def _marked(image: bytes) -> bytes:
    text = _MARK + digest().encode()
    checksum = zlib.crc32(b"tEXt" + text)
    chunk = struct.pack(">I", len(text)) + b"tEXt" + text + struct.pack(">I", checksum)
    return image[:_HEADER] + chunk + image[_HEADER:]


if __name__ == "__main__":
    draw()
