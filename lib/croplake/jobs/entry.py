"""From a command line to a running job: `croplake verb-noun`, `spark-submit jobs/verb_noun.py`."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from croplake.conf import Settings
from croplake.conf.loading import load_settings
from croplake.errors import CroplakeError, IncompleteError
from croplake.export.plan import FORMATS, WHATS, Request
from croplake.summary import make_console

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DEFAULT_CONF = "conf/local.yaml"
JOB_SUMMARIES = {
    "ingest-catalog": "CSV files → classes, photos, boxes, rejected_rows",
    "select-boxes": "boxes + dataset spec → selected_boxes",
    "fetch-crops": "selected_boxes + photo hosts → crops",
    "build-examples": "crops → examples (training shards)",
    "train-classifier": "examples → a Keras model, by N distributed workers",
    "evaluate-classifier": "examples + model → evaluations, a page with what it gets wrong",
    "classify-photos": "new photos + model → predictions (table, CSV and a page)",
}
"""Every job, in the order the data takes, for the command line's help."""
ASIDE_SUMMARIES = {
    "probe-examples": "examples → embeddings, and the baseline that a training must beat",
}
"""Jobs that `croplake run` leaves out."""
LOOK_SUMMARIES = {
    "plan-fetch": "what fetching will take: boxes, photos, bytes, hours, warnings; fetches nothing",
    "report-dataset": "a page about the dataset: figures, failures, licences, crops to look at",
    "find-similar": "the crops that look most like a photo, as a page; by the table embeddings",
}
"""What only looks."""
EXPORT = "export-examples"
CLASSIFY = "classify-photos"
_SIMILAR = "find-similar"
_PAGES = ("report-dataset", "evaluate-classifier", CLASSIFY, _SIMILAR)
"""What writes a page."""
LOOK_ARGUMENTS = {"find_similar": ("photo", "top", "dataset")}
"""What a look is asked beside the settings."""
COMMAND_SUMMARIES = (
    JOB_SUMMARIES
    | ASIDE_SUMMARIES
    | LOOK_SUMMARIES
    | {EXPORT: "examples or crops → files for other tools, with licence and author of each"}
)
"""Every command that runs on Spark."""


def add_conf_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what every job takes."""
    parser.add_argument(
        "--conf", default=DEFAULT_CONF, metavar="FILE", help=f"settings (default {DEFAULT_CONF})"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY.PATH=VALUE",
        help="overrides a setting, value in YAML; may be repeated",
    )


def add_command_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """Adds all that a command of `COMMAND_SUMMARIES` takes."""
    add_conf_arguments(parser)
    if command in _PAGES:
        parser.add_argument(
            "--out", metavar="FILE", help="where the page goes (default: reports/ in the lake)"
        )
    if command == CLASSIFY:
        parser.add_argument(
            "--sort-into",
            metavar="DIR",
            help="copies the photos into folders by category, and unsure; local or s3a://",
        )
    if command == _SIMILAR:
        parser.add_argument(
            "photo",
            metavar="PHOTO",
            help="a file, an address (http, https, s3a, hdfs), or the box_id of a crop",
        )
        parser.add_argument(
            "--top", type=int, default=20, metavar="N", help="crops, 1 to 1000 (default 20)"
        )
        parser.add_argument(
            "--dataset", metavar="NAME", help="only examples of this dataset (default: all crops)"
        )
    if command == EXPORT:
        parser.add_argument("--format", required=True, choices=FORMATS, help="of the files")
        parser.add_argument(
            "--of",
            default="examples",
            choices=WHATS,
            help="examples (default), or crops: those of all kept boxes, by Open Images' subsets",
        )
        parser.add_argument(
            "--into",
            required=True,
            metavar="DIR",
            help="a new folder, local or s3a://; or the same again, to go on",
        )


def main(job_name: str, argv: Sequence[str] | None = None) -> int:
    """Runs one job as a process of its own.

    Args:
        job_name: verb_noun.
        argv: arguments; None takes the process's.

    Returns:
        The exit code.
    """
    command = job_name.replace("_", "-")
    parser = argparse.ArgumentParser(prog=job_name, description=COMMAND_SUMMARIES[command])
    add_command_arguments(parser, command)
    arguments = parser.parse_args(argv)
    return guarded(lambda: run_named(job_name, arguments))


def run_named(job_name: str, arguments: argparse.Namespace) -> None:
    """Loads the settings, then runs one job, or `run`: all of them.

    Args:
        job_name: verb_noun.
        arguments: what `add_command_arguments` asked for.
    """
    settings = load_settings(arguments.conf, arguments.overrides)
    from croplake.jobs.classify_photos import classify_job
    from croplake.jobs.export_examples import export_job
    from croplake.jobs.way import ASIDE, JOBS, LOOKS, run_all, run_job, run_look  # it loads Spark

    console, out = make_console(), vars(arguments).get("out")
    with surroundings(job_name, settings, console) as (spark, settings):
        if job_name == "run":
            run_all(spark, settings, console)
        elif job_name in LOOKS:
            asked = {name: vars(arguments)[name] for name in LOOK_ARGUMENTS.get(job_name, ())}
            run_look(spark, job_name, settings, console, out=out, asked=asked)
        elif job_name == EXPORT.replace("-", "_"):
            request = Request(arguments.format, arguments.of, arguments.into)
            run_job(spark, export_job(request), settings, console)
        elif job_name == CLASSIFY.replace("-", "_"):
            job = classify_job(sort_into=arguments.sort_into)
            run_job(spark, job, settings, console, out=out)
        else:
            job = next(job for job in (*JOBS, *ASIDE) if job.name == job_name)
            run_job(spark, job, settings, console, out=out)


@contextmanager
def surroundings(
    name: str, settings: Settings, console: Console
) -> Iterator[tuple[SparkSession, Settings]]:
    """A session, and the miniature world where the settings have one.

    Yields:
        The session, and the settings with the world's address in them.
    """
    from croplake.jobs.world import world_served
    from croplake.session import check_java, spark_session

    check_java()
    with (
        _sigterm_as_ctrl_c(),
        world_served(settings, console) as served,
        spark_session(f"croplake {name}", settings.spark, with_s3=settings.is_on_s3) as spark,
    ):
        yield spark, served


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """A job that is told to end closes its record and says how to go on, whatever it is at."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def guarded(command: Callable[[], None]) -> int:
    """Runs a command and turns what the user can act on into one message and an exit code."""
    try:
        command()
    except CroplakeError as error:
        print(f"croplake: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except KeyboardInterrupt:
        message = (
            "croplake: interrupted; what was committed stays, the same command goes on from there"
        )
        print(message, file=sys.stderr)  # noqa: T201
        return IncompleteError.exit_code
    return 0
