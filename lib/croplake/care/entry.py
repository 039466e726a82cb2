"""From `croplake lake …` to the care of a lake."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from croplake import open_lake
from croplake.conf import Settings
from croplake.conf.loading import load_settings
from croplake.jobs.entry import add_conf_arguments
from croplake.summary import make_console

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_SHOWN: Final = 5


def add_care_commands(parts: Any, epilog: str) -> None:  # noqa: ANN401  # argparse names no type
    """Adds `maintain`, `check` and `forget` below `croplake lake`."""
    maintain = _add(
        parts,
        _maintain,
        "maintain",
        "puts small files together; removes files and log entries that nobody reads any more, and "
        "what trainings that broke off left",
        epilog,
    )
    maintain.add_argument("--dry-run", action="store_true", help="shows it, does nothing")
    check = _add(
        parts,
        _check,
        "check",
        "holds the whole lake against its invariants, names what breaks",
        epilog,
    )
    check.add_argument("--deep", action="store_true", help="decodes every crop, too")
    check.add_argument("--json", action="store_true", help="a list of objects, nothing else")
    check.add_argument(
        "--keys",
        type=_count,
        default=_SHOWN,
        metavar="N",
        help=f"broken keys shown for a check (default {_SHOWN})",
    )
    forget = _add(
        parts,
        _forget,
        "forget",
        "removes photos and what derives from them; they are never fetched again",
        epilog,
    )
    forget.add_argument("image_ids", nargs="+", metavar="IMAGE_ID", help="16 hexadecimal digits")
    forget.add_argument(
        "--vacuum",
        action="store_true",
        help="removes their bytes from the disk at once, not with the next maintain",
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _add(
    parts: Any,  # noqa: ANN401
    command: Callable[[argparse.Namespace], None],
    name: str,
    summary: str,
    epilog: str,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = parts.add_parser(name, help=summary, epilog=epilog)
    parser.set_defaults(run=command)
    add_conf_arguments(parser)
    return parser


def _maintain(arguments: argparse.Namespace) -> None:
    settings = load_settings(arguments.conf, arguments.overrides)
    open_lake(settings.lake.root).check_is_lake()
    with _session("maintain", settings) as spark:
        from croplake.care.maintain import maintain, maintain_job
        from croplake.jobs.context import JobContext
        from croplake.jobs.way import run_job
        from croplake.lake import Lake

        if arguments.dry_run:
            lake = Lake(spark, settings.lake.root)
            maintain(JobContext(spark, settings, lake, make_console()), dry_run=True)
        else:
            run_job(spark, maintain_job(), settings, make_console())


def _check(arguments: argparse.Namespace) -> None:
    settings = load_settings(arguments.conf, arguments.overrides)
    open_lake(settings.lake.root).check_is_lake()
    with _session("check", settings) as spark:
        from croplake.care.check import check_lake

        check_lake(
            spark,
            settings.lake.root,
            make_console(),
            deep=arguments.deep,
            as_json=arguments.json,
            num_keys=arguments.keys,
        )


def _forget(arguments: argparse.Namespace) -> None:
    from croplake.care.forget import forget_job

    settings = load_settings(arguments.conf, arguments.overrides)
    job = forget_job(arguments.image_ids, at_once=arguments.vacuum)
    open_lake(settings.lake.root).check_is_lake()
    with _session("forget", settings) as spark:
        from croplake.jobs.way import run_job

        run_job(spark, job, settings, make_console())


@contextmanager
def _session(name: str, settings: Settings) -> Iterator[SparkSession]:
    from croplake.session import check_java, spark_session

    check_java()
    app, with_s3 = f"croplake lake {name}", settings.is_on_s3
    with spark_session(app, settings.spark, with_s3=with_s3) as spark:
        yield spark
