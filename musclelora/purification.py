"""The recipe `purify`: a plain fine-tune on what both scans left, which then judges what they set aside.

It has learned from none of these rows. Groups that it finds honest come back (`evaluation/suspect_groups.py`). So do
rows with a suspect word where it finds their labels true, without that word: an attacker who puts a trigger into true
rows of a small class would otherwise take half of the class away. The recipe is then trained once more: once, since a
second judge would have learned from rows that were suspect.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from musclelora.data.records import TextDataset
from musclelora.errors import ConfigError
from musclelora.evaluation.intervals import rate
from musclelora.evaluation.suspect_groups import HONEST, Predict, judged, readmitted
from musclelora.training.defended_model import Readmitted
from musclelora.training.recipes import PURIFY
from musclelora.validation.config import ValidationConfig
from musclelora.validation.group_scan import SuspectGroup
from musclelora.validation.repair import can_be_cut_out, without_features
from musclelora.validation.token_scan import SuspectFeature

ROUNDS = 5  # of scans of the repaired rows
Rescan = Callable[[TextDataset], Sequence[SuspectFeature]]


def check_scans(recipe: str, validation: ValidationConfig, without_scan: str | None = None) -> None:
    """Raises `ConfigError` where the recipe is `purify` and a scan is off, or `without_scan` is: it would be `none`."""
    if without_scan == PURIFY:
        raise ConfigError(
            "evaluation.without_scan is trained on all rows, without the scans, and the recipe 'purify' is nothing but "
            "a plain fine-tune on what they left: it would be the undefended control. Name another recipe there."
        )
    if recipe == PURIFY and not (validation.token_scan and validation.group_scan.enabled):
        raise ConfigError(
            "The recipe 'purify' is a plain fine-tune on what both scans leave: without them it is undefended. Set "
            "validation.token_scan and validation.group_scan.enabled to true, or choose another recipe.name."
        )


def readmit(
    accepted: TextDataset,
    unscanned: TextDataset,
    features: Sequence[SuspectFeature],
    groups: Sequence[SuspectGroup],
    label_names: Sequence[str],
    judge: Predict,
    scan: Rescan,
) -> tuple[TextDataset, Readmitted]:
    """The rows to train on again, `accepted` and what comes back, in the order of `unscanned`; and how many these are.

    `features` and `groups` are those of the scans of `unscanned`; `judge` is the model that was trained on `accepted`;
    `scan` is the token scan.
    """
    kept = np.isin(unscanned.row_ids, accepted.row_ids)
    in_features, in_groups = _mask(len(kept), features), _mask(len(kept), groups)
    of_judge = judged(groups, unscanned, label_names, judge)
    whole = readmitted(of_judge, in_features | (~kept & ~in_groups))
    planted = _mask(len(kept), (one.group for one in of_judge if not one.is_honest))
    texts = _true_rows(unscanned, features, label_names, judge, ~kept & in_features & ~planted)
    texts = _rescanned(unscanned, kept | whole, texts, scan)
    back = whole.copy()
    back[list(texts)] = True
    came_back = tuple(number for number, group in enumerate(groups, 1) if back[list(group.rows)].any())
    counts = Readmitted(whole=int(whole.sum()), repaired=len(texts), groups=came_back)
    return (_with(unscanned, texts, kept | back) if back.any() else accepted), counts


def _true_rows(
    rows: TextDataset,
    features: Sequence[SuspectFeature],
    label_names: Sequence[str],
    judge: Predict,
    able: np.ndarray,
) -> dict[int, str]:
    """Texts by row, without the suspect features of their label: of features whose labels the judge finds true, surely
    for more than half of their rows, the rows of which it does."""
    texts = rows.texts
    found: dict[int, str] = {}
    able_to_cut = [feature for feature in features if can_be_cut_out(feature)]
    for feature in able_to_cut:
        of_label = [one for one in able_to_cut if one.label == feature.label]
        cut = {row: without_features(texts[row], of_label) for row in feature.rows if able[row]}
        left = {row: text for row, text in cut.items() if text is not None}
        if not left:
            continue
        true = judge(list(left.values())) == list(label_names).index(feature.label)
        if rate(int(true.sum()), len(true)).lower95 > HONEST:
            found |= {row: text for (row, text), is_true in zip(left.items(), true.tolist(), strict=True) if is_true}
    return found


def _rescanned(rows: TextDataset, others: np.ndarray, texts: dict[int, str], scan: Rescan) -> dict[int, str]:
    """The texts in which the scan, beside the `others`, finds nothing any more; what it finds is cut out too.

    A trigger can have parts that the first scan cleared beside its strongest one. None where that does not end.
    """
    for _ in range(ROUNDS):
        if not texts:
            return {}
        chosen = others.copy()
        chosen[list(texts)] = True
        places = np.flatnonzero(chosen).tolist()
        found = scan(_with(rows, texts, chosen))
        of_row: dict[int, list[SuspectFeature]] = {}
        for feature in found:
            for place in feature.rows:
                if places[place] in texts:
                    of_row.setdefault(places[place], []).append(feature)
        if not of_row:
            return texts
        cut = {row: without_features(text, of_row[row]) if row in of_row else text for row, text in texts.items()}
        texts = {row: text for row, text in cut.items() if text is not None}
    return {}


def _with(rows: TextDataset, texts: Mapping[int, str], chosen: np.ndarray) -> TextDataset:
    """The chosen rows, some with another text."""
    columns = {name: rows.column(name) for name in rows.rows.column_names}
    columns["text"] = [texts.get(row, text) for row, text in enumerate(columns["text"])]
    return TextDataset.from_columns(columns).where(chosen)


def _mask(rows: int, found: Iterable[SuspectFeature | SuspectGroup]) -> np.ndarray:
    mask = np.zeros(rows, dtype=bool)
    for one in found:
        mask[list(one.rows)] = True
    return mask
