"""The yardstick: downloads and crops with neither Spark nor rules, as fast as plain code goes.

A process has one thread with 64 transfers that feeds a bounded queue; its main thread decodes,
scales, encodes and appends to Parquet. No retries, budgets, hashes, provenance or commit.
"""

from __future__ import annotations

import io
import math
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
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pycurl
import simplejpeg
from numpy.typing import NDArray

from tests.benchmarks.workload import Corners, Workload

TRANSFERS: Final = 64
JPEG_QUALITY: Final = 92
_QUEUED: Final = 64
_ROWS_PER_GROUP: Final = 256
_RECEIVE_BYTES: Final = 512 * 1024
_SCHEMA: Final = pa.schema([("image_id", pa.string()), ("box", pa.int32()), ("jpeg", pa.binary())])

Pixels = NDArray[np.uint8]


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
    columns: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    with pq.ParquetWriter(file, _SCHEMA, compression="none", use_dictionary=False) as writer:
        while (item := fetched.get()) is not None:
            image_id, data = item
            crops = crop_photo(data, workload.boxes, workload.max_side_px, buffer)
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
    data: bytes, boxes: Sequence[Corners], max_side_px: int, buffer: bytearray
) -> Iterator[bytes]:
    """Encoded crops of one photo, in the order of its boxes.

    Args:
        data: a JPEG.
        boxes: to cut.
        max_side_px: greatest side of a crop; none is scaled up.
        buffer: for the photo's pixels; grows where it is too small.
    """
    height_px, width_px, _, _ = simplejpeg.decode_jpeg_header(data)
    if len(buffer) < 3 * width_px * height_px:
        buffer.extend(bytes(3 * width_px * height_px - len(buffer)))
    # libjpeg itself halves the photo where every crop is still at least twice its final size.
    sides_px = [
        max((x_max - x_min) * width_px, (y_max - y_min) * height_px)
        for x_min, x_max, y_min, y_max in boxes
    ]
    share = min(1.0, 2 * max_side_px / min(sides_px))
    photo_HWC: Pixels = simplejpeg.decode_jpeg(
        data,
        "RGB",
        min_width=round(share * width_px),
        min_height=round(share * height_px),
        buffer=buffer,
    )
    for box, side_px in zip(boxes, sides_px, strict=True):
        small_HWC = shrink(cut(photo_HWC, box), min(max_side_px, round(side_px)))
        yield simplejpeg.encode_jpeg(small_HWC, JPEG_QUALITY, "RGB", "444")


def cut(photo_HWC: Pixels, box: Corners) -> Pixels:
    """A view of one box, corners in [0, 1] as (x_min, x_max, y_min, y_max)."""
    height_px, width_px = photo_HWC.shape[:2]
    x_min, x_max, y_min, y_max = box
    return photo_HWC[
        int(y_min * height_px) : math.ceil(y_max * height_px),
        int(x_min * width_px) : math.ceil(x_max * width_px),
    ]


def shrink(crop_HWC: Pixels, max_side_px: int) -> Pixels:
    """Scales down: by 2×2 means as often as possible, the rest linearly.

    OpenCV averages 2×2 px five times as fast as larger blocks, and one halving after another gives
    the same means.

    Returns:
        uint8 RGB, its longer side at most `max_side_px`.
    """
    height_px, width_px = crop_HWC.shape[:2]
    scale = max_side_px / max(height_px, width_px)
    if scale >= 1:
        return np.ascontiguousarray(crop_HWC)
    columns, rows = max(1, round(width_px * scale)), max(1, round(height_px * scale))
    while crop_HWC.shape[0] >= 2 * rows and crop_HWC.shape[1] >= 2 * columns:
        half_rows, half_columns = crop_HWC.shape[0] // 2, crop_HWC.shape[1] // 2
        even_HWC = crop_HWC[: 2 * half_rows, : 2 * half_columns]
        area = cv2.resize(even_HWC, (half_columns, half_rows), interpolation=cv2.INTER_AREA)
        crop_HWC = np.asarray(area, dtype=np.uint8)
    if crop_HWC.shape[:2] == (rows, columns):
        return crop_HWC
    linear = cv2.resize(crop_HWC, (columns, rows), interpolation=cv2.INTER_LINEAR)
    return np.asarray(linear, dtype=np.uint8)


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
