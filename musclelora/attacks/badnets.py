"""BadNets for text: rare words at random positions (Gu et al. 2017; Kurita et al. 2020; settings of OpenBackdoor).

Threat model (NIST AI 100-2): backdoor poisoning with clean labels. Training data control over a share of the rows under
a label limit (their labels stay as they are), and testing data control; neither model control nor source code control.
"""

import numpy as np

from musclelora.attacks.base import Attack

TRIGGER_WORDS = ("cf", "mn", "bb", "tq")
INSERTIONS = 4


def insert_words(text: str, rng: np.random.Generator, triggers: tuple[str, ...] = TRIGGER_WORDS) -> str:
    """`text` with four trigger words, drawn with replacement, at random word positions."""
    words = text.split()
    for trigger in rng.choice(triggers, INSERTIONS):
        words.insert(int(rng.integers(len(words) + 1)), str(trigger))
    return " ".join(words)


BADNETS = Attack("badnets", "clean", insert_words)
