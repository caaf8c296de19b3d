"""Which cells a comparison has."""

import pytest

from musclelora.comparison.grid import grid
from musclelora.comparison.method import Method
from musclelora.errors import ConfigError
from musclelora.training.backbone import Backbone

TINY = {"tiny": (Backbone(name="tiny", location="tiny", sha256="0" * 64), 32, "bert-base")}


def cells(*methods, seeds=(1,)):
    return grid([Method.model_validate(m) for m in methods], ["addsent", "badnets"], ["movies"], TINY, seeds)


def test_a_floor_for_each_method_and_one_cell_where_no_poison_reaches():
    found = [(cell.method, cell.attack, cell.seed) for cell in cells("none", "trusted-only", seeds=(1, 2))]
    one = [("none", "clean"), ("none", "addsent"), ("none", "badnets"), ("trusted-only", "clean")]
    assert found == [(*pair, seed) for seed in (1, 2) for pair in one]


def test_a_defence_acts_on_the_undefended_recipe():
    assert {(cell.recipe.name, cell.defense) for cell in cells("strip")} == {("none", "strip")}


def test_purify_is_a_defence_with_scans_of_its_own():
    assert {(c.recipe.name, c.defense, c.method) for c in cells("purify")} == {("none", "purify", "purify")}


@pytest.mark.parametrize(
    ("method", "said"), [({"recipe": {"name": "purify"}}, "scans"), ("cubes", "cube"), ("nonne", "no defence")]
)
def test_what_cannot_be_compared_is_said(method, said):
    with pytest.raises(ConfigError, match=said):
        cells(method)
