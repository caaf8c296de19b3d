"""The recipe `purify`: a plain fine-tune on what both scans left, which then judges the suspect groups.

It has learned from none of their rows (`evaluation/suspect_groups.py`). Where it finds groups honest their rows come
back, and the recipe is trained once more: once, since a second judge would have learned from rows that were suspect.
"""

from collections.abc import Sequence

import numpy as np

from musclelora.data.records import TextDataset
from musclelora.errors import ConfigError
from musclelora.evaluation.suspect_groups import Predict, judged, readmitted
from musclelora.training.recipes import PURIFY
from musclelora.validation.config import ValidationConfig
from musclelora.validation.group_scan import SuspectGroup


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
    groups: Sequence[SuspectGroup],
    label_names: Sequence[str],
    judge: Predict,
) -> TextDataset:
    """The rows to train on again: `accepted` and what comes back, in the order of `unscanned`; `accepted` if nothing.

    `groups` are those of a scan of `unscanned`; `judge` is the model that was trained on `accepted`.
    """
    kept = np.isin(unscanned.row_ids, accepted.row_ids)
    in_groups = np.zeros_like(kept)
    for group in groups:
        in_groups[list(group.rows)] = True
    back = readmitted(judged(groups, unscanned, label_names, judge), ~kept & ~in_groups)
    return unscanned.where(kept | back) if back.any() else accepted
