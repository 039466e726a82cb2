"""A catalog by hand for job tests: a few rows in the published formats."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import yaml
from pyspark.sql import SparkSession
from rich.console import Console

from croplake.catalog.formats import BOXES_HEADER, PHOTOS_HEADER, SUBSETS, XCLICK_HEADER
from croplake.conf import Settings
from croplake.conf.loading import load_settings
from croplake.jobs.context import JobContext
from croplake.jobs.way import JOBS, run_job
from croplake.miniature import MiniatureServer, World
from croplake.miniature.csvs import BOXES_FILES, CLASSES_FILE, HIERARCHY_FILE, PHOTOS_FILES

APPLE, PEAR, FRUIT = "/m/0apple", "/m/0pear", "/m/0fruit"
LAKE_FOLDER = "dataset=b läke 100%"
"""Every root is a name that some layer would like to encode, or to take for a partition."""

CLASSES_CSV = f"LabelName,DisplayName\n{APPLE},Apple\n{PEAR},Pear\n{FRUIT},Fruit\n"
HIERARCHY = (
    f'{{"LabelName": "{FRUIT}", "Subcategory": [{{"LabelName": "{APPLE}"}}, '
    f'{{"LabelName": "{PEAR}"}}]}}'
)


def photo_row(image_id: str, **changes: str) -> str:
    row = {
        "ImageID": image_id,
        "Subset": "train",
        "OriginalURL": f"http://farm1.staticflickr.com/1/{image_id}_o.jpg",
        "OriginalLandingURL": f"https://www.flickr.com/photos/ann/{image_id}",
        "License": "https://creativecommons.org/licenses/by/2.0/",
        "AuthorProfileURL": "https://www.flickr.com/people/ann/",
        "Author": "Ann",
        "Title": "Plain",
        "OriginalSize": "1234",
        "OriginalMD5": "rL0YyGK2Xh2YK3Nmzgx6Zw==",
        "Thumbnail300KURL": f"http://farm1.staticflickr.com/1/{image_id}_z.jpg",
        "Rotation": "0.0",
    } | changes
    return ",".join(row[name] for name in PHOTOS_HEADER)


def box_row(image_id: str, label: str = APPLE, *, clicks: bool = False, **changes: str) -> str:
    row = {
        "ImageID": image_id,
        "Source": "xclick",
        "LabelName": label,
        "Confidence": "1",
        "XMin": "0.1",
        "XMax": "0.6",
        "YMin": "0.2",
        "YMax": "0.9",
        **dict.fromkeys(BOXES_HEADER[8:], "0"),
        **dict.fromkeys(XCLICK_HEADER, "0.5"),
    } | changes
    return ",".join(row[name] for name in (*BOXES_HEADER, *(XCLICK_HEADER if clicks else ())))


def write_csv(path: Path, header: tuple[str, ...], rows: list[str]) -> Path:
    path.write_text("\n".join([",".join(header), *rows]) + "\n", encoding="utf-8")
    return path


def hand_made_settings(folder: Path, **changes: Any) -> Settings:  # noqa: ANN401
    """Settings over `folder`; writes an empty catalog there where no file is yet."""
    files = {
        "classes.csv": CLASSES_CSV,
        "hierarchy.json": HIERARCHY,
        "photos.csv": ",".join(PHOTOS_HEADER) + "\n",
        "boxes.csv": ",".join(BOXES_HEADER) + "\n",
    }
    for name, text in files.items():
        if not (folder / name).exists():
            (folder / name).write_text(text, encoding="utf-8")
    values: dict[str, Any] = {
        "lake": {"root": str(folder / LAKE_FOLDER)},
        "catalog": {
            "classes": str(folder / "classes.csv"),
            "hierarchy": str(folder / "hierarchy.json"),
            "photos": {"train": str(folder / "photos.csv")},
            "boxes": {"train": str(folder / "boxes.csv")},
        },
        "dataset": {"name": "fruit", "classes": ["Apple", "Pear"]},
    }
    conf = folder / "conf.yaml"
    conf.write_text(yaml.safe_dump(values | changes))
    return load_settings(str(conf))


def run(spark: SparkSession, name: str, settings: Settings) -> JobContext:
    """Runs one job quietly."""
    job = next(job for job in JOBS if job.name == name)
    return run_job(spark, job, settings, Console(quiet=True))


def said_by(spark: SparkSession, name: str, settings: Settings, *, out: str | None = None) -> str:
    """Runs one job; what it prints."""
    job = next(job for job in JOBS if job.name == name)
    console = Console(file=io.StringIO(), width=400, record=True)
    run_job(spark, job, settings, console, out=out)
    return console.export_text()


def rows_of(settings: Settings, table: str) -> list[dict[str, Any]]:
    """A table's rows as a reader without Spark sees them."""
    from croplake import open_lake

    return list(open_lake(settings.lake.root).dataset(table).to_table().to_pylist())


def miniature_settings(
    world: World,
    server: MiniatureServer,
    folder: Path,
    **changes: Any,  # noqa: ANN401
) -> Settings:
    """Settings over a drawn world; the lake lies in `folder`."""
    values: dict[str, Any] = {
        "lake": {"root": str(folder / LAKE_FOLDER)},
        "catalog": {
            "classes": str(world.csv_dir / CLASSES_FILE),
            "hierarchy": str(world.csv_dir / HIERARCHY_FILE),
            "photos": {name: str(world.csv_dir / PHOTOS_FILES[name]) for name in SUBSETS},
            "boxes": {name: str(world.csv_dir / BOXES_FILES[name]) for name in SUBSETS},
        },
        "dataset": {"name": "miniature", "classes": list(world.class_names)},
    }
    fetch = {
        "mirror_url": "http://open-images-dataset.s3.amazonaws.com/{subset}/{image_id}.jpg",
        "connect_to": server.connect_to,
        "private_hosts": list(server.connect_to),
        "hosts": {"staticflickr.com": {"transfers": 32}},
        "recipe": {"max_side_px": 96},
    }
    conf = folder / "conf.yaml"
    conf.write_text(yaml.safe_dump(values | changes | {"fetch": fetch | changes.get("fetch", {})}))
    return load_settings(str(conf))


def outside_environment() -> dict[str, str]:
    """A shell's environment with croplake's Python first, without this process's Spark."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PYSPARK_")}
    own = str(Path(sys.executable).parent)
    return kept | {"PATH": os.pathsep.join([own, os.environ["PATH"]])}
