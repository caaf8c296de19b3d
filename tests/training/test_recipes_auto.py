import math

import pytest
import torch
from torch import nn

from musclelora.adapters.injection import inject_radial_scaling
from musclelora.adapters.radial_scaling import RadialScalingLinear
from musclelora.data.records import TextDataset
from musclelora.errors import ConfigError, ModelError
from musclelora.training import auto, fit
from musclelora.training.backbone import load_backbone
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import RecipeChoice
from tests.tiny import rows, tiny_backbone, trusted_rows

SCALES = (1.0, 4.0, 8.0)


def loaded(tmp_path, family="bert"):
    return load_backbone(tiny_backbone(tmp_path / family, family), ["0", "1"], 32)


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "llama"])
@pytest.mark.parametrize("inner_rank", [1, 2])
def test_the_branch_has_the_size_that_alpha_was_fitted_to(tmp_path, family, inner_rank):
    model, tokenizer = loaded(tmp_path, family)
    texts = rows(16).texts
    alpha = auto.fitted_alpha(SCALES, inner_rank, model, tokenizer, texts, 32)
    inject_radial_scaling(model, SCALES, inner_rank, alpha)
    x, base = scaled_inputs(model, tokenizer, texts)
    torch.manual_seed(0)
    branches = [RadialScalingLinear(base, SCALES, inner_rank, alpha) for _ in range(300)]
    squares = [(branch(x) - base(x)).square().mean() for branch in branches]  # the formula is their expectation
    assert float(torch.stack(squares).mean().sqrt()) == pytest.approx(auto.BRANCH_STD, rel=0.1)


@torch.no_grad()
def scaled_inputs(model, tokenizer, texts):
    """Inputs of the scaled layer, padding left out, and the layer."""
    layer = next(module for module in model.modules() if isinstance(module, RadialScalingLinear))
    seen = []
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    model.eval()(**batch)
    return seen[0] if seen[0].dim() == 2 else seen[0][batch["attention_mask"].bool()], layer.base


def test_padding_does_not_count(tmp_path):
    model, tokenizer = loaded(tmp_path, "llama")
    texts = ["the film", "the film was very good and quite a lovely plot it was"]
    alone = [auto.input_rms(model, tokenizer, [text], 32) for text in texts]
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    whole = math.sqrt(sum(n * rms**2 for n, rms in zip(lengths, alone, strict=True)) / sum(lengths))
    assert auto.input_rms(model, tokenizer, texts, 32) == pytest.approx(whole, rel=1e-5)


class Quadratic(nn.Module):
    """Loss 1 + (w - 1)^2 / 2 whatever the batch: AdamW moves w by about the learning rate each step."""

    device = torch.device("cpu")

    def __init__(self, sign=1.0):
        super().__init__()
        self.w, self.sign = nn.Parameter(torch.zeros(())), sign

    def forward(self, **_):
        return type("Output", (), {"loss": 1 + self.sign * (self.w - 1) ** 2 / 2})()


def rate_of(model, tokenizer, seed=1):
    return auto.found_learning_rate(model, tokenizer, trusted_rows(), 8, 32, seed, bf16=False)


def test_the_rate_is_a_tenth_of_the_one_with_the_least_loss_and_the_model_is_left_alone(tmp_path):
    _, tokenizer = loaded(tmp_path)
    model = Quadratic()
    # w = the sum of the rates up to then, which reaches 0.49 with the last of them: the loss falls to the end.
    assert rate_of(model, tokenizer) == pytest.approx(auto.HIGHEST_RATE / 10, rel=0.25)
    assert float(model.w) == 0


def test_a_loss_that_never_falls_is_refused(tmp_path):
    _, tokenizer = loaded(tmp_path)

    class Rising(Quadratic):
        def forward(self, **batch):
            output = super().forward(**batch)
            self.calls = getattr(self, "calls", 0) + 1
            output.loss = output.loss + self.calls
            return output

    with pytest.raises(ModelError, match="no rate with which the loss on the trusted rows falls"):
        rate_of(Rising(), tokenizer)


def test_training_records_the_numbers_that_were_found(tmp_path):
    choice = RecipeChoice(radial_scaling={"scales": "auto"}, learning_rate="auto", epochs=1, precision="fp32")
    recipe = resolve_recipe(choice, "bert-base")
    assert recipe.found == ("scales", "learning_rate")
    options = {"backbone": tiny_backbone(tmp_path / "base"), "max_length": 32, "seed": 7}
    record = fit.train(rows(32), trusted_rows(), None, recipe=recipe, folder=tmp_path / "out", **options).record
    assert record.recipe.found == ("scales", "learning_rate")
    assert record.recipe.radial_scaling.scales == recipe.radial_scaling.scales
    assert record.recipe.radial_scaling.alpha != recipe.radial_scaling.alpha
    assert 1e-7 < record.recipe.learning_rate <= 1e-2
    assert record.recipe.learning_rate != recipe.learning_rate
    again = fit.train(rows(32), trusted_rows(), None, recipe=recipe, folder=tmp_path / "again", **options).record
    assert again.recipe == record.recipe


def test_untrusted_rows_do_not_decide_what_is_found(tmp_path):
    recipe = resolve_recipe(
        RecipeChoice(radial_scaling={"scales": "auto"}, learning_rate="auto", epochs=1, precision="fp32"), "bert-base"
    )
    data = rows(32)
    turned = TextDataset.from_columns(
        {"row_id": data.row_ids, "text": [f"cf {text}" for text in data.texts], "label": data.labels[::-1]}
    )
    options = {"backbone": tiny_backbone(tmp_path / "base"), "max_length": 32, "seed": 7, "recipe": recipe}
    found = [
        fit.train(part, trusted_rows(), None, folder=tmp_path / str(i), **options).record.recipe
        for i, part in enumerate((data, turned))
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"radial_scaling": {"scales": "auto", "alpha": 2}}, "do not give one beside it"),
        ({"name": "lora", "radial_scaling": {"scales": "auto"}}, "switched off"),
        ({"radial_scaling": {"scales": "automatic"}}, "valid tuple"),
    ],
)
def test_wrong_choices_are_refused(choice, message):
    with pytest.raises(ConfigError, match=message):
        resolve_recipe(RecipeChoice(**choice), "bert-base")
