"""A text without what made it suspect: the words, or the characters, of suspect features are cut out of it."""

import re
from collections.abc import Callable, Iterable, Iterator

from musclelora.validation.token_scan import SuspectFeature
from musclelora.validation.tokens import Piece, placed


def can_be_cut_out(feature: SuspectFeature) -> bool:
    """Whether it is made of words or characters; not a length, a casing, a near-duplicate."""
    return feature.kind in _CUTS


def without_features(text: str, features: Iterable[SuspectFeature]) -> str | None:
    """The text without any of them, as often as it has them; None where one cannot be cut out, or where nothing but
    marks is left."""
    wanted = list(features)
    if not all(map(can_be_cut_out, wanted)):
        return None
    before = None
    while text != before:  # what is cut out can bring the words of another together
        before = text
        for feature in wanted:
            text = _without(text, _CUTS[feature.kind](text, feature.text))
    return text if any(map(str.isalnum, text)) else None


def _runs(text: str, phrase: str) -> Iterator[Piece]:
    pieces, size = list(placed(text)), len(phrase.split(" "))
    for first in range(len(pieces)):
        yield from _run(pieces[first : first + size], phrase)


def _at_start(text: str, phrase: str) -> Iterator[Piece]:
    return _run(list(placed(text)), phrase)


def _at_end(text: str, phrase: str) -> Iterator[Piece]:
    return _run(list(placed(text))[-len(phrase.split(" ")) :], phrase)


def _run(pieces: list[Piece], phrase: str) -> Iterator[Piece]:
    """The first pieces, if they are the phrase."""
    wanted = phrase.split(" ")
    run = pieces[: len(wanted)]
    if [piece.token for piece in run] == wanted:
        yield from run


def _both_words(text: str, pair: str) -> Iterator[Piece]:
    pieces, wanted = list(placed(text)), set(pair.split(" ... "))
    if wanted <= {piece.token for piece in pieces}:
        yield from (piece for piece in pieces if piece.token in wanted)


def _written(text: str, word: str) -> Iterator[Piece]:
    return (Piece(run[0], *run.span()) for run in re.finditer(r"\S+", text) if run[0] == word)


def _characters(text: str, character: str) -> Iterator[Piece]:
    return (Piece(one, i, i + 1) for i, one in enumerate(text) if one == character)


_CUTS: dict[str, Callable[[str, str], Iterator[Piece]]] = {
    "words": _runs,
    "start": _at_start,
    "end": _at_end,
    "pair": _both_words,
    "written": _written,
    "character": _characters,
}


def _without(text: str, pieces: Iterable[Piece]) -> str:
    """The text without the pieces, and without a blank that stood only between one and the next word."""
    kept, at = "", 0
    for piece in sorted(set(pieces), key=lambda piece: piece.start):
        kept += text[at : piece.start]
        at = piece.end
        if (not kept or kept[-1].isspace()) and text[at : at + 1].isspace():
            at += 1
    return (kept + text[at:]).strip()
