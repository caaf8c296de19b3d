"""Purify: what both scans of validation set aside is left out; true rows come back without suspect words.

The recipe `purify` of a run, whose scans are the run's; a comparison has none, so that here they come with it.
"""

from functools import partial
from typing import ClassVar

import numpy as np
from pydantic import Field

from musclelora.data.records import TextDataset
from musclelora.defenses.base import Defender, Defense, kept_rows
from musclelora.purification import readmit
from musclelora.training.backbone import resolve_backbone
from musclelora.training.recipes import Contrastive
from musclelora.validation.config import GroupScanConfig
from musclelora.validation.group_scan import GroupScan
from musclelora.validation.trusted_model import TokenScan


class Purify(Defense):
    """Token scan and group scan (docs/validation.md), and the judgement of what they found (musclelora/purification).

    Raises `DataError` where no two labels have the rows that the group scan needs.
    """

    name: ClassVar[str] = "purify"
    paper: ClassVar[str] = "ours: [the scans](validation.md)"

    encoder: str = Field("", description="of the trusted model, named as in model.base; empty = the backbone")
    false_alarm: float = Field(0.01, gt=0, lt=0.5, description="chance per label and look that honest rows are suspect")

    def training_rows(self, rows: TextDataset, defender: Defender) -> TextDataset:
        encoder = resolve_backbone(self.encoder) if self.encoder else defender.backbone
        trusted, length, seed = defender.trusted, defender.max_length, defender.seed
        config = GroupScanConfig(enabled=True, false_alarm=self.false_alarm)
        scan = TokenScan(encoder, trusted, length, seed=seed)
        features = scan(rows)
        group_scan = GroupScan(encoder, trusted, length, Contrastive(), config, seed)
        grouped = group_scan(rows)
        out = np.zeros(len(rows), dtype=bool)
        out[[row for found in (features, grouped.groups) for one in found for row in one.rows]] = True
        accepted = kept_rows(rows, out, self.name)
        if not features:
            return accepted  # there is nothing to judge
        judge = defender.train(accepted, None)
        again = partial(scan, before=rows), partial(group_scan, before=rows)
        return readmit(accepted, rows, features, grouped, defender.label_names, judge.logits, *again)[0]
