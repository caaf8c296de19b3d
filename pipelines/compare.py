"""From a config to a finished comparison: results.json, tables, page, runs in MLflow."""

import json
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zenml.client import Client
from zenml.enums import ExecutionStatus
from zenml.models import PipelineRunResponse, StepRunResponse

from materializers.compare_page import comparison_page
from musclelora.attacks.registry import attack_by_name
from musclelora.comparison.grid import grid
from musclelora.comparison.record import Cell, CellResult, Failure
from musclelora.comparison.results import Comparison, compared
from musclelora.comparison.tracking import log_comparison
from musclelora.config import CompareConfig, TrackingConfig
from musclelora.errors import ConfigError
from musclelora.governance.registry import check_reachable
from musclelora.governance.tracking import default_tracking_uri
from musclelora.training.backbone import resolve_backbone
from pipelines.comparison import comparison_pipeline
from pipelines.errors import OutputError, StoppedError
from pipelines.launch import preset_of, scratch
from pipelines.stack import use_stack
from steps.progress import COUNTDOWN

DONE = (ExecutionStatus.COMPLETED, ExecutionStatus.CACHED)


@dataclass(frozen=True)
class PreparedComparison:
    """A config with everything resolved that can be before anything runs."""

    config: CompareConfig
    cells: list[Cell]
    tracking_uri: str


@dataclass(frozen=True)
class Compared:
    """A comparison that went through; `cached`: cells that were not trained again."""

    comparison: Comparison
    cached: list[str]
    folder: Path


def prepare_comparison(config: CompareConfig) -> PreparedComparison:
    """Resolve weights, recipes, defences, attacks, stack and MLflow; raises a `MuscleLoRAError` for what is wrong."""
    for attack in config.attacks:
        if not all(attack in data.ready_made for data in config.datasets.values()):
            attack_by_name(attack)
    use_stack(config.stack)
    tracking_uri = config.tracking.uri or default_tracking_uri()
    check_reachable(tracking_uri)
    backbones = {}
    for name, model in config.backbones.items():
        held = {"quantization": model.quantization, "gradient_checkpointing": model.gradient_checkpointing}
        backbone = resolve_backbone(model.base, model.allow).model_copy(update=held)
        backbones[name] = (backbone, model.max_length, preset_of(backbone, config.preset))
    cells = grid(config.methods, config.attacks, list(config.datasets), backbones, config.seeds)
    tracking = TrackingConfig(uri=tracking_uri, experiment=config.tracking.experiment)
    return PreparedComparison(config.model_copy(update={"tracking": tracking}), cells, tracking_uri)


def run_comparison(prepared: PreparedComparison, output: Path) -> Compared:
    """Run the grid on the active stack and write what it found into `output`.

    A cell that failed is in the tables with its reason, and the others are not lost. Raises `StoppedError` where the
    pipeline stopped before its cells.
    """
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output} is a file: name a folder, new or not.")
    config = prepared.config
    run_name = f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
    configured = comparison_pipeline.with_options(run_name=run_name)
    # ZenML orders steps that wait for nothing more by their names.
    COUNTDOWN.expect({cell.id: cell.method for cell in sorted(prepared.cells, key=lambda cell: cell.id)})
    with scratch(), _stopped_by_signals():
        try:
            configured(datasets=config.datasets, attacks=config.attacks, cells=prepared.cells)
        except Exception as error:  # whatever failed a step: which ones is on record
            if not _any_step_failed(run_name):
                raise StoppedError(registering=False) from error
        run = Client().get_pipeline_run(run_name)
        results, failures, cached = _collected(run, prepared.cells)
    comparison = compared(config.name, results, failures)
    _write(comparison, output)
    log_comparison(
        comparison, results, output, tracking_uri=prepared.tracking_uri, experiment=config.tracking.experiment
    )
    return Compared(comparison, cached, output)


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Both signals end the comparison as Ctrl-C does. ZenML turns one that had no handler into the failure of a step,
    and would go on with the next cell, since a cell that failed does not stop the others."""
    former = {which: signal.signal(which, signal.default_int_handler) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for which, handler in former.items():
            signal.signal(which, handler)


def _any_step_failed(run_name: str) -> bool:
    runs = Client().list_pipeline_runs(name=run_name, hydrate=True).items
    return any(step.status == ExecutionStatus.FAILED for run in runs for step in run.steps.values())


def _collected(run: PipelineRunResponse, cells: list[Cell]) -> tuple[list[CellResult], list[Failure], list[str]]:
    """The results of cells that ended well, why the others did not, and which came from the cache."""
    results, failures, cached = [], [], []
    broken = {name: _reason(step) for name, step in run.steps.items() if step.status == ExecutionStatus.FAILED}
    for cell in cells:
        step = run.steps.get(cell.id)
        if step is not None and step.status in DONE:
            results.append(step.outputs["cell_result"][0].load().model_copy(update={"cell": cell}))
            if step.status == ExecutionStatus.CACHED:
                cached.append(cell.id)
        else:
            rows_failed = [reason for name, reason in broken.items() if _gives_rows(name, cell)]
            reason = broken.get(cell.id) or next(iter(rows_failed), "it was not run")
            failures.append(Failure(cell=cell, reason=reason))
    return results, failures, cached


def _gives_rows(step: str, cell: Cell) -> bool:
    return step.startswith((f"deliver_{cell.dataset}_", f"attack_{cell.dataset}_")) and step.endswith(
        f"seed{cell.seed}"
    )


def _reason(step: StepRunResponse) -> str:
    """In one line, as the exception said it."""
    info = step.exception_info
    message = "" if info is None else info.message or info.traceback.strip().splitlines()[-1]
    return " ".join(message.split()) or "no reason is on record: see the step's log in ZenML"


def _write(comparison: Comparison, output: Path) -> None:
    written = {
        "results.json": json.dumps(comparison.as_json(), indent=1) + "\n",
        "table.md": comparison.as_markdown(),
        "table.tex": comparison.as_latex(),
        "comparison.html": comparison_page(comparison),
    }
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, content in written.items():
            (output / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"The comparison is complete but could not be written to {output} ({error.strerror or error}). Make room "
            "there or name another --output, and run the same command again: finished cells come from the cache."
        ) from error
