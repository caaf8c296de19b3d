import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from musclelora.errors import ConfigError
from musclelora.training.fit import train
from musclelora.training.guidance import guided_targets
from musclelora.training.predict import logits_of
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import Guidance, RecipeChoice
from tests.tiny import rows, tiny_backbone, trusted_rows


def test_targets_are_the_reference_moved_towards_the_given_label():
    reference = np.array([[0.9, 0.1], [0.4, 0.6]])
    targets = guided_targets(reference, np.array([1, 1]), Guidance(label_share=0.25))
    np.testing.assert_allclose(targets, [[0.675, 0.325], [0.3, 0.7]])


@given(
    st.floats(0, 1), st.integers(0, 1), st.integers(0, 1), st.floats(0, 0.5, exclude_max=True, allow_subnormal=False)
)
def test_no_label_moves_a_target_by_more_than_its_share(probability, label, other, share):
    reference, guidance = np.array([[1 - probability, probability]]), Guidance(label_share=share)
    first = guided_targets(reference, np.array([label]), guidance)
    second = guided_targets(reference, np.array([other]), guidance)
    assert np.abs(first - second).max() <= share + 1e-12
    assert first.sum() == pytest.approx(1)


def test_its_gradient_is_the_mixed_update_of_the_paper_with_a_fixed_share():
    torch.manual_seed(0)
    weight, x, share = torch.randn(3, 5, requires_grad=True), torch.randn(8, 5), 0.2
    said = torch.softmax(torch.randn(8, 3), 1)
    labels = torch.randint(3, (8,))

    def gradient(target):
        return torch.autograd.grad(cross_entropy(x @ weight.T, target), weight)[0]

    guided = torch.from_numpy(guided_targets(said.double().numpy(), labels.numpy(), Guidance(label_share=share)))
    mixed = (1 - share) * gradient(said) + share * gradient(labels)
    torch.testing.assert_close(gradient(guided.float()), mixed, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("reference", [[[0.7, 0.7]], [[np.nan, 1.0]], [[1.5, -0.5]]])
def test_what_is_no_probability_is_refused(reference):
    with pytest.raises(ValueError, match="no probability"):
        guided_targets(np.array(reference), np.array([0]), Guidance())


@pytest.mark.parametrize("share", [0.5, -0.1])
def test_a_share_that_lets_labels_outvote_the_trusted_rows_is_refused(share):
    with pytest.raises(ConfigError, match="label_share"):
        resolve_recipe(RecipeChoice(name="guided", guidance={"label_share": share}), "minilm")


def test_guidance_belongs_to_the_guided_recipes_only():
    with pytest.raises(ConfigError, match=r"recipe\.guidance is set"):
        resolve_recipe(RecipeChoice(name="musclelora", guidance={"label_share": 0.1}), "minilm")


def test_wrong_labels_do_not_outvote_the_trusted_rows(tmp_path):
    """Every untrusted label is wrong: the guided model learns what the trusted rows say all the same."""
    honest = rows(128)
    flipped = type(honest).from_columns(
        {"row_id": honest.row_ids, "text": honest.texts, "label": [str(1 - int(label)) for label in honest.labels]}
    )
    backbone, accuracies = tiny_backbone(tmp_path / "base"), {}
    contrastive = {"steps": 60, "learning_rate": 5e-3}
    for name, parts in (("guided", {"contrastive": contrastive}), ("none", {})):
        choice = RecipeChoice(name=name, learning_rate=5e-3, batch_size=16, epochs=10, precision="fp32", **parts)
        model = train(
            flipped,
            trusted_rows(32),
            None,
            recipe=resolve_recipe(choice, "minilm"),
            backbone=backbone,
            max_length=32,
            seed=7,
            folder=tmp_path / name,
        )
        said = logits_of(*model.load(), honest.texts, 32).argmax(1)
        accuracies[name] = float((said == honest.label_ids(("0", "1"))).mean())
    assert accuracies["guided"] > 0.9
    assert accuracies["none"] < 0.1
