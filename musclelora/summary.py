"""`summary.json`: one run in one file that programs read. Fields are stable; `schema` names their version."""

from typing import Literal

from pydantic import Field

from musclelora.data.records import TextDataset, TrustedSet
from musclelora.evaluation.report import AttackResult, ModelResult, RobustnessReport
from musclelora.frozen import Frozen
from musclelora.governance.decision import GateDecision
from musclelora.governance.registered import RegisteredVersion
from musclelora.ingest import AuditRows
from musclelora.training.defended_model import TrainingRecord

Status = Literal["accepted", "refused", "inconclusive"]


class DataSummary(Frozen):
    """The delivery as it arrived; `quarantined` of its rows were set aside."""

    sha256: str
    rows: int
    quarantined: int
    sources: dict[str, int]


class TrustedSummary(Frozen):
    sha256: str
    rows: int


class ModelSummary(Frozen):
    """`recipe` and `trainable_parameters` are null for an audited model."""

    base: str
    recipe: str | None
    trainable_parameters: int | None


class AccuracySummary(Frozen):
    value: float
    n: int
    lower95: float


class AttackSummary(Frozen):
    """Rates as fractions; `floor`, `control_asr` are null where nothing was trained to measure them."""

    asr: float
    n: int
    upper95: float
    floor: float | None
    untriggered: float
    control_asr: float | None
    transform_rate: float
    conclusive: bool


class ComparedSummary(Frozen):
    """A model beside the candidate: the undefended control, the trusted rows alone, the floor of an audit."""

    recipe: str | None
    cacc: AccuracySummary
    attacks: dict[str, AttackSummary]


class ProbeSummary(Frozen):
    """A suspected trigger on the candidate; `z` and `rows` are null for one that a search found in the weights."""

    trigger: str
    kind: Literal["scan", "search"]
    target: str
    position: str
    z: float | None
    rows: int | None
    asr: float
    n: int
    upper95: float
    floor: float | None
    untriggered: float


class GroupSummary(Frozen):
    """A suspect group on the candidate: of `n` rows whose text says another label, the share `called` its `label`."""

    group: str
    label: str
    rows: int
    called: float
    n: int
    upper95: float
    floor: float | None


class GateSummary(Frozen):
    decision: Status
    reasons: list[str]
    policy_sha256: str


class RegistrySummary(Frozen):
    name: str
    version: str
    aliases: list[str]


class MlflowSummary(Frozen):
    tracking_uri: str
    run_id: str


class Summary(Frozen):
    """A finished run or audit. `seconds` are per stage, 0 where it came from the cache.

    Of an audit `data` and `trusted` are null where no training rows were scanned, `registry` and `mlflow` always.
    """

    schema_: Literal["musclelora/summary/1"] = Field(alias="schema")
    name: str
    status: Status
    seed: int
    device: str
    seconds: dict[str, float]
    peak_memory_mb: float
    data: DataSummary | None
    trusted: TrustedSummary | None
    model: ModelSummary
    cacc: AccuracySummary
    attacks: dict[str, AttackSummary]
    drills: dict[str, AttackSummary]
    comparisons: dict[str, ComparedSummary]
    probes: list[ProbeSummary]
    suspect_groups: list[GroupSummary]
    gate: GateSummary
    registry: RegistrySummary | None
    mlflow: MlflowSummary | None


def summarise(
    *,
    name: str,
    seed: int,
    seconds: dict[str, float],
    peak_memory_mb: float,
    train: TextDataset,
    quarantined: TextDataset,
    trusted: TrustedSet,
    record: TrainingRecord,
    report: RobustnessReport,
    decision: GateDecision,
    registered: RegisteredVersion,
) -> Summary:
    """Collect the fields; `record` is the candidate's."""
    return Summary(
        schema="musclelora/summary/1",
        name=name,
        status=decision.decision,
        seed=seed,
        device=f"{record.device} {record.precision}",
        seconds=seconds,
        peak_memory_mb=peak_memory_mb,
        data=DataSummary(
            sha256=train.sha256, rows=len(train), quarantined=len(quarantined), sources=train.source_counts()
        ),
        trusted=TrustedSummary(sha256=trusted.sha256, rows=len(trusted)),
        model=ModelSummary(
            base=record.base, recipe=record.recipe.name, trainable_parameters=record.trainable_parameters
        ),
        cacc=_accuracy(report.candidate),
        attacks=_attacks(report.candidate.attacks),
        drills=_attacks(report.drills),
        comparisons=_comparisons(report),
        probes=_probes(report),
        suspect_groups=_groups(report),
        gate=_gate(decision),
        registry=RegistrySummary(name=registered.name, version=registered.version, aliases=registered.aliases),
        mlflow=MlflowSummary(tracking_uri=registered.tracking_uri, run_id=registered.run_id),
    )


def summarise_audit(
    *,
    name: str,
    seed: int,
    device: str,
    seconds: dict[str, float],
    peak_memory_mb: float,
    rows: AuditRows,
    report: RobustnessReport,
    decision: GateDecision,
) -> Summary:
    """The same fields for an audit; raises `ValueError` for a report of a run."""
    if report.audited is None:
        raise ValueError("this report is of a run, not of an audit")
    train, trusted = rows.train, rows.trusted
    return Summary(
        schema="musclelora/summary/1",
        name=name,
        status=decision.decision,
        seed=seed,
        device=device,
        seconds=seconds,
        peak_memory_mb=peak_memory_mb,
        data=DataSummary(sha256=train.sha256, rows=len(train), quarantined=0, sources=train.source_counts())
        if train
        else None,
        trusted=TrustedSummary(sha256=trusted.sha256, rows=len(trusted)) if trusted else None,
        model=ModelSummary(base=report.audited.name, recipe=None, trainable_parameters=None),
        cacc=_accuracy(report.candidate),
        attacks=_attacks(report.candidate.attacks),
        drills={},
        comparisons=_comparisons(report),
        probes=_probes(report),
        suspect_groups=_groups(report),
        gate=_gate(decision),
        registry=None,
        mlflow=None,
    )


def _gate(decision: GateDecision) -> GateSummary:
    return GateSummary(decision=decision.decision, reasons=decision.reasons, policy_sha256=decision.policy_sha256)


def _comparisons(report: RobustnessReport) -> dict[str, ComparedSummary]:
    return {
        role: ComparedSummary(recipe=m.recipe, cacc=_accuracy(m), attacks=_attacks(m.attacks))
        for role, m in report.comparisons.items()
    }


def _probes(report: RobustnessReport) -> list[ProbeSummary]:
    return [
        ProbeSummary(
            trigger=probe.trigger,
            kind=probe.kind,
            target=probe.target,
            position=probe.position,
            z=probe.z,
            rows=probe.rows,
            asr=probe.asr.value,
            n=probe.asr.n,
            upper95=probe.asr.upper95,
            floor=probe.floor.value if probe.floor else None,
            untriggered=probe.untriggered.value,
        )
        for probe in report.probes
    ]


def _groups(report: RobustnessReport) -> list[GroupSummary]:
    return [
        GroupSummary(
            group=group.group,
            label=group.label,
            rows=group.rows,
            called=group.called.value,
            n=group.called.n,
            upper95=group.called.upper95,
            floor=group.floor.value if group.floor else None,
        )
        for group in report.suspect_groups
    ]


def _accuracy(model: ModelResult) -> AccuracySummary:
    return AccuracySummary(value=model.cacc.value, n=model.cacc.n, lower95=model.cacc.lower95)


def _attacks(results: dict[str, AttackResult]) -> dict[str, AttackSummary]:
    return {
        name: AttackSummary(
            asr=result.asr.value,
            n=result.asr.n,
            upper95=result.asr.upper95,
            floor=result.floor.value if result.floor else None,
            untriggered=result.untriggered.value,
            control_asr=result.control_asr,
            transform_rate=result.transform_rate,
            conclusive=result.conclusive,
        )
        for name, result in results.items()
    }
