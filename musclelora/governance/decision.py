"""The gate: from a robustness report and a policy to accepted, refused or inconclusive, with every rule that was read.

Evidence is every attack of the candidate, every drill and every probe. A number that is missing, not finite or outside
0 to 1 makes its rule inconclusive: what was not measured is never a pass. An audited model was not trained here, so
that rules which need a training of our own (a control, a drop from it, a quarantine) do not apply to it; its decision
can refuse it, and cannot release it, since only a training run registers.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from musclelora.data.trusted import Vouching
from musclelora.evaluation.report import ChampionResult, RobustnessReport
from musclelora.frozen import Frozen
from musclelora.governance.attack_rules import attack_rules, probe_rules, required_probe_rules
from musclelora.governance.champion_rules import champion_rules
from musclelora.governance.data_rules import data_rules
from musclelora.governance.metric_rules import metric_rules
from musclelora.governance.policy import Policy
from musclelora.governance.rule import ROUNDING, RuleResult, Verdict, a_rule, is_usable, percent, points
from musclelora.governance.waiver import Waiver, is_signed
from musclelora.validation.report import ValidationReport

MORE_ACCURACY = "Train for more epochs, raise the rank, or add test rows, which narrows the bound."


class GateDecision(Frozen):
    """Accepted, refused or inconclusive, with every rule that was read.

    `reasons` are those that did not pass and were not waived; `waivers` are those that a refused rule needed.
    """

    decision: Verdict
    rules: list[RuleResult]
    waivers: tuple[Waiver, ...] = ()
    policy: Policy
    policy_sha256: str
    report_sha256: str

    @property
    def reasons(self) -> list[str]:
        return [rule.reason for rule in self.rules if rule.verdict != "accepted" and rule.waiver is None]


def decide(
    report: RobustnessReport,
    policy: Policy,
    waivers: Sequence[Waiver] = (),
    validation: ValidationReport | None = None,
    vouched: Vouching | None = None,
    champion: ChampionResult | None = None,
) -> GateDecision:
    """Read every rule of the policy on the reports; the same evidence and policy give the same decision.

    One refused rule refuses, unless a signed waiver covers it; else one inconclusive rule makes the decision
    inconclusive; else it is accepted. Whether a waiver expired is for `waiver.check_waivers` to say.
    """
    audited = report.audited is not None
    rules = [*_report_rules(report, policy), *_accuracy_rules(report, policy)]
    if not audited:
        rules += [*data_rules(validation, vouched, policy), *_accuracy_drop_rules(report, policy)]
        rules += champion_rules(report, champion, policy)
    for name, result in sorted(report.candidate.attacks.items()):
        rules += attack_rules("candidate", name, result, policy, audited=audited)
    for name, result in sorted(report.drills.items()):
        rules += attack_rules("drill", name, result, policy)
    for probe in report.probes:
        rules += probe_rules(probe, policy)
    rules += required_probe_rules(report, validation, policy)
    rules += metric_rules(report, champion, policy)
    used = [_waiver_of(rule, waivers, policy) for rule in rules]
    rules = [
        rule if waiver is None else rule.model_copy(update={"waiver": str(waiver)})
        for rule, waiver in zip(rules, used, strict=True)
    ]
    verdicts = {rule.verdict for rule in rules if rule.waiver is None}
    return GateDecision(
        decision="refused" if "refused" in verdicts else "inconclusive" if "inconclusive" in verdicts else "accepted",
        rules=rules,
        waivers=tuple(waiver for waiver in waivers if waiver in used),
        policy=policy,
        policy_sha256=policy.sha256,
        report_sha256=report_sha256(report),
    )


def report_sha256(report: RobustnessReport) -> str:
    """SHA-256 of the report as JSON with sorted keys, without wall-clock times: the same evidence, the same hash.

    What was not measured is left out, so that a measurement that a later version adds changes no hash.
    """
    fields = report.model_dump(mode="json", exclude_none=True)
    for model in (fields["candidate"], *fields["comparisons"].values()):
        model.pop("train_seconds", None)
    if not fields["suspect_groups"]:
        del fields["suspect_groups"]
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _report_rules(report: RobustnessReport, policy: Policy) -> Iterator[RuleResult]:
    """Is there evidence at all, is it what the policy asks for, and can every number of it be read?"""
    tested = sorted({*report.candidate.attacks, *report.drills})
    missing = sorted(set(policy.required_attacks) - set(tested))
    yield a_rule(
        "required_attacks",
        limit=max(1, len(set(policy.required_attacks))),
        passes=None if missing or not tested else True,
        fact=f"The evidence is of {len(tested)} attacks ({', '.join(tested) or 'none'})"
        + (f"; the policy also asks for {', '.join(missing)}." if missing else "."),
        advice="What was not tried is not known to be resisted: name these attacks among the drills.",
        measured=len(tested),
    )
    unreadable = sorted(_not_finite(report.model_dump(), "report"))
    yield a_rule(
        "finite_numbers",
        limit=0,
        passes=None if unreadable else True,
        fact=f"{len(unreadable)} measurements are not a number{': ' if unreadable else ''}{', '.join(unreadable[:5])}.",
        advice="The evaluation failed in part: see its log, and run it again.",
        measured=len(unreadable),
    )


def _waiver_of(rule: RuleResult, waivers: Sequence[Waiver], policy: Policy) -> Waiver | None:
    """The signed waiver that accepts the bound of a refused rule; what was not measured cannot be accepted."""
    if rule.verdict != "refused" or rule.bound is None:
        return None
    for waiver in waivers:
        same = (waiver.rule, waiver.evidence, waiver.attack) == (rule.rule, rule.evidence, rule.attack)
        over = waiver.value - rule.bound if waiver.downwards else rule.bound - waiver.value
        if same and over <= ROUNDING and is_signed(waiver, policy.waiver_keys):
            return waiver
    return None


def _accuracy_rules(report: RobustnessReport, policy: Policy) -> Iterator[RuleResult]:
    cacc = report.candidate.cacc
    if policy.min_cacc is not None:
        yield a_rule(
            "min_cacc",
            limit=policy.min_cacc,
            passes=cacc.lower95 >= policy.min_cacc - ROUNDING if is_usable(cacc) else None,
            fact=f"Clean accuracy is {percent(cacc.value)} of {cacc.n} rows, at least {percent(cacc.lower95)} (95 % "
            f"bound); the policy asks for {percent(policy.min_cacc)}.",
            advice=MORE_ACCURACY,
            measured=cacc.value,
            bound=cacc.lower95,
            n=cacc.n,
        )


def _accuracy_drop_rules(report: RobustnessReport, policy: Policy) -> Iterator[RuleResult]:
    cacc = report.candidate.cacc
    if policy.max_cacc_drop is not None:
        control = report.comparisons.get("undefended")
        if control is None or not is_usable(control.cacc):
            yield a_rule(
                "max_cacc_drop",
                limit=policy.max_cacc_drop,
                passes=None,
                fact="The report holds no clean accuracy of the undefended control.",
                advice="Evaluate the undefended control too.",
                n=cacc.n,
            )
            return
        drop = control.cacc.value - cacc.lower95
        yield a_rule(
            "max_cacc_drop",
            limit=policy.max_cacc_drop,
            passes=drop <= policy.max_cacc_drop + ROUNDING if is_usable(cacc) else None,
            fact=f"The lower 95 % bound of the clean accuracy, {percent(cacc.lower95)}, is {points(drop)} under the "
            f"undefended control's {percent(control.cacc.value)}; the policy allows {points(policy.max_cacc_drop)}.",
            advice=MORE_ACCURACY,
            measured=control.cacc.value - cacc.value,
            bound=drop,
            n=cacc.n,
        )


def _not_finite(item: Any, path: str) -> Iterator[str]:
    """Paths of all floats below `item` that are not finite."""
    if isinstance(item, float):
        if not math.isfinite(item):
            yield path
    elif isinstance(item, dict):
        for key, value in item.items():
            yield from _not_finite(value, f"{path}.{key}")
    elif isinstance(item, list):
        for index, value in enumerate(item):
            yield from _not_finite(value, f"{path}[{index}]")
