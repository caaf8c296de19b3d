"""The HTML page of each artifact: one self-contained file, no script, nothing loaded from a network."""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from shlex import quote
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel

from materializers.charts import LineChart, bars, length_bars, line_chart
from materializers.wording import amount, compare, length, percent, shorten, visible, without_password
from musclelora.data.records import TextDataset, TrustedSet
from musclelora.evaluation.report import AttackResult, FlippedRow, ModelResult, RobustnessReport
from musclelora.governance.decision import GateDecision
from musclelora.governance.registered import RegisteredVersion
from musclelora.training.defended_model import TrainingRecord
from musclelora.training.frequency import FrequencyCurve
from musclelora.validation.report import Outcome, TrustedModelRecord, ValidationReport

ROWS_SHOWN = 20
LABELS_SHOWN = 30
QUARANTINED_SHOWN = 50
EXAMPLES_PER_ATTACK = 3
PROBES_WITH_EXAMPLES = 3
SEVERITY: tuple[Outcome, ...] = ("pass", "warn", "quarantine", "stop")
ROLES = {
    "undefended": "Undefended control",
    "undefended_floor": "Undefended, no poison in its rows",
    "trusted_only": "Trusted rows alone",
    "without_scan": "Recipe without the scans",
    "floor": "Floor model",
    "candidate": "Candidate",
}


class Field(NamedTuple):
    """One field of a config: where it is, its value, what it is for."""

    name: str
    value: Any
    description: str


class Evidence(NamedTuple):
    """One row of the robustness table: an attack, measured on each model, or through a drill."""

    attack: str
    drill: bool
    target: str
    by_role: dict[str, AttackResult | None]
    control_asr: float | None


class Flips(NamedTuple):
    """Rows of one attack that flipped on one model."""

    model: str
    attack: str
    target: str
    rows: list[FlippedRow]


def text_dataset_page(dataset: TextDataset, title: str) -> str:
    """Rows, hash, labels, lengths, the first rows."""
    return render("text_dataset.html.jinja", title=title, **_dataset_facts(dataset))


def trusted_set_page(trusted: TrustedSet) -> str:
    """Who vouches and until when, then the rows."""
    return render("trusted_set.html.jinja", title="Trusted set", trusted=trusted, **_dataset_facts(trusted.data))


def validation_outcome(report: ValidationReport) -> Outcome:
    """The worst outcome of any check."""
    return max((check.outcome for check in report.checks), key=SEVERITY.index, default="pass")


def validation_page(report: ValidationReport) -> str:
    """The outcome, each check, what was set aside."""
    checks = sorted(report.checks, key=lambda check: -SEVERITY.index(check.outcome))
    return render(
        "validation.html.jinja",
        title="Validation report",
        report=report,
        outcome=validation_outcome(report),
        outcomes=Counter(check.outcome for check in checks),
        checks=checks,
        labels=bars(report.label_counts),
        sources=bars(report.source_counts),
        quarantined=list(report.quarantined.items())[:QUARANTINED_SHOWN],
        wrong_labels=_wrong_labels_chart(report.trusted_model),
    )


def _wrong_labels_chart(model: TrustedModelRecord | None) -> LineChart | None:
    points = model.sensitivity if model else []
    if len(points) < 2:
        return None
    series = {"mean": [point.accuracy for point in points], "worst draw": [point.worst for point in points]}
    return line_chart([point.wrong for point in points], series, top=1.0, over="wrong labels")


def training_page(record: TrainingRecord) -> str:
    """The recipe, the curve, what was trained on what."""
    curve = record.curve
    epochs = [epoch.epoch for epoch in curve]
    loss: dict[str, list[float | None]] = {"training rows": [epoch.loss for epoch in curve]}
    reference = [epoch.reference_loss for epoch in curve]
    accuracy = [epoch.dev_accuracy for epoch in curve]
    if any(value is not None for value in reference):
        loss["trusted rows (reference)"] = reference
    return render(
        "training.html.jinja",
        title=f"Training: {record.recipe.name}",
        record=record,
        fields=list(_fields(record.recipe)),
        loss=line_chart(epochs, loss) if curve else None,
        accuracy=line_chart(epochs, {"clean dev rows": accuracy}, top=1.0)
        if any(v is not None for v in accuracy)
        else None,
        frequencies=_frequency_charts(record.frequencies) if record.frequencies else None,
    )


def _frequency_charts(curve: FrequencyCurve) -> dict[str, LineChart]:
    """Caption to chart. A curve of which no point is defined is left out: the table says so."""
    steps = [point.step for point in curve.points]
    names = {"clean": "clean dev rows", "poisoned": "with the trigger"}

    def chart(part: str, top: float | None = None) -> LineChart:
        series = {
            name: [point.means[f"frequency.{part}.{rows}"] for point in curve.points] for rows, name in names.items()
        }
        known = {name: values for name, values in series.items() if any(value is not None for value in values)}
        return line_chart(steps, known, top=top, over="step")

    return {
        "Low-frequency error": chart("low"),
        "High-frequency error": chart("high"),
        "Share of rows called their label (with the trigger: the target)": chart("accuracy", 1.0),
    }


def robustness_page(report: RobustnessReport, decision: GateDecision | None) -> str:
    """The verdict, the models side by side, then the evidence. Without a decision the page says so."""
    models = _models(report)
    evidence = _evidence(report, models)
    return render(
        "robustness.html.jinja",
        title="Robustness report",
        report=report,
        decision=decision,
        roles=_roles(report),
        models=models,
        evidence=evidence,
        worst=_worst(evidence),
        flips=list(_flips(report, models)),
    )


def decision_page(decision: GateDecision) -> str:
    """The verdict, each rule, what to do, the policy."""
    return render(
        "decision.html.jinja", title="Gate decision", decision=decision, fields=list(_fields(decision.policy))
    )


def registered_page(version: RegisteredVersion) -> str:
    """Where the version is, which aliases point to it, how to serve it."""
    uri = f"models:/{version.name}/{version.version}"
    alias = "champion" if "champion" in version.aliases else next(iter(version.aliases), None)
    served = f"models:/{version.name}@{alias}" if alias else None
    tracking_uri = without_password(version.tracking_uri)
    serve = [
        f"export MLFLOW_TRACKING_URI={quote(tracking_uri)}",
        f"mlflow models serve -m {quote(served)} --env-manager local" if served else None,
    ]
    return render(
        "registered.html.jinja",
        title=f"{version.name}, version {version.version}",
        version=version,
        uri=uri,
        model_uri=without_password(version.model_uri),
        tracking_uri=tracking_uri,
        serve=serve if served else None,
    )


def facts_page(title: str, record: BaseModel) -> str:
    """Every field of a small record; a rate as its value, bounds and rows."""
    facts: list[tuple[str, object]] = []
    for field in _fields(record):
        if isinstance(field.value, dict):
            facts += [(f"{field.name} {key}", value) for key, value in field.value.items()]
        else:
            facts.append((field.name, field.value))
    return render("facts.html.jinja", title=title, facts=facts)


def _dataset_facts(dataset: TextDataset) -> dict[str, Any]:
    columns = dataset.rows.column_names
    labels = Counter("(none)" if label is None else str(label) for label in dataset.labels)
    poisoned = sum(map(bool, dataset.column("is_poisoned"))) if "is_poisoned" in columns else None
    first = dataset.rows.select(range(min(ROWS_SHOWN, len(dataset))))
    return {
        "rows": len(dataset),
        "sha256": dataset.sha256,
        "columns": columns,
        "label_count": len(labels),
        "labels": bars(dict(labels.most_common(LABELS_SHOWN))),
        "lengths": length_bars([len(text.split()) for text in dataset.texts if text is not None]),
        "sources": bars(dataset.source_counts()),
        "poisoned": poisoned,
        "first": list(first),
    }


def _roles(report: RobustnessReport) -> dict[str, str]:
    """An audited model is no candidate for anything."""
    return ROLES if report.audited is None else ROLES | {"candidate": "Audited model"}


def _models(report: RobustnessReport) -> list[ModelResult]:
    """Comparisons in the order of `ROLES`, the candidate last."""
    order = list(ROLES)
    return [*sorted(report.comparisons.values(), key=lambda model: order.index(model.role)), report.candidate]


def _evidence(report: RobustnessReport, models: list[ModelResult]) -> list[Evidence]:
    names = dict.fromkeys(name for model in models for name in model.attacks)
    found = []
    for name in names:
        by_role: dict[str, AttackResult | None] = {model.role: model.attacks.get(name) for model in models}
        measured = next(result for result in by_role.values() if result)
        candidate = report.candidate.attacks.get(name)
        control_asr = candidate.control_asr if candidate else None
        found.append(Evidence(name, False, measured.target, by_role, control_asr))
    for name, drill in report.drills.items():
        found.append(Evidence(name, True, drill.target, {"candidate": drill}, drill.control_asr))
    return found


def _worst(evidence: list[Evidence]) -> Evidence | None:
    """The attack, or drill, with the highest upper bound on the candidate's side."""
    measured = [(row, result) for row in evidence if (result := row.by_role.get("candidate"))]
    return max(measured, key=lambda pair: pair[1].asr.upper95)[0] if measured else None


def _flips(report: RobustnessReport, models: list[ModelResult]) -> Iterator[Flips]:
    for model in models:
        for name, result in model.attacks.items():
            if result.examples:
                yield Flips(_roles(report)[model.role], name, result.target, result.examples[:EXAMPLES_PER_ATTACK])
    for name, result in report.drills.items():
        if result.examples:
            yield Flips("Drill", name, result.target, result.examples[:EXAMPLES_PER_ATTACK])
    for probe in report.probes[:PROBES_WITH_EXAMPLES]:
        if probe.examples:
            yield Flips("Probe", f"“{probe.trigger}”", probe.target, probe.examples[:EXAMPLES_PER_ATTACK])


def _fields(record: BaseModel, under: str = "") -> Iterator[Field]:
    """All fields of a config, nested ones with their path."""
    for name, info in type(record).model_fields.items():
        value = getattr(record, name)
        if isinstance(value, BaseModel):
            yield from _fields(value, f"{under}{name}.")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, tuple) else value
            yield Field(f"{under}{name}", None if shown == "" else shown, info.description or "")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("materializers"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"length_of": length, "percent": percent, "visible": visible, "shorten": shorten}
    environment.globals |= {"amount": amount, "compare": compare}
    return environment


def render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)
