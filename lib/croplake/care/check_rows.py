"""Checks of rows. None of them carries a picture's bytes through a shuffle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import reduce
from typing import Final

from pydantic import ValidationError
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from croplake import tables as t
from croplake.care.findings import KEY, Check, Scope
from croplake.care.pins import Run
from croplake.conf import FetchConf, RecipeConf
from croplake.jobs.build_examples import JOB as BUILD
from croplake.jobs.fetch_crops import JOB as FETCH
from croplake.jobs.fetch_plan import recipe_of
from croplake.jobs.select_boxes import JOB as SELECT

_BYTES_HASH: Final = "bytes_hash"


def _key(*columns: str) -> Column:
    return F.concat_ws(" ", *(F.col(column).cast("string") for column in columns)).alias(KEY)


def _repeated(df: DataFrame, *columns: str) -> DataFrame:
    counted = df.groupBy(*columns).count().where(F.col("count") > 1)
    return counted.select(_key(*columns))


def _find_repeated_boxes(scope: Scope) -> DataFrame:
    boxes = _repeated(scope.lake.read(t.BOXES), t.BOX_ID)
    photos = _repeated(scope.lake.read(t.PHOTOS), t.IMAGE_ID)
    return boxes.union(photos)


def _find_repeated_crops(scope: Scope) -> DataFrame:
    crops = scope.lake.read(t.CROPS).where(F.col(t.HAS_CROP))
    return _repeated(crops, t.RECIPE_ID, t.BOX_ID)


def _find_wrong_statuses(scope: Scope) -> DataFrame:
    is_ok = F.coalesce(F.col(t.STATUS) == t.STATUS_OK, F.lit(False))
    has_bytes = F.coalesce(F.length(t.JPEG) > 0, F.lit(False))
    is_whole = (F.col(t.HAS_CROP) == is_ok) & (has_bytes == is_ok) & F.col(t.STATUS).isNotNull()
    crops = scope.lake.read(t.CROPS)
    return crops.where(~is_whole).select(_key(t.RECIPE_ID, t.BOX_ID, t.STATUS))


def _find_incomplete_datasets(scope: Scope) -> DataFrame | tuple[str, ...]:
    """Only of datasets that were fetched since their boxes were last selected."""
    fetched = dict(_last_fetches(scope))
    found = [_boxes_without_their_row(scope, dataset, run) for dataset, run in fetched.items()]
    frames = [frame for frame in found if frame is not None]
    return reduce(DataFrame.union, frames) if frames else ()


def _last_fetches(scope: Scope) -> Iterator[tuple[str, Run]]:
    """The last completed fetch run of each dataset that has not been selected anew since."""
    done = [run for run in scope.runs if run[t.OUTCOME] == t.DONE]
    for run in (run for run in done if run[t.JOB] == FETCH.name):
        later = [
            other
            for other in done
            if other[t.JOB] == SELECT.name
            and other[t.DATASET] == run[t.DATASET]
            and other[t.ENDED_AT] > run[t.STARTED_AT]
        ]
        if not later:
            yield run[t.DATASET], run


def _boxes_without_their_row(scope: Scope, dataset: str, run: Run) -> DataFrame | None:
    try:
        recipe = RecipeConf.model_validate(json.loads(run[t.SETTINGS])["fetch"]["recipe"])
    except (ValidationError, KeyError, ValueError):
        return None  # of an older croplake with other settings
    recipe_id = recipe_of(FetchConf(recipe=recipe)).recipe_id
    # A later run that broke off may have added a try to a box it shares; the next one settles it.
    is_settled = not any(
        other[t.JOB] == FETCH.name
        and other[t.STARTED_AT] > run[t.STARTED_AT]
        and other[t.OUTCOME] != t.DONE
        for other in scope.runs
    )
    of_recipe = scope.lake.read(t.CROPS).where(F.col(t.RECIPE_ID) == recipe_id)
    counts = of_recipe.groupBy(t.BOX_ID).count()
    selected = scope.lake.read(t.SELECTED_BOXES).where(F.col(t.DATASET) == dataset)
    kept = selected.where(F.col(t.REJECT_REASON).isNull()).select(t.BOX_ID).distinct()
    num_rows = F.coalesce("count", F.lit(0))
    is_wrong = (num_rows != 1) if is_settled else (num_rows == 0)
    text = F.concat_ws(" ", F.lit(dataset), t.BOX_ID, F.concat(num_rows, F.lit(" rows")))
    joined = kept.join(counts, on=t.BOX_ID, how="left")
    return joined.where(is_wrong).select(text.alias(KEY))


def _find_double_downloads(scope: Scope) -> DataFrame:
    keys = (t.RUN_ID, t.RECIPE_ID, t.IMAGE_ID)
    hashes = scope.lake.read(t.CROPS).groupBy(*keys).agg(F.countDistinct(t.PHOTO_SHA256).alias("n"))
    return hashes.where(F.col("n") > 1).select(_key(*keys))


def _find_split_photos(scope: Scope) -> DataFrame:
    kept = scope.lake.read(t.EXAMPLES).where(F.col(t.SPLIT) != t.REJECTED_SPLIT)
    splits = kept.groupBy(t.DATASET, t.IMAGE_ID).agg(F.countDistinct(t.SPLIT).alias("n"))
    return splits.where(F.col("n") > 1).select(_key(t.DATASET, t.IMAGE_ID))


def _find_split_groups(scope: Scope) -> DataFrame:
    kept = scope.lake.read(t.EXAMPLES).where(F.col(t.SPLIT) != t.REJECTED_SPLIT)
    groups = scope.lake.read(t.NEAR_DUPLICATES)
    of_photos = kept.join(groups, on=[t.DATASET, t.IMAGE_ID], how="inner")
    splits = of_photos.groupBy(t.DATASET, t.GROUP_ID).agg(F.countDistinct(t.SPLIT).alias("n"))
    return splits.where(F.col("n") > 1).select(_key(t.DATASET, t.GROUP_ID))


def _find_unattributed(scope: Scope) -> DataFrame | tuple[str, ...]:
    photos = scope.lake.read(t.PHOTOS)
    known = photos.select(
        t.IMAGE_ID, *(F.col(name).alias(f"photo_{name}") for name in t.ATTRIBUTION)
    )
    is_lost = F.col(t.LICENSE).isNull()
    for name in t.ATTRIBUTION:
        is_lost |= F.col(name).isNull() & F.col(f"photo_{name}").isNotNull()
    frames = []
    for table, is_picture in (
        (t.CROPS, F.col(t.HAS_CROP)),
        (t.EXAMPLES, F.col(t.SPLIT) != t.REJECTED_SPLIT),
    ):
        if scope.lake.exists(table):
            rows = scope.lake.read(table).where(is_picture)
            rows = rows.select(t.BOX_ID, t.IMAGE_ID, *t.ATTRIBUTION)
            joined = rows.join(known, on=t.IMAGE_ID, how="left").where(is_lost)
            text = F.concat_ws(" ", F.lit(table.name), t.BOX_ID)
            frames.append(joined.select(text.alias(KEY)))
    return reduce(DataFrame.union, frames) if frames else ()


def _find_examples_without_crop(scope: Scope) -> DataFrame:
    """A crop that was fetched after the examples were made may differ from them."""
    examples = scope.lake.read(t.EXAMPLES).where(F.col(t.SPLIT) != t.REJECTED_SPLIT)
    examples = examples.select(
        t.DATASET, t.EXAMPLE_ID, t.BOX_ID, F.sha2(t.IMAGE, 256).alias(_BYTES_HASH)
    )
    crops = scope.lake.read(t.CROPS).where(F.col(t.HAS_CROP))
    crops = crops.select(
        F.col(t.BOX_ID).alias("crop_box_id"),
        t.RECIPE_ID,
        t.FETCHED_AT,
        F.sha2(t.JPEG, 256).alias("crop_hash"),
    )
    id_of_crop = F.md5(F.concat_ws("|", t.DATASET, t.RECIPE_ID, t.BOX_ID))
    is_its_crop = (F.col(t.BOX_ID) == F.col("crop_box_id")) & (F.col(t.EXAMPLE_ID) == id_of_crop)
    joined = examples.join(crops, on=is_its_crop, how="left")
    is_newer = F.coalesce(F.col(t.FETCHED_AT) > _built_at(scope), F.lit(False))
    is_same = F.coalesce(F.col(_BYTES_HASH) == F.col("crop_hash"), F.lit(False))
    return joined.where(~is_same & ~is_newer).select(_key(t.DATASET, t.BOX_ID))


def _built_at(scope: Scope) -> Column:
    built = {
        run[t.DATASET]: run[t.STARTED_AT]
        for run in scope.runs
        if run[t.JOB] == BUILD.name and run[t.OUTCOME] == t.DONE
    }
    if not built:
        return F.lit(None).cast("timestamp")
    pairs = [F.lit(part) for pair in built.items() for part in pair]
    return F.create_map(*pairs)[F.col(t.DATASET)]


def _find_forgotten_rows(scope: Scope) -> DataFrame:
    forgotten = scope.lake.read(t.FORGOTTEN_PHOTOS).select(t.IMAGE_ID).distinct()
    frames = []
    for table in (t.SELECTED_BOXES, t.CROPS, t.NEAR_DUPLICATES, t.EXAMPLES, t.EMBEDDINGS):
        if scope.lake.exists(table):
            rows = scope.lake.read(table)
            if table is t.SELECTED_BOXES:
                rows = rows.where(F.col(t.REJECT_REASON).isNull())
            rows = rows.select(t.IMAGE_ID).distinct().join(forgotten, on=t.IMAGE_ID, how="semi")
            frames.append(rows.select(F.concat_ws(" ", F.lit(table.name), t.IMAGE_ID).alias(KEY)))
    nothing = forgotten.where(F.lit(False)).select(_key(t.IMAGE_ID))
    return reduce(DataFrame.union, frames, nothing)


def _find_repeated_vectors(scope: Scope) -> DataFrame:
    return _repeated(scope.lake.read(t.EMBEDDINGS), t.NETWORK_DIGEST, t.RECIPE_ID, t.BOX_ID)


def _find_odd_vectors(scope: Scope) -> DataFrame:
    rows = scope.lake.read(t.EMBEDDINGS)
    lengths = rows.groupBy(t.NETWORK_DIGEST).agg(F.mode(F.size(t.VECTOR)).alias("usual"))
    is_finite = F.forall(t.VECTOR, lambda value: F.abs(value) < F.lit(float("inf")))
    is_fine = (F.size(t.VECTOR) == F.col("usual")) & (F.col("usual") > 0) & is_finite
    joined = rows.join(F.broadcast(lengths), on=t.NETWORK_DIGEST, how="left")
    odd = joined.where(~F.coalesce(is_fine, F.lit(False)))
    return odd.select(_key(t.NETWORK, t.BOX_ID))


ROW_CHECKS: Final = (
    Check(
        "catalog_keys",
        "the catalog lists every box and every photo once",
        _find_repeated_boxes,
        (t.BOXES, t.PHOTOS),
    ),
    Check(
        "one_crop_per_box",
        "no box has two crops under one recipe",
        _find_repeated_crops,
        (t.CROPS,),
    ),
    Check(
        "every_box_has_its_row",
        "after a dataset was fetched each of its kept boxes has one row: a crop, or why none",
        _find_incomplete_datasets,
        (t.RUNS, t.SELECTED_BOXES, t.CROPS),
    ),
    Check(
        "status_fits_bytes",
        "a crop that is ok has bytes, any other has none, and a reason",
        _find_wrong_statuses,
        (t.CROPS,),
    ),
    Check(
        "one_download_per_photo",
        "all crops of a photo and run come from one download",
        _find_double_downloads,
        (t.CROPS,),
    ),
    Check(
        "one_split_per_photo",
        "a photo is in one split of a dataset only",
        _find_split_photos,
        (t.EXAMPLES,),
    ),
    Check(
        "one_split_per_group",
        "a group of near-duplicates is in one split of a dataset only",
        _find_split_groups,
        (t.NEAR_DUPLICATES, t.EXAMPLES),
    ),
    Check(
        "attribution",
        "licence, author, title and links of the catalog are on every crop and example",
        _find_unattributed,
        (t.PHOTOS, t.CROPS),
    ),
    Check(
        "examples_have_crops",
        "every example has the bytes of its crop, or the crop is newer",
        _find_examples_without_crop,
        (t.EXAMPLES, t.CROPS),
    ),
    Check(
        "one_vector_per_crop",
        "no crop has two vectors of one network",
        _find_repeated_vectors,
        (t.EMBEDDINGS,),
    ),
    Check(
        "vectors",
        "all vectors of a network have one length, and finite numbers",
        _find_odd_vectors,
        (t.EMBEDDINGS,),
    ),
    Check(
        "forgotten_rows",
        "forgotten photos are in no crop, no example, no embedding, and selected by no dataset",
        _find_forgotten_rows,
        (t.FORGOTTEN_PHOTOS,),
    ),
)
