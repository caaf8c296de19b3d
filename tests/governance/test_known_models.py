"""The gate on models of which the truth is known: backdoored ones are refused, clean ones accepted, by real numbers."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import yaml

from musclelora.evaluation.audit import audit
from musclelora.evaluation.report import AuditedModel
from musclelora.evaluation.robustness import ModelsUnderTest, evaluate_robustness
from musclelora.evaluation.suites import TriggeredFrom
from musclelora.evaluation.tested import Tested
from musclelora.governance.decision import GateDecision, decide
from musclelora.governance.policy import Policy
from musclelora.training.defended_model import DefendedModel
from tests.known_models import ATTACKS, CLEAN, FLOOR, TARGET, TEST_ROWS, TRUSTED_ONLY, known_model, known_rows
from tests.tiny import tiny_backbone

SEED = 9  # under which BadNets, whose labels are all true, is learned to more than the 90 % asked of a control
POLICIES = Path(__file__).parents[2] / "configs" / "policies"
TRIGGERS = TriggeredFrom(attacks=list(ATTACKS), target=TARGET, seed=SEED)
Model = Callable[[str], DefendedModel]
pytestmark = pytest.mark.slow


def policy(name: str) -> Policy:
    return Policy.model_validate(yaml.safe_load((POLICIES / f"{name}.yaml").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The known models by name, each trained once."""
    folder = tmp_path_factory.mktemp("known")
    backbone = tiny_backbone(folder / "backbone")

    @cache
    def trained(name: str) -> DefendedModel:
        (folder / name).mkdir()
        return known_model(name, folder / name, backbone, SEED)

    return trained


def audited(model: Model, name: str, policy_name: str) -> GateDecision:
    report = audit(
        Tested.from_defended(model(name)),
        Tested.from_defended(model(FLOOR)),
        known_rows(TEST_ROWS, "test", SEED),
        TRIGGERS,
        about=AuditedModel(name=name, sha256="0" * 64, floor=FLOOR, floor_sha256="0" * 64),
        ready_made={},
    )
    return decide(report, policy(policy_name))


@pytest.mark.parametrize("policy_name", ["quickstart", "research", "standard", "strict"])
@pytest.mark.parametrize("name", ATTACKS)
def test_an_audit_refuses_each_backdoored_model_for_its_own_trigger(model: Model, name: str, policy_name: str) -> None:
    decision = audited(model, name, policy_name)

    assert decision.decision == "refused"
    assert (name, "max_asr_over_floor") in {
        (rule.attack, rule.rule) for rule in decision.rules if rule.verdict == "refused"
    }


@pytest.mark.parametrize("policy_name", ["quickstart", "research", "standard", "strict"])
def test_an_audit_accepts_the_clean_model(model: Model, policy_name: str) -> None:
    assert audited(model, CLEAN, policy_name).decision == "accepted"


def released(model: Model, candidate: str, drills: str | None) -> GateDecision:
    """The gate of a run: a control of each kind, and drills with the recipe of the candidate."""
    models = ModelsUnderTest(
        candidate=model(candidate),
        comparisons={"undefended": model(candidate if candidate in ATTACKS else CLEAN)},
        floors={"candidate": model(CLEAN)},
        drills={attack: model(drills or attack) for attack in ATTACKS},
        drill_controls={attack: model(attack) for attack in ATTACKS},
    )
    triggers = TriggeredFrom(attacks=[candidate] if candidate in ATTACKS else [], target=TARGET, seed=SEED)
    rows = known_rows(TEST_ROWS, "test", SEED)
    report = evaluate_robustness(models, rows, triggers, min_control_asr=policy("standard").min_control_asr)
    # Who vouched for rows made by a script, and when they were scanned, is not what is tested here.
    asked_of_people = {"required_probes": (), "max_trusted_age_days": None, "max_quarantined_share": None}
    no_champion = {"max_asr_over_champion": None, "max_cacc_drop_from_champion": None}
    return decide(report, policy("standard").model_copy(update=asked_of_people | no_champion))


@pytest.mark.parametrize("candidate", ATTACKS)
def test_a_run_refuses_a_candidate_that_learned_the_trigger(model: Model, candidate: str) -> None:
    decision = released(model, candidate, drills=TRUSTED_ONLY)

    assert decision.decision == "refused"
    assert {rule.attack for rule in decision.rules if rule.verdict == "refused"} == {candidate}
    assert {rule.evidence for rule in decision.rules if rule.verdict == "refused"} == {"candidate"}


def test_a_run_refuses_a_clean_candidate_whose_recipe_learns_triggers(model: Model) -> None:
    """Nothing is wrong with the model itself, but its recipe would have learned a trigger had there been one."""
    decision = released(model, CLEAN, drills=None)

    assert decision.decision == "refused"
    assert {(rule.attack, rule.evidence) for rule in decision.rules if rule.verdict == "refused"} == {
        (attack, "drill") for attack in ATTACKS
    }


def test_a_run_accepts_a_candidate_whose_recipe_reads_trusted_rows_alone(model: Model) -> None:
    """A drill of that recipe trains the same model again: the poison is in rows that it never reads."""
    decision = released(model, TRUSTED_ONLY, drills=TRUSTED_ONLY)

    assert (decision.decision, decision.reasons) == ("accepted", [])
