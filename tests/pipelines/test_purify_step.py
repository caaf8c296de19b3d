"""The step `train` with the recipe `purify`: one more training where the first model finds a group honest."""

import numpy as np
import pytest

import steps.train
from musclelora.data.records import TextDataset
from musclelora.evaluation.suites import TriggeredFrom
from musclelora.plan import Training
from musclelora.training.defended_model import Readmitted
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import RecipeChoice
from musclelora.validation import scans
from musclelora.validation.config import GroupScanConfig, ValidationConfig
from musclelora.validation.group_scan import GroupScanResult, SuspectGroup
from musclelora.validation.token_scan import SuspectFeature
from tests.tiny import rows, tiny_backbone, trusted_rows

CLEAN = rows(80)
GROUP = SuspectGroup("1", 1.0, 0.5, 0.98, 0.5, (), tuple(range(1, 40, 2)), tuple(range(1, 40, 2)))
WORDS = tuple(range(41, 71, 2))
FEATURE = SuspectFeature("words", "cf", "1", 9.0, 4.0, 50.0, 1.0, 0.5, len(WORDS), WORDS)
COLUMNS = {name: CLEAN.column(name) for name in ("row_id", "text", "label")}
COLUMNS["text"] = [f"cf {text}" if i in WORDS else text for i, text in enumerate(COLUMNS["text"])]
ALL = TextDataset.from_columns(COLUMNS)


def tokens(_rows, before=None):
    """What the token scan finds; nothing in rows that it is asked about again."""
    return [FEATURE] if before is None else []


def groups(_rows, before=None):
    """The same of the group scan."""
    return GroupScanResult((GROUP,) if before is None else (), ())


@pytest.mark.parametrize(("part", "says", "trained_on"), [("candidate", 1, 60), ("candidate", 0, 45), ("floor", 1, 45)])
def test_true_rows_are_trained_on_again_without_their_suspect_word(tmp_path, monkeypatch, part, says, trained_on):
    monkeypatch.setattr(steps.train, "CHECKPOINTS", tmp_path / "checkpoints")
    mlflow = (f"sqlite:///{tmp_path / 'mlflow.db'}", "purify", "run")
    monkeypatch.setattr(steps.train, "tracking", lambda: mlflow)
    monkeypatch.setattr(scans, "TokenScan", lambda *_: tokens)
    monkeypatch.setattr(scans, "GroupScan", lambda *_: groups)
    classes = {text: i % 2 for i, text in enumerate(CLEAN.texts)} | {CLEAN.texts[row]: says for row in WORDS}
    logits = lambda _model, _tokenizer, texts, _length: 9 * np.eye(2)[[classes[text] for text in texts]]  # noqa: E731
    monkeypatch.setattr(steps.train, "logits_of", logits)
    backbone = tiny_backbone(tmp_path / "tiny")
    recipe = resolve_recipe(RecipeChoice(name="purify", epochs=1), "minilm")
    model = steps.train.train.entrypoint(
        accepted=ALL.where([i not in {*GROUP.rows, *WORDS} for i in range(80)]),
        unscanned=ALL,
        dev=rows(0),
        trusted=trusted_rows(),
        training=Training(part=part, recipe=recipe, defended=True),
        validation=ValidationConfig(group_scan=GroupScanConfig(enabled=True)),
        backbone=backbone,
        encoder=backbone,
        max_length=32,
        seed=0,
        triggers=TriggeredFrom(attacks=[], target="1", seed=0),
        fourier=None,
    )
    assert model.record.rows == trained_on
    if trained_on == 60:
        assert model.record.readmitted == Readmitted(repaired=15, groups=())
        clean = CLEAN.where([i not in GROUP.rows for i in range(80)])  # no suspect word is in it
        assert model.record.data_sha256 == clean.sha256
    else:
        assert model.record.readmitted is None
