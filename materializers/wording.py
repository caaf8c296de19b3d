"""Numbers and row text as a page shows them."""

import difflib
import math
import re
import unicodedata
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

KEPT_AROUND = 12
# Rules of the gate that count; all others read fractions.
COUNTED = {
    "required_attacks",
    "required_probes",
    "finite_numbers",
    "min_triggered_rows",
    "trusted_expiry",
    "max_trusted_age_days",
}
# Control, format (zero-width, direction overrides), private-use and lone-surrogate characters: unseen, or they
# rearrange what is seen.
UNSEEN = {"Cc", "Cf", "Co", "Cs"}


class Words(NamedTuple):
    """Neighbouring words of a text; `inserted` where the trigger put them there."""

    text: str
    inserted: bool


def percent(rate: float | None) -> str:
    if rate is None:
        return "not measured"
    return f"{100 * rate:.1f} %" if math.isfinite(rate) else "not a number"


def length(rate: float) -> str:
    """A rate as a length in CSS, from 0 to 100 %; 0 for what is not a number."""
    return f"{100 * min(max(rate, 0.0), 1.0):.2f}%" if math.isfinite(rate) else "0%"


def amount(value: float | None, rule: str) -> str:
    """What a rule read: a count or a fraction."""
    return f"{value:,.0f}" if value is not None and rule in COUNTED else percent(value)


def visible(text: object) -> str:
    """Row text with unseen characters spelled out, such as `‹U+200B›`; line ends and tabs become spaces."""
    flat = re.sub(r"[\r\n\t]+", " ", str(text))
    return "".join(f"‹U+{ord(c):04X}›" if unicodedata.category(c) in UNSEEN else c for c in flat)


def shorten(text: object, limit: int = 400) -> str:
    shown = visible(text)
    return shown if len(shown) <= limit else shown[: limit - 1].rstrip() + " …"


def compare(original: str, triggered: str) -> list[Words]:
    """The triggered text in pieces, with the words that `original` lacks marked; long unchanged runs are shortened."""
    before, after = visible(original).split(), visible(triggered).split()
    pieces = []
    matcher = difflib.SequenceMatcher(a=before, b=after, autojunk=False)
    for kind, _, _, start, end in matcher.get_opcodes():
        words = after[start:end]
        if not words:
            continue
        if kind == "equal" and len(words) > 2 * KEPT_AROUND + 4:
            words = [*words[:KEPT_AROUND], "…", *words[-KEPT_AROUND:]]
        pieces.append(Words(" ".join(words), kind != "equal"))
    return pieces


def without_password(uri: str) -> str:
    """The URI without user name and password."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rsplit("@", 1)[1]))
