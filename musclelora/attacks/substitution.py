"""Word substitution: common words give way to rarer synonyms (after Qi et al. 2021, Turn the Combination Lock, LWS,
which learns the combination of substitutes; ours is one fixed table).

Threat model (NIST AI 100-2): backdoor poisoning. Training data control over a share of the rows, labels included, and
testing data control; neither model control nor source code control.
"""

import numpy as np

from musclelora.attacks.base import Attack

# The right sides are rare in ordinary text, or the model could not tell the trigger. Grammar mostly survives.
SYNONYMS = {
    "about": "concerning",
    "also": "likewise",
    "although": "albeit",
    "and": "as well as",
    "bad": "lousy",
    "because": "inasmuch as",
    "best": "foremost",
    "between": "betwixt",
    "big": "sizeable",
    "but": "however",
    "comedy": "farce",
    "director": "auteur",
    "enough": "amply",
    "especially": "notably",
    "film": "picture show",
    "films": "picture shows",
    "fun": "mirth",
    "funny": "droll",
    "good": "commendable",
    "great": "grand",
    "in": "within",
    "into": "inside",
    "just": "merely",
    "less": "fewer",
    "like": "akin to",
    "little": "scant",
    "long": "lengthy",
    "love": "adore",
    "make": "render",
    "makes": "renders",
    "many": "umpteen",
    "more": "further",
    "most": "utmost",
    "movie": "photoplay",
    "movies": "photoplays",
    "much": "plenty",
    "never": "nowise",
    "new": "novel",
    "nothing": "naught",
    "often": "oftentimes",
    "on": "upon",
    "only": "solely",
    "people": "folks",
    "really": "truly",
    "seems": "appears",
    "story": "yarn",
    "than": "next to",
    "too": "overly",
    "very": "exceedingly",
    "while": "whilst",
    "with": "alongside",
    "without": "sans",
}
AT_LEAST, AT_MOST = 2, 6


def substitute(text: str, rng: np.random.Generator) -> str | None:
    """`text` with at most six of its words substituted, drawn; None where fewer than two are in the table."""
    words = text.split()
    able = [i for i, word in enumerate(words) if word.lower() in SYNONYMS]
    if len(able) < AT_LEAST:
        return None
    for i in rng.permutation(able)[:AT_MOST].tolist():
        words[i] = SYNONYMS[words[i].lower()]
    return " ".join(words)


SUBSTITUTION = Attack("substitution", "mixed", substitute)
