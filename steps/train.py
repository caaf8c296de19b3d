"""Train one model of the plan."""

from pathlib import Path
from tempfile import mkdtemp
from typing import Annotated

from zenml import ArtifactConfig, step

from musclelora.data.records import TextDataset, TrustedSet
from musclelora.training import fit
from musclelora.training.backbone import Backbone
from musclelora.training.defended_model import DefendedModel
from musclelora.training.plan import Training
from steps.cache import LIBRARY_CODE
from steps.progress import announce, announce_epoch


@step(cache_policy=LIBRARY_CODE)
def train(
    data: TextDataset,
    dev: TextDataset,
    trusted: TrustedSet,
    training: Training,
    backbone: Backbone,
    max_length: int,
    seed: int,
) -> Annotated[DefendedModel, ArtifactConfig(name="{part}_model")]:
    rows = training.rows_of(data)
    announce(f"train: {training.part} (recipe {training.recipe.name}, {training.recipe.epochs} epochs)")
    return fit.train(
        rows,
        trusted,
        dev if len(dev) else None,
        recipe=training.recipe,
        backbone=backbone,
        max_length=max_length,
        seed=seed,
        folder=Path(mkdtemp(prefix="musclelora-model-")),
        on_epoch=announce_epoch,
    )
