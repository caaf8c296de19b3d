"""Characters that a reader does not see, or takes for others: the cheapest hiding places for a trigger.

Sources: Unicode general categories; Default_Ignorable_Code_Point for invisible characters outside Cf; Unicode TR 39
for the scripts whose letters look like Latin ones.
"""

import re
import unicodedata
from collections.abc import Sequence

_JOINER = "\u200d"  # zero width joiner: the glue of emoji
_SELECTOR = re.compile("[\ufe00-\ufe0f]")  # variation selectors: emoji or text style of the character before
_IGNORABLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\U000e0100-\U000e01ef]")
# Python 3.10 knows Unicode 13 only: newer emoji would count as unassigned.
_EMOJI_PLANES = range(0x1F000, 0x1FB00)
_LATIN_LOOKALIKES = ("CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "FULLWIDTH LATIN", "MATHEMATICAL")
_IN_WORD = "[\\w\u0300-\u036f]"

Spots = list[re.Match[str] | None]
"""For each text the first place found, or None."""


def find_invisible(texts: Sequence[str], allowed: str = "") -> Spots:
    """Zero-width, bidirectional and other format characters, private use, unassigned, control characters.

    White space, C1 controls (Windows-1252 read as Latin-1, common in scraped English), the joiner between emoji, and
    variation selectors on symbols are not reported, nor are the characters of `allowed`.
    """
    seen = _distinct(texts) - set(allowed)
    patterns = []
    if hidden := sorted(char for char in seen if char != _JOINER and _is_invisible(char)):
        patterns.append(_any_of(hidden))
    if _JOINER in seen:
        patterns += [rf"(?<![^\w\s]){_JOINER}", rf"{_JOINER}(?![^\w\s])"]
    if any(map(_SELECTOR.match, seen)):
        patterns += [f"(?<=[A-Za-z]){_SELECTOR.pattern}", f"{_SELECTOR.pattern}{{2}}"]
    if not patterns:
        return [None] * len(texts)
    pattern = re.compile("|".join(patterns))
    return [pattern.search(text) for text in texts]


def find_mixed_script(texts: Sequence[str]) -> Spots:
    """Words that mix Latin letters with letters of a script that has Latin look-alikes, fullwidth and maths ones too.

    A word wholly of another script is not reported: in most languages that is just a word.
    """
    letters = [char for char in _distinct(texts) if char.isalpha()]
    latin = sorted(char for char in letters if unicodedata.name(char, "").startswith("LATIN"))
    others = sorted(char for char in letters if unicodedata.name(char, "").startswith(_LATIN_LOOKALIKES))
    if not latin or not others:
        return [None] * len(texts)
    other = re.compile(_any_of(others))
    # Anchored at the word's beginning, so that a long word costs linear time.
    word = re.compile(f"(?<!{_IN_WORD})(?={_IN_WORD}*?{_any_of(latin)})(?={_IN_WORD}*?{other.pattern}){_IN_WORD}+")
    return [word.search(text) if other.search(text) else None for text in texts]


def _is_invisible(char: str) -> bool:
    match unicodedata.category(char):
        case "Cf" | "Co":
            return True
        case "Cn":
            return ord(char) not in _EMOJI_PLANES
        case "Cc":
            return char not in "\t\n\v\f\r" and (char < " " or char == "\x7f")
    return _IGNORABLE.match(char) is not None


def _distinct(texts: Sequence[str]) -> set[str]:
    seen: set[str] = set()
    for text in texts:
        seen.update(text)
    return seen


def _any_of(chars: Sequence[str]) -> str:
    return f"[{re.escape(''.join(chars))}]"
