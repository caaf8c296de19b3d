"""Record the run in MLflow and register the candidate. Never cached."""

from typing import Annotated

from zenml import step

from materializers import pages
from musclelora.data.records import TextDataset, TrustedSet
from musclelora.data.trusted import Vouching
from musclelora.evaluation.report import ChampionResult, RobustnessReport
from musclelora.governance.decision import GateDecision
from musclelora.governance.evidence import Evidence, record_and_register
from musclelora.governance.registered import RegisteredVersion
from musclelora.governance.tracking import registered_aliases
from musclelora.training.defended_model import DefendedModel
from musclelora.validation.report import ValidationReport
from steps.idle import unless_idle
from steps.model_stages import follow_aliases
from steps.progress import announce
from steps.tracking import tracking


@step(enable_cache=False)
@unless_idle
def register(
    models: list[DefendedModel],
    parts: list[str],
    train: TextDataset,
    test: TextDataset,
    trusted: TrustedSet,
    validation: ValidationReport,
    report: RobustnessReport,
    decision: GateDecision,
    vouched: Vouching,
    champion: ChampionResult | None,
    name: str,
    promote: bool,
) -> Annotated[RegisteredVersion, "registered_version"]:
    address, experiment, run_name = tracking()
    announce(f"register: {name} in MLflow")
    evidence = Evidence(
        models=dict(zip(parts, models, strict=True)),
        train=train,
        test=test,
        trusted=trusted,
        validation=validation,
        report=report,
        decision=decision,
        pages={
            "robustness.html": pages.robustness_page(report, decision),
            "training.html": pages.training_page(models[parts.index("candidate")].record),
            "validation.html": pages.validation_page(validation),
            "decision.html": pages.decision_page(decision),
        },
        vouched=vouched,
        champion=champion,
    )
    version = record_and_register(
        evidence,
        name=name,
        promote=promote,
        tracking_uri=address,
        experiment=experiment,
        run_name=run_name,
    )
    about = {"decision": version.decision, "mlflow_model": version.model_uri, "mlflow_run": version.run_id}
    follow_aliases(name, registered_aliases(name, address), {version.version: about})
    return version
