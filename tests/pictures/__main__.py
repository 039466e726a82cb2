"""The README's pictures, drawn from a world like the demo's: plan-fetch's print, and pages."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import sync_playwright
from rich.console import Console

from croplake.conf import Settings
from croplake.conf.loading import load_settings
from croplake.jobs import probe_examples
from croplake.jobs.way import JOBS, run_job, run_look
from croplake.jobs.world import world_served
from croplake.session import spark_session

FOLDER: Final = Path(__file__).parent
WORK: Final = Path("build/pictures")
PLANNED: Final = ("ingest_catalog", "select_boxes")
REPORTED: Final = ("fetch_crops", "build_examples")
PAGES: Final = {
    "report_dataset": 1500,
    "evaluate_classifier": 1900,
    "classify_photos": 1200,
    "find_similar": 1100,
}
"""Pages, and how much of each is shown, in px."""
PHOTO: Final = "boat_00.jpg"
_WIDTH_PX: Final = 1100
_COLUMNS: Final = 100


def main() -> None:
    """Runs all jobs in a world and a lake of its own, looks in between, draws."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    settings = settings_of_own()
    by_name = {job.name: job for job in JOBS}
    quiet = Console(quiet=True)
    with (
        world_served(settings, quiet) as served,
        spark_session("pictures", served.spark) as spark,
    ):
        for name in PLANNED:
            run_job(spark, by_name[name], served, quiet)
        printed = Console(record=True, width=_COLUMNS, file=io.StringIO())
        run_look(spark, "plan_fetch", served, printed)
        for name in REPORTED:
            run_job(spark, by_name[name], served, quiet)
        pages = {name: WORK / f"{name}.html" for name in PAGES}
        run_look(spark, "report_dataset", served, quiet, out=str(pages["report_dataset"]))
        run_job(spark, by_name["train_classifier"], served, quiet)
        evaluation = str(pages["evaluate_classifier"])
        run_job(spark, by_name["evaluate_classifier"], served, quiet, out=evaluation)
        predictions = str(pages["classify_photos"])
        run_job(spark, by_name["classify_photos"], served, quiet, out=predictions)
        run_job(spark, probe_examples.JOB, served, quiet)
        asked = {"photo": f"{WORK}/miniature/new_photos/{PHOTO}", "top": 20, "dataset": None}
        similar = str(pages["find_similar"])
        run_look(spark, "find_similar", served, quiet, out=similar, asked=asked)
    svg = printed.export_svg(title="croplake plan-fetch --conf conf/local.yaml")
    # The fonts would be fetched by whoever looks; any monospaced one will do.
    (FOLDER / "plan_fetch.svg").write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.S))
    for name, page in pages.items():
        photograph(page, FOLDER / f"{name}.png", height_px=PAGES[name])


def settings_of_own() -> Settings:
    """The demo's, in folders that nothing else uses: the demo's world remembers who asked for what.

    Busy photos are there at the second time of asking, so after a demo the pictures would differ.
    """
    demo = load_settings("conf/local.yaml", overrides=[f"lake.root={WORK}/lake"])
    own = demo.model_dump_json().replace("build/miniature", f"{WORK}/miniature")
    return Settings.model_validate_json(own)


def photograph(page: Path, picture: Path, *, height_px: int) -> None:
    """Takes a picture of the top of a page in Chromium, in few colours."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        sheet = browser.new_page(viewport={"width": _WIDTH_PX, "height": height_px})
        sheet.goto(page.resolve().as_uri())
        taken = sheet.screenshot()
        browser.close()
    Image.open(io.BytesIO(taken)).convert("RGB").quantize(128).save(picture, optimize=True)


if __name__ == "__main__":
    main()
