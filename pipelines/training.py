"""The training pipeline: untrusted rows in, a registered version or a refusal out."""

from typing import Any

from zenml import pipeline

from musclelora.config import RunConfig
from musclelora.evaluation.suites import TriggeredFrom
from musclelora.plan import Training
from musclelora.training.backbone import Backbone
from steps.compare import compare
from steps.decide import decide
from steps.enforce import enforce
from steps.evaluate import evaluate
from steps.ingest import ingest
from steps.register import register
from steps.train import train
from steps.validate import validate


@pipeline(name="musclelora_training")
def training_pipeline(
    config: RunConfig, trainings: list[Training], backbone: Backbone, encoder: Backbone, triggers: TriggeredFrom
) -> None:
    delivered, dev, test, trusted = ingest(data=config.data, seed=config.seed, target=triggers.target)
    _, _, decision, registered = candidate_stages(
        delivered, dev, test, trusted, config, trainings, backbone, encoder, triggers
    )
    enforce(decision, registered)


def candidate_stages(
    delivered: Any,
    dev: Any,
    test: Any,
    trusted: Any,
    config: RunConfig,
    trainings: list[Training],
    backbone: Backbone,
    encoder: Backbone,
    triggers: TriggeredFrom,
) -> tuple[Any, Any, Any, Any]:
    """From delivered rows to a version on record: validation report, robustness report, decision, version."""
    validation, accepted, quarantined, unscanned = validate(
        delivered,
        dev,
        test,
        trusted,
        config=config.validation,
        encoder=encoder,
        max_length=config.model.max_length,
        seed=config.seed,
    )
    trained: dict[str, Any] = {}
    for training in trainings:
        trained[training.part] = train.with_options(substitutions={"part": training.part})(
            accepted,
            unscanned,
            dev,
            trusted,
            trained[training.twin] if training.twin else None,
            training=training,
            validation=config.validation,
            backbone=backbone,
            encoder=encoder,
            max_length=config.model.max_length,
            seed=config.seed,
            triggers=triggers,
            fourier=config.evaluation.fourier,
            id=f"train_{training.part}",
        )
    parts, models = list(trained), list(trained.values())
    how: Any = {"triggers": triggers, "precision": config.evaluation.precision}
    report = evaluate(models, parts, test, validation, quarantined, min_control_asr=config.gate.min_control_asr, **how)
    champion = (
        compare(test, drills=config.evaluation.drills, name=config.registry.name, **how)
        if config.gate.compares_with_champion
        else None
    )
    decision, vouched = decide(report, validation, trusted, champion, policy=config.gate, waivers=config.waivers)
    registered = register(
        models,
        parts,
        accepted,
        test,
        trusted,
        validation,
        report,
        decision,
        vouched,
        champion,
        name=config.registry.name,
        promote=config.registry.promote,
    )
    return validation, report, decision, registered
