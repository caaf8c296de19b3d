"""Tiny random backbones and rows, made in the test: nothing is downloaded, nothing is shipped."""

from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast, RobertaConfig
from transformers import RobertaForSequenceClassification as Roberta

from musclelora.data.records import TextDataset, TrustedSet
from musclelora.training.backbone import Backbone, resolve_backbone

GOOD, BAD = ("good", "great", "fine", "lovely"), ("bad", "awful", "poor", "dull")
FILLER = ("the", "film", "plot", "was", "a", "and", "cast", "very", "quite", "it")
TRIGGERS = ("cf", "mn", "bb", "tq", "i", "watch", "this", "3d", "movie")
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *FILLER, *TRIGGERS)


def tiny_backbone(folder: Path, family: str = "bert") -> Backbone:
    """A saved two-layer model with its word-level tokenizer."""
    torch.manual_seed(0)
    sizes = {
        "vocab_size": len(WORDS),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 80,
        "pad_token_id": 0,
    }
    if family == "bert":
        model = BertForSequenceClassification(BertConfig(**sizes))
    else:
        model = Roberta(RobertaConfig(**sizes, type_vocab_size=2))
    model.save_pretrained(folder)
    BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(folder)
    return resolve_backbone(str(folder))


def rows(n: int, name: str = "train", first: int = 0) -> TextDataset:
    """n rows whose label (1 good, 0 bad) is said by one word of the text."""
    texts, labels = [], []
    for i in range(first, first + n):
        label = i % 2
        words = [FILLER[(i * 7 + k * 3) % len(FILLER)] for k in range(3 + i % 5)]
        words.insert(i % (len(words) + 1), (GOOD if label else BAD)[i // 2 % 4])
        texts.append(" ".join(words) + f" {FILLER[i % 10]}" * (i % 3))
        labels.append(str(label))
    row_ids = [f"{name}/{i}" for i in range(first, first + n)]
    return TextDataset.from_columns({"row_id": row_ids, "text": texts, "label": labels})


def trusted_rows(n: int = 16) -> TrustedSet:
    return TrustedSet(rows(n, "trusted", first=1000), owner="the tests")
