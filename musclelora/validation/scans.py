"""The scans that a configuration asks for."""

from musclelora.data.records import TextDataset, TrustedSet
from musclelora.training.backbone import Backbone
from musclelora.validation.config import ValidationConfig
from musclelora.validation.group_scan import GroupScan
from musclelora.validation.trusted_model import TokenScan


def scans_of(
    config: ValidationConfig,
    encoder: Backbone,
    trusted: TrustedSet,
    max_length: int,
    seed: int,
    held_out: TextDataset | None = None,
) -> tuple[TokenScan | None, GroupScan | None]:
    """Each as `config` has it, None where it is off; both lean on one model of the `trusted` rows."""
    model, tokens, groups = config.trusted_model, None, None
    of_trusted = (encoder, trusted, max_length, model.contrastive)
    if config.token_scan:
        tokens = TokenScan(*of_trusted, seed, held_out, config.engine, model.sample_rows)
    if config.group_scan.enabled:
        groups = GroupScan(*of_trusted, config.group_scan, seed, config.engine, model.sample_rows)
    return tokens, groups
