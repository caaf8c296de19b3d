"""The rows of one dataset of a comparison: clean ones, and per attack the poisoned and the triggered ones."""

from collections import Counter

import numpy as np

from musclelora.attacks.base import poison, triggered_rows
from musclelora.attacks.registry import attack_by_name
from musclelora.data.config import CompareData, Split
from musclelora.data.readers import read_table
from musclelora.data.records import TextDataset
from musclelora.data.splits import split
from musclelora.errors import ConfigError, DataError
from musclelora.ingest import Delivery, ingest
from musclelora.seeding import generator

DATA_SEED = 0  # splits, and triggers in test rows: equal for every seed of a comparison, so that its rows are pairs


def deliver(data: CompareData, seed: int) -> Delivery:
    """Train, dev and test rows, which are the same for every seed, and the trusted rows.

    Trusted rows that are taken out of the dev rows are drawn with the seed. Raises `DataError` as `ingest` does.
    """
    if data.trusted_from_dev is None:
        return ingest(data, DATA_SEED, data.target)

    def read(name: str | None) -> TextDataset:
        if name is None:
            raise ConfigError("trusted_from_dev needs the files train, dev and test.")
        return read_table(name, data.columns, only_source=data.only_source)

    dev = read(data.dev)
    sizes = Split(train=1, dev=len(dev) - data.trusted_from_dev - 2, test=1, trusted=data.trusted_from_dev)
    parts = split(dev, sizes, seed)
    return Delivery(_first(read(data.train), data.train_rows), parts.dev, read(data.test), parts.trusted)


def attacked(
    data: CompareData, train: TextDataset, test: TextDataset, attack: str, seed: int
) -> tuple[TextDataset, TextDataset]:
    """Poisoned training rows and triggered test rows: ready-made ones where `data` names them, else made here.

    Triggered rows are of other classes than the target. Ready-made ones that carry the target in place of their label
    are taken as they are. Raises `DataError` where no row can carry the attack.
    """
    if attack in data.ready_made:
        files = data.ready_made[attack]
        poisoned, triggered = read_table(files.train, data.columns), read_table(files.triggered, data.columns)
        if len(triggered) == 0:
            raise DataError(f"The file of triggered rows of {attack!r}, {files.triggered}, has no row.")
        whole = train if data.train_rows is None or data.train is None else read_table(data.train, data.columns)
        return _first(_marked(poisoned, whole), data.train_rows), triggered
    made = attack_by_name(attack)
    poisoned = poison(train, made, rate=data.rate, target=data.target, seed=seed)
    return poisoned, triggered_rows(test, made, target=data.target, seed=DATA_SEED)[0]


def _first(rows: TextDataset, count: int | None) -> TextDataset:
    """`count` rows at positions drawn once, the same of every file of a dataset."""
    if count is None or count >= len(rows):
        return rows
    chosen = generator(DATA_SEED, "comparison/rows").permutation(len(rows))[:count]
    return TextDataset(rows.rows.select(np.sort(chosen)))


def _marked(poisoned: TextDataset, clean: TextDataset) -> TextDataset:
    """With `is_poisoned` where the file does not say it: rows that the clean file, of as many, does not have so often,
    in whatever order."""
    if "is_poisoned" in poisoned.rows.column_names or len(poisoned) != len(clean):
        return poisoned
    there = Counter(zip(clean.texts, clean.labels, strict=True))
    columns = {name: poisoned.column(name) for name in poisoned.rows.column_names}
    marks = []
    for row in zip(poisoned.texts, poisoned.labels, strict=True):
        marks.append(there[row] == 0)
        there[row] -= there[row] > 0
    return TextDataset.from_columns(columns | {"is_poisoned": marks})
