"""The step `train` with the recipe `purify`: one more training where the first model finds a group honest."""

import numpy as np
import pytest

import steps.train
from musclelora.attacks.base import poison
from musclelora.attacks.registry import ATTACKS
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
DEMONSTRATION = poison(CLEAN, ATTACKS["addsent"], rate=0.1, target="1", seed=0)
NO_SCAN = ValidationConfig(token_scan=False)


def tokens(_rows, before=None):
    """What the token scan finds; nothing in rows that it is asked about again."""
    return [FEATURE] if before is None else []


def groups(_rows, before=None):
    """The same of the group scan."""
    return GroupScanResult((GROUP,) if before is None else (), ())


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """The step with what it reads; rows, training and twin as asked."""
    monkeypatch.setattr(steps.train, "CHECKPOINTS", tmp_path / "checkpoints")
    mlflow = (f"sqlite:///{tmp_path / 'mlflow.db'}", "purify", "run")
    monkeypatch.setattr(steps.train, "tracking", lambda: mlflow)
    backbone = tiny_backbone(tmp_path / "tiny")

    def train(training, accepted, unscanned, *, validation=NO_SCAN, twin=None):
        return steps.train.train.entrypoint(
            accepted=accepted,
            unscanned=unscanned,
            dev=rows(0),
            trusted=trusted_rows(),
            twin=twin,
            training=training,
            validation=validation,
            backbone=backbone,
            encoder=backbone,
            max_length=32,
            seed=0,
            triggers=TriggeredFrom(attacks=[], target="1", seed=0),
            fourier=None,
        )

    return train


def recipe(name):
    return resolve_recipe(RecipeChoice(name=name, epochs=1), "minilm")


@pytest.mark.parametrize(("part", "says", "trained_on"), [("candidate", 1, 60), ("candidate", 0, 45), ("floor", 1, 45)])
def test_true_rows_are_trained_on_again_without_their_suspect_word(trained, monkeypatch, part, says, trained_on):
    monkeypatch.setattr(scans, "TokenScan", lambda *_: tokens)
    monkeypatch.setattr(scans, "GroupScan", lambda *_: groups)
    classes = {text: i % 2 for i, text in enumerate(CLEAN.texts)} | {CLEAN.texts[row]: says for row in WORDS}
    logits = lambda _model, _tokenizer, texts, _length: 9 * np.eye(2)[[classes[text] for text in texts]]  # noqa: E731
    monkeypatch.setattr(steps.train, "logits_of", logits)
    model = trained(
        Training(part=part, recipe=recipe("purify"), defended=True),
        ALL.where([i not in {*GROUP.rows, *WORDS} for i in range(80)]),
        ALL,
        validation=ValidationConfig(group_scan=GroupScanConfig(enabled=True)),
    )
    assert model.record.rows == trained_on
    if trained_on == 60:
        assert model.record.readmitted == Readmitted(repaired=15, groups=())
        clean = CLEAN.where([i not in GROUP.rows for i in range(80)])  # no suspect word is in it
        assert model.record.data_sha256 == clean.sha256
    else:
        assert model.record.readmitted is None


def test_a_twin_of_the_same_rows_is_taken_and_nothing_is_trained(trained, monkeypatch):
    poison = DEMONSTRATION.column("is_poisoned")
    left = DEMONSTRATION.where([not poisoned for poisoned in poison])
    training = Training(part="undefended_floor", recipe=recipe("none"), defended=False, unpoisoned=True)
    alone = trained(training, left, DEMONSTRATION)
    twin = trained(Training(part="candidate", recipe=recipe("purify"), defended=True), left, DEMONSTRATION)
    monkeypatch.setattr(steps.train.fit, "train", None)
    model = trained(training.model_copy(update={"twin": "candidate"}), left, DEMONSTRATION, twin=twin)
    assert model.sha256 == twin.sha256 == alone.sha256
    assert (model.record.recipe, twin.record.recipe) == (alone.record.recipe, recipe("purify"))
    figures = {"seconds"}
    assert model.record.model_dump(exclude=figures) == alone.record.model_dump(exclude=figures)
    folder = model.folder
    assert folder != twin.folder
    del twin
    assert (folder / "model").is_dir()  # the step's end deletes the twin's folder, and not this one


def test_a_twin_of_other_rows_is_not_taken(trained):
    left = DEMONSTRATION.where([i != 3 for i in range(80)])  # an honest row was set aside, and no poisoned one
    twin = trained(Training(part="candidate", recipe=recipe("purify"), defended=True), left, DEMONSTRATION)
    training = Training(part="undefended_floor", recipe=recipe("none"), defended=False, unpoisoned=True)
    model = trained(training.model_copy(update={"twin": "candidate"}), left, DEMONSTRATION, twin=twin)
    assert model.record.rows == 72 != twin.record.rows
    assert model.sha256 != twin.sha256
