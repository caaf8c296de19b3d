"""The memory plan: numbers that can be had by hand, and what must make it larger or smaller."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from musclelora.errors import ModelError
from musclelora.training import memory
from musclelora.training.backbone import Backbone
from musclelora.training.memory import plan_memory
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import RecipeChoice
from tests.tiny import CONFIGS

BACKBONE = Backbone(name="tiny", location="nowhere", sha256="")


def plan(family="bert", name="musclelora", tokens=20, bf16=False, backbone=BACKBONE, **fields):
    config = AutoConfig.for_model(family, **CONFIGS[family])
    recipe = resolve_recipe(RecipeChoice(name=name, **fields), "bert-base")
    return plan_memory(config, recipe, backbone, classes=2, tokens=tokens, bf16=bf16)


@pytest.mark.parametrize("family", CONFIGS)
def test_full_training_costs_four_copies_of_the_weights_and_one_kept(family):
    config = AutoConfig.for_model(family, **CONFIGS[family])
    parameters = sum(p.numel() for p in AutoModelForSequenceClassification.from_config(config).parameters())
    full = plan(family, "none")
    assert full.weights == full.gradients == full.kept == full.reloaded == pytest.approx(4 * parameters / 2**20)
    assert full.optimizer == 2 * full.weights


def test_adapters_cost_by_what_they_train():
    """LoRA 8 on query and value of two layers of 16 x 16, and a branch of 8 bands: known numbers."""
    trained = 4 * 2 * 8 * 16 + 2 * 8 * 16
    adapted = plan()
    assert adapted.optimizer == pytest.approx(2 * 4 * trained / 2**20)
    assert adapted.gradients == pytest.approx(3 * 4 * trained / 2**20)  # of the batch, of the reference, aligned
    assert plan(name="lora+ms").gradients == pytest.approx(4 * trained / 2**20)


def test_peak_is_the_larger_of_training_and_comparing():
    whole = plan(name="none", batch_size=1, tokens=2).model_copy(update={"process": 0})
    assert whole.peak == pytest.approx(whole.weights * 4 + max(whole.gradients + whole.activations, whole.reloaded))
    small = whole.model_copy(update={"gradients": 0, "activations": 0})
    assert small.peak == pytest.approx(small.weights * 5)


def test_activations_grow_with_rows_and_with_reference_rows():
    one, two = (plan(name="none", batch_size=rows).activations for rows in (16, 32))
    assert two == pytest.approx(2 * one, rel=0.01)
    assert plan(name="ga", batch_size=16).activations == pytest.approx(plan(name="none", batch_size=48).activations)


def test_activations_are_what_autograd_keeps():
    """The same hooks on a real model, whose tensors have content."""
    config = AutoConfig.for_model("bert", **CONFIGS["bert"])
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").train()
    own, kept = {p.data_ptr() for p in model.parameters()}, {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(torch.ones(32, 20, dtype=torch.long))
    saved = sum(size for pointer, size in kept.items() if pointer not in own)
    assert output.logits.shape == (32, 2)
    assert plan(name="none").activations == pytest.approx(1.5 * saved / 2**20, rel=0.02)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_longer_rows_cost_more_than_their_share(family):
    """Eager attention keeps a matrix of tokens by tokens."""
    assert plan(family, tokens=40).activations > 2 * plan(family, tokens=20).activations


def test_four_bits_and_checkpointing_save_what_they_should():
    plain = plan("llama")
    packed = plan("llama", backbone=BACKBONE.model_copy(update={"quantization": "4bit"}))
    assert packed.weights < plain.weights
    assert packed.weights + packed.reloaded == pytest.approx(2 * plain.weights)  # dequantised, and read again
    assert packed.activations == plain.activations
    checkpointed = plan("llama", backbone=BACKBONE.model_copy(update={"gradient_checkpointing": True}))
    assert checkpointed.activations < 0.6 * plain.activations


def test_nothing_is_allocated_for_a_model_of_seven_billion_weights():
    config = AutoConfig.for_model(
        "llama",
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        vocab_size=32000,
    )
    recipe = resolve_recipe(RecipeChoice(), "bert-base")
    packed = BACKBONE.model_copy(update={"quantization": "4bit", "gradient_checkpointing": True})
    before = memory.psutil.Process().memory_info().rss
    seven = plan_memory(config, recipe, packed, classes=2, tokens=128, bf16=True)
    assert memory.psutil.Process().memory_info().rss - before < 500 * 2**20
    assert 3500 < seven.weights < 4500  # 6.5e9 weights in 4 bits, 131e6 embeddings and 17e6 of the head in fp32


def test_the_models_random_numbers_are_left_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    plan()
    assert torch.equal(torch.rand(3), expected)


def test_a_family_that_is_not_in_the_table_is_refused():
    config = AutoConfig.for_model("albert", vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    recipe = resolve_recipe(RecipeChoice(), "bert-base")
    with pytest.raises(ModelError, match="'albert'"):
        plan_memory(config, recipe, BACKBONE, classes=2, tokens=8, bf16=False)
