"""Similar crops by hand, some of them from people who wish the page's reader ill."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from croplake.report.similar_page import AskedPhoto, FoundCrop, SimilarFigures
from tests.unit.dataset_figures import HANDLER, HOSTILE, SCRIPT, crop


def similar_figures(**changes: Any) -> SimilarFigures:  # noqa: ANN401
    made = crop("Pear", 0)
    assert made.jpeg is not None
    found = [FoundCrop(crop("Pear", number), 0.01 * number) for number in range(29)]
    found.append(FoundCrop(crop(SCRIPT, 30, **HOSTILE), 0.3))
    found.append(FoundCrop(crop("Pear", 31, jpeg=None, license=None, author=None), 0.5))
    values: dict[str, Any] = {
        "asked": AskedPhoto(f"/home/{HANDLER}.jpg", made.jpeg, 40, 30),
        "found": found,
        "network": "imagenet:MobileNetV2 224",
        "num_vectors": 12_345,
        "is_exact": True,
        "dataset": None,
        "versions": {"embeddings": 3, "crops": 7},
        "made_at": datetime(2026, 11, 3, 9, 5, tzinfo=UTC),
    }
    return SimilarFigures(**values | changes)
