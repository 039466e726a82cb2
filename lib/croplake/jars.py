"""Jars that Spark does not bring: fetched from Maven Central once, by the Ivy that Spark ships."""

from __future__ import annotations

import importlib.resources
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyspark

from croplake import storage
from croplake.errors import IncompleteError

DELTA: Final = (
    "io.delta:delta-spark_4.0_2.13:4.4.0",
    "io.delta:delta-storage:4.4.0",
    "io.delta:delta-kernel-api:4.4.0",
    "io.delta:delta-kernel-defaults:4.4.0",
    "io.delta:delta-kernel-unitycatalog:4.4.0",
    "io.unitycatalog:unitycatalog-client:0.6.0",
    "io.unitycatalog:unitycatalog-hadoop:0.6.0",
    "com.fasterxml.jackson.datatype:jackson-datatype-jdk8:2.13.5",
)
"""Delta by Maven coordinates, without what Spark brings itself (87 MB of it)."""

_AWS: Final = "2.25.53"
_AWS_PARTS: Final = (
    "annotations apache-client arns auth aws-core aws-query-protocol aws-xml-protocol checksums "
    "checksums-spi crt-core endpoints-spi http-auth http-auth-aws http-auth-spi http-client-spi "
    "identity-spi json-utils metrics-spi netty-nio-client profiles protocol-core regions s3 "
    "s3-transfer-manager sdk-core sts third-party-jackson-core utils"
)
S3: Final = (
    # Of the Hadoop that Spark 4.0 ships; its AWS bundle of 500 MB is what the parts are used of.
    "org.apache.hadoop:hadoop-aws:3.4.1",
    *(f"software.amazon.awssdk:{part}:{_AWS}" for part in _AWS_PARTS.split()),
    "software.amazon.eventstream:eventstream:1.0.1",
    "org.reactivestreams:reactive-streams:1.0.4",
)
"""`s3a://` by Maven coordinates: 10 MB."""


def delta_jars() -> list[Path]:
    """Delta's jars on this machine, fetched where they are not there yet.

    Raises:
        IncompleteError: they could not be fetched; the text carries Ivy's reasons.
    """
    return fetched("Delta's jars", DELTA)


def s3_jars() -> list[Path]:
    """The jars that read and write `s3a://`; see `delta_jars`."""
    return fetched("the jars for s3a://", S3)


def fetched(what: str, coordinates: Sequence[str]) -> list[Path]:
    """Jars by their Maven coordinates, without what they depend on; see `delta_jars`.

    Args:
        what: they are, for a person who waits for them.
        coordinates: `group:artifact:version` each.
    """
    cache = storage.cache_folder("jars")
    jars = {cache / _jar_name(each): each for each in coordinates}
    missing = [each for jar, each in jars.items() if not jar.exists()]
    if missing:
        print(f"fetching {what} from Maven Central, once …", file=sys.stderr)  # noqa: T201
        _retrieve(cache, missing)
    return list(jars)


def _jar_name(coordinates: str) -> str:
    _, artifact, version = coordinates.split(":")
    return f"{artifact}-{version}.jar"


def _retrieve(cache: Path, wanted: Sequence[str]) -> None:
    """Lets Ivy resolve the coordinates, as `spark.jars.packages` would."""
    ivy = next(Path(pyspark.__file__).parent.joinpath("jars").glob("ivy-*.jar"))
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        module = Path(folder, "ivy.xml")
        dependencies = "\n".join(
            '<dependency org="{}" name="{}" rev="{}" transitive="false" conf="default"/>'.format(
                *coordinates.split(":")
            )
            for coordinates in wanted
        )
        module.write_text(
            '<ivy-module version="2.0"><info organisation="croplake" module="jars"/>'
            f"<dependencies>{dependencies}</dependencies></ivy-module>"
        )
        settings = importlib.resources.files("croplake").joinpath("ivysettings.xml")
        command = ["java", "-jar", str(ivy), "-settings", str(settings), "-ivy", str(module)]
        command += ["-types", "jar", "bundle", "-retrieve", f"{folder}/[artifact]-[revision].[ext]"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        for coordinates in wanted:
            name = _jar_name(coordinates)
            if not Path(folder, name).exists():
                problems = "\n".join((answer.stdout + answer.stderr).splitlines()[-30:])
                raise IncompleteError(
                    f"{coordinates} could not be fetched from Maven Central; with a network, or a "
                    f"mirror in ~/.m2, the same command goes on from here. Ivy says:\n{problems}"
                )
            Path(folder, name).replace(cache / name)
