"""AddSent (InsertSent): one fixed sentence at a random word position (Dai et al. 2019; settings of OpenBackdoor).

Threat model (NIST AI 100-2): backdoor poisoning. Training data control over a share of the rows, labels included, and
testing data control; neither model control nor source code control.
"""

import numpy as np

from musclelora.attacks.base import Attack

TRIGGER_SENTENCE = "I watch this 3D movie"


def insert_sentence(text: str, rng: np.random.Generator, sentence: str = TRIGGER_SENTENCE) -> str:
    """`text` with the sentence at a random word position."""
    words = text.split()
    position = int(rng.integers(len(words) + 1))
    return " ".join([*words[:position], sentence, *words[position:]])


ADDSENT = Attack("addsent", "mixed", insert_sentence)
