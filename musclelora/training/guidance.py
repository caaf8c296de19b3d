"""Guided labels: what the trusted rows say of each row, moved a bounded share towards its given label.

The published gate of gradient alignment compares the trusted loss with an absolute number, and the few rows behind
that loss are soon known by heart: then raw gradients take over and teach the trigger (docs/recipes.md). Here the
reference is a model of the trusted rows alone, which has an opinion on every untrusted row, and the share is fixed.
Cross-entropy is linear in its target, so the gradient is

    (1 - label_share) * g_ref + label_share * g,

the paper's mixed update (section 4.3) with g_ref from the same rows under the reference's labels, and no ramp.
"""

import numpy as np

from musclelora.training.recipes import Guidance


def guided_targets(reference: np.ndarray, label_ids: np.ndarray, guidance: Guidance) -> np.ndarray:
    """(1 - label_share) * reference + label_share * one-hot of the given label; both [rows, classes], rows sum to 1.

    `reference` are the probabilities of a model that saw no untrusted row. Raises `ValueError` where they are none.
    """
    if not (np.isfinite(reference).all() and (reference >= 0).all() and np.allclose(reference.sum(1), 1, atol=1e-5)):
        raise ValueError("the reference gives something that is no probability")
    given = np.eye(reference.shape[1])[label_ids]
    return (1 - guidance.label_share) * reference + guidance.label_share * given
