"""The report in a real browser: it shows its numbers, fits a phone, and can be read in the dark."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dlt
import pytest
from conftest import KEY
from modeled import Database
from patience import PATIENCE
from reported import assert_shown, troubled, written

from unify_source import sync
from unify_source.sandbox import Account, Sandbox

pytestmark = pytest.mark.browser

PHONE, DESK = 390, 1280
LEAST_CONTRAST = 4.5
"""Of text, by the WCAG's level AA."""

# A page around the report measures it, because the report itself has no script.
HARNESS = """<!DOCTYPE html><meta charset="utf-8"><body>
<iframe style="width: WIDTHpx; height: 900px; border: 0" src="page.html"></iframe><pre></pre>
<script>
onload = () => {
  const page = document.querySelector("iframe").contentDocument;
  const all = (query, within = page) => [...within.querySelectorAll(query)];
  const style = (element) => page.defaultView.getComputedStyle(element);
  const light = (color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const color = style(element).backgroundColor;
    return color === "rgba(0, 0, 0, 0)" ? behind(element.parentElement) : color;
  };
  const contrast = (element, color) => {
    const pair = [light(color), light(behind(element))].sort((a, b) => b - a);
    return (pair[0] + 0.05) / (pair[1] + 0.05);
  };
  document.querySelector("pre").textContent = JSON.stringify({
    width: page.documentElement.scrollWidth,
    paper: light(style(page.body).backgroundColor),
    tables: Object.fromEntries(all("table").map((table) => [
      table.id.replace("table-", ""),
      all("tr", table).map((row) => all("th, td", row).map((cell) => cell.textContent)),
    ])),
    letters: Math.min(...all("svg text").map((text) => text.getBoundingClientRect().height)),
    overlaps: all("svg .label").filter((label) => {
      const name = label.firstElementChild;
      return style(name).overflow !== "hidden" ||
        name.getBoundingClientRect().right > label.nextElementSibling.getBoundingClientRect().left;
    }).length,
    shortened: all("svg .label div").filter((name) => name.scrollWidth > name.clientWidth)
      .map((name) => style(name).textOverflow),
    contrast: Math.min(
      ...all("h1, p, a, dt, dd, small, li, th, td, caption, figcaption, svg div").map((element) =>
        contrast(element, style(element).color)),
      ...all("svg text").map((text) => contrast(text.closest("figure"), style(text).fill)),
    ),
  });
};
</script>"""


@pytest.fixture(scope="module")
def databases(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: str
) -> Iterator[tuple[Database, Database]]:
    with troubled(tmp_path_factory.mktemp("report"), postgres_server) as loaded:
        yield loaded


def rendered(folder: Path, width: int, *, is_dark: bool) -> dict[str, Any]:
    """Return what a browser renders from the report beside it."""
    (folder / "harness.html").write_text(HARNESS.replace("WIDTH", str(width)), encoding="utf-8")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    assert browser, "no Chromium: make test-browser installs it"
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--allow-file-access-from-files",
            f"--blink-settings=preferredColorScheme={0 if is_dark else 1}",
            f"--user-data-dir={folder / 'browser'}",
            "--dump-dom",
            (folder / "harness.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    [measured] = re.findall(r"<pre>(.+?)</pre>", done.stdout, re.DOTALL)
    return dict(json.loads(html.unescape(measured)))


def test_the_report_of_20000_enrollments_is_small_and_fits_a_phone(
    pipeline: dlt.Pipeline, serve: Callable[..., Sandbox], home: Path
) -> None:
    account = Account(20_000)
    account.upgrade_sequence(account.sequences()[0]["id"])
    account.clock.advance(timedelta(seconds=1))
    sync(pipeline, api_key=KEY, base_url=serve(account).url)

    # It asserts the size.
    page = written(pipeline)

    assert len(page.body("sequences")) == 41
    seen = rendered(home, PHONE, is_dark=False)
    assert seen["width"] <= PHONE
    assert seen["overlaps"] == 0


@pytest.mark.parametrize("width", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_the_report_can_be_read(
    databases: tuple[Database, Database], home: Path, width: int, *, is_dark: bool
) -> None:
    written(databases[0].pipeline(home))

    seen = rendered(home, width, is_dark=is_dark)

    assert_shown(seen["tables"], databases[0])
    assert seen["width"] <= width
    assert seen["letters"] >= 12
    assert seen["overlaps"] == 0
    assert set(seen["shortened"]) == ({"ellipsis"} if width == PHONE else set())
    assert seen["contrast"] >= LEAST_CONTRAST
    assert (seen["paper"] < 0.1) is is_dark
