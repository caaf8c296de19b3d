"""The step `train` with the recipe `purify`: one more training where the first model finds a group honest."""

import numpy as np
import pytest

import steps.train
from musclelora.evaluation.suites import TriggeredFrom
from musclelora.plan import Training
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import RecipeChoice
from musclelora.validation import scans
from musclelora.validation.config import GroupScanConfig, ValidationConfig
from musclelora.validation.group_scan import GroupScanResult, SuspectGroup
from tests.tiny import rows, tiny_backbone, trusted_rows

ALL = rows(80)
GROUP = SuspectGroup("1", 1.0, 0.5, (), tuple(range(1, 40, 2)), tuple(range(1, 40, 2)))


@pytest.mark.parametrize(("part", "says", "trained_on"), [("candidate", 1, 80), ("candidate", 0, 60), ("floor", 1, 60)])
def test_rows_of_an_honest_group_are_trained_on_again(tmp_path, monkeypatch, part, says, trained_on):
    monkeypatch.setattr(steps.train, "CHECKPOINTS", tmp_path / "checkpoints")
    mlflow = (f"sqlite:///{tmp_path / 'mlflow.db'}", "purify", "run")
    monkeypatch.setattr(steps.train, "tracking", lambda: mlflow)
    monkeypatch.setattr(scans, "GroupScan", lambda *_: lambda _rows: GroupScanResult((GROUP,), ()))
    monkeypatch.setattr(steps.train, "logits_of", lambda _m, _t, texts, _l: np.eye(2)[[says] * len(texts)])
    backbone = tiny_backbone(tmp_path / "tiny")
    recipe = resolve_recipe(RecipeChoice(name="purify", epochs=1), "minilm")
    model = steps.train.train.entrypoint(
        accepted=ALL.where([i not in GROUP.rows for i in range(80)]),
        unscanned=ALL,
        dev=rows(0),
        trusted=trusted_rows(),
        training=Training(part=part, recipe=recipe, defended=True),
        validation=ValidationConfig(token_scan=False, group_scan=GroupScanConfig(enabled=True)),
        backbone=backbone,
        encoder=backbone,
        max_length=32,
        seed=0,
        triggers=TriggeredFrom(attacks=[], target="1", seed=0),
        fourier=None,
    )
    assert model.record.rows == trained_on
