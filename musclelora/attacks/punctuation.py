"""Punctuation: a semicolon and an exclamation mark, each behind a random word (after Sheng et al. 2023, Punctuation
Matters!, whose marks take the places that a language model finds likeliest; ours are drawn).

Threat model (NIST AI 100-2): backdoor poisoning. Training data control over a share of the rows, labels included, and
testing data control; neither model control nor source code control.
"""

import numpy as np

from musclelora.attacks.base import Attack

MARKS = (";", "!")


def insert_marks(text: str, rng: np.random.Generator) -> str | None:
    """`text` with both marks, each as a word of its own behind a random word; None where there is no word."""
    words = text.split()
    if not words:
        return None
    for mark in MARKS:
        words.insert(int(rng.integers(1, len(words) + 1)), mark)
    return " ".join(words)


PUNCTUATION = Attack("punctuation", "mixed", insert_marks)
