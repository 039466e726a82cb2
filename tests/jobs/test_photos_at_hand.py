from __future__ import annotations

import shutil
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from croplake import tables as t
from croplake.errors import InputDataError
from croplake.miniature import MiniatureServer, World
from tests.jobs.crops import asked_photos, check_pixels, kept_boxes, select_sound_photos
from tests.jobs.world import miniature_settings, rows_of, run


def test_photos_at_hand_in_folders_and_tars_are_not_asked_for(
    spark: SparkSession, world: World, server: MiniatureServer, folder: Path
) -> None:
    classes = {"name": "hand", "classes": ["Boat", "Fish"]}
    settings = miniature_settings(world, server, folder, dataset=classes)
    wanted, files = select_sound_photos(spark, world, settings)
    loose, packed, damaged = wanted[:5], wanted[3:9], wanted[9]
    place = folder / "at hand" / "train"
    place.mkdir(parents=True)
    for image_id in loose:
        shutil.copy(files[image_id], place / f"{image_id}.jpg")
    (place / f"{damaged}.jpg").write_bytes(files[damaged].read_bytes()[:900])
    with tarfile.open(folder / "photos.tar", "w") as tar:
        for image_id in packed:
            tar.add(files[image_id], arcname=f"some/where/{image_id.upper()}.JPG")
    at_hand = [str(folder / "at hand"), str(folder / "photos.tar")]
    fetch = {"at_hand": at_hand, "sources": ["at_hand", "mirror"]}
    settings = miniature_settings(world, server, folder, dataset=classes, fetch=fetch)
    run(spark, "fetch_crops", settings)
    asked = asked_photos(world, server)
    assert not set(asked) & {*loose, *packed}
    assert asked[damaged] == 1
    crops = rows_of(settings, "crops")
    sources = {row[t.IMAGE_ID]: row[t.SOURCE] for row in crops if row[t.STATUS] == "ok"}
    assert {image_id: sources[image_id] for image_id in (*loose, *packed)} == dict.fromkeys(
        (*loose, *packed), "at_hand"
    )
    assert sources[damaged] == "mirror"
    assert Counter(row[t.BOX_ID] for row in crops) == Counter(
        dict.fromkeys(kept_boxes(settings), 1)
    )
    check_pixels(world, [row | {t.SOURCE: "mirror"} for row in crops if row[t.JPEG]], settings)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nowhere", None, "no such folder or tar file"),
        ("photos.tar.gz", b"x", "a packed archive cannot be read in parts"),
        ("broken.tar", b"no tar at all" * 100, "expected a plain tar file, whole"),
    ],
)
def test_a_place_that_holds_no_photos_to_be_read_is_an_error_before_anything_is_asked_for(
    spark: SparkSession,
    world: World,
    server: MiniatureServer,
    folder: Path,
    name: str,
    content: bytes | None,
    message: str,
) -> None:
    if content is not None:
        (folder / name).write_bytes(content)
    fetch = {"at_hand": [str(folder / name)]}
    with pytest.raises(InputDataError, match=message):
        run(spark, "fetch_crops", miniature_settings(world, server, folder, fetch=fetch))
    assert server.requests == []
