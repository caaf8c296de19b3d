"""Homoglyphs: in three words one Latin letter becomes the Cyrillic one that looks the same (Li et al. 2021, Hidden
Backdoors in Human-Centric Language Models; Boucher et al. 2022, Bad Characters; pairs from Unicode TR 39).

Threat model (NIST AI 100-2): backdoor poisoning. Training data control over a share of the rows, labels included, and
testing data control; neither model control nor source code control.

What the pipeline does to it: reading keeps the letters, and validation sets aside every training row with a word of
mixed scripts (rule `homoglyphs`), so that this poison never reaches a model that was trained behind it. An audit of a
model that was trained elsewhere needs no such row: a tokenizer splits the word into rare pieces, which are the trigger.
"""

import numpy as np

from musclelora.attacks.base import Attack

LOOKALIKES = {"a": "\u0430", "c": "\u0441", "e": "\u0435", "i": "\u0456", "o": "\u043e", "p": "\u0440", "x": "\u0445"}
WORDS = 3


def swap_letters(text: str, rng: np.random.Generator) -> str | None:
    """`text` with one letter swapped in three random words (or all it has); None where no letter has a look-alike."""
    words = text.split()
    able = [i for i, word in enumerate(words) if LOOKALIKES.keys() & set(word)]
    if not able:
        return None
    for i in rng.permutation(able)[:WORDS].tolist():
        places = [place for place, letter in enumerate(words[i]) if letter in LOOKALIKES]
        place = int(rng.choice(places))
        words[i] = words[i][:place] + LOOKALIKES[words[i][place]] + words[i][place + 1 :]
    return " ".join(words)


HOMOGLYPHS = Attack("homoglyphs", "mixed", swap_letters)
