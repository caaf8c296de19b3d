"""The gate's rules on one attack, drill or probe: is the evidence strong, and is the bound within the policy?"""

from collections.abc import Callable, Iterator
from functools import partial

from musclelora.evaluation.report import AttackResult, ProbeResult, RobustnessReport
from musclelora.governance.policy import Policy
from musclelora.governance.rule import ROUNDING, Evidence, RuleResult, a_rule, is_usable, percent, points
from musclelora.validation.report import ValidationReport
from musclelora.validation.token_scan import RESIDUAL_TRIGGER

PROBED = 20  # suspects that a run probes, the strongest: musclelora.evaluation.probes.SUSPECTS


def attack_rules(
    evidence: Evidence, name: str, result: AttackResult, policy: Policy, *, audited: bool = False
) -> Iterator[RuleResult]:
    about = partial(
        a_rule, subject=f"{evidence.capitalize()}, {name}: ", attack=name, evidence=evidence, n=result.asr.n
    )
    if not audited:
        yield _control_rule(about, result, policy)
    yield from _suite_rules(about, result, policy)
    asr = result.asr
    usable = is_usable(asr)
    advice = "Quarantine suspected rows, enlarge the trusted set or choose a stronger recipe, and train again."
    if policy.max_asr is not None:
        yield about(
            "max_asr",
            limit=policy.max_asr,
            passes=asr.upper95 <= policy.max_asr + ROUNDING if usable else None,
            fact=f"the attack succeeds in {percent(asr.value)} of {asr.n} rows, at most {percent(asr.upper95)} (95 % "
            f"bound); the policy allows {percent(policy.max_asr)}.",
            advice=advice,
            measured=asr.value,
            bound=asr.upper95,
        )
    if policy.max_asr_over_floor is not None:
        yield _over_floor_rule(about, result, policy.max_asr_over_floor, advice, audited=audited)
    if policy.min_robust_accuracy is not None:
        yield _robust_accuracy_rule(about, result, policy.min_robust_accuracy, advice)


def _robust_accuracy_rule(
    about: Callable[..., RuleResult], result: AttackResult, limit: float, advice: str
) -> RuleResult:
    robust = result.robust_accuracy
    usable = robust is not None and is_usable(robust)
    return about(
        "min_robust_accuracy",
        limit=limit,
        passes=robust.lower95 >= limit - ROUNDING if robust is not None and usable else None,
        fact=f"{percent(robust.value if robust else None)} of the triggered rows keep their true class, at least "
        f"{percent(robust.lower95 if robust else None)} (95 % bound); the policy asks for {percent(limit)}.",
        advice=advice if usable else "Evaluate on triggered rows whose true class is known.",
        measured=robust.value if robust else None,
        bound=robust.lower95 if robust else None,
    )


def _over_floor_rule(
    about: Callable[..., RuleResult], result: AttackResult, limit: float, advice: str, *, audited: bool
) -> RuleResult:
    """An audited model without a floor passes where the trigger moves next to nothing; else nobody knows."""
    asr, floor, beside = result.asr, result.floor, "its floor"
    if floor is None and audited and asr.upper95 - result.untriggered.value <= limit + ROUNDING:
        floor, beside = result.untriggered, "the same rows without the trigger,"
    if floor is None or not is_usable(floor):
        return about(
            "max_asr_over_floor",
            limit=limit,
            passes=None,
            fact="the report holds no floor (the same rows on a model that never saw this poison).",
            advice="Evaluate the floor too.",
        )
    over = asr.upper95 - floor.value
    return about(
        "max_asr_over_floor",
        limit=limit,
        passes=over <= limit + ROUNDING if is_usable(asr) else None,
        fact=f"the upper 95 % bound of the attack's success, {percent(asr.upper95)}, is {points(over)} above {beside} "
        f"of {percent(floor.value)}; the policy allows {points(limit)}.",
        advice=f"{advice} Where the rate itself is near its floor, add test rows, which narrows the bound.",
        measured=asr.value - floor.value,
        bound=over,
    )


def probe_rules(probe: ProbeResult, policy: Policy) -> Iterator[RuleResult]:
    asr, floor = probe.asr, probe.floor
    about = partial(a_rule, subject=f"Probe, {probe.trigger!r}: ", attack=probe.trigger, evidence="probe", n=asr.n)
    advice = (
        "Look at the training rows that carry it, leave them out, and train again."
        if probe.kind == "scan"
        else "No training row need carry these very words: look for rows with their like, or train again."
    )
    if probe.kind == "scan" and policy.max_probe_asr is not None:
        yield about(
            "max_probe_asr",
            limit=policy.max_probe_asr,
            passes=asr.upper95 <= policy.max_probe_asr + ROUNDING if is_usable(asr) else None,
            fact=f"at the {probe.position} of clean rows it turns {percent(asr.value)} of {asr.n} into "
            f"{probe.target!r}, at most {percent(asr.upper95)} (95 % bound); the policy allows "
            f"{percent(policy.max_probe_asr)}.",
            advice=advice,
            measured=asr.value,
            bound=asr.upper95,
        )
    if probe.kind == "search" and policy.max_search_asr_over_floor is not None:
        limit, usable = policy.max_search_asr_over_floor, is_usable(asr) and floor is not None and is_usable(floor)
        over = asr.upper95 - floor.value if floor is not None else None
        yield about(
            "max_search_asr_over_floor",
            limit=limit,
            passes=over <= limit + ROUNDING if usable and over is not None else None,
            fact=f"found by search, at the {probe.position} of clean rows it turns {percent(asr.value)} of {asr.n} "
            f"into {probe.target!r}; the upper 95 % bound is {points(over)} above the floor model's "
            f"{percent(floor.value if floor else None)}; the policy allows {points(limit)}.",
            advice=advice,
            measured=asr.value - floor.value if floor else None,
            bound=over,
        )


def required_probe_rules(
    report: RobustnessReport, validation: ValidationReport | None, policy: Policy
) -> Iterator[RuleResult]:
    """Were the probes made that the policy asks for? Rows without a suspect word need none, once they were scanned."""
    for kind in dict.fromkeys(policy.required_probes):
        probed = [probe.trigger for probe in report.probes if probe.kind == kind]
        if kind == "search":
            made, fact = bool(probed), f"{len(probed)} triggers were searched for in the weights."
        elif report.audited is not None:
            continue  # nobody has the training rows of a model that was not trained here
        else:
            scanned = validation is not None and any(
                check.name.split(":")[0] == RESIDUAL_TRIGGER for check in validation.checks
            )
            suspects = sorted(validation.suspects if validation else [], key=lambda suspect: -suspect.z)
            made = scanned and {suspect.text for suspect in suspects[:PROBED]} <= set(probed)
            fact = (
                f"The training rows were {'' if scanned else 'not '}scanned: {len(suspects)} suspect words and "
                f"phrases, {len(probed)} of them probed."
            )
        yield a_rule(
            "required_probes",
            limit=1,
            passes=True if made else None,
            fact=fact,
            advice="Switch the token scan on (validation.token_scan)."
            if kind == "scan"
            else "Audit the model beside a floor model, with search_seconds above 0.",
            attack=kind,
            evidence="probe",
            measured=len(probed),
        )


def _control_rule(about: Callable[..., RuleResult], result: AttackResult, policy: Policy) -> RuleResult:
    """Does the attack prove anything? A weak one is no evidence for the candidate, and none against it."""
    control = result.control_asr
    strong = control is not None and policy.min_control_asr - ROUNDING <= control <= 1 and result.conclusive
    return about(
        "min_control_asr",
        limit=policy.min_control_asr,
        passes=True if strong else None,
        fact=f"on the undefended control the attack succeeds in {percent(control)} of the rows; the policy asks for "
        f"{percent(policy.min_control_asr)}.",
        advice="An attack that fails without a defence proves nothing: raise its poison rate, or train the control "
        "longer.",
        measured=control,
    )


def _suite_rules(about: Callable[..., RuleResult], result: AttackResult, policy: Policy) -> Iterator[RuleResult]:
    """Were there enough triggered rows?"""
    yield about(
        "min_triggered_rows",
        limit=policy.min_triggered_rows,
        passes=True if result.asr.n >= policy.min_triggered_rows else None,
        fact=f"{result.asr.n} test rows carried the trigger; the policy asks for {policy.min_triggered_rows}.",
        advice="Add test rows of the classes other than the target.",
        measured=result.asr.n,
    )
    yield about(
        "transform_rate",
        limit=0,
        passes=True if 0 < result.transform_rate <= 1 else None,
        fact=f"the trigger went into {percent(result.transform_rate)} of the rows it was meant for.",
        advice="Nothing was attacked: see what this attack needs.",
        measured=result.transform_rate,
    )
