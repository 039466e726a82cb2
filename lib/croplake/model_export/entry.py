"""`croplake export-model`: a model of the lake → files that load without croplake."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from croplake import open_lake, storage
from croplake.conf import Settings
from croplake.conf.loading import load_settings
from croplake.errors import IncompleteError, SettingsError
from croplake.export.plan import OWN_FOLDER
from croplake.inference.model import MODEL_FILE, read_labels
from croplake.jobs.entry import add_conf_arguments
from croplake.locks import writing
from croplake.model_export.card import describe, write_card, write_readme
from croplake.model_export.formats import CARD, FORMATS, LABELS, PLACES, Request, parse_formats
from croplake.model_export.place import check_place, place_export
from croplake.model_export.process import ExportAnswer, ExportJob
from croplake.models import LATEST, TrainedModel, find_model
from croplake.own_process import QUIET, ask
from croplake.summary import make_console, titled

NAME: Final = "export_model"
_LOCK: Final = "export"
_README: Final = "README.txt"
_PROCESS: Final = "croplake.model_export.process"
_ON_CPU: Final = {"CUDA_VISIBLE_DEVICES": "-1"}
"""A GPU computes with fewer digits, and answers are compared to five of them."""


def add_export_model_command(commands: Any, epilog: str) -> None:  # noqa: ANN401  # argparse names none
    """Adds `croplake export-model`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "export-model",
        help="a model → files that load without croplake: .keras, .h5, SavedModel, TFLite",
        epilog=epilog,
    )
    add_conf_arguments(parser)
    parser.add_argument(
        "--model", default=LATEST, metavar="ID", help="model id, or latest (default)"
    )
    parser.add_argument(
        "--format",
        action="append",
        default=[],
        metavar="NAME",
        help=f"{', '.join(FORMATS)}; several with commas or one by one (default: all that the "
        "model can have)",
    )
    parser.add_argument(
        "--into",
        required=True,
        metavar="DIR",
        help="a new folder, local or s3a://, or that of an earlier export, which is replaced",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    settings = load_settings(arguments.conf, arguments.overrides)
    try:
        formats = parse_formats(arguments.format)
    except ValueError as error:
        raise SettingsError(f"--format: {error}") from error
    export_model(settings, Request(arguments.model, formats, arguments.into))


def export_model(settings: Settings, request: Request) -> None:
    """A model's files → a folder.

    Raises:
        SettingsError: the place cannot be, a format that was asked for cannot be had, or
            TensorFlow is missing.
        InputDataError: there is no such model, its files are damaged, or the place has other files.
        IncompleteError: there is no room.
        TableHeldError: another export into the same folder goes on.
    """
    if find_spec("tensorflow") is None:
        raise SettingsError(
            "export-model: is done by TensorFlow, which this Python does not have; install "
            "croplake[train]"
        )
    lake, into = open_lake(settings.lake.root), storage.absolute(request.into)
    lake.check_is_lake()
    model = find_model(lake, settings.dataset.name, request.model_id)
    labels = read_labels(model.folder)
    check_place(request.into, lake.root, request.formats or FORMATS, (LABELS, CARD, _README))
    told = describe(lake, model, len(labels))
    with tempfile.TemporaryDirectory(prefix="croplake-export-model-") as scratch:
        answer = _write(settings, request, model, labels, told, Path(scratch))
        _check_asked(request, model, answer)
        told |= {"input_side_px": answer.side_px, "made_with": answer.made_with}
        told["skipped"] = answer.reasons
        texts = {
            LABELS: storage.read_bytes(storage.join(model.folder, LABELS)),
            CARD: write_card(told, answer.differences),
            _README: write_readme(told, [*answer.differences], answer.side_px),
        }
        files = _files(Path(scratch), answer)
        try:
            own_folder = storage.join(into, OWN_FOLDER)
            with writing(own_folder, (_LOCK,), run_id=model.model_id, job=NAME, is_inner=True):
                place_export(into, files, texts)
        except OSError as error:
            raise IncompleteError(
                f"{into}: the export broke off: {error}; {CARD} comes last and is not there yet: "
                "once that is mended, run it again"
            ) from error
        _print(into, model, answer, {p: f.stat().st_size for p, f in files.items()})


def _write(
    settings: Settings,
    request: Request,
    model: TrainedModel,
    labels: tuple[str, ...],
    told: dict[str, Any],
    scratch: Path,
) -> ExportAnswer:
    address = storage.join(model.folder, MODEL_FILE)
    folder = scratch / "written"
    with ExitStack() as stack:
        try:
            folder.mkdir()
            file = stack.enter_context(storage.local_file(address))
        except OSError as error:
            raise IncompleteError(
                f"{address}: cannot be copied to {scratch.parent}: {error}; once that is mended, "
                "run it again"
            ) from error
        job = ExportJob(
            file=str(file),
            name=address,
            labels=labels,
            card=told,
            formats=request.formats or FORMATS,
            quantization=settings.export_model.quantization,
            folder=str(folder),
        )
        answer = ask(_PROCESS, job.model_dump(), environment=QUIET | _ON_CPU)
    return ExportAnswer.model_validate(answer)


def _check_asked(request: Request, model: TrainedModel, answer: ExportAnswer) -> None:
    """Refuses to leave out what was asked for by name.

    Raises:
        SettingsError: a format cannot be had of this model.
    """
    if not answer.reasons or (not request.formats and answer.differences):
        return
    reasons = "; ".join(f"{format}: {reason}" for format, reason in answer.reasons.items())
    others = [format for format in FORMATS if format not in answer.reasons]
    raise SettingsError(
        f"--format: model {model.model_id} cannot be had as {reasons}; nothing was written: choose "
        f"among {', '.join(others) or 'other models'}"
    )


def _files(scratch: Path, answer: ExportAnswer) -> dict[str, Path]:
    """Path below the export to the written file, of the formats that came out well."""
    folder = scratch / "written"
    found: dict[str, Path] = {}
    for format in answer.differences:
        place = folder / PLACES[format]
        files = [place] if place.is_file() else [p for p in place.rglob("*") if p.is_file()]
        found |= {file.relative_to(folder).as_posix(): file for file in files}
    return found


def _print(into: str, model: TrainedModel, answer: ExportAnswer, sizes: dict[str, int]) -> None:
    console = make_console()
    table = Table()
    table.add_column("file")
    table.add_column("bytes", justify="right")
    table.add_column("greatest difference", justify="right")
    for format, difference in answer.differences.items():
        name = PLACES[format]
        size = sum(num for path, num in sizes.items() if path.split("/")[0] == name)
        table.add_row(name, f"{size:,}", f"{difference:.1e}")
    console.print(titled(f"{NAME}: {model.model_id}", table))
    for format, reason in answer.reasons.items():
        text = f"{format} is left out: {reason}"
        console.print(text, highlight=False, soft_wrap=True, markup=False)
    num = len(answer.differences)
    place = str(storage.local_path(into)) if storage.is_local(into) else into
    text = f"{NAME}: {num} format{'s' * (num != 1)} in {place}; {_README} tells how to load each"
    console.print(text, highlight=False, soft_wrap=True, markup=False)
