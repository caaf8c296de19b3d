"""Defences that stand before a trained model: ONION, STRIP, RAP."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from musclelora.defenses import onion
from musclelora.defenses.base import REFUSED, Defender
from musclelora.defenses.classifier import without_each_word
from musclelora.defenses.onion import LanguageModel, Onion, kept_words
from musclelora.defenses.rap import Rap
from musclelora.defenses.strip import Strip
from musclelora.errors import ConfigError, DataError, ModelError
from tests.defenses.conftest import TARGET, WORDS, three_labels
from tests.tiny import CONFIGS, DECODERS


def defence(name, language_model):
    chosen = {
        "onion": Onion(language_model=language_model, accuracy_loss=0.1),
        "strip": Strip(copies=8, replaced_share=0.5, refused_share=0.1),
        "rap": Rap(word="rare", steps=60, learning_rate=0.05, refused_share=0.1),
    }
    return chosen[name]


@pytest.mark.parametrize("name", ["onion", "strip", "rap"])
def test_triggered_rows_no_longer_get_the_target_and_clean_ones_their_label(
    name, backdoored, triggered, defender, language_model
):
    target, test = defender.label_names.index(TARGET), three_labels(60, "test")
    guard = defence(name, language_model).guard(backdoored, defender)
    answers, clean = guard(triggered.texts), guard(test.texts)
    assert (answers == target).mean() < 0.35
    assert (clean == test.label_ids(defender.label_names)).mean() > 0.45
    assert np.array_equal(answers[::-1], guard(triggered.texts[::-1]))  # no text's answer depends on the others


@pytest.mark.parametrize("name", ["strip", "rap"])
def test_few_clean_rows_are_refused(name, backdoored, defender, language_model):
    guard = defence(name, language_model).guard(backdoored, defender)
    assert (guard(three_labels(60, "other").texts) == REFUSED).mean() <= 0.25


def test_onion_takes_out_the_word_that_no_clean_text_has(language_model):
    (suspicions,) = LanguageModel(language_model).suspicions(["f1 f5 w12 3d f7 f8"])
    assert suspicions.argmax() == 3
    assert kept_words("f1 f5 w12 3d f7 f8", suspicions, np.sort(suspicions)[-2]) == "f1 f5 w12 f7 f8"


def test_the_language_model_reads_a_text_once_for_all_guards(
    backdoored, triggered, defender, language_model, monkeypatch
):
    defense = Onion(language_model=language_model, accuracy_loss=0.1)
    first = defense.guard(backdoored, defender)(triggered.texts)
    monkeypatch.setattr(LanguageModel, "_read", lambda *_: pytest.fail("read again"))
    assert np.array_equal(defense.guard(backdoored, defender)(triggered.texts), first)


BLOOM = {"vocab_size": len(WORDS), "hidden_size": 32, "n_layer": 2, "n_head": 4}  # takes no mask of four dimensions
TEXTS = ("f1 f5 w12 3d f7 f8", "f1 f1 f1 w3", "f2", " ".join(f"f{i % 9}" for i in range(150)))


@pytest.mark.parametrize("family", [*DECODERS, "bloom"])
def test_texts_read_together_are_as_surprising_as_each_alone(family, language_model, tmp_path, monkeypatch):
    tokenizer = AutoTokenizer.from_pretrained(language_model)
    settings = BLOOM if family == "bloom" else CONFIGS[family] | {"vocab_size": len(WORDS)}
    long = {"max_position_embeddings": 160, "n_positions": 160} if family != "bloom" else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings | long)).eval()
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.3)  # so that what came before matters
    model.save_pretrained(tmp_path)
    monkeypatch.setattr(onion.AutoTokenizer, "from_pretrained", lambda _: tokenizer)
    reader = LanguageModel(str(tmp_path))

    def perplexity(text):
        ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"][:128]]
        ids = torch.tensor([ids])
        with torch.inference_mode():
            return model(input_ids=ids, labels=ids).loss.double().exp().item()

    for text, suspicions in zip(TEXTS, reader.suspicions(TEXTS), strict=True):
        expected = [perplexity(text) - perplexity(shorter) for shorter in without_each_word(text)]
        np.testing.assert_allclose(suspicions, expected, rtol=1e-3, atol=1e-2)


def test_a_text_is_never_emptied():
    assert kept_words("bad film", np.array([5.0, 5.0]), 1.0) == "bad film"


def test_a_single_word_has_nothing_to_be_compared_with(language_model):
    (suspicions,) = LanguageModel(language_model).suspicions(["f1"])
    assert len(suspicions) == 0
    assert kept_words("f1", suspicions, 0.0) == "f1"


def test_a_language_model_that_is_not_there_is_said(backdoored, defender, tmp_path):
    with pytest.raises(ModelError, match="language_model"):
        Onion(language_model=str(tmp_path / "none")).guard(backdoored, defender)


@pytest.mark.parametrize("kind", [Onion, Strip])
def test_no_clean_rows_is_said(kind, backdoored, defender):
    bare = Defender(defender.trusted, three_labels(0, "none"), 7, defender.train, defender.backbone, 32)
    with pytest.raises(DataError, match="clean rows"):
        kind().guard(backdoored, bare)


def test_rap_needs_a_word_of_the_vocabulary(backdoored, defender):
    with pytest.raises(ConfigError, match="one"):
        Rap(word="mb").guard(backdoored, defender)
