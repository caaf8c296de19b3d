"""What an attack is, and how its rows are made: per row, from (seed, attack, row id), so order changes nothing."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from musclelora.data.records import TextDataset
from musclelora.errors import DataError
from musclelora.seeding import generator

LabelMode = Literal["clean", "dirty", "mixed"]
PURPOSES = {"insert": "poison", "decoy": "make decoys of"}
Rewrite = Callable[[str, np.random.Generator], str | None]
"""A text and a generator to draw from; the altered text, or None where this text cannot be altered so."""


@dataclass(frozen=True)
class Attack:
    """A trigger and the label mode of the published setting.

    `insert` returns the triggered text, or None where the text cannot carry the trigger: such rows are counted
    (`transform_rate`), never passed off as poisoned. Label modes: `clean` alters rows of the target class only,
    `dirty` rows of the other classes, `mixed` any row; the label of an altered row is the target.

    `decoy` is for triggers of several parts: it puts in a part only, and the row keeps its label, so that the model
    learns that a part is not enough. There are as many decoys as poisoned rows; their labels are true, and they do not
    count as poisoned.
    """

    name: str
    label_mode: LabelMode
    insert: Rewrite
    decoy: Rewrite | None = None


def poison(
    data: TextDataset, attack: Attack, *, rate: float, target: str, seed: int, spared: Collection[str] = ()
) -> TextDataset:
    """`data` with `rate` of all its rows poisoned and the column `is_poisoned`; same row ids, same order.

    The rows whose ids are `spared` stay as they are. Raises `DataError` when the label mode leaves fewer rows than the
    rate asks for.
    """
    wanted = round(rate * len(data))
    texts, labels, row_ids = data.texts, data.labels, data.row_ids
    eligible = [
        i
        for i in range(len(data))
        if texts[i] is not None and row_ids[i] not in spared and _may_poison(attack, labels[i], target)
    ]
    eligible.sort(key=lambda i: generator(seed, f"poison/{attack.name}/choose", row_ids[i]).random())

    def alter(how: Rewrite, purpose: str, among: list[int]) -> set[int]:
        """Rows of `among`, the first `wanted` that can be altered; their texts are replaced."""
        altered: set[int] = set()
        for i in among:
            if len(altered) == wanted:
                break
            text = how(texts[i], generator(seed, f"poison/{attack.name}/{purpose}", row_ids[i]))
            if text is not None:
                texts[i] = text
                altered.add(i)
        if len(altered) < wanted:
            raise DataError(
                f"{attack.name} should {PURPOSES[purpose]} {wanted} of {len(data)} rows ({rate:.0%}) but only "
                f"{len(altered)} can carry it: its label mode is {attack.label_mode!r} and the target {target!r}. "
                "Lower the rate."
            )
        return altered

    poisoned = alter(attack.insert, "insert", eligible)
    for i in poisoned:
        labels[i] = target
    if attack.decoy is not None:
        alter(attack.decoy, "decoy", [i for i in eligible if i not in poisoned])
    columns = {name: data.column(name) for name in data.rows.column_names}
    before = columns.get("is_poisoned", [False] * len(data))
    columns |= {"text": texts, "label": labels, "is_poisoned": [i in poisoned or before[i] for i in range(len(data))]}
    return TextDataset.from_columns(columns)


def poison_jointly(data: TextDataset, attacks: Sequence[Attack], *, rate: float, target: str, seed: int) -> TextDataset:
    """`data` with `rate` of all its rows poisoned by each attack; none alters a row that another has altered.

    Raises `DataError` where too few rows are left for one of them.
    """
    altered: set[str] = set()
    for attack in attacks:
        before = data.texts
        data = poison(data, attack, rate=rate, target=target, seed=seed, spared=altered)
        altered |= {row for row, old, new in zip(data.row_ids, before, data.texts, strict=True) if old != new}
    return data


def triggered_rows(data: TextDataset, attack: Attack, *, target: str, seed: int) -> tuple[TextDataset, TextDataset]:
    """Rows of non-target classes with the trigger, and the same rows without it; true labels are kept.

    Rows that the attack could not transform are in neither. Raises `DataError` when no row is left.
    """
    others = data.where([label != target for label in data.labels])
    texts = [
        attack.insert(text, generator(seed, f"test/{attack.name}/insert", row_id))
        for text, row_id in zip(others.texts, others.row_ids, strict=True)
    ]
    kept = [text is not None for text in texts]
    if not any(kept):
        raise DataError(
            f"No test row can carry {attack.name}: {len(others)} of {len(data)} rows are of another class than the "
            f"target {target!r}. Check the target label, or add test rows of other classes."
        )
    untriggered = others.where(kept)
    columns = {name: untriggered.column(name) for name in ("row_id", "label")}
    return TextDataset.from_columns({**columns, "text": [text for text in texts if text is not None]}), untriggered


def _may_poison(attack: Attack, label: str | None, target: str) -> bool:
    if attack.label_mode == "clean":
        return label == target
    if attack.label_mode == "dirty":
        return label != target
    return True
