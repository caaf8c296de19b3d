"""Train one model of the plan."""

import os
import shutil
import weakref
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Annotated

from zenml import ArtifactConfig, step

from musclelora.data.records import TextDataset, TrustedSet
from musclelora.evaluation.config import FourierConfig
from musclelora.evaluation.fourier import fourier_observer
from musclelora.evaluation.suites import TriggeredFrom
from musclelora.governance.live import live_curve
from musclelora.plan import Training
from musclelora.purification import readmit
from musclelora.training import fit
from musclelora.training.backbone import Backbone, load_backbone
from musclelora.training.defended_model import DefendedModel, Readmitted
from musclelora.training.predict import logits_of
from musclelora.training.recipes import PURIFY
from musclelora.validation.config import ValidationConfig
from musclelora.validation.scans import scans_of
from steps.cache import LIBRARY_CODE
from steps.idle import unless_idle
from steps.progress import announce, announce_epoch
from steps.tracking import tracking

# A training that is killed goes on from here when the run is started again; removed when it has finished.
CHECKPOINTS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "musclelora" / "checkpoints"


@step(cache_policy=LIBRARY_CODE)
@unless_idle
def train(
    accepted: TextDataset,
    unscanned: TextDataset,
    dev: TextDataset,
    trusted: TrustedSet,
    twin: DefendedModel | None,
    training: Training,
    validation: ValidationConfig,
    backbone: Backbone,
    encoder: Backbone,
    max_length: int,
    seed: int,
    triggers: TriggeredFrom,
    fourier: FourierConfig | None,
) -> Annotated[DefendedModel, ArtifactConfig(name="{part}_model")]:
    scan, group_scan = scans_of(validation, encoder, trusted, max_length, seed)
    rows = training.rows_of(accepted, unscanned, scan, group_scan)
    if twin is not None and twin.record.data_sha256 == rows.sha256:
        announce(
            f"train: {training.part} is the model of {training.twin}: the same settings, and the same rows were left"
        )
        return _kept_until_stored(twin.copied_to(Path(mkdtemp(prefix="musclelora-model-")), training.recipe.name))
    announce(f"train: {training.part} (recipe {training.recipe.name}, {training.recipe.epochs} epochs)")
    observer = None
    attack = training.drill.attacks[0] if training.drill else next(iter(triggers.attacks), None)
    if fourier is not None and attack is not None:
        observer = fourier_observer(
            dev,
            attack=attack,
            target=triggers.target,
            seed=seed,
            label_names=trusted.label_names,
            loaded=load_backbone(backbone, list(trusted.label_names), max_length),
            max_length=max_length,
            settings=fourier,
        )

    def trained(on: TextDataset, readmitted: Readmitted | None = None) -> DefendedModel:
        with live_curve(*tracking(), training.part) as curve:
            return fit.train(
                on,
                trusted,
                dev if len(dev) else None,
                recipe=training.recipe,
                backbone=backbone,
                max_length=max_length,
                seed=seed,
                folder=Path(mkdtemp(prefix="musclelora-model-")),
                on_epoch=announce_epoch,
                on_steps=curve,
                checkpoints=CHECKPOINTS,
                observer=observer,
                readmitted=readmitted,
            )

    model = trained(rows)
    if training.recipe.name == PURIFY and scan is not None and group_scan is not None and training.part == "candidate":
        judge = model.load()
        again, back = readmit(
            rows,
            unscanned,
            scan(unscanned),
            group_scan(unscanned),
            trusted.label_names,
            lambda texts: logits_of(*judge, texts, max_length),
            partial(scan, before=unscanned),
            partial(group_scan, before=unscanned),
        )
        if len(again) > len(rows):
            announce(
                f"train: the model finds the labels of {back.repaired} rows without their suspect words true, and no "
                "scan suspects them so: they come back"
            )
            model = trained(again, back)
    if model.record.raw_gradients:
        announce(f"  WARNING: {model.record.raw_gradients}")
    return _kept_until_stored(model)


def _kept_until_stored(model: DefendedModel) -> DefendedModel:
    """ZenML stores the model after the step has returned, so its folder lives as long as the object that names it (or
    until the launcher removes all temporary files)."""
    weakref.finalize(model, shutil.rmtree, model.folder, ignore_errors=True)
    return model
