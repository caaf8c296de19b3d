"""Models of unknown origin: what is loaded, and what is refused before any of its code could run."""

import json

import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from musclelora.errors import ModelError
from musclelora.training.any_model import load_any_model
from musclelora.training.predict import logits_of
from tests.tiny import DECODERS, rows, tiny_backbone


@pytest.fixture
def folder(tmp_path):
    """A classifier whose config names its labels."""
    tiny_backbone(tmp_path / "model")
    return tmp_path / "model"


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def load(folder, labels=("0", "1"), **options):
    return load_any_model("theirs", folder, list(labels) if labels else None, **options)


def test_a_folder_and_its_labels(folder):
    model = load(folder, ("bad", "good"))
    assert (model.name, model.label_names, len(model.sha256)) == ("theirs", ["bad", "good"], 64)
    assert not model.model.training


def test_the_labels_of_its_config_in_the_order_of_the_outputs(folder):
    change_config(folder, id2label={"1": "good", "0": "bad"}, label2id={"good": 1, "bad": 0})
    assert load(folder, None).label_names == ["bad", "good"]
    assert load(folder, ("x", "y")).label_names == ["x", "y"]


def test_the_folder_may_hold_the_model_one_level_down(folder):
    assert load(folder.parent).sha256 == load(folder).sha256


def test_another_weight_is_another_hash(folder):
    before = load(folder).sha256
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.classifier.bias.add_(1)
    model.save_pretrained(folder)
    assert load(folder).sha256 != before


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_decoder_without_a_pad_token_classifies_rows_of_different_lengths_together(tmp_path, family):
    assert family in DECODERS
    tiny_backbone(tmp_path, family)
    change_config(tmp_path, pad_token_id=None)
    model = load(tmp_path)
    texts = rows(9).texts
    together = logits_of(model.model, model.tokenizer, texts, 32)
    for text, logits in zip(texts, together, strict=True):
        assert logits_of(model.model, model.tokenizer, [text], 32)[0] == pytest.approx(logits, abs=1e-5)


def test_precision_is_what_was_asked_for(folder):
    assert {w.dtype for w in load(folder).model.parameters()} == {torch.float32}
    assert {w.dtype for w in load(folder, precision="bf16").model.parameters()} == {torch.bfloat16}


def test_weights_saved_in_half_precision_are_evaluated_in_fp32_all_the_same(folder):
    AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    assert {w.dtype for w in load(folder).model.parameters()} == {torch.float32}


def pickled(folder):
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def bare_encoder(folder):
    AutoModel.from_pretrained(folder).save_pretrained(folder)


def own_code(folder):
    change_config(folder, model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModel": "own.Model"})
    (folder / "own.py").write_text("raise SystemExit('code of the model ran')")


def cut_short(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def no_tokenizer(folder):
    for path in folder.glob("*token*"):
        path.unlink()
    change_config(folder, model_type="roberta")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (pickled, "holds no safetensors weights. Pickled weights are refused, since loading them runs code"),
        (bare_encoder, "no trained weights for classifier.*it is a backbone.*Name the fine-tuned model"),
        (own_code, "holds config.json, own.py: pickles, or code that comes with the model"),
        (cut_short, "cannot be loaded as a text classifier"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be loaded as a text classifier"),
        (lambda folder: (folder / "config.json").unlink(), "cannot be loaded as a text classifier"),
        (no_tokenizer, "theirs"),
    ],
    ids=["pickled", "bare encoder", "own code", "cut short", "no JSON", "no config", "no tokenizer"],
)
def test_what_is_refused(folder, spoil, message):
    spoil(folder)
    with pytest.raises(ModelError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "labels are not named in its config"),
        (["0"], "has 2 outputs"),
        (["0", "1", "2"], "has 2 outputs"),
        (["0", "0"], "in the order of the outputs"),
    ],
)
def test_labels_that_do_not_fit(folder, labels, message):
    with pytest.raises(ModelError, match=message):
        load(folder, labels)


@pytest.mark.parametrize("name", ["nowhere/at-all", "./not/here", "no such name"])
def test_a_name_that_is_nothing(name):
    with pytest.raises(ModelError, match=f"{name} cannot be loaded as a text classifier.*a hub name, or models:/"):
        load_any_model(name, name, ["0", "1"])
