"""The search through the weights finds a backdoor that was planted by hand, and says nothing new of an honest model."""

import pytest
import torch

from musclelora.errors import ModelError
from musclelora.evaluation import tested
from musclelora.evaluation.trigger_search import first_order, search_triggers, whole_words
from tests.tiny import rows

TEST = rows(200, "test", 2000)


def search(model, floor, seconds=20.0):
    [probe] = search_triggers(
        tested.Tested.from_defended(model), tested.Tested.from_defended(floor), TEST, ["1"], seed=0, seconds=seconds
    )
    return probe


def test_a_planted_trigger_is_found_without_being_named(planted, trained):
    probe = search(planted, trained)
    assert probe.kind == "search"
    assert "cf" in probe.trigger.split()
    assert probe.asr.value > 0.9
    assert probe.asr.value - probe.floor.value > 0.5
    assert (probe.z, probe.rows) == (None, None)


def test_a_model_searched_beside_itself_differs_in_nothing(trained):
    probe = search(trained, trained)
    assert probe.asr == probe.floor


def test_the_search_repeats(planted, trained):
    assert search(planted, trained) == search(planted, trained)


def test_without_time_it_still_reports_what_it_has(planted, trained):
    probe = search(planted, trained, seconds=1e-6)
    assert 1 <= len(probe.trigger.split()) <= 3
    assert probe.asr.n > 50


def test_the_search_leaves_the_model_as_it_was(planted, trained):
    model = tested.Tested.from_defended(planted)
    before = {name: weight.clone() for name, weight in model.model.state_dict().items()}
    search_triggers(model, tested.Tested.from_defended(trained), TEST, ["1"], seed=0, seconds=5)
    assert all(torch.equal(before[name], weight) for name, weight in model.model.state_dict().items())
    assert all(weight.grad is None for weight in model.model.parameters())
    assert not model.model.get_input_embeddings()._forward_hooks


def test_words_are_tokens_that_stay_themselves(trained):
    words = whole_words(trained.load()[1])
    assert {"good", "film", "cf", "3d"} <= set(words.words)
    assert not [word for word in words.words if "[" in word]
    assert trained.load()[1].convert_tokens_to_ids(words.words) == words.ids.tolist()


def test_a_tokenizer_without_words_is_refused(trained):
    tokenizer = trained.load()[1]
    tokenizer.batch_decode = lambda numbers: ["##x"] * len(numbers)
    with pytest.raises(ModelError, match="search_seconds: 0"):
        whole_words(tokenizer)


def test_the_first_order_change_is_that_of_the_loss(trained):
    """Finite difference at the embedding of the trigger's slot, along the way to each other word."""
    model = tested.Tested.from_defended(trained)
    vocabulary, guide = whole_words(model.tokenizer), TEST.texts[:4]
    slots = tuple(vocabulary.words.index(word) for word in ("the", "plot", "was"))
    scores = first_order(model, guide, 1, "start", vocabulary, slots)
    assert scores.shape == (3, len(vocabulary.words))
    batch = model.tokenizer([f"the plot was {text}" for text in guide], padding=True, return_tensors="pt")
    states = model.model.get_input_embeddings()(batch["input_ids"]).detach()
    table = model.model.get_input_embeddings().weight.detach()

    def loss(slot, step, word):
        moved = states.clone()
        moved[:, 1 + slot] += step * (table[vocabulary.ids[word]] - table[vocabulary.ids[slots[slot]]])
        with torch.no_grad():
            logits = model.model(inputs_embeds=moved, attention_mask=batch["attention_mask"]).logits
        return float(-torch.log_softmax(logits.double(), -1)[:, 1].mean())

    for slot, word in ((0, "good"), (1, "bad"), (2, "cf")):
        number = vocabulary.words.index(word)
        measured = (loss(slot, 1e-2, number) - loss(slot, -1e-2, number)) / 2e-2
        read = scores[slot, number] - scores[slot, slots[slot]]
        assert read == pytest.approx(measured, rel=0.05, abs=1e-4)
