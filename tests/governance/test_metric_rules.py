"""Limits on metrics in MLflow's own words, and what MLflow says of a number that is none."""

from typing import Any

import pytest

from musclelora.evaluation.report import ChampionResult
from musclelora.governance.decision import decide
from musclelora.governance.metrics import report_metrics
from musclelora.governance.policy import MetricLimit, Policy
from tests.governance.reports import NAN, a_champion, a_rate, a_report, an_attack, read, verdicts

METRIC = "drill.asr_upper95.badnets"  # 0.10


@pytest.mark.parametrize(
    ("metric", "limit", "verdict"),
    [
        (METRIC, {"greater_is_better": False, "threshold": 0.10}, "accepted"),
        (METRIC, {"greater_is_better": False, "threshold": 0.09}, "refused"),
        ("cacc", {"greater_is_better": True, "threshold": 0.88}, "accepted"),
        ("cacc", {"greater_is_better": True, "threshold": 0.89}, "refused"),
        ("cacc", {"greater_is_better": True, "min_absolute_change": 0.01}, "refused"),
        ("asr.addsent", {"greater_is_better": False, "min_absolute_change": 0.01}, "accepted"),  # 0.04, was 0.06
        ("asr.addsent", {"greater_is_better": False, "min_relative_change": 0.5}, "refused"),
        ("asr.addsent", {"greater_is_better": False, "min_relative_change": 0.3}, "accepted"),
        ("asr.none", {"greater_is_better": False, "threshold": 1.0}, "inconclusive"),
        ("drill.asr.badnets", {"greater_is_better": False, "min_absolute_change": 0.01}, "inconclusive"),
    ],
)
def test_a_metric_is_limited_in_mlflows_words(metric: str, limit: dict[str, Any], verdict: str) -> None:
    report = a_report(attacks={"addsent": an_attack(asr=0.04)})
    policy = Policy(mlflow_thresholds={metric: MetricLimit(**limit)})

    decision = decide(report, policy, champion=a_champion())

    assert (decision.decision, verdicts(decision, "mlflow_thresholds")) == (verdict, [verdict])
    assert policy.compares_with_champion == ("threshold" not in limit)
    [rule] = read(decision, "mlflow_thresholds")
    assert (rule.attack, rule.measured, rule.bound) == (metric, *[report_metrics(report).get(metric)] * 2)
    assert rule.limit == limit.get("threshold", 0.0)
    assert f"; the policy asks for {', '.join(f'{word} {value}' for word, value in limit.items())}." in rule.reason


def test_a_champion_measured_on_other_rows_is_no_baseline() -> None:
    policy = Policy(mlflow_thresholds={"cacc": MetricLimit(greater_is_better=True, min_absolute_change=0.01)})
    worse = a_champion(cacc=a_rate(0.5))

    assert decide(a_report(), policy, champion=worse).decision == "accepted"
    for sha256 in ("6" * 64, "8" * 64):
        elsewhere = worse.model_copy(update={"test_sha256": sha256})
        assert decide(a_report(), policy, champion=elsewhere).decision == "inconclusive"


def test_a_metric_that_is_not_a_number_is_inconclusive_although_mlflow_passes_it() -> None:
    report = a_report(drills={"badnets": an_attack().model_copy(update={"asr": NAN})})
    policy = Policy(mlflow_thresholds={METRIC: MetricLimit(greater_is_better=False, threshold=0.9)})

    assert verdicts(decide(report, policy), "mlflow_thresholds") == ["inconclusive"]


@pytest.mark.parametrize(("threshold", "verdict"), [(0.8, "accepted"), (0.9, "refused"), (None, "accepted")])
def test_where_there_is_no_champion_yet_only_the_threshold_counts(threshold: float | None, verdict: str) -> None:
    limit = MetricLimit(greater_is_better=True, threshold=threshold, min_absolute_change=0.01)
    policy = Policy(mlflow_thresholds={"cacc": limit})
    none_yet = ChampionResult(version=None, test_sha256=a_report().test_sha256)

    assert decide(a_report(), policy, champion=none_yet).decision == verdict
    assert decide(a_report(), policy).decision == "inconclusive"
