"""A classification's figures by hand, some of them from people who wish the page's reader ill."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

from PIL import Image

from croplake.report.predictions import Credit, Failure, PredictionFigures, ShownPhoto
from tests.unit.dataset_figures import HANDLER, HOSTILE, SCRIPT


def shown(category: str, number: int, **changes: Any) -> ShownPhoto:  # noqa: ANN401
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (number * 40 % 256, 90, 160)).save(buffer, "JPEG")
    values: dict[str, Any] = {
        "path": f"/home/ann/photos/{category} {number}.jpg",
        "guesses": [(category, 0.75), ("Hat", 0.2), ("Shoe", 0.04)],
        "jpeg": buffer.getvalue(),
        "width_px": 40,
        "height_px": 30,
    }
    return ShownPhoto(**values | changes)


def prediction_figures(**changes: Any) -> PredictionFigures:  # noqa: ANN401
    credit = Credit("00000000000000ff", **{"license": None, **HOSTILE})
    values: dict[str, Any] = {
        "run_id": "20261125T030400-abcdef",
        "model_id": "fruit-20261124",
        "made_at": datetime(2026, 11, 25, 3, 4, tzinfo=UTC),
        "min_probability": 0.5,
        "statuses": {"ok": 1_240, "unsure": 60, "not_found": 20, "not_a_photo": 2},
        "categories": {"Pear": 1_200, SCRIPT: 40},
        "failures": {
            "not_found": [Failure(f"https://example.org/{n}.jpg", "HTTP 404") for n in range(10)],
            "not_a_photo": [Failure(f"/x/{HANDLER}", HANDLER), Failure("/x/\n", None)],
        },
        "galleries": {
            "Pear": [shown("Pear", number) for number in range(24)],
            SCRIPT: [
                shown(SCRIPT, 1, path=f"javascript:alert(1)//{HANDLER}", credit=credit),
                shown(SCRIPT, 2, path="https://example.org/a.jpg"),
            ],
        },
        "unsure": [shown("Pear", number, guesses=[("Pear", 0.3)]) for number in range(3)],
        "version": 7,
        "csv": "build/lake/predictions_csv/x.csv",
        "sorted_into": f"/x/{SCRIPT}",
    }
    return PredictionFigures(**values | changes)
