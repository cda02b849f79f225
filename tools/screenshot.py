"""Take the picture of a report or a sweep that the guides show: `python tools/screenshot.py DIR`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parents[1] / "docs" / "img"


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    name = "sweep" if (folder / "sweep.html").is_file() else "report"
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1060, "height": 1180}, device_scale_factor=1.5)
        page.goto((folder / f"{name}.html").as_uri())
        page.wait_for_timeout(1000)  # its charts are drawn
        page.screenshot(path=IMAGES / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
