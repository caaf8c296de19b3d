"""From a config to a finished run of the training pipeline, its summary and its pages."""

import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig
from zenml.client import Client
from zenml.enums import ExecutionStatus
from zenml.models import PipelineRunResponse

from materializers import pages
from musclelora.attacks.registry import ATTACKS, attack_by_name
from musclelora.config import RunConfig
from musclelora.errors import ConfigError, ModelError, did_you_mean
from musclelora.evaluation.report import RobustnessReport
from musclelora.evaluation.suites import TriggeredFrom
from musclelora.governance.enforcement import GateInconclusiveError, GateRefusedError
from musclelora.governance.registry import check_reachable
from musclelora.governance.signature import signing_key
from musclelora.governance.tracking import default_tracking_uri
from musclelora.plan import Drill, Training, drilled, plan
from musclelora.purification import check_scans
from musclelora.summary import Summary, summarise
from musclelora.training.backbone import Backbone, resolve_backbone
from musclelora.training.fit import peak_memory_mb
from musclelora.training.presets import PRESETS, auto_preset, resolve_recipe
from musclelora.training.recipes import Recipe, RecipeChoice
from musclelora.validation.report import ValidationReport
from pipelines.errors import OutputError, StoppedError
from pipelines.training import training_pipeline
from steps.tracking import for_the_record


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
    target = _target(config)
    check_reachable(_tracking_uri(config))
    signing_key()  # one that cannot be used is told before anything is trained
    candidate = resolve_recipe(config.recipe, preset)
    check_scans(candidate.name, config.validation)
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
    """Run the pipeline on the active stack and write `summary.json` and the pages into `output`.

    Returns for every decision of the gate; raises `StoppedError` from what stopped the run before one.
    """
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output} is a file: name a folder, new or not.")
    config = prepared.config
    run_name = f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
    configured = training_pipeline.with_options(
        run_name=run_name, extra={"tracking": for_the_record(config.tracking, _tracking_uri(config))}
    )
    with scratch():
        try:
            configured(
                config=config,
                trainings=prepared.trainings,
                backbone=prepared.backbone,
                encoder=prepared.encoder,
                triggers=prepared.triggers,
            )
        except (GateRefusedError, GateInconclusiveError):
            pass  # the last step's word for a decision that is on record: the caller reads it from there
        except (Exception, KeyboardInterrupt) as error:
            raise StoppedError(registering=_reached(run_name, "register")) from error
        return _finish(Client().get_pipeline_run(run_name), prepared, output)


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


def _finish(run: PipelineRunResponse, prepared: Prepared, output: Path) -> Finished:
    """Load what the steps left, and write the summary and the pages."""
    report, decision = _artifact(run, "evaluate", "robustness_report"), _artifact(run, "decide", "gate_decision")
    registered = _artifact(run, "register", "registered_version")
    candidate = _artifact(run, "train_candidate", "candidate_model")
    quarantined = _artifact(run, "validate", "quarantined")
    validation = _artifact(run, "validate", "validation_report")
    summary = summarise(
        name=prepared.config.name,
        seed=prepared.config.seed,
        seconds=_seconds(run),
        peak_memory_mb=peak_memory_mb(),
        train=_artifact(run, "ingest", "train"),
        quarantined=quarantined,
        trusted=_artifact(run, "ingest", "trusted"),
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


def _artifact(run: PipelineRunResponse, step: str, name: str) -> Any:
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


def _tracking_uri(config: RunConfig) -> str:
    return config.tracking.uri or default_tracking_uri()


def use_stack(name: str | None) -> None:
    """Make `name` the active stack of this process only."""
    if name is None:
        return
    stacks = {stack.name: stack.id for stack in Client().list_stacks(size=1000).items}
    if name not in stacks:
        raise ConfigError(f"There is no ZenML stack {name!r}. {did_you_mean(name, stacks)}")
    os.environ["ZENML_ACTIVE_STACK_ID"] = str(stacks[name])


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


def _target(config: RunConfig) -> str:
    """The target label's name. Whether the data has it is checked by `ingest`."""
    if not config.attacks and not config.evaluation.drills:
        raise ConfigError(
            "No attack is named, and the gate accepts no model that was not attacked: name some in evaluation.drills, "
            f"for example [{', '.join(ATTACKS)}]."
        )
    if config.evaluation.target is not None:
        return config.evaluation.target
    if config.data.demonstration is not None:
        return config.data.demonstration.target
    if config.data.labels:
        return config.data.labels[-1]
    raise ConfigError("Attacks and drills need a target label: set evaluation.target (or list data.labels).")
