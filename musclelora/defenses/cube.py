"""CUBE (Cui et al. 2022): poisoned rows of a label are a cluster of their own in a model that has learned the backdoor.

An undefended model is trained for one epoch; the states of all rows are reduced in dimension and clustered by density;
of each label all but its largest cluster is left out, rows in no cluster included. The labels are clustered together:
density finds no single cluster, so that one label alone is always taken apart, poisoned or not.
"""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt
from sklearn.cluster import HDBSCAN
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from musclelora.data.records import TextDataset
from musclelora.defenses.base import Defender, Defense
from musclelora.errors import ConfigError
from musclelora.seeding import derived_seed

# As umap-learn's documentation says for clustering (umap-learn.readthedocs.io, "Using UMAP for Clustering"): with its
# defaults, which are for pictures, HDBSCAN leaves most rows of a label in no cluster.
FOR_CLUSTERS = {"n_neighbors": 30, "min_dist": 0.0}


class Cube(Defense):
    """UMAP and HDBSCAN as in the paper, section 4; UMAP is umap-learn's (`pip install umap-learn`)."""

    name: ClassVar[str] = "cube"
    paper: ClassVar[str] = "Cui et al., NeurIPS 2022, [arXiv 2206.08514](https://arxiv.org/abs/2206.08514)"

    epochs: PositiveInt = Field(1, description="of the model that learns the backdoor")
    reduction: Literal["umap", "pca"] = Field("umap", description="pca needs no further package, and is linear")
    dimensions: PositiveInt = Field(10, description="that the states are reduced to")
    min_share: float = Field(0.01, gt=0, lt=0.5, description="of the rows, that a cluster has at least")

    def suspects(self, rows: TextDataset, defender: Defender) -> np.ndarray:
        labels, states = rows.label_ids(defender.label_names), defender.train(rows, self.epochs).states(rows.texts)
        suspect = np.zeros(len(rows), dtype=bool)
        smallest = max(5, round(self.min_share * len(rows)))
        if len(rows) <= 2 * smallest:
            return suspect  # too few to speak of clusters
        clusters = HDBSCAN(min_cluster_size=smallest, copy=True).fit_predict(self._reduced(states, defender.seed))
        for label in np.unique(labels):
            of_label = labels == label
            found = clusters[of_label & (clusters >= 0)]
            if len(found):
                suspect |= of_label & (clusters != np.bincount(found).argmax())
        return suspect

    def _reduced(self, states: np.ndarray, seed: int) -> np.ndarray:
        dimensions = min(self.dimensions, states.shape[1], len(states) - 2)
        random_state = derived_seed(seed, "defenses/cube") % 2**32
        if self.reduction == "pca":
            return PCA(dimensions, random_state=random_state).fit_transform(states)
        try:
            from umap import UMAP
        except ImportError as error:
            raise ConfigError(
                "CUBE needs umap-learn, which is not installed: `pip install umap-learn`, or set `reduction: pca`."
            ) from error
        reducer = UMAP(n_components=dimensions, **FOR_CLUSTERS, random_state=random_state, n_jobs=1)
        # Numba, which it runs on, leaves OpenMP a thread per core: models trained later would differ in their bits.
        with threadpool_limits(1):
            return np.asarray(reducer.fit_transform(states))
