"""Killed at any step and started again, a training ends with the same weights."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from musclelora.errors import ModelError
from musclelora.training import aligned_trainer, checkpoints, fit
from tests.tiny import rows, tiny_backbone, trusted_rows
from tests.training.test_fit import recipe

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from musclelora.training import aligned_trainer
from musclelora.training.backbone import resolve_backbone
from tests.training.test_checkpoints import train
aligned_trainer.CHECKPOINT_SECONDS = 0.0
finish = aligned_trainer.AlignedTrainer.finish_checkpoint
def slow(self):
    finish(self)
    time.sleep(0.05)  # there is time to kill it between two steps
aligned_trainer.AlignedTrainer.finish_checkpoint = slow
train(Path(sys.argv[1]), sys.argv[2], resolve_backbone(str(Path(sys.argv[1]) / "base")), name=sys.argv[3])
"""


def train(folder, out, backbone, seed=7, name="musclelora"):
    changes = {"alignment": {"reference_every": 2}} if name == "musclelora" else {}
    chosen = recipe(name, epochs=3, batch_size=8, **changes)
    return fit.train(
        rows(64),
        trusted_rows(),
        rows(20, "dev", 500),
        recipe=chosen,
        backbone=backbone,
        max_length=32,
        seed=seed,
        folder=folder / out,
        checkpoints=folder / "checkpoints",
    )


def killed_at(folder, steps, name):
    """Start the training in a process of its own and kill it once it has saved `steps` times."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder), "killed", name], env=environment, cwd=ROOT)
    started = time.monotonic()
    while process.poll() is None and time.monotonic() - started < 120:
        saved = [p.parent.name for p in folder.glob("checkpoints/*/checkpoint-*/musclelora.json")]
        if max((int(p.removeprefix("checkpoint-")) for p in saved), default=0) >= steps:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
    return max(int(p.removeprefix("checkpoint-")) for p in saved)


def interrupted_at(folder, backbone, steps, name):
    """As `killed_at`, by an exception in this process: faster to start."""

    class Interruption(Exception):  # noqa: N818
        pass

    finish = aligned_trainer.AlignedTrainer.finish_checkpoint

    def until(self):
        finish(self)
        if self.state.global_step == steps:
            raise Interruption

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aligned_trainer, "CHECKPOINT_SECONDS", 0.0)
        patch.setattr(aligned_trainer.AlignedTrainer, "finish_checkpoint", until)
        with pytest.raises(Interruption):
            train(folder, "interrupted", backbone, name=name)
    return steps


@pytest.mark.parametrize(
    ("how", "steps", "name"),
    [
        ("kill -9", 13, "musclelora"),
        ("exception", 1, "musclelora"),
        ("exception", 8, "musclelora"),  # the end of an epoch
        ("exception", 15, "none"),
        ("exception", 23, "lora"),
    ],
)
def test_stopped_and_started_again_it_ends_with_the_same_bits(tmp_path, how, steps, name, monkeypatch):
    backbone = tiny_backbone(tmp_path / "base")
    whole = train(tmp_path, "whole", backbone, name=name)
    assert not list(tmp_path.glob("checkpoints/*"))
    at = killed_at(tmp_path, steps, name) if how == "kill -9" else interrupted_at(tmp_path, backbone, steps, name)
    (folder,) = tmp_path.glob("checkpoints/*")
    taken, step = [], aligned_trainer.AlignedTrainer.training_step

    def counted(*args, **kwargs):
        taken.append(1)
        return step(*args, **kwargs)

    monkeypatch.setattr(aligned_trainer.AlignedTrainer, "training_step", counted)
    resumed = train(tmp_path, "resumed", backbone, name=name)
    assert 24 - at - 1 <= len(taken) <= 24 - at  # it may have been killed after a step that it had not saved
    assert resumed.sha256 == whole.sha256
    assert resumed.record.curve == whole.record.curve
    assert resumed.record.best_epoch == whole.record.best_epoch
    assert not folder.exists()


def test_another_training_does_not_go_on_from_it(tmp_path):
    backbone = tiny_backbone(tmp_path / "base")
    expected = train(tmp_path, "other", backbone, seed=8)
    interrupted_at(tmp_path, backbone, 3, "musclelora")
    (folder,) = tmp_path.glob("checkpoints/*")
    assert train(tmp_path, "again", backbone, seed=8).sha256 == expected.sha256
    assert folder.exists()


def test_a_checkpoint_that_was_cut_short_is_passed_over(tmp_path):
    for number, files in ((8, [checkpoints.STATE]), (16, [checkpoints.STATE]), (24, ["optimizer.pt"])):
        (tmp_path / f"checkpoint-{number}").mkdir()
        for name in files:
            (tmp_path / f"checkpoint-{number}" / name).write_text("{}")
    assert checkpoints.latest(tmp_path) == tmp_path / "checkpoint-16"
    assert not (tmp_path / "checkpoint-24").exists()
    assert checkpoints.latest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("name", ["trained.safetensors", checkpoints.STATE])
def test_a_damaged_checkpoint_is_refused_with_what_to_do(tmp_path, name):
    backbone = tiny_backbone(tmp_path / "base")
    interrupted_at(tmp_path, backbone, 3, "musclelora")
    for path in tmp_path.glob(f"checkpoints/*/checkpoint-*/{name}"):
        path.write_bytes(b"{\x00")
    with pytest.raises(ModelError, match="Delete that folder and run again"):
        train(tmp_path, "again", backbone)


@pytest.mark.parametrize("changed", ["recipe", "seed", "data", "trusted", "dev", "backbone", "max_length", "device"])
def test_every_input_names_another_folder(tmp_path, changed):
    inputs = dict.fromkeys(["recipe", "seed", "data", "trusted", "dev", "backbone", "max_length", "device"], "a")
    assert checkpoints.folder_of(tmp_path, inputs) == checkpoints.folder_of(tmp_path, inputs)
    assert checkpoints.folder_of(tmp_path, inputs) != checkpoints.folder_of(tmp_path, inputs | {changed: "b"})


def test_forgotten_checkpoints_are_removed(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    os.utime(old, (0, 0))
    checkpoints.folder_of(tmp_path, {})
    assert not old.exists()
    assert new.exists()
