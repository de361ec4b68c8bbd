"""Photographs a run's report for the README: `python tests/report/pictures.py outputs/quickstart .github`.

Needs chromium and chromedriver. Writes report-light.png and report-dark.png: the page down to the first figure.
"""

from __future__ import annotations

import base64
import shutil
import sys
from pathlib import Path


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
            end = driver.execute_script("return document.querySelector('#harm figure').getBoundingClientRect().bottom")
            clip = {"x": 0, "y": 0, "width": width, "height": end + 20, "scale": 1}
            taken = driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
            (folder / f"report-{name}.png").write_bytes(base64.b64decode(taken["data"]))
    finally:
        driver.quit()


if __name__ == "__main__":
    photograph(Path(sys.argv[1]) / "8-report" / "report.html", Path(sys.argv[2]))
