"""Tiny random backbones and rows, made in the test: nothing is downloaded, nothing is shipped."""

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertTokenizerFast,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
)

from musclelora.data.records import TextDataset, TrustedSet
from musclelora.training.backbone import Backbone, resolve_backbone

GOOD, BAD = ("good", "great", "fine", "lovely"), ("bad", "awful", "poor", "dull")
FILLER = ("the", "film", "plot", "was", "a", "and", "cast", "very", "quite", "it")
TRIGGERS = ("cf", "mn", "bb", "tq", "i", "watch", "this", "3d", "movie")
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *FILLER, *TRIGGERS)
EOS = 3  # of decoders, which call it <|endoftext|>

SIZES = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 80,
    "pad_token_id": 0,
}
ENCODER = SIZES | {"hidden_size": 32, "num_attention_heads": 4}
DECODER = ENCODER | {"pad_token_id": None, "bos_token_id": None, "eos_token_id": EOS}
GROUPED = DECODER | {"num_key_value_heads": 2}
GEMMA = GROUPED | {"head_dim": 8}
# Settings of a tiny config by `model_type`: every family of musclelora.adapters.families.FAMILIES.
CONFIGS = {
    "bert": SIZES,
    "roberta": SIZES | {"type_vocab_size": 2},
    "distilbert": {
        "dim": 32,
        "hidden_dim": 64,
        "n_layers": 2,
        "n_heads": 4,
        "vocab_size": len(WORDS),
        "pad_token_id": 0,
    },
    "electra": ENCODER | {"embedding_size": 16},
    # As DeBERTa-v3: relative attention with buckets, shared keys.
    "deberta-v2": ENCODER
    | {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True,
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
        "type_vocab_size": 0,
        "pooler_hidden_size": 32,
    },
    "modernbert": ENCODER | {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
    "mpnet": ENCODER,
    "gpt2": {"vocab_size": len(WORDS), "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 80, "eos_token_id": EOS}
    | {"bos_token_id": EOS},
    "llama": GROUPED,
    "qwen2": GROUPED,
    "qwen3": GEMMA,
    "mistral": GROUPED,
    "gemma": GEMMA,
    "gemma2": GEMMA | {"query_pre_attn_scalar": 8},
    "gemma3_text": GEMMA | {"query_pre_attn_scalar": 8},
}
DECODERS = ("gpt2", "llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3_text")
ENCODERS = tuple(family for family in CONFIGS if family not in DECODERS)


def tiny_backbone(folder: Path, family: str = "bert", **tokenizer: str) -> Backbone:
    """A saved two-layer model with its word-level tokenizer; that of a decoder has no pad token, as Llama's has none.

    `tokenizer` are further settings of the decoder's tokenizer.
    """
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(AutoConfig.for_model(family, **CONFIGS[family])).save_pretrained(
        folder
    )
    if family in DECODERS:
        decoder_tokenizer(family, **tokenizer).save_pretrained(folder)
    else:
        BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(folder)
    return resolve_backbone(str(folder))


def decoder_tokenizer(family: str, **settings: str) -> PreTrainedTokenizerFast:
    numbers = {"<|endoftext|>" if i == EOS else word: i for i, word in enumerate(WORDS)}
    if family == "qwen2":  # transformers loads its tokenizer as this class, whatever was saved
        tokenizer = Qwen2Tokenizer(vocab=numbers, merges=[], **settings)
        tokenizer.add_tokens([AddedToken(word, single_word=True) for word in WORDS])
        return tokenizer
    words = Tokenizer(WordLevel(numbers, "[UNK]"))
    words.pre_tokenizer = WhitespaceSplit()
    names = {"eos_token": "<|endoftext|>", "unk_token": "[UNK]"} | settings
    return PreTrainedTokenizerFast(tokenizer_object=words, **names)


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


def distinct(n):
    """`rows` with a number in each, so that none is a duplicate."""
    data = rows(n)
    columns = {name: data.column(name) for name in data.rows.column_names}
    columns["text"] = [f"{text} n{i}" for i, text in enumerate(data.texts)]
    return type(data).from_columns(columns)


def trusted_rows(n: int = 16) -> TrustedSet:
    return TrustedSet(rows(n, "trusted", first=1000), owner="the tests")
