"""Cells that begin with the same training: it runs once, and nothing that they say but its clock is another's."""

import pytest

from musclelora.comparison import measure as measuring
from musclelora.comparison.record import Cell
from musclelora.comparison.trainings import Trained, Trainings
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import RecipeChoice
from tests.defenses.conftest import MAX_LENGTH, TARGET

METHODS = ("none", "strip", "rap")


def cell_of(defender, method):
    recipe = resolve_recipe(RecipeChoice(name="none", learning_rate=5e-3, precision="fp32", epochs=2), "bert-base")
    return Cell(
        method=method,
        recipe=recipe,
        defense=None if method == "none" else method,
        settings={"rap": '{"word": "rare", "steps": 5}', "strip": '{"copies": 3}'}.get(method, "{}"),
        attack="addsent",
        dataset="three-labels",
        backbone_name="tiny",
        backbone=defender.backbone,
        max_length=MAX_LENGTH,
        seed=7,
    )


def test_the_undefended_training_of_three_cells_runs_once_and_changes_no_figure(
    defender,
    poisoned,
    triggered,
    monkeypatch,
):
    trained, seconds = [], []

    def counted(rows, *arguments, **options):
        trained.append(rows.sha256)
        model = train(rows, *arguments, **options)
        seconds.append(model.record.seconds)
        return model

    train = measuring.train
    monkeypatch.setattr(measuring, "train", counted)
    trainings = Trainings(held=1)

    def measured(method, trainings):
        asked = {"addsent": triggered}
        rows = poisoned, defender.trusted, defender.clean, defender.clean, asked, TARGET
        return measuring.measure(cell_of(defender, method), *rows, trainings=trainings)

    shared = [measured(method, trainings) for method in METHODS]
    assert trained == [poisoned.sha256]
    alone = [measured(method, None) for method in METHODS]
    assert len(trained) == 4
    figures = {"seconds", "peak_memory_mb"}
    assert [of.model_dump(exclude=figures) for of in shared] == [of.model_dump(exclude=figures) for of in alone]
    for of in shared[1:]:
        assert of.seconds["train"] >= round(seconds[0], 2) > 0  # counted as if it had trained itself
        assert of.peak_memory_mb > 0


def test_only_the_models_that_were_asked_for_last_are_held():
    made, trainings = [], Trainings(held=2)

    def get(key):
        def train():
            made.append(key)
            return Trained(None, 0, 1.0, 1.0)

        return trainings.get(key, train)[1]

    assert [get(key) for key in ("a", "b", "a", "c", "a", "b")] == [False, False, True, False, True, False]
    assert made == ["a", "b", "c", "b"]


def test_a_training_that_fails_is_tried_again():
    trainings = Trainings(held=2)

    def fails():
        raise ValueError("no memory")

    for _ in range(2):
        with pytest.raises(ValueError, match="no memory"):
            trainings.get("a", fails)
    assert not trainings.get("a", lambda: Trained(None, 0, 1.0, 1.0))[1]
