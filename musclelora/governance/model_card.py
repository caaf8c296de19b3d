"""MODEL_CARD.md: what a reviewer reads beside the model, with its results in the metadata that model hubs read.

Label, source and attack names come from outside: in the text they are escaped, so that none can break the page.
"""

import html

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from musclelora.evaluation.report import AttackResult, Rate, RobustnessReport
from musclelora.governance.decision import GateDecision
from musclelora.training.defended_model import TrainingRecord
from musclelora.validation.report import ValidationReport


def model_card(
    record: TrainingRecord, report: RobustnessReport, decision: GateDecision, validation: ValidationReport, name: str
) -> str:
    """Markdown with a YAML head, valid for `huggingface_hub.ModelCard`. Made without a network."""
    data = ModelCardData(
        model_name=name,
        base_model=record.base,
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["musclelora", "backdoor-defense", f"gate-{decision.decision}"],
        eval_results=_results(report),
    )
    sections = [
        f"# {_text(name)}",
        f"Text classifier with the labels {', '.join(_text(label) for label in record.label_names)}, trained with the "
        f"recipe `{_code(record.recipe.name)}` on data that nobody vouches for.",
        _decision(decision),
        _measured(report),
        _data(record, validation),
        _training(record),
        _limits(report),
    ]
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n"))


def _results(report: RobustnessReport) -> list[EvalResult]:
    """Clean accuracy, and the success rate of each attack tried; lower is better for the latter."""
    tried = [("candidate", name, result.asr) for name, result in sorted(report.candidate.attacks.items())]
    tried += [("drill", name, result.asr) for name, result in sorted(report.drills.items())]
    rates: list[tuple[str, str, Rate]] = [("accuracy", "Clean accuracy", report.candidate.cacc)]
    rates += [("attack_success_rate", f"Attack success rate, {kind} {name}", rate) for kind, name, rate in tried]
    return [
        EvalResult(
            task_type="text-classification",
            dataset_type="test",
            dataset_name=f"test rows {report.test_sha256[:12]}",
            metric_type=metric,
            metric_name=title,
            metric_value=rate.value,
        )
        for metric, title, rate in rates
    ]


def _decision(decision: GateDecision) -> str:
    lines = [f"## Gate: {decision.decision}", ""]
    lines += [f"- {_text(reason)}" for reason in decision.reasons] or [
        f"All {len(decision.rules)} rules passed{' or were waived' if decision.waivers else ''}.",
        *([""] if decision.waivers else []),
    ]
    lines += [f"- Waived: {_text(str(waiver))}" for waiver in decision.waivers]
    return "\n".join([*lines, "", f"Policy `{decision.policy_sha256}`, report `{decision.report_sha256}`."])


def _measured(report: RobustnessReport) -> str:
    rows = [("candidate", name, result) for name, result in sorted(report.candidate.attacks.items())]
    rows += [("drill", name, result) for name, result in sorted(report.drills.items())]
    lines = [
        "## Measured",
        "",
        f"On {report.test_rows} test rows (`{report.test_sha256}`); bounds are one-sided, 95 %.",
        "",
        "| model | clean accuracy | lower bound |",
        "| --- | --- | --- |",
    ]
    models = [("candidate", report.candidate), *sorted(report.comparisons.items())]
    lines += [f"| {role} | {_percent(m.cacc.value)} | {_percent(m.cacc.lower95)} |" for role, m in models]
    if rows:
        lines += [
            "",
            "| on | attack | target | success | upper bound | floor | without defence | rows |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        lines += [_attack_row(kind, name, result) for kind, name, result in rows]
    return "\n".join(lines)


def _attack_row(kind: str, name: str, result: AttackResult) -> str:
    floor = None if result.floor is None else result.floor.value
    cells = [kind, _text(name), _text(result.target), _percent(result.asr.value), _percent(result.asr.upper95)]
    return f"| {' | '.join([*cells, _percent(floor), _percent(result.control_asr), str(result.asr.n)])} |"


def _data(record: TrainingRecord, validation: ValidationReport) -> str:
    sources = ", ".join(f"{_text(source)} ({rows})" for source, rows in sorted(validation.source_counts.items()))
    back = record.readmitted
    came_back = "" if back is None else f" ({back.repaired} came back without suspect words)"
    return "\n".join(
        [
            "## Data",
            "",
            f"- {validation.rows} rows delivered, {len(validation.quarantined)} quarantined{came_back}, "
            f"{record.rows} trained on",
            f"- sources: {sources or 'not given'}",
            f"- training data `{record.data_sha256}`",
            f"- trusted set `{record.trusted_sha256}`",
        ]
    )


def _training(record: TrainingRecord) -> str:
    share = record.trainable_parameters / record.total_parameters
    return "\n".join(
        [
            "## Training",
            "",
            f"- base `{_code(record.base)}` (`{record.base_sha256}`), preset `{_code(record.recipe.preset)}`",
            f"- {record.trainable_parameters:,} of {record.total_parameters:,} parameters trained ({share:.2%})",
            f"- {len(record.curve)} epochs, the best was {record.best_epoch}; seed {record.seed}",
            f"- {record.seconds:.0f} s on {_text(record.device)} in {record.precision}",
        ]
    )


def _limits(report: RobustnessReport) -> str:
    lines = [
        "## What this does not show",
        "",
        "- A drill measures known triggers; a trigger of another kind in the real data may behave otherwise.",
        "- Trusted rows are taken to be clean. Poison among them defeats the defence.",
    ]
    return "\n".join([*lines, *(f"- Not tested: {_text(item)}" for item in report.not_tested)])


def _text(value: str) -> str:
    """One line of text that neither HTML nor a Markdown table, link or code span can be made of."""
    line = html.escape(" ".join(value.split()), quote=False)
    for mark in "\\`*_[]|":
        line = line.replace(mark, f"\\{mark}")
    return line


def _code(value: str) -> str:
    """One line for between backticks."""
    return " ".join(value.split()).replace("`", "'")


def _percent(rate: float | None) -> str:
    return "not measured" if rate is None else f"{rate:.1%}"
