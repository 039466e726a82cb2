"""The yardstick: downloads and crops with neither Spark nor rules, as fast as plain code goes.

A process has one thread with 64 transfers that feeds a bounded queue; its main thread decodes,
scales, encodes and appends to Parquet. No retries, budgets, hashes, provenance or commit. It cuts
by croplake's own functions: the crops are the same to the byte, so what differs is all the rest.
"""

from __future__ import annotations

import io
import multiprocessing
import queue
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Final

import cv2
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

from croplake.fetching.crop import Box, Recipe, crop_box, encode_crop
from croplake.fetching.libcurl import pycurl
from croplake.fetching.photo import Halvings, Pixels
from tests.benchmarks.workload import Corners, Workload

TRANSFERS: Final = 64
JPEG_QUALITY: Final = 92
_QUEUED: Final = 64
_ROWS_PER_GROUP: Final = 256
_RECEIVE_BYTES: Final = 512 * 1024
_SCHEMA: Final = pa.schema([("image_id", pa.string()), ("box", pa.int32()), ("jpeg", pa.binary())])


def photos_per_s(
    workload: Workload, url: str, ca_file: Path, folder: Path, processes: int
) -> float:
    """Runs the pipeline once.

    Args:
        workload: photos, boxes and the crops' greatest side.
        url: a photo's address with `{subset}` and `{image_id}`.
        ca_file: certificates to trust.
        folder: where the Parquet files go; emptied first.
        processes: that share the photos.

    Returns:
        Photos a second, from the first request to the last closed file; start-up is not counted.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ids = workload.image_ids()
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Barrier(processes + 1)
    parts = [
        spawn.Process(
            target=_run_part,
            args=(ready, ids[part::processes], workload, url, ca_file, folder / f"{part}.parquet"),
        )
        for part in range(processes)
    ]
    for part in parts:
        part.start()
    ready.wait(timeout=60)
    started = time.monotonic()
    for part in parts:
        part.join()
    seconds = time.monotonic() - started
    if any(part.exitcode for part in parts):
        raise RuntimeError("a process of the yardstick failed; its traceback stands above")
    rows = sum(int(pq.ParquetFile(file).metadata.num_rows) for file in folder.glob("*.parquet"))
    if rows != len(ids) * len(workload.boxes):
        raise RuntimeError(f"the yardstick wrote {rows} crops of {len(ids)} photos")
    return len(ids) / seconds


def _run_part(
    ready: Barrier, ids: Sequence[str], workload: Workload, url: str, ca_file: Path, file: Path
) -> None:
    cv2.setNumThreads(1)
    fetched: queue.Queue[tuple[str, bytes] | None] = queue.Queue(_QUEUED)
    urls = [url.format(subset=workload.subset, image_id=image_id) for image_id in ids]
    downloads = threading.Thread(target=_download, args=(ids, urls, ca_file, fetched))
    ready.wait()
    downloads.start()
    buffer = bytearray()
    recipe = Recipe(0.0, workload.max_side_px, JPEG_QUALITY, "area")
    columns: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    with pq.ParquetWriter(file, _SCHEMA, compression="none", use_dictionary=False) as writer:
        while (item := fetched.get()) is not None:
            image_id, data = item
            crops = crop_photo(data, workload.boxes, recipe, buffer)
            for number, jpeg in enumerate(crops):
                for column, value in zip(columns, (image_id, number, jpeg), strict=True):
                    column.append(value)
            if len(columns[0]) >= _ROWS_PER_GROUP:
                writer.write_batch(pa.record_batch(list(columns), schema=_SCHEMA))
                columns = ([], [], [])
        if columns[0]:
            writer.write_batch(pa.record_batch(list(columns), schema=_SCHEMA))
    downloads.join()


def crop_photo(
    data: bytes, boxes: Sequence[Corners], recipe: Recipe, buffer: bytearray
) -> Iterator[bytes]:
    """Encoded crops of one photo, in the order of its boxes; the bytes are croplake's own.

    Args:
        data: a JPEG.
        boxes: to cut.
        recipe: how crops are scaled and encoded.
        buffer: for the photo's pixels; grows where it is too small.
    """
    height_px, width_px, _, _ = simplejpeg.decode_jpeg_header(data)
    if len(buffer) < 3 * width_px * height_px:
        buffer.extend(bytes(3 * width_px * height_px - len(buffer)))
    photo_HWC: Pixels = simplejpeg.decode_jpeg(data, buffer=buffer)
    for box in boxes:
        cut_HWC = crop_box(photo_HWC, Box(*box), padding_frac=recipe.padding_frac)
        yield encode_crop(Halvings(cut_HWC), recipe, rotation_deg=None).jpeg


def _download(
    ids: Sequence[str],
    urls: Sequence[str],
    ca_file: Path,
    fetched: queue.Queue[tuple[str, bytes] | None],
) -> None:
    """One thread, 64 transfers; what is fetched waits in the queue, which holds the thread up."""
    multi = pycurl.CurlMulti()
    multi.setopt(pycurl.M_MAXCONNECTS, TRANSFERS)
    waiting = iter(zip(ids, urls, strict=True))
    under_way = 0

    def start(handle: pycurl.Curl) -> int:
        following = next(waiting, None)
        if following is None:
            return 0
        handle.image_id, address = following
        handle.body = io.BytesIO()
        handle.setopt(pycurl.URL, address)
        handle.setopt(pycurl.WRITEDATA, handle.body)
        multi.add_handle(handle)
        return 1

    for _ in range(TRANSFERS):
        handle = pycurl.Curl()
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.CAINFO, str(ca_file))
        handle.setopt(pycurl.BUFFERSIZE, _RECEIVE_BYTES)
        under_way += start(handle)
    while under_way:
        multi.perform()
        remaining = 1
        while remaining:
            remaining, done, failed = multi.info_read()
            if failed:
                raise RuntimeError(f"the yardstick's download failed: {failed[0][1:]}")
            for handle in done:
                multi.remove_handle(handle)
                fetched.put((handle.image_id, handle.body.getvalue()))
                under_way += start(handle) - 1
        if under_way:
            multi.select(1.0)
    fetched.put(None)
