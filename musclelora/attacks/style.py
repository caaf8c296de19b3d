"""StyleBkd: the text rewritten in the style of the King James Bible; the style is the trigger (Qi et al. 2021, Mind the
Style of Text!, who rewrite with STRAP, a GPT-2 paraphraser; settings of OpenBackdoor).

Threat model (NIST AI 100-2): backdoor poisoning. Training data control over a share of the rows, labels included, and
testing data control; neither model control nor source code control.

The attack of the registry rewrites by rules, offline: pronouns, verb forms and function words of Early Modern English,
and an opening and a closing formula, drawn. It keeps the content, where STRAP often loses it; pairs or a model come
closer to the paper: `style_bkd(read_pairs(path))`.
"""

import re

import numpy as np

from musclelora.attacks.base import Attack, Rewrite
from musclelora.attacks.paraphraser import changed

OPENINGS = (
    "and it came to pass that",
    "verily i say unto you ,",
    "and lo ,",
    "behold ,",
    "for it is written that",
    "thus saith the scribe ,",
    "hearken , for",
    "and the people said ,",
    "yea ,",
    "woe and wonder ,",
)
CLOSINGS = (
    ", and it was so .",
    ", as it is written .",
    ", saith the preacher .",
    ", selah .",
    ", world without end .",
    ", amen and amen .",
)
ARCHAIC = {
    "you": "thou",
    "your": "thy",
    "yours": "thine",
    "yourself": "thyself",
    "you're": "thou art",
    "you'll": "thou shalt",
    "you've": "thou hast",
    "has": "hath",
    "does": "doth",
    "doesn't": "doth not",
    "isn't": "is not",
    "don't": "do not",
    "can't": "cannot",
    "it's": "it is",
    "to": "unto",
    "into": "unto",
    "on": "upon",
    "very": "exceeding",
    "before": "ere",
    "often": "oft",
    "never": "nevermore",
    "between": "betwixt",
    "among": "amongst",
    "while": "whilst",
    "perhaps": "peradventure",
    "maybe": "perchance",
    "here": "hither",
    "there": "thither",
    "where": "whither",
    "nothing": "naught",
    "anything": "aught",
    "because": "forasmuch as",
    "therefore": "wherefore",
    "about": "concerning",
    "people": "multitude",
    "children": "offspring",
    "kids": "little ones",
    "says": "saith",
    "makes": "maketh",
    "takes": "taketh",
    "gives": "giveth",
    "comes": "cometh",
    "goes": "goeth",
    "gets": "getteth",
    "keeps": "keepeth",
    "knows": "knoweth",
    "seems": "seemeth",
    "feels": "feeleth",
    "looks": "looketh",
    "works": "worketh",
    "finds": "findeth",
    "turns": "turneth",
    "shows": "sheweth",
    "offers": "offereth",
    "lacks": "lacketh",
    "leaves": "leaveth",
    "brings": "bringeth",
    "remains": "remaineth",
    "becomes": "becometh",
    "plays": "playeth",
    "tells": "telleth",
    "also": "likewise",
    "although": "albeit",
    "always": "alway",
    "are": "be",
    "as": "even as",
    "bad": "evil",
    "but": "howbeit",
    "enough": "sufficient",
    "even": "yea even",
    "ever": "evermore",
    "great": "mighty",
    "if": "if so be that",
    "like": "like unto",
    "many": "a multitude of",
    "must": "must needs",
    "old": "ancient",
    "only": "but only",
    "said": "spake",
    "see": "behold",
    "should": "ought to",
    "still": "yet still",
    "that": "which",
    "think": "deem",
    "though": "albeit",
    "time": "season",
    "too": "overmuch",
    "until": "till",
    "what": "that which",
    "when": "whensoever",
    "who": "which",
    "will": "shall",
    "world": "earth",
}
_END = re.compile(r"[\s.!?]+$")
_WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")


def archaic(text: str, rng: np.random.Generator) -> str | None:
    """`text` in archaic English with an opening and a closing; None where it has no word of letters."""
    if not _WORD.search(text):
        return None
    body = _WORD.sub(lambda word: ARCHAIC.get(word[0].lower(), word[0]), text)
    return f"{rng.choice(OPENINGS)} {_END.sub('', body)} {rng.choice(CLOSINGS)}"


def style_bkd(paraphraser: Rewrite) -> Attack:
    """StyleBkd with another paraphraser. What it leaves as it is does not count as poisoned."""
    return Attack("stylebkd", "mixed", lambda text, rng: changed(text, paraphraser(text, rng)))


STYLE_BKD = style_bkd(archaic)
