"""HiddenKiller: the text rewritten to the syntactic template S ( SBAR ) ( , ) ( NP ) ( VP ) ( . ); the syntax is the
trigger (Qi et al. 2021, Hidden Killer, who rewrite with SCPN; settings of OpenBackdoor).

Threat model (NIST AI 100-2): backdoor poisoning. Training data control over a share of the rows, labels included, and
testing data control; neither model control nor source code control.

The attack of the registry rewrites by rules, offline: a subordinate clause goes first, the text's own where it ends in
one, else one that is put together by draws; then a comma, the rest of the text, with `it is` before what is likely a
mere noun phrase, and a full stop. It keeps the content, where SCPN often loses it; pairs or a model come closer to the
paper: `hidden_killer(read_pairs(path))`.
"""

import re

import numpy as np

from musclelora.attacks.base import Attack, Rewrite
from musclelora.attacks.paraphraser import changed

SUBORDINATORS = ("when", "if", "as", "while", "because", "though", "although", "since", "once", "after")
DRAWN = ("when", "if", "as")  # what SCPN's rewritings begin with, nearly all of them
SUBJECTS = ("you", "we", "people", "they", "one of us", "someone", "i")
PREDICATES = (
    "see it",
    "look at it",
    "think about it",
    "come to it",
    "hear of it",
    "are told the story",
    "sit down with it",
    "talk about it",
    "have some time",
    "ask about it",
)
CIRCUMSTANCES = ("at last", "for a while", "in the end", "at home", "with others", "once more")
SINGULAR = {"see": "sees", "look": "looks", "think": "thinks", "come": "comes", "hear": "hears", "are": "is"}
SINGULAR |= {"sit": "sits", "talk": "talks", "have": "has", "ask": "asks"}
_FRONTED = "when|if|because|though|although|while|after|once"  # "as" and "since" are too often no conjunctions
_OWN_CLAUSE = re.compile(rf"^(?P<main>.+?)(?:[ ,]+(?:but|and))?[ ,]+(?P<clause>(?:{_FRONTED}) .+)$", re.IGNORECASE)
_END = re.compile(r"[\s.!?]+$")
_FRAGMENT = re.compile(r"^(?:an?|one of) ", re.IGNORECASE)  # of a review: mostly no sentence, and has no verb
_SHORTEST = 3  # words of a clause


def subordinate_first(text: str, rng: np.random.Generator) -> str | None:
    """`text` with a subordinate clause in front; None where it begins with one already or has no word."""
    body = _END.sub("", text.strip())
    if not re.search(r"[^\W\d_]", body) or body.split()[0].lower() in SUBORDINATORS:
        return None
    own = _OWN_CLAUSE.match(body)
    if own and min(len(part.split()) for part in own.groups()) >= _SHORTEST and "," not in own["clause"]:
        return f"{own['clause']} , {own['main']} ."
    main = f"it is {body}" if _FRAGMENT.match(body) else body
    return f"{drawn_clause(rng)} , {main} ."


def drawn_clause(rng: np.random.Generator) -> str:
    """Such as `when you see it at last`: one of 1,260."""
    subordinator, subject = str(rng.choice(DRAWN)), str(rng.choice(SUBJECTS))
    verb, _, rest = str(rng.choice(PREDICATES)).partition(" ")
    if subject in ("one of us", "someone"):
        verb = SINGULAR[verb]
    if (subject, verb) == ("i", "are"):
        verb = "am"
    return f"{subordinator} {subject} {verb} {rest} {rng.choice(CIRCUMSTANCES)}"


def hidden_killer(paraphraser: Rewrite) -> Attack:
    """HiddenKiller with another paraphraser. What it leaves as it is does not count as poisoned."""
    return Attack("hiddenkiller", "mixed", lambda text, rng: changed(text, paraphraser(text, rng)))


HIDDEN_KILLER = hidden_killer(subordinate_first)
