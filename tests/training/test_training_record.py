import pytest

from tests.materializers.examples import training_record


def with_raw(shares, **changes):
    record = training_record()
    curve = [record.curve[0].model_copy(update={"raw": share, "reference_loss": 0.3}) for share in shares]
    return record.model_copy(update={"curve": curve} | changes)


def test_raw_gradients_under_alignment_are_warned_of_with_numbers():
    said = with_raw([0.25, 0.64]).raw_gradients
    assert "64% of the steps" in said
    assert "mean 0.30" in said
    assert "musclelora-guided" in said


@pytest.mark.parametrize("shares", [[0.0, 0.0], []])
def test_no_raw_step_no_warning(shares):
    assert with_raw(shares).raw_gradients is None


def test_a_recipe_without_alignment_has_only_raw_gradients_and_no_warning():
    recipe = training_record().recipe.model_copy(update={"alignment": None})
    assert with_raw([1.0], recipe=recipe).raw_gradients is None
