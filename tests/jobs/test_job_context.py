"""What a job is given of its settings."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from pyspark.sql import SparkSession
from rich.console import Console

from croplake.errors import SettingsError
from croplake.jobs.context import JobContext
from croplake.lake import Lake
from tests.jobs.world import hand_made_settings


def context(folder: Path, **fetch: object) -> JobContext:
    settings = hand_made_settings(folder, fetch=dict(fetch))
    return JobContext(cast(SparkSession, None), settings, cast(Lake, None), Console())


def test_certificates_that_are_not_there_are_refused_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "company.pem"
    with pytest.raises(SettingsError, match=r"company\.pem: no such file.*fetch\.ca_file"):
        context(tmp_path, ca_file=str(missing)).http_limits()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "environment.pem"))
    with pytest.raises(SettingsError, match=r"environment\.pem: no such file"):
        context(tmp_path).http_limits()
    (tmp_path / "environment.pem").write_text("certificates")
    assert context(tmp_path).http_limits().ca_bundle == str(tmp_path / "environment.pem")
