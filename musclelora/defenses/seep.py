"""SEEP (He et al. 2024): rows that training fits most surely are seeds of the poison, so is what lies near them.

Seeds: the rows with the largest mean over epochs e of 1 / (1 - p_e(given label)) (equation 1). Here the model of e
epochs is trained anew, with its own decay of the learning rate, instead of being looked at while one training passes.

Propagation: in the last model's states, each row of the seeds' label has a mean distance to its nearest seeds. Two
Gaussians are fitted to the logarithms of these distances; rows that belong to the nearer one are left out (the paper
propagates step by step and stops by a density estimate or such a mixture).
"""

from typing import ClassVar

import numpy as np
from pydantic import Field, PositiveInt
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

from musclelora.data.records import TextDataset
from musclelora.defenses.base import Defender, Defense
from musclelora.seeding import derived_seed


class Seep(Defense):
    """Sections 3.1 and 3.2 of the paper, as the head of this file says."""

    name: ClassVar[str] = "seep"
    paper: ClassVar[str] = "He et al., TACL 2024, [arXiv 2405.11575](https://arxiv.org/abs/2405.11575)"

    epochs: PositiveInt = Field(2, description="whose probabilities are averaged; costs epochs * (epochs + 1) / 2")
    seed_share: float = Field(0.01, gt=0, lt=0.5, description="of all rows, that are seeds")
    neighbours: PositiveInt = Field(5, description="nearest seeds whose mean distance counts")

    def suspects(self, rows: TextDataset, defender: Defender) -> np.ndarray:
        labels = rows.label_ids(defender.label_names)
        models = [defender.train(rows, epochs) for epochs in range(1, self.epochs + 1)]
        inverse = np.zeros(len(rows))
        for model in models:
            given = model.probabilities(rows.texts)[np.arange(len(rows)), labels]
            inverse += 1 / np.maximum(1 - given, 1e-12) / len(models)
        seeds = np.argsort(-inverse, kind="stable")[: max(2, round(self.seed_share * len(rows)))]
        poisoned = np.bincount(labels[seeds]).argmax()
        seeds = seeds[labels[seeds] == poisoned]
        of_label = np.flatnonzero(labels == poisoned)
        suspect = np.zeros(len(rows), dtype=bool)
        near = self._near(models[-1].states(rows.texts), seeds, of_label, defender.seed)
        suspect[of_label[near]] = True
        suspect[seeds] = True
        return suspect

    def _near(self, states: np.ndarray, seeds: np.ndarray, of_label: np.ndarray, seed: int) -> np.ndarray:
        """Which rows of the label belong to the nearer of two groups; a row is no neighbour of itself."""
        count = min(self.neighbours, len(seeds) - 1)
        if count < 1 or len(of_label) < 4:
            return np.zeros(len(of_label), dtype=bool)
        found, _ = NearestNeighbors(n_neighbors=count + 1).fit(states[seeds]).kneighbors(states[of_label])
        is_seed = np.isin(of_label, seeds)  # its nearest seed is itself
        nearest = np.where(is_seed, found[:, 1:].mean(1), found[:, :-1].mean(1))
        distance = np.log(np.maximum(nearest, 1e-12))[:, None]
        random_state = derived_seed(seed, "defenses/seep") % 2**32
        mixture = GaussianMixture(2, random_state=random_state).fit(distance)
        return mixture.predict(distance) == mixture.means_.ravel().argmin()
