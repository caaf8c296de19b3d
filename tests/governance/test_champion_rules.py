"""The gate's comparison with the champion: on the same rows, and what was not compared is no pass."""

import pytest

from musclelora.evaluation.report import ChampionResult
from musclelora.governance.decision import decide
from musclelora.governance.policy import Policy
from tests.governance.reports import NAN, a_champion, a_rate, a_report, an_attack, read, verdicts

LIMITS = Policy(max_asr_over_champion=0.10, max_cacc_drop_from_champion=0.05)


def test_the_champion_is_read_on_both_sides() -> None:
    report = a_report(attacks={"addsent": an_attack(asr=0.08)})

    decision = decide(report, LIMITS, champion=a_champion())

    assert decision.decision == "accepted"
    [accuracy] = read(decision, "max_cacc_drop_from_champion")
    assert (accuracy.measured, accuracy.bound, accuracy.n) == (0.0, pytest.approx(0.02), 1000)
    drill, candidate = read(decision, "max_asr_over_champion")
    assert (drill.attack, drill.evidence, drill.measured, drill.bound) == ("badnets", "drill", 0.0, pytest.approx(0.02))
    assert (candidate.attack, candidate.evidence) == ("addsent", "candidate")
    assert (candidate.measured, candidate.bound) == (pytest.approx(0.02), pytest.approx(0.04))
    assert read(decide(report, Policy(), champion=a_champion()), "max_asr_over_champion") == []


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        (a_champion(cacc=a_rate(0.91)), "accepted"),  # 0.91 - 0.86 = 0.05
        (a_champion(cacc=a_rate(0.9101)), "refused"),
        (a_champion(cacc=None), "inconclusive"),
        (a_champion(cacc=NAN), "inconclusive"),
        (a_champion(asr={"badnets": a_rate(0.0)}), "accepted"),  # 0.08 - 0.00
        (a_champion(asr={}), "inconclusive"),
        (a_champion(asr={"badnets": a_rate(0.06, n=999)}), "inconclusive"),  # not the same rows
        (a_champion(asr={"badnets": a_rate(0.06, n=1001)}), "inconclusive"),
        (a_champion(asr={"badnets": NAN}), "inconclusive"),
        (a_champion(test_sha256="8" * 64), "inconclusive"),
        (a_champion(test_sha256="6" * 64), "inconclusive"),
        (None, "inconclusive"),
        (ChampionResult(version=None, test_sha256=a_report().test_sha256), "accepted"),
        (ChampionResult(version=None, test_sha256="8" * 64), "inconclusive"),
    ],
)
def test_what_was_not_compared_with_the_champion_is_never_a_pass(result: ChampionResult | None, verdict: str) -> None:
    assert decide(a_report(), LIMITS, champion=result).decision == verdict


def test_an_attack_that_cannot_be_compared_hides_no_other() -> None:
    report = a_report(attacks={"addsent": an_attack()})

    decision = decide(report, LIMITS, champion=a_champion(asr={"addsent": a_rate(0.06)}))

    read_of = {rule.attack: rule.verdict for rule in read(decision, "max_asr_over_champion")}
    assert read_of == {"badnets": "inconclusive", "addsent": "accepted"}


def test_one_limit_beside_the_champion_is_read_without_the_other() -> None:
    for alone in ("max_asr_over_champion", "max_cacc_drop_from_champion"):
        rules = decide(a_report(), Policy(**{alone: 0.1}), champion=a_champion()).rules
        assert [rule.rule for rule in rules if rule.rule.endswith("champion")] == [alone]


@pytest.mark.parametrize(("former", "verdict"), [(0.22, "accepted"), (0.2199, "refused")])
def test_a_candidate_easier_to_attack_than_the_champion_is_refused(former: float, verdict: str) -> None:
    attack = an_attack(asr=0.30, floor=0.30)  # at most 0.32
    report = a_report(drills={}, attacks={"badnets": attack})

    decision = decide(report, LIMITS, champion=a_champion(asr={"badnets": a_rate(former)}))

    assert (decision.decision, verdicts(decision, "max_asr_over_champion")) == (verdict, [verdict])


def test_a_drill_without_a_floor_or_with_a_broken_candidate_cannot_be_compared() -> None:
    no_floor = a_report(drills={"badnets": an_attack(floor=None)})
    policy = LIMITS.model_copy(update={"max_asr_over_floor": None})
    broken = a_report()
    broken = broken.model_copy(update={"candidate": broken.candidate.model_copy(update={"cacc": NAN})})

    assert verdicts(decide(no_floor, policy, champion=a_champion()), "max_asr_over_champion") == ["inconclusive"]
    assert verdicts(decide(broken, policy, champion=a_champion()), "max_cacc_drop_from_champion") == ["inconclusive"]
