"""One pass over training and reference rows gives the gradients of two."""

import numpy as np
import pytest
import torch
from torch import nn

from musclelora.adapters.radial_scaling import RadialScalingLinear
from musclelora.errors import ModelError
from musclelora.training import aligned_trainer, fit
from musclelora.training.backbone import load_backbone
from musclelora.training.batches import cut_by_length, joined
from musclelora.training.one_pass import Split, covers, one_pass
from tests.tiny import rows, tiny_backbone, trusted_rows
from tests.training.test_fit import recipe


def prepared(tmp_path, chosen, family="bert"):
    torch.manual_seed(0)
    model, tokenizer = load_backbone(tiny_backbone(tmp_path / family, family), ["0", "1"], 32)
    fit.prepare(model, chosen)
    for name, p in model.named_parameters():
        if "lora_B" in name:  # zero at the start, which would hide A's gradient
            nn.init.normal_(p, std=0.1)
    return model.eval(), tokenizer


def trainer_of(tmp_path, passes, accumulation=1, every=1, chosen=None):
    """A trainer without dropout that records the gradient of each parameter as it reaches the optimizer."""
    changes = {"alignment": {"reference_batch_size": 8, "reference_every": every}}
    model, tokenizer = prepared(tmp_path, chosen or recipe(epochs=1, **changes))
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    trainer = fit.build_trainer(
        model, tokenizer, rows(64), trusted_rows(), None, chosen or recipe(epochs=1, **changes), 7
    )
    trainer.args.gradient_accumulation_steps = accumulation
    trainer.passes = passes
    if passes == 2:  # the same trusted batches as one pass chooses by length
        draw, wanted = trainer.references.next, iter(trainer_lengths(trainer, accumulation))
        trainer.references.next = lambda: draw(next(wanted))
    seen = []
    align = trainer._align_gradients

    def record(settings):
        raw = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        seen.append((raw, [g.clone() for g in trainer._reference_gradients], trainer._reference_loss))
        align(settings)

    trainer._align_gradients = record
    trainer.train()
    return trainer, seen


def trainer_lengths(trainer, accumulation):
    shapes = [batch["input_ids"].shape[1] for batch in trainer.get_train_dataloader()]
    return shapes[accumulation - 1 :: accumulation]


@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_one_pass_equals_two(tmp_path, accumulation):
    one, of_one = trainer_of(tmp_path, 1, accumulation)
    two, of_two = trainer_of(tmp_path, 2, accumulation)
    assert len(of_one) == len(of_two) == 4 // accumulation
    for (raw, references, loss), (raw2, references2, loss2) in zip(of_one, of_two, strict=True):
        assert raw.keys() == raw2.keys()
        for name in raw:
            torch.testing.assert_close(raw[name], raw2[name], atol=1e-6, rtol=1e-3)
        for reference, reference2 in zip(references, references2, strict=True):
            torch.testing.assert_close(reference, reference2, atol=1e-6, rtol=1e-3)
            assert reference.abs().max() > 0
        assert loss == pytest.approx(loss2, abs=1e-5)
    for (name, p), other in zip(one.model.named_parameters(), two.model.parameters(), strict=True):
        torch.testing.assert_close(p, other, atol=1e-4, rtol=0, msg=name)


@pytest.mark.parametrize("passes", [1, 2])
def test_a_batch_computed_in_parts_gives_the_gradient_of_the_whole(tmp_path, monkeypatch, passes):
    cut = []

    def counted(lengths, most_tokens):
        cut.append(cut_by_length(lengths, most_tokens))
        return cut[-1]

    monkeypatch.setattr(aligned_trainer, "cut_by_length", lambda lengths, _: [np.arange(len(lengths))])
    _, whole = trainer_of(tmp_path, passes)
    monkeypatch.setattr(aligned_trainer, "cut_by_length", counted)
    monkeypatch.setattr(aligned_trainer, "TOKENS_PER_PASS", 50)
    _, parts = trainer_of(tmp_path, passes)
    assert len(cut) == 4 * passes
    assert any(len({len(part) for part in of_batch}) > 1 for of_batch in cut)  # of unequal sizes
    for (raw, references, loss), (raw2, references2, loss2) in zip(whole, parts, strict=True):
        for name in raw:
            torch.testing.assert_close(raw[name], raw2[name], atol=1e-7, rtol=1e-3)
        for reference, reference2 in zip(references, references2, strict=True):
            torch.testing.assert_close(reference, reference2, atol=1e-7, rtol=1e-3)
        assert loss == pytest.approx(loss2, abs=1e-5)


def test_each_part_of_the_batch_gets_its_own_gradient():
    torch.manual_seed(0)
    layer, x = RadialScalingLinear(nn.Linear(6, 5), [1, 4], alpha=2.0).double(), torch.randn(7, 3, 6).double()
    split, target = Split(), torch.randn(7, 3, 5).double()
    parameters = [layer.left, layer.right]
    expected = [
        torch.autograd.grad((layer(part) * wanted).sum(), parameters)
        for part, wanted in ((x[:4], target[:4]), (x[4:], target[4:]))
    ]
    with one_pass(layer, split), split.at(4, 7):
        (layer(x) * target).sum().backward()
    for i, p in enumerate(parameters):
        torch.testing.assert_close(p.grad, expected[0][i])
        torch.testing.assert_close(split.references[p], expected[1][i])
    assert not hasattr(layer.forward, "split")


@pytest.mark.parametrize(
    ("name", "family", "one"),
    [
        ("musclelora", "bert", True),
        ("lora+ga", "roberta", True),
        ("musclelora", "llama", True),
        ("ga", "bert", False),  # every weight trains
        ("musclelora", "deberta-v2", False),  # projections shared with the position embeddings
    ],
)
def test_one_pass_is_chosen_where_every_trained_tensor_can_be_split(tmp_path, name, family, one):
    assert covers(prepared(tmp_path, recipe(name), family)[0]) is one


def test_a_layer_that_sees_other_rows_is_refused():
    layer, split = RadialScalingLinear(nn.Linear(4, 4), [1]), Split()
    with one_pass(layer, split), split.at(2, 5), pytest.raises(ModelError, match="3 rows of a batch of 5"):
        layer(torch.randn(3, 4))


@pytest.mark.parametrize("side", ["left", "right"])
def test_joined_rows_are_padded_on_the_tokenizers_side(side):
    short = {"input_ids": torch.tensor([[5, 6]]), "attention_mask": torch.ones(1, 2), "labels": torch.tensor([1])}
    long = {"input_ids": torch.full((2, 3), 7), "attention_mask": torch.ones(2, 3), "labels": torch.tensor([0, 1])}
    both = joined(short, long, 9, side)
    assert both["input_ids"][0].tolist() == ([9, 5, 6] if side == "left" else [5, 6, 9])
    assert both["attention_mask"][0].tolist() == ([0, 1, 1] if side == "left" else [1, 1, 0])
    assert both["labels"].tolist() == [1, 0, 1]


def test_a_reference_gradient_can_serve_several_steps(tmp_path):
    trainer, seen = trainer_of(tmp_path, 1, every=3)
    assert trainer.references.drawn == 2
    for later in (1, 2):
        assert all(torch.equal(a, b) for a, b in zip(seen[later][1], seen[0][1], strict=True))
    assert not torch.equal(seen[3][1][0], seen[0][1][0])
