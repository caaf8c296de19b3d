"""Limits in MLflow's own words: `mlflow.validate_evaluation_results` says whether a metric meets its threshold.

MLflow passes a metric that is not a number, and fails one for which there is no champion yet; both are decided here.
"""

from collections.abc import Iterator

from musclelora.evaluation.report import ChampionResult, RobustnessReport
from musclelora.governance.metrics import champion_metrics, report_metrics
from musclelora.governance.policy import MetricLimit, Policy
from musclelora.governance.rule import RuleResult, a_rule, finite


def metric_rules(report: RobustnessReport, champion: ChampionResult | None, policy: Policy) -> Iterator[RuleResult]:
    """One rule per metric that the policy limits; MLflow is imported only where there is one."""
    metrics = report_metrics(report)
    if champion is not None and champion.test_sha256 != report.test_sha256:
        champion = None  # measured on other rows, it is no comparison
    former = None if champion is None else champion_metrics(champion, report.candidate.attacks)
    none_yet = champion is not None and champion.version is None
    for name, limit in sorted(policy.mlflow_thresholds.items()):
        value, before = finite(metrics.get(name)), finite((former or {}).get(name))
        words = ", ".join(f"{key} {word}" for key, word in limit.model_dump(exclude_none=True).items())
        fact = f"{name} is {_number(value)}, the champion's is {_number(before)}; the policy asks for {words}."
        unknown = value is None or (limit.is_of_a_change and before is None and not none_yet)
        yield a_rule(
            "mlflow_thresholds",
            limit=limit.threshold if limit.threshold is not None else 0.0,
            passes=None if unknown or value is None else _meets(name, value, before, limit),
            attack=name,
            evidence="metric",
            fact=fact,
            advice="See the page of the report for what this metric is made of.",
            measured=value,
            bound=value,
        )


def _meets(name: str, value: float, champion: float | None, limit: MetricLimit) -> bool:
    """Without a champion only the threshold counts: there is nothing yet to be better than."""
    from mlflow import validate_evaluation_results
    from mlflow.models import MetricThreshold
    from mlflow.models.evaluation import EvaluationResult
    from mlflow.models.evaluation.validation import ModelValidationFailedException

    words = limit.model_dump(exclude_none=True)
    if champion is None:
        words = {key: word for key, word in words.items() if key in {"threshold", "greater_is_better"}}
        if "threshold" not in words:
            return True
    try:
        validate_evaluation_results(
            validation_thresholds={name: MetricThreshold(**words)},
            candidate_result=EvaluationResult(metrics={name: value}, artifacts={}),
            baseline_result=None if champion is None else EvaluationResult(metrics={name: champion}, artifacts={}),
        )
    except ModelValidationFailedException:
        return False
    return True


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"
