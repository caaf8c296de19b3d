"""The gate's comparison with the champion so far: same test rows, same triggers, so that no model gets worse unseen."""

from collections.abc import Iterator

from musclelora.evaluation.report import ChampionResult, Rate, RobustnessReport
from musclelora.governance.policy import Policy
from musclelora.governance.rule import ROUNDING, Evidence, RuleResult, a_rule, is_usable, percent, points

ASR, CACC = "max_asr_over_champion", "max_cacc_drop_from_champion"


def champion_rules(report: RobustnessReport, champion: ChampionResult | None, policy: Policy) -> Iterator[RuleResult]:
    limits = {ASR: policy.max_asr_over_champion, CACC: policy.max_cacc_drop_from_champion}
    for rule, limit in limits.items():
        if limit is None:
            continue
        if champion is None or champion.test_sha256 != report.test_sha256:
            yield _unknown(rule, limit, "Nobody measured the champion on these test rows.")
        elif champion.version is None:
            yield a_rule(rule, limit=limit, passes=True, fact="The registry holds no champion yet.", advice="")
        elif rule == CACC:
            yield _accuracy_rule(report.candidate.cacc, champion, limit)
        else:
            yield from _asr_rules(report, champion, limit)


def _accuracy_rule(candidate: Rate, champion: ChampionResult, limit: float) -> RuleResult:
    if champion.cacc is None or not is_usable(champion.cacc) or not is_usable(candidate):
        return _unknown(
            CACC, limit, f"The clean accuracy of version {champion.version} or of the candidate is unknown."
        )
    drop = champion.cacc.value - candidate.lower95
    return a_rule(
        CACC,
        limit=limit,
        passes=drop <= limit + ROUNDING,
        fact=f"The lower 95 % bound of the clean accuracy, {percent(candidate.lower95)}, is {points(drop)} under the "
        f"{percent(champion.cacc.value)} of the champion, version {champion.version}; the policy allows "
        f"{points(limit)}.",
        advice="Train for more epochs or on more rows, or add test rows, which narrows the bound.",
        measured=champion.cacc.value - candidate.value,
        bound=drop,
        n=candidate.n,
    )


def _asr_rules(report: RobustnessReport, champion: ChampionResult, limit: float) -> Iterator[RuleResult]:
    """Of the candidate itself: under a drill's trigger that is the drill's floor."""
    tried: dict[str, tuple[Evidence, Rate | None]] = {
        name: ("drill", result.floor) for name, result in sorted(report.drills.items())
    }
    tried |= {name: ("candidate", result.asr) for name, result in sorted(report.candidate.attacks.items())}
    for name, (evidence, asr) in tried.items():
        former = champion.asr.get(name)
        if asr is None or former is None or former.n != asr.n or not is_usable(asr) or not is_usable(former):
            fact = f"{name}: candidate and champion were not both measured on the same triggered rows."
            yield _unknown(ASR, limit, fact, name, evidence)
            continue
        over = asr.upper95 - former.value
        yield a_rule(
            ASR,
            limit=limit,
            passes=over <= limit + ROUNDING,
            subject=f"Candidate, {name}: ",
            attack=name,
            evidence=evidence,
            fact=f"the upper 95 % bound of the attack's success, {percent(asr.upper95)}, is {points(over)} above the "
            f"{percent(former.value)} of the champion, version {champion.version}; the policy allows {points(limit)}.",
            advice="The new rows made it weaker: look at what came since, and train again.",
            measured=asr.value - former.value,
            bound=over,
            n=asr.n,
        )


def _unknown(
    rule: str, limit: float, fact: str, attack: str | None = None, evidence: Evidence | None = None
) -> RuleResult:
    advice = "Run the whole pipeline, which measures the champion, and let it reach the registry."
    return a_rule(rule, limit=limit, passes=None, fact=fact, advice=advice, attack=attack, evidence=evidence)
