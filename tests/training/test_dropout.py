"""Dropout with our masks is dropout: probability, independence, scale, gradient, and the model as it was."""

import json

import pytest
import torch
from torch import nn

from musclelora.training.backbone import load_backbone
from musclelora.training.dropout import FastDropout, Masks, drop, fast_dropout
from musclelora.training.first_token import first_token_only
from tests.tiny import tiny_backbone

MANY = torch.Size([1000, 4000])


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_probability(p):
    share = float(Masks(1).dropped(MANY, p).double().mean())
    assert abs(share - p) < 4 * (p * (1 - p) / MANY.numel()) ** 0.5 + 1e-5


def test_probability_is_rounded_by_less_than_a_ten_thousandth():
    assert all(abs(round(p * 65536) / 65536 - p) < 1e-4 for p in (0.05, 0.1, 0.2, 0.33))


@pytest.mark.parametrize("shift", [1, 2, 3, 4, 4000])
def test_elements_are_independent_of_their_neighbours(shift):
    bits = Masks(2).dropped(MANY, 0.5).flatten().double() - 0.5
    assert abs(float((bits[shift:] * bits[:-shift]).mean()) * 4) < 5 / MANY.numel() ** 0.5


def test_two_calls_are_independent_and_a_seed_repeats_both():
    masks, again = Masks(3), Masks(3)
    first, second = masks.dropped(MANY, 0.5), masks.dropped(MANY, 0.5)
    assert abs(float((first == second).double().mean()) - 0.5) < 5 / MANY.numel() ** 0.5
    assert torch.equal(first, again.dropped(MANY, 0.5))
    assert torch.equal(second, again.dropped(MANY, 0.5))
    assert not torch.equal(first, Masks(4).dropped(MANY, 0.5))


def test_state_goes_on_where_it_stopped_through_json():
    masks = Masks(5)
    masks.dropped(torch.Size([7]), 0.5)
    saved = json.loads(json.dumps(masks.state))
    expected, other = masks.dropped(MANY, 0.5), Masks(6)
    other.state = saved
    assert torch.equal(other.dropped(MANY, 0.5), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_kept_elements_grow_so_that_the_mean_stays_and_the_gradient_is_the_mask(dtype):
    x = torch.ones(MANY, dtype=dtype, requires_grad=True)
    y = drop(x, 0.25, Masks(7))
    assert set(y.unique().tolist()) == {0.0, float(torch.tensor(4 / 3, dtype=dtype))}
    assert abs(float(y.detach().double().mean()) - 1) < (5e-3 if dtype == torch.bfloat16 else 2e-3)
    y.backward(torch.full_like(y, 2))
    torch.testing.assert_close(x.grad, 2 * y.detach())


def test_expanded_and_transposed_tensors():
    x = torch.arange(6.0).view(2, 3).T.expand(4, 3, 2)
    y = drop(x, 0.5, Masks(8))
    assert y.shape == x.shape
    assert bool(((y == 0) | (y == 2 * x)).all())


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert", "mpnet", "llama"])
def test_in_evaluation_the_model_is_exactly_the_eager_one_and_in_training_it_drops(tmp_path, family):
    model, _ = load_backbone(tiny_backbone(tmp_path, family), ["0", "1"], 32)
    ids, mask = torch.randint(5, 20, (3, 9)), torch.ones(3, 9, dtype=torch.long)
    mask[1, 6:] = 0
    expected = model.eval()(input_ids=ids, attention_mask=mask).logits
    plain = {type(module) for module in model.modules()}
    with fast_dropout(model, Masks(1)):
        assert nn.Dropout not in {type(module) for module in model.modules()}
        assert torch.equal(model(input_ids=ids, attention_mask=mask).logits, expected)
        model.train()
        first, second = (model(input_ids=ids, attention_mask=mask).logits for _ in range(2))
        assert torch.equal(first, second) is (family == "llama")  # it has no dropout
    assert {type(module) for module in model.modules()} == plain
    assert model.config._attn_implementation == "eager"
    assert torch.equal(model.eval()(input_ids=ids, attention_mask=mask).logits, expected)


def test_attention_with_the_same_mask_is_the_eager_one_in_training(tmp_path, monkeypatch):
    model, _ = load_backbone(tiny_backbone(tmp_path), ["0", "1"], 32)
    ids = torch.randint(5, 20, (3, 9))

    def every_other(x, p, *_, **__):
        return x * (torch.arange(x.numel()).view(x.shape) % 2) * 2 if p else x

    monkeypatch.setattr("musclelora.training.dropout.drop", every_other)
    monkeypatch.setattr(nn.functional, "dropout", lambda x, p=0.5, training=True, *_: every_other(x, p * training))
    expected = model.train()(input_ids=ids).logits
    with fast_dropout(model, Masks(1)):
        got = model(input_ids=ids).logits
    assert not torch.equal(got, model.eval()(input_ids=ids).logits)
    torch.testing.assert_close(got, expected)


def test_fast_dropout_in_evaluation_is_the_identity():
    x = torch.randn(5)
    assert FastDropout(0.5, Masks(1)).eval()(x) is x


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "llama"])
def test_the_last_layer_for_the_first_token_gives_the_same_logits_and_gradients(tmp_path, family):
    model, _ = load_backbone(tiny_backbone(tmp_path, family), ["0", "1"], 32)
    model.eval()
    ids, mask = torch.randint(5, 20, (3, 9)), torch.ones(3, 9, dtype=torch.long)
    mask[1, 6:] = 0
    results = []
    for narrow in (False, True):
        model.zero_grad()
        if narrow:
            with first_token_only(model):
                logits = model(input_ids=ids, attention_mask=mask).logits
                logits.square().sum().backward()
        else:
            logits = model(input_ids=ids, attention_mask=mask).logits
            logits.square().sum().backward()
        results.append([logits.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    for whole, narrow in zip(*results, strict=True):
        torch.testing.assert_close(whole, narrow, atol=1e-6, rtol=1e-4)
    assert not [module for module in model.modules() if "forward" in vars(module)]
