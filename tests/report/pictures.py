"""Renews what the README shows of a run: `python tests/report/pictures.py outputs/quickstart .github quickstart.log`.

Writes report-light.png and report-dark.png, the page down to the figure of the seeds (needs chromium and chromedriver),
and puts an excerpt of the log, what `curator build recipes/quickstart.yaml` printed off a terminal, into the README.
"""

from __future__ import annotations

import base64
import re
import shutil
import sys
from pathlib import Path
from textwrap import wrap

from curator.run import STAGES


def photograph(page: Path, folder: Path, *, width: int = 960) -> None:
    """Writes both pictures of report.html to `folder`."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1.5, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        for name in ("light", "dark"):
            scheme = {"name": "prefers-color-scheme", "value": name}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
            driver.get(page.absolute().as_uri())
            end = driver.execute_script("return document.querySelector('#seeds figure').getBoundingClientRect().bottom")
            clip = {"x": 0, "y": 0, "width": width, "height": end + 20, "scale": 1}
            taken = driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
            (folder / f"report-{name}.png").write_bytes(base64.b64decode(taken["data"]))
    finally:
        driver.quit()


def excerpt(printed: str) -> str:
    """What each finished stage says first, and the decision out of the table behind them."""
    stages = [
        line.partition(";")[0] for line in printed.splitlines() if re.match(rf"({'|'.join(STAGES)}) +[\d.]+ s  ", line)
    ]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in printed.splitlines() if "│" in line]
    named = [name for name, _ in cells if name]
    decision, after = (next(n for n, cell in enumerate(cells) if cell[0] == name) for name in named[:2])
    sentence = " ".join(text for _, text in cells[decision:after])
    return "\n".join([*stages, "", *wrap(f"{named[0]}: {sentence}", 120)]) + "\n"


def print_output(log: Path, readme: Path) -> None:
    """Puts an excerpt of a log into the README's block of output; when and how long is written above it by hand."""
    block = re.compile(r"(<!-- quickstart output: begin -->.*?```text\n).*?(```)", re.DOTALL)
    text, printed = readme.read_text(encoding="utf-8"), excerpt(log.read_text(encoding="utf-8"))
    found, count = block.subn(lambda match: match[1] + printed + match[2], text)
    assert count == 1, f"{readme} has no block of output"
    readme.write_text(found, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 3:
        print_output(Path(sys.argv[3]), Path(__file__).parents[2] / "README.md")
    photograph(Path(sys.argv[1]) / "8-report" / "report.html", Path(sys.argv[2]))
