"""The photos: really of the kinds they are said to be, and boxed right, turned or not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from croplake.miniature import World
from croplake.miniature.photo import BoxFacts, make_photo
from croplake.miniature.scene import Scene, Thing, draw_scene

FLAGS = ("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside")
MODES = {"colour": "RGB", "grey": "L", "cmyk": "CMYK", "progressive": "RGB", "png": "P"}


def original(world: World, photo: dict[str, Any]) -> Image.Image:
    return Image.open(world.root / "originals" / photo["image_id"])


def mirror(world: World, photo: dict[str, Any]) -> Image.Image:
    return Image.open(world.root / "mirror" / photo["subset"] / f"{photo['image_id']}.jpg")


def thumbnail(world: World, photo: dict[str, Any]) -> Image.Image:
    return Image.open(world.root / "thumbnails" / f"{photo['image_id']}.jpg")


def turned(image_HWC: NDArray[Any], photo: dict[str, Any]) -> NDArray[Any]:
    """Set upright: counter-clockwise by the photo's rotation."""
    return np.rot90(image_HWC, (photo["rotation_deg"] or 0) // 90)


def grey(image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(image.convert("RGB").convert("L"), dtype=np.float32)


def pixels_of(box: BoxFacts | dict[str, Any], size: tuple[int, int]) -> tuple[float, ...]:
    """Left, top, right, bottom in a photo of this size."""
    facts = box if isinstance(box, dict) else vars(box)
    width, height = size
    return (
        facts["x_min"] * width,
        facts["y_min"] * height,
        facts["x_max"] * width,
        facts["y_max"] * height,
    )


@pytest.mark.parametrize(
    ("kind", "least"), [("colour", 200), ("grey", 5), ("cmyk", 5), ("progressive", 20), ("png", 5)]
)
def test_every_kind_of_photo_occurs_and_is_what_it_says(
    kind: str, least: int, world: World
) -> None:
    photos = [photo for photo in world.photos() if photo["kind"] == kind]
    assert len(photos) >= least
    for photo in photos:
        served, copy = original(world, photo), mirror(world, photo)
        assert served.format == ("PNG" if kind == "png" else "JPEG")
        assert photo["original_path"].endswith("_o.png" if kind == "png" else "_o.jpg")
        assert served.mode == MODES[kind]
        assert bool(served.info.get("progressive")) == (kind == "progressive")
        assert copy.format == "JPEG"
        assert copy.mode == ("RGB" if kind == "png" else MODES[kind])
        assert bool(copy.info.get("progressive")) == (kind == "progressive")


def test_all_files_of_a_photo_show_the_same(world: World) -> None:
    by_kind = {photo["kind"]: photo for photo in world.photos()}
    assert set(by_kind) == set(MODES)
    for photo in by_kind.values():
        size = mirror(world, photo).size
        served, copy = original(world, photo).convert("RGB").resize(size), mirror(world, photo)
        assert np.abs(grey(served) - grey(copy)).mean() < 8, photo["kind"]


def test_no_side_of_the_mirrors_copy_is_longer_than_1024_px(world: World) -> None:
    sides = [max(mirror(world, photo).size) for photo in world.photos()]
    larger = [photo for photo in world.photos() if max(original(world, photo).size) > 1024]
    assert max(sides) == 1024
    assert len(larger) >= 3
    for photo in larger:
        assert max(mirror(world, photo).size) == 1024
        (width, height), (w, h) = original(world, photo).size, mirror(world, photo).size
        assert w / h == pytest.approx(width / height, rel=0.01)


def test_some_photos_are_turned_every_way_and_some_rotations_are_unknown(world: World) -> None:
    counts = Counter(photo["rotation_deg"] for photo in world.photos())
    assert set(counts) == {0, 90, 180, 270, None}
    assert 0.03 < (counts[90] + counts[180] + counts[270]) / world.num_photos < 0.1
    assert 0.01 < counts[None] / world.num_photos < 0.08


def test_turning_a_stored_photo_by_its_rotation_gives_the_upright_thumbnail(world: World) -> None:
    photos = world.photos()
    picked = [photo for photo in photos if photo["rotation_deg"] != 0] + photos[:10]
    for photo in picked:
        small = thumbnail(world, photo).convert("RGB")
        upright = Image.fromarray(turned(np.asarray(mirror(world, photo).convert("RGB")), photo))
        assert max(small.size) <= 320
        assert small.width / small.height == pytest.approx(upright.width / upright.height, rel=0.01)
        apart = np.abs(grey(upright.resize(small.size, Image.Resampling.LANCZOS)) - grey(small))
        assert apart.mean() < 6, photo["image_id"]
        # Upside down it would be far off, so the nearness above says something.
        assert np.abs(np.rot90(grey(small), 2) - grey(small)).mean() > 10


def test_a_box_follows_its_thing_into_the_stored_frame_whatever_the_rotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_white_oblong(_: np.random.Generator) -> Scene:
        image = Image.new("RGB", (96, 64), "black")
        # No turn maps this oblong onto another turn's.
        ImageDraw.Draw(image).rectangle((16, 8, 39, 47), fill="white")
        flags = dict.fromkeys(FLAGS, 0)
        return Scene(image, [Thing("Tree", (16, 8, 40, 48), flags, np.ones((64, 96), np.bool_))])

    monkeypatch.setattr("croplake.miniature.photo.draw_scene", one_white_oblong)
    seen: Counter[tuple[int, bool]] = Counter()
    for index in range(400):
        photo = make_photo(tmp_path, 3, index)
        stored = tmp_path / "mirror" / photo.subset / f"{photo.image_id}.jpg"
        for path in (stored, tmp_path / "originals" / photo.image_id):
            image = Image.open(path)
            light = image.convert("RGB").convert("L").point(lambda value: 255 * (value > 127))
            found = light.getbbox()
            assert found is not None
            expected = pixels_of(photo.boxes[0], image.size)
            assert found == pytest.approx(expected, abs=1.01 + max(image.size) / 500)
            assert (image.width < image.height) == (photo.rotation_deg in (90, 270))
        seen[photo.rotation_deg or 0, max(image.size) > 96] += 1
    assert {rotation for rotation, _ in seen} == {0, 90, 180, 270}
    assert {is_enlarged for _, is_enlarged in seen} == {True, False}


@pytest.fixture
def draw_things_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Scene]:
    """Draws a scene whose alpha says where things are: no background, no pole, no light."""

    def clear(width: int, height: int, _: np.random.Generator) -> Image.Image:
        return Image.new("RGBA", (width, height), (0, 0, 0, 0))

    monkeypatch.setattr("croplake.miniature.scene._background", clear)
    monkeypatch.setattr("croplake.miniature.scene._bar", lambda *_: None)
    monkeypatch.setattr("croplake.miniature.scene._develop", lambda image, _: image)
    return lambda seed: draw_scene(np.random.default_rng(seed))


def test_boxes_hold_all_that_is_drawn_and_are_tight(
    draw_things_only: Callable[[int], Scene],
) -> None:
    for seed in range(60):
        scene = draw_things_only(seed)
        alpha = np.asarray(scene.image.getchannel("A"))
        outside = alpha.copy()
        for thing in scene.things:
            left, top, right, bottom = thing.box_px
            outside[top:bottom, left:right] = 0
            edges = (
                alpha[top, left:right],
                alpha[bottom - 1, left:right],
                alpha[top:bottom, left],
                alpha[top:bottom, right - 1],
            )
            assert min(edge.max() for edge in edges) > 50, (seed, thing.class_name)
        # What is fainter is the soft edge of an outline.
        assert outside.max() < 100, seed


def test_what_crosses_the_photos_edge_is_truncated_and_what_is_covered_occluded(
    draw_things_only: Callable[[int], Scene],
) -> None:
    seen: Counter[str] = Counter()
    for seed in range(100):
        scene = draw_things_only(seed)
        width, height = scene.image.size
        for number, thing in enumerate(scene.things):
            left, top, right, bottom = thing.box_px
            at_edge = min(left, top) == 0 or right == width or bottom == height
            if thing.flags["IsTruncated"]:
                assert min(left, top, width - right, height - bottom) <= 1
            # Later things lie above: only they can cover this one.
            may_be_covered = any(
                max(left, other.box_px[0]) < min(right, other.box_px[2])
                and max(top, other.box_px[1]) < min(bottom, other.box_px[3])
                for other in scene.things[number + 1 :]
            )
            if thing.flags["IsOccluded"]:
                assert may_be_covered
            seen.update(name for name in FLAGS if thing.flags[name])
            seen["at edge"] += at_edge
    assert seen["IsTruncated"] >= 5
    assert seen["IsOccluded"] >= 5
    assert seen["IsTruncated"] >= seen["at edge"] / 2


def test_photos_hold_several_things_of_many_classes_sizes_and_flags(world: World) -> None:
    photos = world.photos()
    boxes = [box for photo in photos for box in photo["boxes"]]
    assert np.mean([len(photo["boxes"]) for photo in photos]) > 3
    classes = Counter(box["class_name"] for box in boxes)
    assert len(world.class_names) >= 10
    assert min(classes[name] for name in world.class_names) >= 60
    assert set(classes) > set(world.class_names)
    for box in boxes:
        assert 0 <= box["x_min"] < box["x_max"] <= 1
        assert 0 <= box["y_min"] < box["y_max"] <= 1
        assert tuple(box["flags"]) == FLAGS
    for flag in FLAGS:
        assert 0 < sum(box["flags"][flag] for box in boxes) < len(boxes) / 3
    areas = [(box["x_max"] - box["x_min"]) * (box["y_max"] - box["y_min"]) for box in boxes]
    small, large = np.percentile(areas, [10, 90])
    assert large / small > 8


def test_light_and_background_vary_from_photo_to_photo(world: World) -> None:
    brightness = [grey(thumbnail(world, photo)).mean() for photo in world.photos()[:100]]
    assert math.sqrt(np.var(brightness)) > 12
