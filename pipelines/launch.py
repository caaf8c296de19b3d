"""From a config to a finished run of the training pipeline, its summary and its pages."""

import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig
from zenml.client import Client
from zenml.enums import ExecutionStatus
from zenml.models import PipelineRunResponse
from zenml.pipelines.pipeline_definition import Pipeline

from materializers import pages
from musclelora.attacks.registry import attack_by_name
from musclelora.config import RunConfig
from musclelora.errors import ConfigError, ModelError
from musclelora.evaluation.report import RobustnessReport
from musclelora.evaluation.suites import TriggeredFrom
from musclelora.governance.enforcement import GateInconclusiveError, GateRefusedError
from musclelora.governance.registry import check_reachable
from musclelora.governance.signature import signing_key
from musclelora.governance.tracking import default_tracking_uri
from musclelora.plan import Drill, Training, drilled, plan
from musclelora.purification import check_scans
from musclelora.summary import Summary, summarise
from musclelora.target import target_of
from musclelora.training.backbone import Backbone, resolve_backbone
from musclelora.training.fit import peak_memory_mb
from musclelora.training.presets import PRESETS, auto_preset, resolve_recipe
from musclelora.training.recipes import Recipe, RecipeChoice
from musclelora.validation.report import ValidationReport
from pipelines.errors import OutputError, StoppedError
from pipelines.stack import configured, use_stack
from pipelines.training import training_pipeline


@dataclass(frozen=True)
class Prepared:
    """A config with everything resolved that can be before anything runs. `encoder` is the trusted model's."""

    config: RunConfig
    backbone: Backbone
    encoder: Backbone
    trainings: list[Training]
    triggers: TriggeredFrom


@dataclass(frozen=True)
class Finished:
    """A run that went through to its decision."""

    summary: Summary
    report: RobustnessReport
    validation: ValidationReport
    cached_steps: list[str]
    folder: Path


def prepare(config: RunConfig) -> Prepared:
    """Resolve weights, recipes, attacks, target, stack and MLflow; raises a `MuscleLoRAError` for what is wrong."""
    for attack in [*config.attacks, *config.evaluation.drills]:
        attack_by_name(attack)
    use_stack(config.stack)
    held = {"quantization": config.model.quantization, "gradient_checkpointing": config.model.gradient_checkpointing}
    backbone = resolve_backbone(config.model.base, config.model.allow).model_copy(update=held)
    encoder = resolve_backbone(config.validation.trusted_model.encoder or config.model.base, config.model.allow)
    preset = preset_of(backbone, config.recipe.preset)
    target = target_of(config)
    check_reachable(config.tracking.uri or default_tracking_uri())
    signing_key()  # one that cannot be used is told before anything is trained
    candidate = resolve_recipe(config.recipe, preset)
    without_scan = config.evaluation.without_scan
    check_scans(candidate.name, config.validation, without_scan.name if without_scan else None)
    if not candidate.can_be_released:
        raise ConfigError(
            f"The recipe {candidate.name!r} is for comparison only: what it trains does not fold into plain weights, "
            "so that its model could not be released. Choose another recipe.name, or compare it with `python -m "
            "benchmarks.recipes`."
        )
    trainings = plan(
        candidate,
        _rival("none", config, preset),
        _rival("trusted-only", config, preset),
        resolve_recipe(without_scan, preset) if without_scan else None,
        demonstration=config.data.demonstration is not None,
        drills=[
            Drill(attacks=attacks, rate=config.evaluation.drill_rate, target=target, seed=config.seed)
            for attacks in drilled(config.evaluation.drills, joint=config.evaluation.joint_drill)
        ],
    )
    return Prepared(
        config=config,
        backbone=backbone,
        encoder=encoder,
        trainings=trainings,
        triggers=TriggeredFrom(attacks=config.attacks, target=target, seed=config.seed),
    )


def launch(prepared: Prepared, output: Path) -> Finished:
    """Run the training pipeline on the active stack and write `summary.json` and the pages into `output`.

    Returns for every decision of the gate; raises `StoppedError` from what stopped the run before one.
    """
    with running(training_pipeline, prepared, output) as run:
        return finish(run, prepared, output, first_step="ingest")


@contextmanager
def running(pipeline: Pipeline, prepared: Prepared, output: Path) -> Iterator[PipelineRunResponse]:
    """The run of a pipeline that went through to a decision; temporary files are kept as long as the block lasts."""
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output} is a file: name a folder, new or not.")
    orchestrator = Client().active_stack.orchestrator
    if not orchestrator.config.is_synchronous:
        raise ConfigError(
            f"The orchestrator {orchestrator.name!r} takes a run and does not wait for it, so that there would be no "
            "result to show. Use `musclelora schedule` there, or a stack whose orchestrator waits."
        )
    config = prepared.config
    run_name = f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
    with scratch():
        try:
            configured(pipeline, config, run_name=run_name)(**arguments(prepared))
        except (GateRefusedError, GateInconclusiveError):
            pass  # the last step's word for a decision that is on record: the caller reads it from there
        except (Exception, KeyboardInterrupt) as error:
            raise StoppedError(registering=_reached(run_name, "register")) from error
        yield Client().get_pipeline_run(run_name)


def arguments(prepared: Prepared) -> dict[str, Any]:
    """What each of our pipelines is called with."""
    return {
        "config": prepared.config,
        "trainings": prepared.trainings,
        "backbone": prepared.backbone,
        "encoder": prepared.encoder,
        "triggers": prepared.triggers,
    }


@contextmanager
def scratch() -> Iterator[None]:
    """All temporary files of this process in one folder, removed at the end: libraries leave copies of models there."""
    former = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="musclelora-run-") as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = former


def _reached(run_name: str, step: str) -> bool:
    """Whether that step of the run had begun."""
    runs = Client().list_pipeline_runs(name=run_name, hydrate=True).items
    return any(step in run.steps for run in runs)


def finish(
    run: PipelineRunResponse, prepared: Prepared, output: Path, *, first_step: str, pages_too: Mapping[str, str] = {}
) -> Finished:
    """Load what the steps left, and write the summary and the pages (`pages_too`: further ones, by file name)."""
    report, decision = artifact(run, "evaluate", "robustness_report"), artifact(run, "decide", "gate_decision")
    registered = artifact(run, "register", "registered_version")
    candidate = artifact(run, "train_candidate", "candidate_model")
    quarantined = artifact(run, "validate", "quarantined")
    validation = artifact(run, "validate", "validation_report")
    summary = summarise(
        name=prepared.config.name,
        seed=prepared.config.seed,
        seconds=_seconds(run),
        peak_memory_mb=peak_memory_mb(),
        train=artifact(run, first_step, "train"),
        quarantined=quarantined,
        trusted=artifact(run, first_step, "trusted"),
        record=candidate.record,
        report=report,
        decision=decision,
        registered=registered,
    )
    written = {
        "summary.json": summary.model_dump_json(indent=1, by_alias=True),
        "robustness.html": pages.robustness_page(report, decision),
        "validation.html": pages.validation_page(validation),
        "training.html": pages.training_page(candidate.record),
        "decision.html": pages.decision_page(decision),
        "registered.html": pages.registered_page(registered),
        **pages_too,
    }
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, content in written.items():
            (output / name).write_text(content, encoding="utf-8")
        quarantined.rows.to_csv(output / "quarantined.csv")
    except OSError as error:
        raise OutputError(
            f"The run is complete: the gate's decision is {decision.decision!r}, recorded as {registered.name} version "
            f"{registered.version}. But its summary and pages could not be written to {output} "
            f"({error.strerror or error}). Make room there or name another --output, and run the same command again: "
            "finished steps come from the cache."
        ) from error
    cached = [name for name, step in run.steps.items() if step.status == ExecutionStatus.CACHED]
    return Finished(summary=summary, report=report, validation=validation, cached_steps=cached, folder=output)


def artifact(run: PipelineRunResponse, step: str, name: str) -> Any:
    """An output of a step."""
    return run.steps[step].outputs[name][0].load()


def _seconds(run: PipelineRunResponse) -> dict[str, float]:
    """Wall seconds per step, 0 where it was served from the cache."""
    seconds = {}
    for name, step in run.steps.items():
        if step.status == ExecutionStatus.CACHED or step.start_time is None or step.end_time is None:
            seconds[name] = 0.0
        else:
            seconds[name] = round((step.end_time - step.start_time).total_seconds(), 2)
    return seconds


def preset_of(backbone: Backbone, chosen: str) -> str:
    """The preset for the backbone's family and size, unless one is chosen; its config must be readable either way."""
    try:
        settings = AutoConfig.from_pretrained(backbone.location)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The configuration of the backbone {backbone.name!r} cannot be read: {str(error).splitlines()[0]} "
            "A backbone is a transformers model with config.json, model.safetensors and a tokenizer."
        ) from error
    return auto_preset(settings.model_type, settings.hidden_size, backbone.name) if chosen == "auto" else chosen


def _rival(name: str, config: RunConfig, preset: str) -> Recipe:
    """What the candidate is compared with. 4-bit weights cannot be trained, so LoRA stands in for the full training."""
    recipe = resolve_recipe(RecipeChoice(name=name, precision=config.recipe.precision), preset)
    if config.model.quantization == "none":
        return recipe
    lora, schedule = PRESETS[preset].lora, PRESETS[preset].adapters
    return recipe.model_copy(update={"name": f"{name}, by LoRA", "lora": lora, "learning_rate": schedule.learning_rate})
