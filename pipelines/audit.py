"""From a model's name and a config to what an audit found: a summary, a page, a verdict."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from materializers import pages
from musclelora.attacks.registry import attack_by_name
from musclelora.config import AuditConfig
from musclelora.errors import ConfigError
from musclelora.evaluation.audit import audit
from musclelora.evaluation.report import AuditedModel, RobustnessReport
from musclelora.evaluation.suites import TriggeredFrom
from musclelora.evaluation.tested import Tested
from musclelora.governance.decision import decide
from musclelora.governance.model_store import fetch_registered
from musclelora.governance.tracking import default_tracking_uri, mlflow_errors
from musclelora.ingest import AuditRows, ingest_audit
from musclelora.summary import Summary, summarise_audit
from musclelora.training.any_model import AnyModel, load_any_model
from musclelora.training.backbone import resolve_backbone
from musclelora.training.fit import peak_memory_mb
from musclelora.validation.report import Suspect
from musclelora.validation.suspects import suspects_of
from musclelora.validation.trusted_model import TokenScan
from pipelines.errors import OutputError
from steps.progress import announce

REGISTRY = "models:/"


@dataclass(frozen=True)
class PreparedAudit:
    """Everything an audit reads, loaded and in order; nothing computed yet."""

    config: AuditConfig
    rows: AuditRows
    audited: AnyModel
    floor: AnyModel | None
    seconds: dict[str, float]


@dataclass(frozen=True)
class Audited:
    """An audit that went through to its verdict."""

    summary: Summary
    report: RobustnessReport
    folder: Path


def prepare_audit(model: str, config: AuditConfig, tracking_uri: str | None) -> PreparedAudit:
    """Read the rows and load the models: a folder, a hub name, or `models:/NAME@ALIAS` in MLflow.

    Raises a `MuscleLoRAError` for what is wrong with model, config or rows.
    """
    for attack in config.attacks:
        attack_by_name(attack)
    with _timed() as reading:
        rows = ingest_audit(config.data, config.seed, config.target)
    with _timed() as loading:
        audited = _load(model, config, tracking_uri)
        floor = _load(config.floor, config, tracking_uri) if config.floor else None
    return PreparedAudit(config, rows, audited, floor, {"ingest": reading[0], "load": loading[0]})


def run_audit(prepared: PreparedAudit, output: Path) -> Audited:
    """Attack the model, judge it, write the page. Raises a `MuscleLoRAError`; nothing is written then."""
    config, rows, audited, floor = prepared.config, prepared.rows, prepared.audited, prepared.floor
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output} is a file: name a folder, new or not.")
    with _timed() as scanning:
        suspects = _suspects(rows, config)
    announce(f"audit: {audited.name} on {len(rows.test)} clean rows and their triggered copies")
    with _timed() as evaluating:
        report = audit(
            _tested(audited, config),
            _tested(floor, config) if floor else None,
            rows.test,
            TriggeredFrom(attacks=config.attacks, target=config.target, seed=config.seed),
            about=AuditedModel(
                name=audited.name,
                sha256=audited.sha256,
                floor=floor.name if floor else None,
                floor_sha256=floor.sha256 if floor else None,
            ),
            ready_made=rows.triggered,
            suspects=suspects,
            search_seconds=config.search_seconds,
            precision=config.precision,
        )
    decision = decide(report, config.gate)
    summary = summarise_audit(
        name=config.name,
        seed=config.seed,
        device=f"{audited.model.device} {config.precision}",
        seconds=prepared.seconds | {"scan": scanning[0], "evaluate": evaluating[0]},
        peak_memory_mb=peak_memory_mb(),
        rows=rows,
        report=report,
        decision=decision,
    )
    written = {
        "summary.json": summary.model_dump_json(indent=1, by_alias=True),
        "robustness.json": report.model_dump_json(indent=1),
        "decision.json": decision.model_dump_json(indent=1),
        "robustness.html": pages.robustness_page(report, decision),
    }
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, content in written.items():
            (output / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"The audit is complete, its verdict is {decision.decision!r}, but it could not be written to {output} "
            f"({error.strerror or error}). Make room there or name another --output, and run the same command again."
        ) from error
    return Audited(summary, report, output)


@contextmanager
def _timed() -> Iterator[list[float]]:
    """The seconds that the block took, once it ended."""
    started, seconds = time.monotonic(), [0.0]
    yield seconds
    seconds[0] = round(time.monotonic() - started, 2)


def _suspects(rows: AuditRows, config: AuditConfig) -> list[Suspect]:
    """What the token scan finds in the training rows, where there are any."""
    if rows.train is None or rows.trusted is None:
        return []
    announce(f"scan: {len(rows.train)} training rows")
    usable = rows.train.where([bool(text and text.strip()) and bool(label) for text, label in _pairs(rows)])
    scan = TokenScan(
        resolve_backbone(config.model.base, config.model.allow), rows.trusted, config.model.max_length, seed=config.seed
    )
    return suspects_of(scan(usable), usable)


def _pairs(rows: AuditRows) -> list[tuple[str | None, str | None]]:
    return [] if rows.train is None else list(zip(rows.train.texts, rows.train.labels, strict=True))


def _load(name: str, config: AuditConfig, tracking_uri: str | None) -> AnyModel:
    announce(f"load: {name}")
    labels = list(config.labels) if config.labels else None
    if not name.startswith(REGISTRY):
        return load_any_model(name, name, labels, config.precision, config.model.allow)
    uri = tracking_uri or default_tracking_uri()
    with tempfile.TemporaryDirectory(prefix="musclelora-audit-") as scratch:
        with mlflow_errors(uri, f"fetch {name}"):
            folder = fetch_registered(name, uri, scratch)
        return load_any_model(name, folder, labels, config.precision, config.model.allow)


def _tested(model: AnyModel, config: AuditConfig) -> Tested:
    return Tested((model.model, model.tokenizer), model.label_names, config.model.max_length)
