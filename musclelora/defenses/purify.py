"""Purify: what both scans of validation set aside is left out, but for groups that a model of the rest finds honest.

The recipe `purify` of a run, whose scans are the run's; a comparison has none, so that here they come with it.
"""

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
from pydantic import Field

from musclelora.data.records import TextDataset
from musclelora.defenses.base import Defender, Defense, kept_rows
from musclelora.evaluation.suspect_groups import judged, readmitted
from musclelora.training.backbone import resolve_backbone
from musclelora.training.recipes import Contrastive
from musclelora.validation.config import GroupScanConfig
from musclelora.validation.group_scan import GroupScan
from musclelora.validation.trusted_model import TokenScan


class Purify(Defense):
    """Token scan and group scan (docs/validation.md), and the judgement of suspect groups (evaluation/suspect_groups).

    Raises `DataError` where no two labels have the rows that the group scan needs.
    """

    name: ClassVar[str] = "purify"
    paper: ClassVar[str] = "ours: [the scans](validation.md)"

    encoder: str = Field("", description="of the trusted model, named as in model.base; empty = the backbone")
    false_alarm: float = Field(0.01, gt=0, lt=0.5, description="chance per label and look that honest rows are suspect")

    def suspects(self, rows: TextDataset, defender: Defender) -> np.ndarray:
        encoder = resolve_backbone(self.encoder) if self.encoder else defender.backbone
        trusted, length, seed = defender.trusted, defender.max_length, defender.seed
        config = GroupScanConfig(enabled=True, false_alarm=self.false_alarm)
        words = _mask(rows, (of.rows for of in TokenScan(encoder, trusted, length, seed=seed)(rows)))
        groups = GroupScan(encoder, trusted, length, Contrastive(), config, seed)(rows).groups
        out = words | _mask(rows, (group.rows for group in groups))
        if not any(group.disagreeing for group in groups):
            return out  # there is nothing to judge
        judge = defender.train(kept_rows(rows, out, self.name), None)
        return out & ~readmitted(judged(groups, rows, defender.label_names, judge.classes), words)


def _mask(rows: TextDataset, found: Iterable[Iterable[int]]) -> np.ndarray:
    mask = np.zeros(len(rows), dtype=bool)
    mask[[row for some in found for row in some]] = True
    return mask
