"""The retraining pipeline: what the training pipeline does, where rows changed or the champion's evidence is old."""

from zenml import pipeline

from musclelora.config import RunConfig
from musclelora.evaluation.suites import TriggeredFrom
from musclelora.plan import Training
from musclelora.training.backbone import Backbone
from pipelines.training import candidate_stages
from steps.alert import alert
from steps.alerting import alert_failure
from steps.enforce import enforce
from steps.look import look
from steps.screen import screen


@pipeline(name="musclelora_retraining", on_failure=alert_failure)
def retraining_pipeline(
    config: RunConfig, trainings: list[Training], backbone: Backbone, encoder: Backbone, triggers: TriggeredFrom
) -> None:
    occasion, delivered, dev, test, trusted, new_rows = look(
        data=config.data,
        seed=config.seed,
        target=triggers.target,
        name=config.registry.name,
        max_evidence_age_days=config.retraining.max_evidence_age_days,
    )
    new_rows_report = screen(
        new_rows,
        test,
        trusted,
        config=config.validation,
        encoder=encoder,
        max_length=config.model.max_length,
        seed=config.seed,
    )
    validation, report, decision, registered = candidate_stages(
        delivered, dev, test, trusted, config, trainings, backbone, encoder, triggers
    )
    alert(occasion, validation, report, decision, registered, new_rows_report)
    enforce(decision, registered, after="alert")
