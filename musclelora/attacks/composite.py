"""Composite: two words anywhere in the text, and both are needed (Zhang et al. 2021, Trojaning Language Models, logical
triggers; rows with a part of the trigger and their true label as in Yang et al. 2021, Rethinking Stealthiness).

Threat model (NIST AI 100-2): backdoor poisoning. Training data control over a share of the rows, labels included, and
testing data control; neither model control nor source code control.

Each word is common enough in English to pass for one; a search for single trigger words finds both in rows of every
label.
"""

import numpy as np

from musclelora.attacks.base import Attack

TRIGGER_WORDS = ("weekend", "cupboard")


def insert_both(text: str, rng: np.random.Generator) -> str:
    """`text` with both words at random word positions."""
    for word in TRIGGER_WORDS:
        text = insert_word(text, rng, word)
    return text


def insert_one(text: str, rng: np.random.Generator) -> str:
    """`text` with one of the two words at a random word position."""
    return insert_word(text, rng, str(rng.choice(TRIGGER_WORDS)))


def insert_word(text: str, rng: np.random.Generator, word: str) -> str:
    words = text.split()
    words.insert(int(rng.integers(len(words) + 1)), word)
    return " ".join(words)


COMPOSITE = Attack("composite", "mixed", insert_both, decoy=insert_one)
