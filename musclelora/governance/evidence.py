"""Everything of a run that belongs in MLflow: the run with its models, data and rates, then the model version."""

from dataclasses import dataclass

from musclelora.data.records import TextDataset, TrustedSet
from musclelora.data.trusted import Vouching
from musclelora.evaluation.report import ChampionResult, RobustnessReport
from musclelora.governance import promotion, registry, tracking
from musclelora.governance.bom import BOM, bill_of_materials
from musclelora.governance.decision import GateDecision
from musclelora.governance.manifest import CHAMPION, TRAINING, VALIDATION, VOUCHED
from musclelora.governance.model_card import model_card
from musclelora.governance.registered import RegisteredVersion
from musclelora.training.defended_model import DefendedModel
from musclelora.validation.report import ValidationReport

EXAMPLE_ROWS = 2
PROBE_ROWS = 64


@dataclass(frozen=True)
class Evidence:
    """What a reviewer needs to check the decision. `models` by part; the candidate is among them."""

    models: dict[str, DefendedModel]
    train: TextDataset
    test: TextDataset
    trusted: TrustedSet
    validation: ValidationReport
    report: RobustnessReport
    decision: GateDecision
    pages: dict[str, str]
    vouched: Vouching | None = None
    champion: ChampionResult | None = None


def record_and_register(
    evidence: Evidence, *, name: str, promote: bool, tracking_uri: str, experiment: str, run_name: str
) -> RegisteredVersion:
    """Log the run under `run_name`, then register the candidate; only an accepted one gets aliases.

    An accepted one becomes challenger, and with `promote` champion too. Raises `RegistryError` where MLflow fails and
    `ModelError` where the logged model reloads differently; the run is then marked FAILED (KILLED where it was
    interrupted), and no alias has moved but where the error says so.
    """
    candidate, decision = evidence.models["candidate"], evidence.decision
    run_id = tracking.start_run(tracking_uri, experiment, run_name, {})
    try:
        tracking.log_record(tracking_uri, run_id, candidate.record)
        for part, model in evidence.models.items():
            tracking.log_training(tracking_uri, run_id, part, model.record, run_name)
        for context, rows in (("train", evidence.train), ("test", evidence.test), ("trusted", evidence.trusted.data)):
            tracking.log_dataset(tracking_uri, run_id, f"{name}-{context}", rows.sha256, len(rows), context)
        tracking.log_report(tracking_uri, run_id, evidence.report, decision)
        version, verified = registry.register(
            candidate,
            decision,
            evidence.report,
            name=name,
            tracking_uri=tracking_uri,
            run_id=run_id,
            input_example=evidence.trusted.data.texts[:EXAMPLE_ROWS],
            probe_texts=evidence.test.texts[:PROBE_ROWS],
            tags={"musclelora.pipeline_run": run_name},
            files=_files(evidence, name),
        )
        aliases = {}
        if decision.decision == "accepted":
            aliases = promotion.challenge(name, version.version, tracking_uri, verified)
            if promote:
                aliases = promotion.promote(name, version.version, tracking_uri, verified)
    except BaseException as error:
        tracking.finish_run(tracking_uri, run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    tracking.finish_run(tracking_uri, run_id, "FINISHED")
    return version.model_copy(update={"aliases": sorted(a for a, of in aliases.items() if of == version.version)})


def _files(evidence: Evidence, name: str) -> dict[str, str]:
    record = evidence.models["candidate"].record
    card = model_card(record, evidence.report, evidence.decision, evidence.validation, name)
    return {
        VALIDATION: evidence.validation.model_dump_json(indent=1),
        TRAINING: record.model_dump_json(indent=1),
        **({VOUCHED: evidence.vouched.model_dump_json(indent=1)} if evidence.vouched else {}),
        **({CHAMPION: evidence.champion.model_dump_json(indent=1)} if evidence.champion else {}),
        registry.CARD: card,
        BOM: bill_of_materials(evidence.models["candidate"], name, evidence.test.sha256),
        **evidence.pages,
    }
