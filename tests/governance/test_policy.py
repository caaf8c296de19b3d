"""The policy: the files that are shipped, their schema, their hash, and limits that limit nothing."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from musclelora.governance.policy import MetricLimit, Policy

POLICIES = Path(__file__).parents[2] / "configs" / "policies"
SCHEMA = POLICIES / "policy.schema.json"


def test_a_key_that_is_none_is_refused_with_the_persons_name() -> None:
    with pytest.raises(ValueError, match="the key of 'ann' is no Ed25519 public key in base64"):
        Policy(waiver_keys={"ann": "AAAA"})


def sha256_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("name", ["quickstart", "research", "standard", "strict"])
def test_policy_files_are_policies(name: str) -> None:
    text = (POLICIES / f"{name}.yaml").read_text(encoding="utf-8")

    policy = Policy.model_validate(yaml.safe_load(text))

    assert text.startswith("# For ")
    assert set(yaml.safe_load(text)) == set(Policy.model_fields)  # nothing is left to a default
    assert name != "quickstart" or policy == Policy()


@pytest.mark.parametrize("name", ["decision", "enforcement", "policy", "rule", "waiver", "*_rules"])
def test_nothing_that_decides_looks_at_the_environment(name: str) -> None:
    files = list((Path(__file__).parents[2] / "musclelora" / "governance").glob(f"{name}.py"))

    assert files
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert "environ" not in text
        assert "import os" not in text
        assert "getenv" not in text


def test_the_shipped_schema_is_that_of_a_policy() -> None:
    """Written by `python -m tests.governance.test_policy`."""
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == Policy.model_json_schema()


@pytest.mark.parametrize("limit", [{}, {"min_absolute_change": 0}, {"min_relative_change": 1}, {"maximum": 1}])
def test_a_limit_that_limits_nothing_or_speaks_otherwise_is_refused(limit: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"limits nothing|greater than 0|less than 1|Extra inputs"):
        MetricLimit(greater_is_better=True, **limit)


def test_a_threshold_that_a_later_version_adds_changes_no_policys_hash() -> None:
    spelled = Policy(min_robust_accuracy=None, mlflow_thresholds={}, required_probes=())

    assert spelled.sha256 == Policy().sha256 != Policy(min_robust_accuracy=0.5).sha256
    assert Policy(max_asr=None).sha256 != Policy().sha256 != Policy(max_asr=0.0).sha256


def test_the_hash_of_a_policy_stays_what_it_was() -> None:
    """Decisions and tags of registered versions carry it."""
    limit = MetricLimit(greater_is_better=True, threshold=0.5)
    other = Policy(max_asr=None, min_cacc=0.75, required_attacks=("stýle",), mlflow_thresholds={"cacc": limit})

    assert Policy().sha256 == sha256_of(
        '{"max_asr":0.4,"max_asr_over_floor":0.1,"max_cacc_drop":0.1,"max_probe_asr":0.4,'
        '"max_search_asr_over_floor":0.5,"min_cacc":0.7,"min_control_asr":0.8,"min_triggered_rows":200}'
    )
    assert other.sha256 == sha256_of(
        '{"max_asr_over_floor":0.1,"max_cacc_drop":0.1,"max_probe_asr":0.4,"max_search_asr_over_floor":0.5,'
        '"min_cacc":0.75,"min_control_asr":0.8,"min_triggered_rows":200,'
        '"mlflow_thresholds":{"cacc":{"greater_is_better":true,"threshold":0.5}},"required_attacks":["st\\u00fdle"]}'
    )


@pytest.mark.parametrize(
    ("fields", "compares"),
    [
        ({}, False),
        ({"max_asr_over_champion": 0.1}, True),
        ({"max_cacc_drop_from_champion": 0.1}, True),
        ({"mlflow_thresholds": {"cacc": {"greater_is_better": True, "threshold": 0.5}}}, False),
        ({"mlflow_thresholds": {"cacc": {"greater_is_better": True, "min_absolute_change": 0.1}}}, True),
        ({"mlflow_thresholds": {"cacc": {"greater_is_better": True, "min_relative_change": 0.1}}}, True),
    ],
)
def test_a_policy_says_whether_the_champion_must_be_measured(fields: dict[str, Any], compares: bool) -> None:
    assert Policy(**fields).compares_with_champion is compares


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(Policy.model_json_schema(), indent=1) + "\n", encoding="utf-8")
