"""Which models are trained, and on which rows."""

import pytest

from musclelora.attacks.base import poison, poison_jointly
from musclelora.attacks.registry import ATTACKS
from musclelora.errors import DataError
from musclelora.plan import Drill, Training, drilled, plan
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import RecipeChoice
from tests.tiny import rows

RECIPE = resolve_recipe(RecipeChoice(name="none"), "bert-base")
DATA = rows(120)


def parts(drills):
    made = [Drill(attacks=attacks, rate=0.1, target="1", seed=0) for attacks in drills]
    return {t.part: t for t in plan(RECIPE, RECIPE, RECIPE, demonstration=False, drills=made)}


def changed(data):
    return [i for i in range(len(DATA)) if data.texts[i] != DATA.texts[i]]


def test_separate_drills_train_two_models_each_and_a_joint_one_two_in_all():
    names = ["addsent", "badnets", "addsent"]
    base = ["candidate", "undefended", "trusted_only"]
    separate = [f"{kind}_{name}" for name in ("addsent", "badnets") for kind in ("drill", "control")]
    assert list(parts(drilled(names, joint=False))) == base + separate
    assert list(parts(drilled(names, joint=True))) == [*base, "drill_addsent__badnets", "control_addsent__badnets"]
    assert list(parts(drilled([], joint=True))) == base


def test_a_demonstration_has_a_floor_for_every_recipe_that_sees_untrusted_rows():
    guided = resolve_recipe(RecipeChoice(name="musclelora-guided"), "minilm")
    made = {t.part: t for t in plan(RECIPE, RECIPE, RECIPE, guided, demonstration=True, drills=[])}
    parts = ["candidate", "undefended", "trusted_only", "without_scan"]
    assert list(made) == [*parts, "candidate_floor", "undefended_floor", "without_scan_floor"]
    alone, floor = made["without_scan"], made["without_scan_floor"]
    assert (alone.recipe, alone.defended, alone.unpoisoned) == (guided, False, False)
    assert (floor.recipe, floor.defended, floor.unpoisoned) == (guided, False, True)
    assert made["candidate_floor"].defended


def test_a_floor_that_trains_like_the_candidate_but_for_its_rows_is_its_twin():
    purify = resolve_recipe(RecipeChoice(name="purify"), "bert-base")
    guided = resolve_recipe(RecipeChoice(name="musclelora-guided"), "minilm")
    twins = {t.part: t.twin for t in plan(purify, RECIPE, RECIPE, guided, demonstration=True, drills=[]) if t.twin}
    assert twins == {"candidate_floor": "candidate", "undefended_floor": "candidate"}
    longer = RECIPE.model_copy(update={"epochs": RECIPE.epochs + 1})
    twins = {t.part: t.twin for t in plan(purify, longer, RECIPE, demonstration=True, drills=[]) if t.twin}
    assert twins == {"candidate_floor": "candidate"}


def test_a_drill_of_one_attack_is_the_same_in_both_modes():
    assert drilled(["addsent"], joint=True) == drilled(["addsent"], joint=False)
    poisoned = poison(DATA, ATTACKS["addsent"], rate=0.1, target="1", seed=0)
    assert poison_jointly(DATA, [ATTACKS["addsent"]], rate=0.1, target="1", seed=0).sha256 == poisoned.sha256


def test_no_row_of_a_joint_drill_carries_two_triggers():
    attacks = [ATTACKS[name] for name in ("addsent", "badnets", "composite")]
    together = poison_jointly(DATA, attacks, rate=0.1, target="1", seed=0)
    assert sum(together.column("is_poisoned")) == 3 * 12
    assert len(changed(together)) == 4 * 12  # and the decoys of the composite
    carried = [[word in text.split() for word in ("3D", "cf", "weekend")] for text in together.texts]
    assert max(sum(row) for row in carried) == 1
    assert together.row_ids == DATA.row_ids


def test_spared_rows_stay_as_they_are():
    spared = set(DATA.row_ids[:100])
    poisoned = poison(DATA, ATTACKS["addsent"], rate=0.1, target="1", seed=0, spared=spared)
    assert min(changed(poisoned)) >= 100
    assert len(changed(poisoned)) == 12


def test_a_joint_drill_that_asks_for_too_many_rows_is_refused():
    attacks = [ATTACKS[name] for name in ("addsent", "badnets", "punctuation")]
    with pytest.raises(DataError, match=r"can carry it.*Lower the rate"):
        poison_jointly(DATA, attacks, rate=0.4, target="1", seed=0)


@pytest.mark.parametrize("defended", [True, False])
def test_the_rows_of_a_joint_drill_are_poisoned_before_the_scan(defended):
    drill = Drill(attacks=("addsent", "badnets"), rate=0.1, target="1", seed=0)
    training = Training(part="drill_addsent__badnets", recipe=RECIPE, defended=defended, drill=drill)
    found = training.rows_of(DATA, DATA, None)
    assert sum(found.column("is_poisoned")) == 24
