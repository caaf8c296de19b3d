"""Loading a backbone: pad tokens, padding on either side, and what cannot be used."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from musclelora.adapters.injection import inject_lora
from musclelora.errors import ModelError
from musclelora.training.backbone import load_backbone, load_tokenizer
from tests.tiny import DECODERS, EOS, rows, tiny_backbone

TEXTS = ["good", "the film was a very lovely film and it was great", "dull plot"]
LABELS = ["0", "1"]
GRADIENTS = "gradient_checkpointing"


@torch.no_grad()
def logits(model, tokenizer, texts):
    return model.eval()(**tokenizer(texts, padding=True, return_tensors="pt")).logits


def alone(model, tokenizer):
    return torch.cat([logits(model, tokenizer, [text]) for text in TEXTS])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", DECODERS)
def test_a_decoders_logits_do_not_depend_on_the_padding(tmp_path, family, side):
    """Neither on what its tokenizer says about the side, nor on the rows beside it in the batch."""
    backbone = tiny_backbone(tmp_path, family, padding_side=side)
    assert AutoTokenizer.from_pretrained(tmp_path).padding_side == side
    model, tokenizer = load_backbone(backbone, LABELS, 32)
    torch.testing.assert_close(logits(model, tokenizer, TEXTS), alone(model, tokenizer), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", [family for family in DECODERS if family != "gpt2"])
def test_rotary_positions_allow_padding_on_the_left(tmp_path, family):
    model, tokenizer = load_backbone(tiny_backbone(tmp_path, family), LABELS, 32)
    tokenizer.padding_side = "left"
    torch.testing.assert_close(logits(model, tokenizer, TEXTS), alone(model, tokenizer), atol=1e-5, rtol=1e-5)


def test_learned_positions_do_not_which_is_why_all_are_padded_on_the_right(tmp_path):
    model, tokenizer = load_backbone(tiny_backbone(tmp_path, "gpt2"), LABELS, 32)
    tokenizer.padding_side = "left"
    assert (logits(model, tokenizer, TEXTS) - alone(model, tokenizer)).abs().max() > 1e-3


@pytest.mark.parametrize("family", DECODERS)
def test_the_pad_token_is_set_and_saved_with_the_model(tmp_path, family):
    backbone = tiny_backbone(tmp_path / "base", family)
    model, tokenizer = load_backbone(backbone, LABELS, 32)
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved/config.json").read_text())["pad_token_id"] == EOS
    reloaded = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert (reloaded.pad_token_id, reloaded.padding_side) == (EOS, "right")


def test_a_pad_token_of_its_own_is_kept(tmp_path):
    model, tokenizer = load_backbone(tiny_backbone(tmp_path, "llama", pad_token="[PAD]"), LABELS, 32)  # noqa: S106
    assert (tokenizer.pad_token_id, model.config.pad_token_id) == (0, 0)


def test_a_tokenizer_without_pad_and_end_is_refused(tmp_path):
    backbone = tiny_backbone(tmp_path, "llama")
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del settings["eos_token"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="neither a pad nor an end-of-text token"):
        load_backbone(backbone, LABELS, 32)


def test_a_pad_token_that_the_model_does_not_embed_is_refused(tmp_path):
    backbone = tiny_backbone(tmp_path, "llama", pad_token="<added>")  # noqa: S106
    with pytest.raises(ModelError, match=r"'<added>'.*the model embeds 32 tokens only"):
        load_tokenizer(backbone)


def test_weights_stored_in_bf16_are_trained_in_fp32(tmp_path):
    backbone = tiny_backbone(tmp_path / "base", "llama")
    model, tokenizer = load_backbone(backbone, LABELS, 32)
    model.to(torch.bfloat16).save_pretrained(tmp_path / "half")
    tokenizer.save_pretrained(tmp_path / "half")
    half = backbone.model_copy(update={"location": str(tmp_path / "half")})
    assert {p.dtype for p in load_backbone(half, LABELS, 32)[0].parameters()} == {torch.float32}


def test_a_family_without_a_line_in_the_table_is_refused(tmp_path):
    backbone = tiny_backbone(tmp_path, "bert")
    config = Path(tmp_path, "config.json")
    config.write_text(config.read_text().replace('"bert"', '"albert"').replace("BertFor", "AlbertFor"))
    with pytest.raises(ModelError, match=r"'albert'.*Families: bert, "):
        load_backbone(backbone, LABELS, 32)


def test_tiny_tokenizers_know_the_words(tmp_path):
    for family in DECODERS:
        tokenizer = load_tokenizer(tiny_backbone(tmp_path / family, family))
        assert tokenizer.unk_token_id not in tokenizer(" ".join(rows(8).texts))["input_ids"]


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_gradient_checkpointing_changes_no_gradient(tmp_path, family):
    backbone = tiny_backbone(tmp_path, family)
    gradients = []
    for checkpointing in (False, True):
        chosen = backbone.model_copy(update={"gradient_checkpointing": checkpointing})
        model, tokenizer = load_backbone(chosen, LABELS, 32)
        switched_on = {module.gradient_checkpointing for module in model.modules() if hasattr(module, GRADIENTS)}
        assert switched_on == {checkpointing}
        torch.manual_seed(0)
        inject_lora(model, 2, 4, 0.0)
        model.train()
        torch.manual_seed(0)  # the same dropout
        model(**tokenizer(TEXTS, padding=True, return_tensors="pt"), labels=torch.tensor([0, 1, 0])).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) > 2
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain)
