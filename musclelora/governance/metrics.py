"""The numbers of a report by the names that they have as metrics of an MLflow run (`tracking` lists them)."""

from collections.abc import Iterable

from musclelora.evaluation.report import AttackResult, ChampionResult, RobustnessReport


def report_metrics(report: RobustnessReport) -> dict[str, float]:
    candidate = report.candidate
    values = {"cacc": candidate.cacc.value, "cacc_lower95": candidate.cacc.lower95}
    values |= _attack_metrics("", candidate.attacks) | _attack_metrics("drill.", report.drills)
    for role, compared in report.comparisons.items():
        values |= {f"{role}.cacc": compared.cacc.value, f"{role}.cacc_lower95": compared.cacc.lower95}
        values |= _attack_metrics(f"{role}.", compared.attacks)
    tried = [*candidate.attacks.values(), *report.drills.values()]
    if tried:
        values["asr_worst"] = max(result.asr.value for result in tried)
        values["asr_upper95_worst"] = max(result.asr.upper95 for result in tried)
    return values


def champion_metrics(champion: ChampionResult, attacks: Iterable[str]) -> dict[str, float]:
    """The same names for the champion; `attacks` are those that the candidate itself was tried with."""
    values = {}
    if champion.cacc is not None:
        values = {"cacc": champion.cacc.value, "cacc_lower95": champion.cacc.lower95}
    for name in set(attacks) & set(champion.asr):
        values |= {f"asr.{name}": champion.asr[name].value, f"asr_upper95.{name}": champion.asr[name].upper95}
    return values


def _attack_metrics(prefix: str, attacks: dict[str, AttackResult]) -> dict[str, float]:
    values = {}
    for name, result in attacks.items():
        values[f"{prefix}asr.{name}"] = result.asr.value
        values[f"{prefix}asr_upper95.{name}"] = result.asr.upper95
        if result.floor is not None:
            values[f"{prefix}asr_floor.{name}"] = result.floor.value
        if result.robust_accuracy is not None:
            values[f"{prefix}robust_accuracy.{name}"] = result.robust_accuracy.value
            values[f"{prefix}robust_accuracy_lower95.{name}"] = result.robust_accuracy.lower95
    return values
