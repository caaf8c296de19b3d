"""The run's result as a table for the terminal, and the exit code that goes with it."""

from collections.abc import Sequence

from materializers.wording import visible
from musclelora.evaluation.report import ModelResult, Rate, RobustnessReport
from musclelora.purification import PURIFY
from musclelora.summary import Status, Summary
from musclelora.validation.group_scan import GROUP_RESIDUAL
from musclelora.validation.report import ValidationReport
from musclelora.validation.token_scan import RESIDUAL_TRIGGER

EXIT_CODES: dict[Status, int] = {"accepted": 0, "refused": 3, "inconclusive": 4}
NAMES = {
    "undefended": "undefended",
    "undefended_floor": "undefended, no poison",
    "trusted_only": "trusted rows alone",
    "floor": "floor model",
}
VERDICTS: dict[Status, str] = {"accepted": "safe", "refused": "UNSAFE", "inconclusive": "inconclusive"}
HEADER = ("model", "rows", "CACC", "attack", "ASR", "<= (95 %)", "floor", "untriggered", "decision")


def exit_code(status: Status) -> int:
    """0 accepted, 3 refused, 4 inconclusive."""
    return EXIT_CODES[status]


def results_table(report: RobustnessReport, summary: Summary, validation: ValidationReport) -> str:
    """One line per model and attack; the candidate last, with all of its defence and the gate's decision."""
    scanned = any(check.name.startswith(RESIDUAL_TRIGGER) for check in validation.checks)
    recipe = report.candidate.recipe
    defence = f"scan + {recipe}" if scanned and recipe != PURIFY else recipe
    lines: list[tuple[str, ...]] = [HEADER]
    for role, model in report.comparisons.items():
        lines += _lines(NAMES.get(role, f"{model.recipe}, no scan"), model, "-")
    lines += _lines(f"{defence} (candidate)", report.candidate, summary.gate.decision)
    for name, drill in report.drills.items():
        rates = (_percent(drill.asr.value), _percent(drill.asr.upper95), _rate(drill.floor))
        lines.append(
            ("drill", "", "", name, *rates, _rate(drill.untriggered), "" if drill.conclusive else "inconclusive")
        )
    return aligned([*lines, *_probe_lines(report), *_group_lines(report)])


def audit_table(report: RobustnessReport, summary: Summary) -> str:
    """One line per attack and probe on the audited model; on the last line the verdict in a word."""
    lines: list[tuple[str, ...]] = [HEADER]
    for role, model in report.comparisons.items():
        lines += _lines(NAMES[role], model, "-")
    lines += _lines("audited", report.candidate, summary.gate.decision)
    verdict = f"Verdict: {VERDICTS[summary.status]} (the gate says {summary.status}) on what was tested."
    return f"{aligned([*lines, *_probe_lines(report)])}\n{verdict}"


def _probe_lines(report: RobustnessReport) -> list[tuple[str, ...]]:
    """The probes, strongest first; those that a scan suspected and those that a search found."""
    return [
        (
            f"probe ({probe.kind})",
            "",
            "",
            f"{visible(probe.trigger)} ({probe.position})",
            _percent(probe.asr.value),
            _percent(probe.asr.upper95),
            _rate(probe.floor),
            _rate(probe.untriggered),
            "",
        )
        for probe in report.probes
    ]


def _group_lines(report: RobustnessReport) -> list[tuple[str, ...]]:
    """The suspect groups: of their rows whose text says another label, those that the candidate calls the given one."""
    return [
        (
            "suspect group",
            "",
            "",
            group.group.removeprefix(f"{GROUP_RESIDUAL}: "),
            _percent(group.called.value),
            _percent(group.called.upper95),
            _rate(group.floor),
            "-",
            "",
        )
        for group in report.suspect_groups
    ]


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """The first line is the head; columns as wide as their longest text."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    padded = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([padded[0], "  ".join("-" * width for width in widths), *padded[1:]])


def quarantine_line(report: ValidationReport) -> str:
    """How many rows validation set aside, and by which checks."""
    checks = [f"{check.name} ({check.failed_rows:,})" for check in report.checks if check.outcome == "quarantine"]
    reasons = f": {', '.join(checks)}" if checks else ""
    return f"Validation set aside {len(report.quarantined):,} of {report.rows:,} training rows{reasons}."


def _lines(name: str, model: ModelResult, decision: str) -> list[tuple[str, ...]]:
    rows, cacc = "-" if model.train_rows is None else f"{model.train_rows:,}", _percent(model.cacc.value)
    if not model.attacks:
        return [(name, rows, cacc, "-", "-", "-", "-", "-", decision)]
    return [
        (
            name,
            rows,
            cacc,
            attack,
            _percent(result.asr.value),
            _percent(result.asr.upper95),
            _rate(result.floor),
            _rate(result.untriggered),
            decision,
        )
        for attack, result in model.attacks.items()
    ]


def _rate(rate: Rate | None) -> str:
    return "-" if rate is None else _percent(rate.value)


def _percent(value: float) -> str:
    return f"{value:.1%}"
