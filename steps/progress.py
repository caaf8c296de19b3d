"""One line per step, for whoever watches the run."""

import logging

from musclelora.training.defended_model import EpochMetrics

logger = logging.getLogger("musclelora.progress")


def announce(message: str) -> None:
    """Say what begins or was found."""
    logger.info(message)


def announce_epoch(metrics: EpochMetrics) -> None:
    """Say how an epoch of training went."""
    parts = [f"loss {metrics.loss:.3f}"]
    if metrics.reference_loss is not None:
        parts.append(f"reference loss {metrics.reference_loss:.3f}")
        parts.append(f"steps aligned {metrics.aligned:.0%}, mixed {metrics.mixed:.0%}, raw {metrics.raw:.0%}")
    if metrics.dev_accuracy is not None:
        parts.append(f"dev accuracy {metrics.dev_accuracy:.1%}")
    announce(f"  epoch {metrics.epoch}: " + ", ".join(parts))
