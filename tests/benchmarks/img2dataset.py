"""img2dataset in environments of its own, one a Python version; installed when first needed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.lean import JPEG_QUALITY
from tests.benchmarks.workload import Workload

PROCESSES: Final = 2
THREADS: Final = 64
_REQUIREMENTS: Final = (
    "img2dataset==1.47.0",
    "albumentations==1.4.24",
    "opencv-python-headless==4.14.0.94",
    "pandas==2.3.3",
    "webdataset==0.2.111",
)
"""What img2dataset 1.47.0 runs with; these serve 3.11 and 3.12."""


class Img2dataset:
    """One environment.

    Attributes:
        python_version: `3.11` or `3.12`.
    """

    def __init__(self, python_version: str, folder: Path) -> None:
        self.python_version = python_version
        self._bin = folder / f"img2dataset-{python_version}" / "bin"

    def install(self) -> bool:
        """Makes the environment where it is not whole yet.

        Returns:
            False where this machine has no such Python.

        Raises:
            SystemExit: pip failed; the text carries its reasons.
        """
        # Moved, an environment does not run: its scripts name the Python they were made for.
        wanted = "\n".join([str(self._bin), *_REQUIREMENTS])
        ready = self._bin.parent / "ready.txt"
        if ready.exists() and ready.read_text() == wanted:
            return True
        python = find_python(self.python_version)
        if python is None:
            return False
        print(f"installing img2dataset for Python {self.python_version} …", flush=True)
        _call(python, "-m", "venv", "--clear", str(self._bin.parent))
        _call(str(self._bin / "python"), "-m", "pip", "install", "--quiet", *_REQUIREMENTS)
        ready.write_text(wanted)
        return True

    def versions(self) -> dict[str, str]:
        """Of its Python and of what does its work."""
        code = (
            "import json, platform; from importlib.metadata import version\n"
            "names = 'img2dataset', 'opencv-python-headless', 'pyarrow', 'numpy'\n"
            "print(json.dumps({'python': platform.python_version()} | "
            "{name: version(name) for name in names}))"
        )
        command = [str(self._bin / "python"), "-c", code]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        return {
            f"{name} (img2dataset {self.python_version})": found
            for name, found in json.loads(answer.stdout).items()
        }

    def photos_per_s(self, workload: Workload, url: str, ca_file: Path, folder: Path) -> float:
        """Downloads the photos, scaled as our whole-frame crops are.

        Its start-up is not counted: the time runs from when its first shard starts to download
        until the last one is on disk, as its own statistics have them. With one shard a process no
        process waits for another between shards.

        Args:
            workload: photos and the greatest side of a result.
            url: a photo's address with `{subset}` and `{image_id}`.
            ca_file: certificates to trust.
            folder: where the result goes; emptied first.

        Returns:
            Photos a second.

        Raises:
            RuntimeError: a photo failed.
        """
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        ids = workload.image_ids()
        urls = [url.format(subset=workload.subset, image_id=image_id) for image_id in ids]
        pq.write_table(pa.table({"url": urls}), folder / "urls.parquet")
        settings = {
            "url_list": folder / "urls.parquet",
            "input_format": "parquet",
            "output_folder": folder / "out",
            "output_format": "parquet",
            "processes_count": PROCESSES,
            "thread_count": THREADS,
            "number_sample_per_shard": -(-len(ids) // PROCESSES),
            "image_size": workload.max_side_px,
            "resize_mode": "keep_ratio_largest",
            "encode_quality": JPEG_QUALITY,
            "extract_exif": False,  # croplake reads none either; the SHA-256 both take stays on
        }
        command = [str(self._bin / "img2dataset")]
        command += [f"--{name}={value}" for name, value in settings.items()]
        _call(*command, env=_environment(ca_file))
        return _rate(folder / "out", len(ids))


def find_python(wanted: str) -> str | None:
    """An interpreter of a version that really runs (a pyenv shim may not) and can make a venv.

    Args:
        wanted: as `3.12`.

    Returns:
        Its path, or None where there is none.
    """
    own = Path(sys.base_prefix, "bin", f"python{wanted}")
    candidates = [str(own) if sysconfig.get_python_version() == wanted else None]
    candidates.append(shutil.which(f"python{wanted}"))
    root = os.environ.get("PYENV_ROOT") or str(Path.home() / ".pyenv")
    installed = Path(root, "versions").glob(f"{wanted}.*/bin/python{wanted}")
    candidates += sorted((str(path) for path in installed), reverse=True)
    code = "import sys, ensurepip, venv; print('%d.%d' % sys.version_info[:2])"
    for candidate in filter(None, candidates):
        try:
            command = [candidate, "-c", code]
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError:
            continue
        if answer.returncode == 0 and answer.stdout.strip() == wanted:
            return candidate
    return None


def _environment(ca_file: Path) -> dict[str, str]:
    """The shell's, without what would turn it to another Python or have it look for updates."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "WANDB")) and not name.lower().endswith("_proxy")
    }
    own = {"SSL_CERT_FILE": str(ca_file), "NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "disabled"}
    return kept | own


def _rate(out: Path, num_photos: int) -> float:
    shards = [json.loads(file.read_text()) for file in out.glob("*_stats.json")]
    successes = sum(shard["successes"] for shard in shards)
    if successes != num_photos:
        reasons = [shard["status_dict"] for shard in shards]
        raise RuntimeError(f"img2dataset fetched {successes} of {num_photos} photos: {reasons}")
    started = min(float(shard["start_time"]) for shard in shards)
    return num_photos / (max(float(shard["end_time"]) for shard in shards) - started)


def _call(*command: str, env: dict[str, str] | None = None) -> None:
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if answer.returncode:
        said = "\n".join((answer.stdout + answer.stderr).splitlines()[-30:])
        raise SystemExit(f"{command[0]} ended with {answer.returncode}:\n{said}")
