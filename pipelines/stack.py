"""The ZenML stack that a pipeline runs on: which one, and a pipeline configured for it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from zenml.client import Client
from zenml.enums import ExecutionMode
from zenml.pipelines.pipeline_definition import Pipeline

from musclelora.config import RunConfig
from musclelora.errors import ConfigError, did_you_mean
from musclelora.governance.tracking import default_tracking_uri
from steps.tracking import for_the_record

# What a file of stack settings may say. A cache switch would overrule the steps that must never come from a cache.
SECTIONS, OF_A_STEP = {"settings", "steps", "retry"}, {"settings", "step_operator", "retry"}


def use_stack(name: str | None) -> None:
    """Make `name` the active stack of this process only."""
    if name is None:
        return
    stacks = {stack.name: stack.id for stack in Client().list_stacks(size=1000).items}
    if name not in stacks:
        raise ConfigError(f"There is no ZenML stack {name!r}. {did_you_mean(name, stacks)}")
    os.environ["ZENML_ACTIVE_STACK_ID"] = str(stacks[name])


def configured(pipeline: Pipeline, config: RunConfig, *, extra: Mapping[str, Any] = {}, **options: Any) -> Pipeline:
    """The pipeline for the active stack: tracked where the config says, and stopped by its first failure.

    An orchestrator that cannot stop a run goes on with the steps that do not need the one that failed.
    """
    modes = Client().active_stack.orchestrator.supported_execution_modes
    mode = ExecutionMode.FAIL_FAST if ExecutionMode.FAIL_FAST in modes else modes[0]
    address = config.tracking.uri or default_tracking_uri()
    tracked = {"tracking": for_the_record(config.tracking, address)}
    return pipeline.with_options(
        execution_mode=mode,
        extra={**tracked, **extra},
        config_path=_stack_settings(config.stack_settings) if config.stack_settings else None,
        **options,
    )


def _stack_settings(path: str) -> str:
    """The file, once it is known to hold what it may."""
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"stack_settings: {path} cannot be read as YAML ({type(error).__name__}).") from error
    if not isinstance(found, dict) or not set(found) <= SECTIONS:
        raise ConfigError(f"stack_settings: {path} may hold the sections {', '.join(sorted(SECTIONS))} only.")
    for name, step in (found.get("steps") or {}).items():
        if not isinstance(step, dict) or not set(step) <= OF_A_STEP:
            raise ConfigError(f"stack_settings: {path}: steps.{name} may hold {', '.join(sorted(OF_A_STEP))} only.")
    return path
