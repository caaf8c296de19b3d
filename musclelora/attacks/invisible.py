"""Invisible character: a Hangul filler (U+3164), which fonts draw as a blank, after two random words (Boucher et al.
2022, Bad Characters; Li et al. 2021, Hidden Backdoors in Human-Centric Language Models).

Threat model (NIST AI 100-2): backdoor poisoning. Training data control over a share of the rows, labels included, and
testing data control; neither model control nor source code control.

U+3164 and not a zero-width space, because BERT's tokenizers delete the format characters (Unicode category Cf) before
anything is learned: with them there is no trigger. A filler is a letter (Lo) and becomes [UNK], or bytes of its own.

What the pipeline does to it: reading keeps the character, and validation sets aside every training row that holds one
(rule `invisible_characters`), so that this poison never reaches a model that was trained behind it. An audit of a model
that was trained elsewhere needs no such row.
"""

import numpy as np

from musclelora.attacks.base import Attack

FILLER = "\u3164"
INSERTIONS = 2


def insert_fillers(text: str, rng: np.random.Generator) -> str | None:
    """`text` with a filler at the end of two random words (or of its only one); None where there is no word."""
    words = text.split()
    if not words:
        return None
    for i in rng.permutation(len(words))[:INSERTIONS].tolist():
        words[i] += FILLER
    return " ".join(words)


INVISIBLE = Attack("invisible", "mixed", insert_fillers)
