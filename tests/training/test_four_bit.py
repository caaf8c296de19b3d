"""Training beside a 4-bit base: what ships is plain, and computes what was trained. Needs the extra `4bit`."""

import importlib.util
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from musclelora.adapters.four_bit import dequantise, is_four_bit
from musclelora.adapters.injection import fold, inject_lora
from musclelora.errors import ModelError
from musclelora.training import fit
from musclelora.training.backbone import load_backbone
from musclelora.training.predict import logits_of
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import RecipeChoice
from tests.tiny import rows, tiny_backbone, trusted_rows

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="the extra 4bit is not installed"
)


def recipe(name="musclelora"):
    fields = {"learning_rate": 5e-3, "epochs": 1, "batch_size": 16, "precision": "fp32"}
    scaling = {"radial_scaling": {"alpha": 0.25}} if name == "musclelora" else {}
    return resolve_recipe(RecipeChoice(name=name, **fields, **scaling), "bert-base")


def four_bit(folder, family):
    return tiny_backbone(folder, family).model_copy(update={"quantization": "4bit"})


def train(tmp_path, family, name="musclelora"):
    backbone = four_bit(tmp_path / "base", family)
    settings = {"recipe": recipe(name), "backbone": backbone, "max_length": 32, "seed": 7, "folder": tmp_path / "out"}
    return fit.train(rows(32), trusted_rows(), None, **settings)


@needs_bitsandbytes
@pytest.mark.parametrize("family", ["llama", "gemma", "roberta", "mpnet"])
def test_what_ships_is_plain_and_computes_what_was_trained(tmp_path, family):
    model = train(tmp_path, family)
    assert model.record.logit_difference < 1e-4
    weights = load_file(model.model_folder / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert set(weights) == set(load_file(tmp_path / "base/model.safetensors"))
    assert "quantization_config" not in (model.model_folder / "config.json").read_text()


@needs_bitsandbytes
def test_the_base_is_in_four_bits_and_the_head_is_not(tmp_path):
    model, _ = load_backbone(four_bit(tmp_path, "bert"), ["0", "1"], 32)
    quantised = {path for path, module in model.named_modules() if is_four_bit(module)}
    assert "bert.encoder.layer.0.attention.self.query" in quantised
    assert not {"classifier", "bert.pooler.dense"} & quantised


@needs_bitsandbytes
def test_dequantised_layers_hold_the_values_that_were_computed_with(tmp_path):
    model, tokenizer = load_backbone(four_bit(tmp_path, "llama"), ["0", "1"], 32)
    texts, without_lora = rows(8).texts, logits_of(model, tokenizer, rows(8).texts, 32)
    inject_lora(model, 2, 8, 0.0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    assert abs(logits_of(model, tokenizer, texts, 32) - without_lora).max() > 1e-3
    before = logits_of(model, tokenizer, texts, 32)
    dequantise(model)
    assert not [module for module in model.modules() if is_four_bit(module)]
    np.testing.assert_allclose(logits_of(model, tokenizer, texts, 32), before, atol=1e-5)
    fold(model)
    np.testing.assert_allclose(logits_of(model, tokenizer, texts, 32), before, atol=1e-5)
    # and these are not the values of the checkpoint, which 4 bits cannot hold
    stored = load_file(tmp_path / "model.safetensors")["model.layers.0.self_attn.k_proj.weight"]
    difference = (model.model.layers[0].self_attn.k_proj.weight - stored).abs()
    assert 1e-4 < difference.mean() < 0.2 * stored.abs().mean()


@needs_bitsandbytes
@pytest.mark.parametrize("name", ["none", "trusted-only", "ia3", "prefix"])
def test_what_cannot_train_beside_four_bits_is_refused(tmp_path, name):
    with pytest.raises(ModelError, match=rf"'{name}' cannot train beside 4-bit weights.*quantization: none"):
        train(tmp_path, "llama", name)


def test_without_bitsandbytes_the_extra_is_named(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))
    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    with pytest.raises(ModelError, match=r"pip install .*\[4bit\]"):
        load_backbone(four_bit(tmp_path, "bert"), ["0", "1"], 32)
