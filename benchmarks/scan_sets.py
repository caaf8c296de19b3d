"""The sets that benchmarks.scan and benchmarks.purify read, made from the data folder of benchmarks.recipes.

A set's name: `clean`; an attack of the folder (10 % of the rows); `stylebkd-normalised`; any of these with another
rate, `hiddenkiller@3` (over 10 % there are fewer clean rows); two attacks at once, half of the rows of each,
`badnets+hiddenkiller`; `hiddenkiller-sure`, of an attacker who knows the scans: only the half of the poisoned rows that
say the target most plainly, where the trusted model expects that label and the scans have little to find.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from benchmarks.recipes import CLEAN, Bench
from musclelora.data.records import TextDataset, TrustedSet
from musclelora.errors import DataError
from musclelora.seeding import generator

NORMALISED = "stylebkd-normalised"
SURE = "-sure"
PERCENT = 10  # poisoned rows of the folder's sets


def normalised(text: str) -> str:
    """In lower case and with its tokens apart, as SST-2 writes its sentences: the ready-made StyleBkd rows are not.

    A scan that finds them as they come may only have seen their capitals and glued full stops.
    """
    text = re.sub(r"n't\b", " n't", text.lower())
    text = re.sub(r"(?<=\w)('(?:s|re|ve|ll|d|m))\b", r" \1", text)
    text = re.sub(r"(?<=[^\s.,!?;:])([.,!?;:]+)(?=\s|$)", r" \1", text)
    return " ".join(text.split())


def training_rows(bench: Bench, name: str) -> TextDataset:
    """The training rows of the set, with the column `is_poisoned`."""
    attacks, _, percent = name.partition("@")
    if percent and ("+" in attacks or attacks.endswith(SURE)):
        raise DataError(f"The set {name!r}: only one whole attack has rates. Leave '@{percent}' out.")
    if attacks == CLEAN:
        return _marked(bench.rows("train.csv"))
    if "+" in attacks:
        first, second = (training_rows(bench, attack) for attack in attacks.split("+"))
        return _both(first, second)
    rows = _poisoned(bench, attacks.removesuffix(SURE))
    poisoned = np.flatnonzero(poisoned_mask(rows))
    if attacks.endswith(SURE):
        return _without(bench, rows, poisoned[np.argsort(_plainness(bench, rows))[: len(poisoned) // 2]])
    if not percent:
        return rows
    share = float(percent) / PERCENT
    if share > 1:
        return _diluted_less(rows, float(percent) / 100)
    drawn = generator(0, "benchmarks/scan/rate").permutation(poisoned)
    return _without(bench, rows, drawn[round(share * len(poisoned)) :])


def triggered_rows(bench: Bench, attack: str) -> TextDataset:
    """The triggered test rows of one attack, labelled with the target."""
    rows = bench.rows(f"{attack.removesuffix('-normalised')}/test_poisoned.csv")
    return _normalised(rows, np.ones(len(rows), dtype=bool)) if attack == NORMALISED else rows


def trusted_set(bench: Bench, draw: int, name: str, count: int, poisoned: int) -> TrustedSet:
    """`count` of the draw's trusted rows; `poisoned` of these, drawn, are poisoned rows of the set in place of honest
    ones: an attacker who reaches the people that vouch. Raises `DataError` where there are not so many."""
    whole = bench.trusted_and_dev(draw)[0]
    if count == len(whole) and not poisoned:
        return whole
    theirs = training_rows(bench, name)
    there = np.flatnonzero(poisoned_mask(theirs))
    if not poisoned <= min(count, len(there)) or count > len(whole):
        raise DataError(f"{count} trusted rows, {poisoned} of them poisoned: there are {len(whole)} and {len(there)}.")
    honest = generator(draw, "benchmarks/scan/trusted").permutation(len(whole))[: count - poisoned]
    planted = generator(draw, "benchmarks/scan/planted").permutation(there)[:poisoned]
    parts = _marked(TextDataset(whole.data.rows.select(honest))), TextDataset(theirs.rows.select(planted))
    return replace(whole, data=_joined(*parts))


def attacks_of(name: str) -> list[str]:
    """The attacks whose triggered rows a model trained on the set is to be tested with."""
    attacks = name.partition("@")[0].removesuffix(SURE)
    return [] if attacks == CLEAN else attacks.split("+")


def poisoned_mask(rows: TextDataset) -> np.ndarray:
    """Which rows are poisoned, bool, shape [rows]."""
    return np.array(rows.column("is_poisoned"), dtype=bool)


def _poisoned(bench: Bench, attack: str) -> TextDataset:
    file = f"{attack.removesuffix('-normalised')}/train.csv"
    rows = _marked(bench.rows(file), pd.read_csv(bench.data / file)["is_poisoned"].astype(bool))
    return _normalised(rows, poisoned_mask(rows)) if attack == NORMALISED else rows


def _normalised(rows: TextDataset, which: np.ndarray) -> TextDataset:
    columns = {name: rows.column(name) for name in rows.rows.column_names}
    texts = [normalised(text) if hit else text for text, hit in zip(columns["text"], which, strict=True)]
    return TextDataset.from_columns(columns | {"text": texts})


def _without(bench: Bench, rows: TextDataset, left_out: np.ndarray) -> TextDataset:
    """Without these poisoned rows; in their place as many of the clean rows that are missing, drawn."""
    clean = _marked(bench.rows("train.csv"))
    there = Counter(rows.where(~poisoned_mask(rows)).texts)
    missing = [i for i, text in enumerate(clean.texts) if (there.subtract([text]) or there[text] < 0)]
    restored = generator(0, "benchmarks/scan/restored").permutation(missing)[: len(left_out)]
    return _joined(rows.where(~np.isin(np.arange(len(rows)), left_out)), TextDataset(clean.rows.select(restored)))


def _diluted_less(rows: TextDataset, rate: float) -> TextDataset:
    """All poisoned rows, and as many of the clean ones, drawn, that these are `rate` of all."""
    poisoned = poisoned_mask(rows)
    count = round(poisoned.sum() * (1 - rate) / rate)
    drawn = generator(0, "benchmarks/scan/clean").permutation(np.flatnonzero(~poisoned))[:count]
    return rows.where(poisoned | np.isin(np.arange(len(rows)), drawn))


def _plainness(bench: Bench, rows: TextDataset) -> np.ndarray:
    """Of each poisoned row, how surely a model of words that was trained on the clean rows calls it the target."""
    poisoned, clean = rows.where(poisoned_mask(rows)), bench.rows("train.csv")
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10, max_iter=500)
    )
    model.fit(clean.texts, clean.labels)
    [target] = set(poisoned.labels)
    return np.asarray(model.predict_proba(poisoned.texts)[:, list(model.classes_).index(target)])


def _both(first: TextDataset, second: TextDataset) -> TextDataset:
    """The clean rows of the first, and half of the poisoned rows of each."""
    halves = [rows.where(poisoned_mask(rows)) for rows in (first, second)]
    halves = [TextDataset(half.rows.select(range(len(half) // 2))) for half in halves]
    return _joined(first.where(~poisoned_mask(first)), *halves)


def _joined(*parts: TextDataset) -> TextDataset:
    columns = {name: [v for part in parts for v in part.column(name)] for name in ("text", "label", "is_poisoned")}
    return TextDataset.from_columns({"row_id": [f"row/{i}" for i in range(len(columns["text"]))], **columns})


def _marked(rows: TextDataset, poisoned: Sequence[bool] | None = None) -> TextDataset:
    columns = {name: rows.column(name) for name in ("row_id", "text", "label")}
    return TextDataset.from_columns(
        columns | {"is_poisoned": [False] * len(rows) if poisoned is None else list(poisoned)}
    )
