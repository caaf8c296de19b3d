"""The label that attacks and drills aim at."""

from musclelora.attacks.registry import ATTACKS
from musclelora.config import RunConfig
from musclelora.errors import ConfigError


def target_of(config: RunConfig) -> str:
    """The target label's name. Whether the data has it is checked by `ingest`."""
    if not config.attacks and not config.evaluation.drills:
        raise ConfigError(
            "No attack is named, and the gate accepts no model that was not attacked: name some in evaluation.drills, "
            f"for example [{', '.join(ATTACKS)}]."
        )
    if config.evaluation.target is not None:
        return config.evaluation.target
    if config.data.demonstration is not None:
        return config.data.demonstration.target
    if config.data.labels:
        return config.data.labels[-1]
    raise ConfigError("Attacks and drills need a target label: set evaluation.target (or list data.labels).")
