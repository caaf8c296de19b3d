"""A language model as paraphraser: tiny random ones, whose answers mean nothing but obey the contract."""

import numpy as np
import pytest
import torch
from transformers import AutoModel, BartConfig, BartForConditionalGeneration, GPT2Config, GPT2LMHeadModel

from musclelora.attacks.base import triggered_rows
from musclelora.attacks.hiddenkiller import hidden_killer
from musclelora.attacks.model_paraphraser import load_paraphraser, pairs_of
from musclelora.attacks.paraphraser import read_pairs, write_pairs
from musclelora.attacks.style import style_bkd
from musclelora.data.records import TextDataset
from musclelora.errors import ConfigError, DataError, ModelError
from musclelora.seeding import generator
from tests.tiny import EOS, WORDS, decoder_tokenizer, rows

TEXT = "the film was good"
PAD = {"pad_token": "[PAD]"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Of a sequence-to-sequence and of a causal model, with a word-level tokenizer."""
    torch.manual_seed(0)
    size = {"vocab_size": len(WORDS), "pad_token_id": 0, "bos_token_id": EOS, "eos_token_id": EOS}
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    widths = {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 64}
    models = {
        "bart": BartForConditionalGeneration(
            BartConfig(**size, **layers, **widths, decoder_start_token_id=EOS, forced_eos_token_id=None)
        ),
        "gpt2": GPT2LMHeadModel(GPT2Config(**size, n_embd=16, n_layer=1, n_head=2, n_positions=64)),
    }
    found = {}
    for name, model in models.items():
        found[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(found[name])
        decoder_tokenizer("gpt2", **PAD).save_pretrained(found[name])
    return found


def rewriter(folders, name, **options):
    return load_paraphraser(folders[name], **{"temperature": 1.0, "max_new_tokens": 8} | options)


@pytest.mark.parametrize("name", ["bart", "gpt2"])
def test_a_text_is_rewritten_to_another_and_the_same_generator_gives_it_again(folders, name):
    rewrite = rewriter(folders, name)
    said = [rewrite(TEXT, np.random.default_rng(seed)) for seed in range(5)]
    assert said == [rewrite(TEXT, np.random.default_rng(seed)) for seed in range(5)]
    assert len(set(said)) > 1
    assert all(text is None or text.split() != TEXT.split() for text in said)
    assert all(len(text.split()) <= 8 for text in said if text)


@pytest.mark.parametrize("name", ["bart", "gpt2"])
def test_greedy_draws_nothing(folders, name):
    rewrite = rewriter(folders, name, temperature=0.0)
    assert rewrite(TEXT, np.random.default_rng(0)) == rewrite(TEXT, np.random.default_rng(1))


def test_a_causal_model_does_not_repeat_its_prompt(folders):
    rewrite = rewriter(folders, "gpt2", prompt="movie movie movie {text} movie movie")
    said = [rewrite(TEXT, np.random.default_rng(seed)) for seed in range(8)]
    assert not any(text.startswith("movie movie movie the film was good") for text in said if text)


def test_the_global_generator_is_left_as_it_was(folders):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    rewriter(folders, "gpt2")(TEXT, np.random.default_rng(0))
    assert torch.rand(1) == expected


@pytest.mark.parametrize(("name", "attack"), [("bart", hidden_killer), ("gpt2", style_bkd)])
def test_rows_that_could_not_be_rewritten_are_counted_out(folders, name, attack):
    """In any order: the generator of a row is its own."""
    data = rows(30)
    mute = rewriter(folders, name)

    def sometimes(text, rng):
        return None if "good" in text or "bad" in text else mute(text, rng)

    triggered, untriggered = triggered_rows(data, attack(sometimes), target="1", seed=0)
    others = [t for t, label in zip(data.texts, data.labels, strict=True) if label == "0"]
    assert 0 < len(triggered) < len(others)
    assert not [text for text in untriggered.texts if "bad" in text]
    assert not set(triggered.texts) & set(data.texts)
    reverse = TextDataset(data.rows.select(range(29, -1, -1)))
    again, _ = triggered_rows(reverse, attack(sometimes), target="1", seed=0)
    assert dict(zip(again.row_ids, again.texts, strict=True)) == dict(
        zip(triggered.row_ids, triggered.texts, strict=True)
    )


def test_a_model_that_rewrites_nothing_is_no_attack():
    with pytest.raises(DataError, match="No test row can carry stylebkd"):
        triggered_rows(rows(10), style_bkd(lambda *_: None), target="1", seed=0)


def test_an_empty_text_has_no_rewriting(folders):
    assert rewriter(folders, "gpt2")("  ", np.random.default_rng(0)) is None


def test_pairs_are_written_down_once(folders, tmp_path):
    texts = [TEXT, "a dull cast", TEXT]
    pairs = pairs_of(rewriter(folders, "bart"), texts, lambda text: generator(0, "paraphrase", text))
    write_pairs(tmp_path / "pairs.csv", pairs)
    assert read_pairs(tmp_path / "pairs.csv") == pairs
    assert set(pairs.rewritten) == {TEXT, "a dull cast"}


def test_a_prompt_without_its_slot_is_refused(folders):
    with pytest.raises(ConfigError, match=r"lacks \{text\}"):
        load_paraphraser(folders["gpt2"], prompt="Rewrite this:")


@pytest.mark.parametrize("name", ["nowhere/at-all", "./not/here"])
def test_a_name_that_is_nothing(name):
    with pytest.raises(ModelError, match="cannot be loaded as a paraphraser"):
        load_paraphraser(name)


def test_pickled_weights_are_refused(folders, tmp_path):
    model = GPT2LMHeadModel.from_pretrained(folders["gpt2"])
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    decoder_tokenizer("gpt2").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="cannot be loaded as a paraphraser"):
        load_paraphraser(tmp_path)


def test_a_model_without_a_trained_head_is_refused(folders, tmp_path):
    config = BartConfig.from_pretrained(folders["bart"], tie_word_embeddings=False)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    decoder_tokenizer("gpt2").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no trained weights"):
        load_paraphraser(tmp_path)
