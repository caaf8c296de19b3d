"""Products by oneDNN give autograd's values and gradients; the padding of rows never shows."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from musclelora.adapters.injection import freeze, inject_lora
from musclelora.errors import ModelError
from musclelora.training import products
from musclelora.training.backbone import load_backbone
from musclelora.training.one_pass import Split, one_pass
from musclelora.training.products import ROWS_MULTIPLE, onednn_products, product, weight_gradient
from tests.tiny import tiny_backbone

BF16 = {"atol": 2e-2, "rtol": 2e-2}


@pytest.fixture(autouse=True, params=[True, False], ids=["mkl", "onednn"])
def by_either_library(request, monkeypatch):
    """Whatever this processor is fastest with."""
    monkeypatch.setattr(products, "MKL_IS_FASTER", request.param)


@pytest.mark.parametrize("shape", [(1, 3), (ROWS_MULTIPLE, 3), (5, 13, 3)])
def test_rows_are_filled_and_cut_again(shape):
    x, weight, bias = torch.randn(shape), torch.randn(4, 3), torch.randn(4)
    torch.testing.assert_close(product(x, weight, bias), nn.functional.linear(x, weight, bias))
    torch.testing.assert_close(product(x, weight.T.contiguous().T), nn.functional.linear(x, weight))


@pytest.mark.parametrize(("columns", "outputs"), [(3, 8), (8, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weights_gradient_is_the_sum_over_its_rows(columns, outputs, dtype):
    x, gradient = torch.randn(70, columns).to(dtype), torch.randn(70, outputs).to(dtype)
    expected = torch.einsum("ri,rj->ij", gradient.double(), x.double())
    tolerance = {"atol": 1e-4, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0.3, "rtol": 2e-2}
    torch.testing.assert_close(weight_gradient(gradient, x).double(), expected, **tolerance)


def values_and_gradients(model, batch):
    model.zero_grad()
    logits = model(**batch).logits.float()
    logits.square().sum().backward()
    return logits.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def prepared(tmp_path, family, adapted):
    torch.manual_seed(0)
    model, _ = load_backbone(tiny_backbone(tmp_path / family, family), ["0", "1"], 32)
    if adapted:
        freeze(model)
        inject_lora(model, 4, 8, 0.0)
        for name, p in model.named_parameters():
            if "lora_B" in name:  # zero at the start, which would hide A's gradient
                nn.init.normal_(p, std=0.1)
    torch.manual_seed(1)
    ids = torch.randint(5, 20, (6, 7))
    mask = torch.ones_like(ids)
    mask[:3, 5:] = 0
    return model.eval(), {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("adapted", [True, False])
@pytest.mark.parametrize("family", ["bert", "llama", "modernbert"])
def test_a_model_computes_the_same_logits_and_gradients(tmp_path, family, adapted):
    model, batch = prepared(tmp_path, family, adapted)
    logits, gradients = values_and_gradients(model, batch)
    with onednn_products(model, torch.float32, Split()):
        ours, our_gradients = values_and_gradients(model, batch)
    torch.testing.assert_close(ours, logits, atol=1e-5, rtol=1e-4)
    assert our_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(our_gradients[name], gradient, atol=1e-5, rtol=1e-3, msg=name)


def test_in_bf16_it_rounds_as_autocast_does(tmp_path):
    model, batch = prepared(tmp_path, "bert", adapted=True)
    with torch.autocast("cpu", torch.bfloat16):
        logits, gradients = values_and_gradients(model, batch)
        with onednn_products(model, torch.bfloat16, Split()):
            ours, our_gradients = values_and_gradients(model, batch)
    torch.testing.assert_close(ours, logits, **BF16)
    for name, gradient in gradients.items():
        assert our_gradients[name].dtype == torch.float32
        assert (our_gradients[name] - gradient).norm() < 0.03 * gradient.norm(), name


def test_forwards_are_replaced_and_put_back_around_another_replacement(tmp_path):
    model, _ = prepared(tmp_path, "bert", adapted=True)
    before = {path: module.__dict__.get("forward") for path, module in model.named_modules()}
    with onednn_products(model, torch.float32, Split()):
        within = {path: module.__dict__.get("forward") for path, module in model.named_modules()}
        with one_pass(model, Split()):
            pass
        assert {path: module.__dict__.get("forward") for path, module in model.named_modules()} == within
    changed = {type(module).__name__ for path, module in model.named_modules() if within[path] != before[path]}
    assert changed == {"Linear"}  # torch's, and peft's around it
    assert within["bert.encoder.layer.0.attention.self.query"] != before["bert.encoder.layer.0.attention.self.query"]
    assert {path: module.__dict__.get("forward") for path, module in model.named_modules()} == before


def test_a_lora_layer_with_dropout_keeps_it(tmp_path):
    model, batch = prepared(tmp_path, "bert", adapted=False)
    freeze(model)
    inject_lora(model, 4, 8, 0.5)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(p)
    for module in model.modules():
        module.training = isinstance(module, nn.Dropout) and module.p == 0.5  # LoRA's alone
    with onednn_products(model, torch.float32, Split()):
        assert not torch.equal(model(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize("cut", [0, 3, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_cut_lora_layer_keeps_the_gradients_of_the_reference_rows_apart(cut, dtype):
    torch.manual_seed(0)
    adapter = LoraConfig(r=2, lora_alpha=4, target_modules=["0"], init_lora_weights=False)
    layer = get_peft_model(nn.Sequential(nn.Linear(6, 5)), adapter).base_model.model[0]
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    x, target, split = torch.randn(7, 3, 6), torch.randn(7, 3, 5), Split()
    expected = [
        torch.autograd.grad((layer(x[part]) * target[part]).sum(), [a, b]) for part in (slice(cut), slice(cut, None))
    ]
    close = {"atol": 1e-5, "rtol": 1e-4} if dtype == torch.float32 else BF16
    with onednn_products(layer, dtype, split):
        with split.at(cut, 7):
            (layer(x) * target).sum().backward()
            with pytest.raises(ModelError, match="6 rows of a batch of 7"):
                layer(x[:6])
        for i, p in enumerate((a, b)):
            torch.testing.assert_close(p.grad, expected[0][i], **close)
            torch.testing.assert_close(split.references[p], expected[1][i], **close)
