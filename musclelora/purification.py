"""The recipe `purify`: a plain fine-tune on what both scans left, which then judges rows with suspect words.

It has learned from none of these rows. An attacker who puts words into true rows of a small class would take half of
the class away: where the judge finds their labels true, such rows come back without the words, and the recipe is
trained once more. Nothing comes back that a scan still suspects. So no row of a group comes back for its label alone: a
style put into true rows is a trigger as well.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from musclelora.data.records import TextDataset
from musclelora.errors import ConfigError, DataError
from musclelora.evaluation.intervals import rate
from musclelora.training.defended_model import Readmitted
from musclelora.training.recipes import PURIFY
from musclelora.validation.config import ValidationConfig
from musclelora.validation.group_scan import GroupScanResult
from musclelora.validation.repair import can_be_cut_out, without_features
from musclelora.validation.token_scan import SuspectFeature

Logits = Callable[[Sequence[str]], np.ndarray]
"""Texts to logits, shape [rows, classes]."""
MOSTLY = 0.75  # of a feature's rows, so many must surely (95 %) have true labels
ROUNDS = 5  # of scans of the repaired rows


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
    grouped: GroupScanResult,
    label_names: Sequence[str],
    judge: Logits,
    scan_tokens: Callable[[TextDataset], Sequence[SuspectFeature]],
    scan_groups: Callable[[TextDataset], GroupScanResult],
) -> tuple[TextDataset, Readmitted]:
    """The rows to train on again, `accepted` and what comes back, in the order of `unscanned`; and how many these are.

    `features` and `grouped` are what the scans say of `unscanned`; `judge` is the model that was trained on `accepted`.
    Where most of a label was set aside it has learned to expect that label too seldom: what it says is corrected by how
    often each was delivered and accepted (Saerens, Latinne and Decaestecker 2002, Neural Computation, section 2.1).
    """
    kept = np.isin(unscanned.row_ids, accepted.row_ids)
    counts = [np.bincount(of.label_ids(label_names), minlength=len(label_names)) for of in (unscanned, accepted)]
    shift = np.log((counts[0] + 1) / (counts[1] + 1))
    texts = _true_rows(unscanned, accepted, features, label_names, lambda some: (judge(some) + shift).argmax(1))
    texts = _unsuspected(unscanned, kept, texts, scan_tokens, scan_groups, grouped.not_scanned)
    of_groups = tuple(
        number for number, group in enumerate(grouped.groups, 1) if not texts.keys().isdisjoint(group.rows)
    )
    back = Readmitted(repaired=len(texts), groups=of_groups)
    return (_with(unscanned, texts, kept) if texts else accepted), back


def _true_rows(
    rows: TextDataset,
    accepted: TextDataset,
    features: Sequence[SuspectFeature],
    label_names: Sequence[str],
    classes: Callable[[Sequence[str]], np.ndarray],
) -> dict[int, str]:
    """Texts by row, without the suspect features of their label: of features whose rows surely (95 %) have mostly true
    labels, the rows that the judge calls by theirs. `classes`: what it calls texts, shape [texts]."""
    texts = rows.texts
    found: dict[int, str] = {}
    able_to_cut = [feature for feature in features if can_be_cut_out(feature)]
    if not able_to_cut:
        return found
    given, called = accepted.label_ids(label_names), classes(accepted.texts)
    for feature in able_to_cut:
        of_label = [one for one in able_to_cut if one.label == feature.label]
        cut = {row: without_features(texts[row], of_label) for row in feature.rows}
        left = {row: text for row, text in cut.items() if text is not None}
        if not left:
            continue
        label = list(label_names).index(feature.label)
        true = classes(list(left.values())) == label
        if share_with_true_label(true, called == label, given == label) > MOSTLY:
            found |= {row: text for (row, text), is_true in zip(left.items(), true.tolist(), strict=True) if is_true}
    return found


def share_with_true_label(called: np.ndarray, accepted_called: np.ndarray, accepted_given: np.ndarray) -> float:
    """Lower 95 % bound of the share of rows that truly have a label, up to 1 and negative where few do.

    `called`, bool [rows]: whether the judge calls each by it; of accepted rows, whether it does and whether that is
    their label. It errs in both directions: how often, the accepted rows tell (Rogan and Gladen 1978, American Journal
    of Epidemiology 107). It has learned from these and errs less there than elsewhere: alike in
    both directions, that draws the share towards one half. -inf where it cannot tell the label from others.
    """
    if accepted_given.all() or not accepted_given.any():
        return -np.inf
    hits, false_calls = accepted_called[accepted_given].mean(), accepted_called[~accepted_given].mean()
    if hits <= false_calls:
        return -np.inf
    return float(min(1.0, (rate(int(called.sum()), len(called)).lower95 - false_calls) / (hits - false_calls)))


def _unsuspected(
    rows: TextDataset,
    kept: np.ndarray,
    texts: dict[int, str],
    scan_tokens: Callable[[TextDataset], Sequence[SuspectFeature]],
    scan_groups: Callable[[TextDataset], GroupScanResult],
    never_scanned: Sequence[str],
) -> dict[int, str]:
    """The texts in which no scan finds anything any more, beside the `kept` rows.

    A trigger can have parts that the first scan cleared beside its strongest one: what the token scan finds now is cut
    out too. What the group scan finds stays out, and rows of a label that has too few rows for it now, but is not among
    those `never_scanned`. None comes back where that does not end.
    """
    labels = rows.labels
    for _ in range(ROUNDS):
        if not texts:
            return {}
        tried, places = _with(rows, texts, kept), [*np.flatnonzero(kept).tolist(), *texts]
        places.sort()
        features: dict[int, list[SuspectFeature]] = {}
        for feature in scan_tokens(tried):
            for place in feature.rows:
                features.setdefault(places[place], []).append(feature)
        left = {row: without_features(text, features[row]) if row in features else text for row, text in texts.items()}
        if left == texts:
            try:
                now = scan_groups(tried)
            except DataError:  # too few rows are left for that scan: what cannot be scanned stays out
                return {}
            grouped = {places[place] for group in now.groups for place in group.rows}
            unseen = set(now.not_scanned) - set(never_scanned)
            left = {row: text for row, text in texts.items() if row not in grouped and labels[row] not in unseen}
            if left == texts:
                return texts
        texts = {row: text for row, text in left.items() if text is not None}
    return {}


def _with(rows: TextDataset, texts: Mapping[int, str], kept: np.ndarray) -> TextDataset:
    """The rows that are kept or have a text here, these with it."""
    chosen = kept.copy()
    chosen[list(texts)] = True
    columns = {name: rows.column(name) for name in rows.rows.column_names}
    columns["text"] = [texts.get(row, text) for row, text in enumerate(columns["text"])]
    return TextDataset.from_columns(columns).where(chosen)
