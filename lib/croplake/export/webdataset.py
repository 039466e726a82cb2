"""WebDataset: a tar for each shard, three members for each picture."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable

from croplake import tables as t
from croplake.export.placing import whole_file
from croplake.export.plan import Manifest, Shard
from croplake.export.rows import KEY, Row, details


def write_shard(into: str, manifest: Manifest, shard: Shard, rows: Iterable[Row]) -> str:
    """Writes `<split>-<number>.tar`; the same rows give the same bytes.

    A picture is `<key>.jpg`, `<key>.cls` (the label index) and `<key>.json` (all that goes along),
    one after the other, as WebDataset wants them.

    Args:
        into: address of the export.
        manifest: of the export.
        shard: which.
        rows: of the shard.

    Returns:
        The path of its file.
    """
    last = f"{shard.name}.tar"
    with (
        whole_file(into, last) as part,
        tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for row in rows:
            told = json.dumps(details(row), ensure_ascii=False)
            _add(tar, f"{row[KEY]}.jpg", row[t.IMAGE])
            _add(tar, f"{row[KEY]}.cls", str(row[t.LABEL_INDEX]).encode())
            _add(tar, f"{row[KEY]}.json", told.encode())
    return last


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    # A new TarInfo is of nobody, of the epoch and of mode 0644: nothing of this machine is in it.
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
