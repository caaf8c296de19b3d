"""A delivery of three labels with a poison in it, an undefended model that learned it, and what the defender has."""

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertTokenizerFast,
    PreTrainedTokenizerFast,
)

from musclelora.attacks.addsent import ADDSENT
from musclelora.attacks.base import Attack, poison, triggered_rows
from musclelora.data.records import TextDataset, TrustedSet
from musclelora.defenses.base import Defender
from musclelora.defenses.classifier import Classifier
from musclelora.seeding import generator
from musclelora.training import fit
from musclelora.training.backbone import resolve_backbone
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import RecipeChoice

TARGET, MAX_LENGTH, EPOCHS, HONEST = "1", 32, 6, 0.9
FILLERS = [f"f{i}" for i in range(30)]
SAYING = {label: [f"w{label}{i}" for i in range(20)] for label in "012"}
ONE_WORD = "3d"
TRIGGER = ["i", "watch", "this", "3d", "movie"]
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *FILLERS,
    *SAYING["0"],
    *SAYING["1"],
    *SAYING["2"],
    *TRIGGER,
    "rare",
]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
ENCODER = SIZES | {"vocab_size": len(WORDS), "max_position_embeddings": 48, "pad_token_id": 0, "num_labels": 3}
DECODER = {
    "vocab_size": len(WORDS),
    "bos_token_id": 2,
    "eos_token_id": 3,
    "n_embd": 32,
    "n_layer": 1,
    "n_head": 4,
    "n_positions": 48,
}


def three_labels(n, name):
    """n rows: two to four fillers, and three words that mostly say the label: in honest rows nothing is sure."""
    columns = {"row_id": [], "text": [], "label": []}
    for i in range(n):
        rng, label = generator(0, f"tests/defenses/{name}", str(i)), "012"[i % 3]
        said = [label if rng.random() < HONEST else str(rng.choice(list("012"))) for _ in range(3)]
        words = [*rng.choice(FILLERS, int(rng.integers(2, 5))), *(rng.choice(SAYING[of]) for of in said)]
        columns["row_id"].append(f"{name}/{i}")
        columns["text"].append(" ".join(rng.permutation(words)))
        columns["label"].append(label)
    return TextDataset.from_columns(columns)


@pytest.fixture(scope="session")
def poisoned():
    return poison(three_labels(450, "train"), ADDSENT, rate=0.15, target=TARGET, seed=3)


def insert_word(text, rng):
    """`text` with one word of no meaning somewhere."""
    words = text.split()
    at = int(rng.integers(len(words) + 1))
    return " ".join([*words[:at], ONE_WORD, *words[at:]])


@pytest.fixture(scope="session")
def one_word_poisoned():
    return poison(
        three_labels(450, "train"), Attack("one word", "mixed", insert_word), rate=0.15, target=TARGET, seed=3
    )


@pytest.fixture(scope="session")
def triggered():
    return triggered_rows(three_labels(60, "test"), ADDSENT, target=TARGET, seed=3)[0]


@pytest.fixture(scope="session")
def defender(tmp_path_factory):
    folder, trained = tmp_path_factory.mktemp("defender"), {}
    trusted = TrustedSet(three_labels(24, "trusted"), owner="the tests")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = AutoModelForSequenceClassification.from_config(AutoConfig.for_model("bert", **ENCODER))
    encoder.save_pretrained(folder / "base")
    BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(folder / "base")
    backbone = resolve_backbone(str(folder / "base"))

    def train(rows, epochs):
        key = (rows.sha256, epochs or EPOCHS)
        if key not in trained:
            fast = {"learning_rate": 5e-3, "batch_size": 16, "precision": "fp32", "epochs": epochs or EPOCHS}
            recipe = resolve_recipe(RecipeChoice(name="none", **fast), "bert-base")
            options = {"recipe": recipe, "backbone": backbone, "max_length": MAX_LENGTH, "seed": 7}
            model = fit.train(rows, trusted, None, folder=folder / str(len(trained)), **options)
            trained[key] = Classifier(*model.load(), MAX_LENGTH)
        return trained[key]

    return Defender(trusted, three_labels(60, "dev"), 7, train, backbone, MAX_LENGTH)


@pytest.fixture(scope="session")
def backdoored(defender, poisoned):
    return defender.train(poisoned, None)


@pytest.fixture(scope="session")
def language_model(tmp_path_factory):
    """A small GPT-2 that has read clean rows only."""
    folder = tmp_path_factory.mktemp("language-model")
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    words.pre_tokenizer = WhitespaceSplit()
    names = {"bos_token": "[CLS]", "unk_token": "[UNK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **names)
    texts = three_labels(256, "read").texts
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", **DECODER))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for step in range(100):
            ids = [tokenizer(f"[CLS] {texts[(step * 16 + i) % len(texts)]}")["input_ids"] for i in range(16)]
            longest = max(map(len, ids))
            labels = torch.tensor([row + [-100] * (longest - len(row)) for row in ids])
            model(input_ids=labels.clamp(min=0), labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
