"""What lies at the top of an export for people: what it is, its labels, whose pictures they are."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final

from croplake.export import imagefolder, tfrecord
from croplake.export.placing import place_bytes
from croplake.export.plan import SUMMARY, Format, Manifest
from croplake.export.task import Marker
from croplake.report.credit import licence_name

README: Final = "README.txt"
LABELS: Final = "labels.json"
LICENCES: Final = "LICENSES.csv"
FEATURES_FILE: Final = "features.json"
_FEATURES: Final[Mapping[Format, Mapping[str, Any]]] = {
    "tfrecord": tfrecord.FEATURES,
    "imagefolder": imagefolder.FEATURES,
}
"""The types of what goes along, where readers cannot know them."""
_WHERE: Final[Mapping[Format, tuple[str, str]]] = {
    "folders": (
        "<split>/<category>/<key>.jpg; a class without a picture in a split has an empty folder\n"
        "           there, which buckets do not keep: make all folders that labels.json names",
        "attribution/<split>-<number>.csv",
    ),
    "webdataset": (
        "<split>-<number>.tar, of which <key>.jpg, <key>.cls (label index), <key>.json",
        "<key>.json in the same tar",
    ),
    "tfrecord": (
        "<split>-<number>-of-<shards>.tfrecord, tf.train.Example; features.json has their features",
        "image/license, image/author, image/landing_url and their like of the same record",
    ),
    "imagefolder": (
        "<split>/<number>/<key>.jpg; features.json has the columns' types",
        "metadata.csv in the same folder; (none) is a text that is not known; NA, None and their\n"
        "           like have a space behind them, or datasets would take them for nothing",
    ),
}
_README: Final = """\
{what} of dataset {dataset}, written by croplake as {format}.

Pictures:  {pictures}
Labels:    {labels} (label index, category and its folder's name, in the order of the index)
Licences:  {attribution}
Counts:    {licences} (pictures by licence), {summary}

Every picture is cut out of a photo of Open Images, whose author keeps all rights that its licence
does not give. Licence, author, title and landing page of each are where the line above says. Most
are CC BY 2.0, which asks whoever passes a picture on to name all of these, and that it was changed:
croplake crops and scales. Open Images names the licences as it found them and warrants none.

The annotations (boxes, classes, splits) are Open Images', by Google LLC, under CC BY 4.0:
https://storage.googleapis.com/openimages/web/index.html

Titles and names are texts that strangers wrote: read them as text, never as formulas or markup.
"""


def write_notices(into: str, manifest: Manifest) -> None:
    """Writes what is known before the first picture: README.txt, labels.json, features.json."""
    pictures, attribution = _WHERE[manifest.format]
    text = _README.format(
        what=manifest.of,
        dataset=manifest.dataset,
        format=manifest.format,
        pictures=pictures,
        attribution=attribution,
        labels=LABELS,
        licences=LICENCES,
        summary=SUMMARY,
    )
    place_bytes(into, README, text.encode())
    place_bytes(into, LABELS, _json([asdict(label) for label in manifest.labels]))
    if manifest.format in _FEATURES:
        place_bytes(into, FEATURES_FILE, _json(_FEATURES[manifest.format]))


def write_summary(
    into: str,
    manifest: Manifest,
    markers: Iterable[Marker],
    counts: Mapping[tuple[str, str], int],
) -> None:
    """Writes what is known after the last picture: LICENSES.csv, then the summary.

    Args:
        into: address of the export.
        manifest: of the export.
        markers: of all its shards.
        counts: pictures by category and split.
    """
    licences = Counter[str]()
    image_bytes = 0
    for marker in markers:
        licences += marker.licences
        image_bytes += marker.image_bytes
    place_bytes(into, LICENCES, _licences_csv(licences))
    summary = {
        "pictures": {
            split: {category: num for (category, of), num in counts.items() if of == split}
            for split in manifest.splits
        },
        "image_bytes": image_bytes,
        "licences": dict(licences),
    }
    place_bytes(into, SUMMARY, _json(summary))


def _licences_csv(licences: Counter[str]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(["license", "name", "pictures"])
    # Most first; those of equal number by address, so that a second export is the same file.
    for address, num in sorted(licences.items(), key=lambda pair: (-pair[1], pair[0])):
        writer.writerow([address, licence_name(address), num])
    return text.getvalue().encode()


def _json(value: Any) -> bytes:  # noqa: ANN401  # anything JSON knows
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
