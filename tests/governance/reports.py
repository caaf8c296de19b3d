"""Reports with known numbers. Imports neither torch nor MLflow, so that the gate can be tested in a moment."""

import math
from typing import Any

from musclelora.evaluation.report import AttackResult, ChampionResult, ModelResult, ProbeResult, Rate, RobustnessReport
from musclelora.governance.decision import GateDecision
from musclelora.governance.rule import RuleResult
from musclelora.validation.report import ValidationReport

NAN = Rate(value=math.nan, n=1000, lower95=math.nan, upper95=math.nan)
LABELS = ["negative", "positive"]


def a_rate(value: float, n: int = 1000, half_width: float = 0.02) -> Rate:
    return Rate(value=value, n=n, lower95=max(0.0, value - half_width), upper95=min(1.0, value + half_width))


def an_attack(
    asr: float = 0.08, floor: float | None = 0.06, control: float | None = 0.98, n: int = 1000
) -> AttackResult:
    return AttackResult(
        attack="badnets",
        target="positive",
        asr=a_rate(asr, n),
        floor=None if floor is None else a_rate(floor, n),
        untriggered=a_rate(0.05, n),
        control_asr=control,
        transform_rate=1.0,
        conclusive=True,
        examples=[],
    )


def a_model_result(cacc: float = 0.88, attacks: dict[str, AttackResult] | None = None) -> ModelResult:
    return ModelResult(
        role="candidate",
        recipe="musclelora",
        train_rows=100,
        trainable_parameters=10,
        train_seconds=1.0,
        cacc=a_rate(cacc),
        confusion=[[440, 60], [60, 440]],
        attacks=attacks or {},
    )


def a_report(
    drills: dict[str, AttackResult] | None = None,
    attacks: dict[str, AttackResult] | None = None,
    cacc: float = 0.88,
    undefended_cacc: float | None = 0.90,
) -> RobustnessReport:
    """Passes the default policy unless an argument says otherwise."""
    undefended = {} if undefended_cacc is None else {"undefended": a_model_result(undefended_cacc)}
    return RobustnessReport(
        label_names=LABELS,
        test_rows=1000,
        test_sha256="7" * 64,
        candidate=a_model_result(cacc, attacks),
        comparisons=undefended,
        drills={"badnets": an_attack()} if drills is None else drills,
        not_tested=["style transfer"],
    )


def a_validation() -> ValidationReport:
    return ValidationReport(
        train_sha256="d" * 64,
        trusted_sha256="e" * 64,
        rows=1000,
        accepted_rows=900,
        label_counts={"negative": 450, "positive": 450},
        source_counts={"shop | <b>": 600, "forum": 300},
        checks=[],
        quarantined={f"row-{index}": ["group_scan"] for index in range(100)},
    )


def one_drill(**fields: Any) -> RobustnessReport:
    return a_report(drills={"badnets": an_attack().model_copy(update=fields)})


def a_probe(trigger: str, kind: Any = "scan") -> ProbeResult:
    return ProbeResult(
        trigger=trigger,
        kind=kind,
        target="positive",
        position="start",
        z=9.0,
        rows=12,
        asr=a_rate(0.1),
        floor=a_rate(0.1),
        untriggered=a_rate(0.1),
        examples=[],
    )


def probed(asr: Rate, kind: str = "scan", floor: Rate | None = None) -> RobustnessReport:
    probe = a_probe("cf", kind).model_copy(update={"asr": asr, "floor": floor})
    return a_report().model_copy(update={"probes": [probe]})


def a_champion(**fields: Any) -> ChampionResult:
    """As good as the candidate of `a_report`: CACC 0.88 (at least 0.86), and ASR 0.06 (at most 0.08) as its floor."""
    known = {
        "version": "3",
        "model_sha256": "c" * 64,
        "test_sha256": a_report().test_sha256,
        "cacc": a_rate(0.88),
        "asr": {"badnets": a_rate(0.06), "addsent": a_rate(0.06)},
    }
    return ChampionResult(**{**known, **fields})


def read(decision: GateDecision, rule: str) -> list[RuleResult]:
    return [result for result in decision.rules if result.rule == rule]


def verdicts(decision: GateDecision, rule: str) -> list[str]:
    return [result.verdict for result in read(decision, rule)]
