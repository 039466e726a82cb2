"""A downstream team's reading of exports: today's webdataset and datasets, nothing of croplake's.

`python read_exports.py TARS FOLDER CACHE` prints the pictures that webdataset finds in the tars of
one folder, and datasets in another, as JSON: split to a list of what is known of each picture.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any


def with_webdataset(folder: Path) -> dict[str, list[dict[str, Any]]]:
    import webdataset

    found: dict[str, list[dict[str, Any]]] = {}
    for split in sorted({tar.name.split("-")[0] for tar in folder.glob("*.tar")}):
        tars = sorted(str(tar) for tar in folder.glob(f"{split}-*.tar"))
        samples = webdataset.WebDataset(tars, shardshuffle=False).decode()
        raw = webdataset.WebDataset(tars, shardshuffle=False)
        jpegs = {sample["__key__"]: sample["jpg"] for sample in raw}
        found[split] = [
            sample["json"]
            | {
                "key": sample["__key__"],
                "cls": sample["cls"],
                "sha256": hashlib.sha256(jpegs[sample["__key__"]]).hexdigest(),
            }
            for sample in samples
        ]
    return found


def with_datasets(folder: Path, cache: str) -> dict[str, list[dict[str, Any]]]:
    import datasets

    features = datasets.Features.from_dict(json.loads((folder / "features.json").read_text()))
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(folder), features=features, cache_dir=cache
    )
    seen = {split: [row["image"].size for row in of_split] for split, of_split in loaded.items()}
    found: dict[str, list[dict[str, Any]]] = {}
    for split, of_split in loaded.items():
        as_files = of_split.cast_column("image", datasets.Image(decode=False))
        found[split] = [
            {name: value for name, value in row.items() if name != "image"}
            | {
                "size": list(size),
                "key": Path(row["image"]["path"]).stem,
                "sha256": hashlib.sha256(
                    row["image"]["bytes"] or Path(row["image"]["path"]).read_bytes()
                ).hexdigest(),
            }
            for row, size in zip(as_files, seen[split], strict=True)
        ]
    return found


if __name__ == "__main__":
    tars, pictures = Path(sys.argv[1]), Path(sys.argv[2])
    answer = {
        "webdataset": with_webdataset(tars),
        "datasets": with_datasets(pictures, sys.argv[3]),
    }
    print(json.dumps(answer))
