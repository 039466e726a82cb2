"""Which precision a worker trains in, by its GPUs."""

from __future__ import annotations

import pytest

from croplake.conf import TrainConf

tf = pytest.importorskip("tensorflow")

from croplake.training.precision import choose_precision  # noqa: E402


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ([], "float32"),
        ([(6, 1)], "float32"),
        ([(7, 0)], "mixed_float16"),
        ([(7, 5)], "mixed_float16"),
        ([(8, 0)], "mixed_bfloat16"),
        ([(12, 0)], "mixed_bfloat16"),
        ([(8, 6), (7, 5)], "mixed_float16"),  # what all of them can
        ([None], "float32"),  # another maker's, which does not say
    ],
)
def test_auto_is_the_half_precision_that_the_gpus_gain_by(
    capabilities: list[tuple[int, int] | None], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    details = [{"compute_capability": one} if one else {} for one in capabilities]
    places = [*range(len(details))]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: places)
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details[gpu])
    assert choose_precision(TrainConf()) == expected
    assert choose_precision(TrainConf(precision="float32")) == "float32"
