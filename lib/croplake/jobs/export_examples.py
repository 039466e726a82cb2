"""Takes a dataset away: examples or crops → files that others read, at any place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Final

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.sql import DataFrame

from croplake import storage, summary
from croplake.errors import IncompleteError, SettingsError
from croplake.examples.export_rows import spread_to_shards
from croplake.export.finished import finished_shards
from croplake.export.notices import write_notices, write_summary
from croplake.export.placing import PARTS, place_bytes
from croplake.export.plan import (
    MANIFEST,
    OWN_FOLDER,
    SUMMARY,
    Manifest,
    Request,
    Shard,
    check_request,
    check_rows,
    read_manifest,
)
from croplake.export.task import WRITTEN_SCHEMA, write_shards
from croplake.jobs.context import Job, JobContext
from croplake.jobs.export_plan import READS, count_pictures, plan_export, rows_of
from croplake.jobs.select_boxes import dataset_labels
from croplake.lake import spark_schema
from croplake.locks import writing
from croplake.target_folder import check_target

NAME: Final = "export_examples"
_LOCK: Final = "export"
_MAX_NAMED: Final = 3
_GO_ON: Final = "the same command goes on with what is missing"


def export_job(request: Request) -> Job:
    """An export as a run: it writes no table, and pins the versions it reads."""
    return Job(
        name=NAME,
        run=partial(_export, request=request),
        writes=(),
        reads=READS[request.of],
        conf_of=lambda settings: [request.format, request.of, storage.absolute(request.into)],
        always=True,
    )


def _export(context: JobContext, *, request: Request) -> None:
    """The dataset's pictures → files.

    Raises:
        SettingsError: the place cannot be, or holds another export; TensorFlow is missing.
        InputDataError: nothing to export, pictures that have changed, or a place with other files.
        IncompleteError: files could not be written, or are not where they should be.
    """
    into = storage.absolute(request.into)
    _check(context, request, into)
    own_folder = storage.join(into, OWN_FOLDER)
    try:
        with writing(own_folder, (_LOCK,), run_id=context.run_id, job=NAME, is_inner=True):
            _export_into(context, request, into)
    except (OSError, Py4JError) as error:
        # A task's own exception is PySpark's, and a defect: it passes.
        raise IncompleteError(
            f"{into}: the export broke off: {type(error).__name__}: {_without_stack(error)}; once "
            f"that is mended, {_GO_ON}"
        ) from error


def _without_stack(error: Exception) -> str:
    """An error's text without the lines of the JVM's stack."""
    lines = str(error).splitlines()
    return " ".join(line for line in lines if line and not line.startswith("\t"))


def _export_into(context: JobContext, request: Request, into: str) -> None:
    found = _found(context, request, into)
    labels = dataset_labels(context)
    rows = rows_of(context, request.of, labels)
    counts = count_pictures(context, request.of, rows, labels)
    manifest = plan_export(context, request, rows, labels, counts, found)
    if found is not None:
        check_rows(found, manifest, into)
        manifest = found
    _write(context, into, manifest, rows, counts)


def _check(context: JobContext, request: Request, into: str) -> None:
    """Refuses what cannot be before the work begins."""
    if request.format == "tfrecord" and find_spec("tensorflow") is None:
        raise SettingsError(
            "--format tfrecord: is written by TensorFlow, which this Python does not have; "
            "install croplake[train] here and on the executors"
        )
    check_target(
        "--into",
        request.into,
        context.lake.root,
        own_folder=OWN_FOLDER,
        check_files=lambda: _found(context, request, into),
    )


def _found(context: JobContext, request: Request, into: str) -> Manifest | None:
    found = read_manifest(into)
    if found is not None:
        check_request(found, request.format, request.of, context.settings.dataset.name, into)
    return found


def _write(
    context: JobContext,
    into: str,
    manifest: Manifest,
    rows: DataFrame,
    counts: Mapping[tuple[str, str], int],
) -> None:
    markers = finished_shards(into, manifest)
    missing = [shard for shard in manifest.shards if shard.id not in markers]
    is_up_to_date = not missing and storage.exists(storage.join(into, SUMMARY))
    # From here on, and not before, `lake forget` has to know of the place, whatever ends this run.
    context.detail = f"{manifest.of} as {manifest.format} into {into}"
    context.note()
    storage.remove(storage.join(into, PARTS))
    place_bytes(into, MANIFEST, manifest.to_bytes())
    # Always, for what was removed comes back: these are a few small files.
    write_notices(into, manifest)
    _make_class_folders(into, manifest)
    if missing:
        _write_shards(context, into, manifest, rows, missing)
        markers = finished_shards(into, manifest)
        _check_arrived(into, [s.name for s in manifest.shards if s.id not in markers])
    write_summary(into, manifest, markers.values(), counts)
    storage.remove(storage.join(into, PARTS))
    if is_up_to_date:
        _say(context, f"export_examples: {into} is up to date")
        return
    for (_, split), num in counts.items():
        context.counts[split] = context.counts.get(split, 0) + num
    summary.print_crosstab(
        context.console, "export_examples: pictures", "category", counts, first="train"
    )
    megabytes = sum(marker.image_bytes for marker in markers.values()) / 1e6
    _say(
        context,
        f"export_examples: {manifest.of} as {manifest.format} in {into}, {megabytes:,.1f} MB of "
        f"pictures; shards written: {len(missing)} of {len(manifest.shards)}",
    )


def _say(context: JobContext, text: str) -> None:
    context.console.print(text, highlight=False, soft_wrap=True)


def _make_class_folders(into: str, manifest: Manifest) -> None:
    """Every class in every split, be it empty: Keras numbers the folders that it finds."""
    if manifest.format == "folders" and storage.is_local(into):
        for split in manifest.splits:
            for folder in manifest.folders.values():
                (storage.local_path(into) / split / folder).mkdir(parents=True, exist_ok=True)


def _write_shards(
    context: JobContext, into: str, manifest: Manifest, rows: DataFrame, missing: list[Shard]
) -> None:
    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return write_shards(batches, into=into, manifest=manifest)

    spread = spread_to_shards(rows, manifest.buckets, [shard.id for shard in missing])
    written = spread.mapInArrow(write, spark_schema(WRITTEN_SCHEMA)).toArrow()
    errors = [error for error in written.column("error").to_pylist() if error is not None]
    if errors:
        raise IncompleteError(
            f"{into}: {len(errors)} of {len(missing)} shards could not be written: "
            f"{'; '.join(errors[:_MAX_NAMED])}; {_GO_ON}"
        )


def _check_arrived(into: str, lost: list[str]) -> None:
    """Makes sure that what tasks have written is where the driver looks.

    Raises:
        IncompleteError: it is not all there.
    """
    if lost:
        raise IncompleteError(
            f"{into}: {len(lost)} shards were written, but are not there as this machine sees it: "
            f"{', '.join(lost[:_MAX_NAMED])}; expected --into to be a folder that all machines "
            f"share, or s3a://; {_GO_ON}"
        )
