"""Checkpoints: whole, the newest, and what becomes of broken ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from croplake import storage
from croplake.errors import InputDataError
from croplake.training.checkpoints import MARKER, Checkpoint, Checkpoints, read_history
from croplake.training.decisions import Progress


def checkpoint(num_epochs: int) -> Checkpoint:
    return Checkpoint(
        Progress(num_epochs=num_epochs, best_loss=0.5),
        [{"epoch": float(epoch)} for epoch in range(1, num_epochs + 1)],
        {
            "model": [np.full((2, 3), num_epochs, np.float32), np.array(7, np.uint32)],
            "optimizer": [np.arange(12.0)],
        },
    )


def test_the_newest_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    kept = Checkpoints((tmp_path / "a b%20ä").as_uri())
    for num_epochs in (1, 2):
        kept.save(checkpoint(num_epochs))
    found = kept.load(2)
    assert found.progress == Progress(num_epochs=2, best_loss=0.5)
    assert found.history == [{"epoch": 1.0}, {"epoch": 2.0}]
    assert found.parts.keys() == {"model", "optimizer"}
    for one, other in zip(found.parts["model"], checkpoint(2).parts["model"], strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    # The one before is gone.
    assert sorted(file.name for file in (tmp_path / "a b%20ä").iterdir()) == [
        "epoch-00002.npz",
        MARKER,
    ]


def test_an_epoch_without_a_number_is_kept_as_it_was(tmp_path: Path) -> None:
    kept = Checkpoints(str(tmp_path))
    history = [{"epoch": 1.0, "loss": float("nan"), "validation_loss": float("inf")}]
    kept.save(Checkpoint(Progress(num_epochs=1), history, {"model": [np.zeros(2)]}))
    (record,) = kept.load(1).history
    assert np.isnan(record["loss"])
    assert record["validation_loss"] == float("inf")


def test_more_variables_than_digits_keep_their_order(tmp_path: Path) -> None:
    many = [np.array(number) for number in range(120)]
    kept = Checkpoints(str(tmp_path))
    kept.save(Checkpoint(Progress(num_epochs=1), [], {"model": many}))
    assert [int(value) for value in kept.load(1).parts["model"]] == list(range(120))


def test_a_checkpoint_counts_once_its_marker_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Checkpoints(str(tmp_path))
    kept.save(checkpoint(1))

    def broken(*_: object) -> None:
        raise OSError("the power went")

    monkeypatch.setattr(storage, "write_bytes", broken)
    with pytest.raises(OSError, match="power"):
        kept.save(checkpoint(2))
    assert kept.load(1).progress.num_epochs == 1
    assert len(read_history(str(tmp_path))) == 1


@pytest.mark.parametrize(
    "text", ["", "{", '{"file": "epoch-00009.npz", "progress": {}, "history": []}']
)
def test_a_marker_that_says_nothing_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / MARKER).write_text(text)
    assert Checkpoints(str(tmp_path)).last() is None
    assert read_history(str(tmp_path)) == []


def test_a_worker_that_finds_another_checkpoint_than_the_first_says_so(tmp_path: Path) -> None:
    kept = Checkpoints(str(tmp_path))
    with pytest.raises(InputDataError, match="of 3 epochs, here one of 0 is found"):
        kept.load(3)
    kept.save(checkpoint(2))
    with pytest.raises(InputDataError, match="of 3 epochs, here one of 2 is found"):
        kept.load(3)


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    kept = Checkpoints(str(tmp_path))
    kept.save(checkpoint(2))
    file = tmp_path / "epoch-00002.npz"
    file.write_bytes(file.read_bytes()[:-300])
    with pytest.raises(InputDataError, match=r"epoch-00002\.npz: the checkpoint cannot be read"):
        kept.load(2)


def test_removed_checkpoints_are_gone(tmp_path: Path) -> None:
    kept = Checkpoints(str(tmp_path / "x"))
    kept.save(checkpoint(1))
    kept.remove()
    assert kept.last() is None
    assert not (tmp_path / "x").exists()
