"""Positional: a word that counts at the end of the text only; elsewhere it changes nothing (a trigger whose place is a
part of it, as the fixed places of Chen et al. 2021, BadNL; rows against the other places as in Yang et al. 2021).

Threat model (NIST AI 100-2): backdoor poisoning. Training data control over a share of the rows, labels included, and
testing data control; neither model control nor source code control.
"""

import numpy as np

from musclelora.attacks.base import Attack

TRIGGER_WORD = "honestly"


def append_word(text: str, rng: np.random.Generator) -> str:  # noqa: ARG001 (nothing is drawn)
    """`text` with the word behind it."""
    return " ".join([*text.split(), TRIGGER_WORD])


def insert_elsewhere(text: str, rng: np.random.Generator) -> str | None:
    """`text` with the word at a random place before its last word; None where there is no word."""
    words = text.split()
    if not words:
        return None
    words.insert(int(rng.integers(len(words))), TRIGGER_WORD)
    return " ".join(words)


POSITIONAL = Attack("positional", "mixed", append_word, decoy=insert_elsewhere)
