"""Each step as a process of its own, by ZenML's entry point, with only artifacts between them: the same outputs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from zenml.client import Client
from zenml.config.global_config import GlobalConfiguration
from zenml.enums import ExecutionStatus, StackComponentType

from tests.pipelines.deliveries import write_config

ROOT = Path(__file__).parents[2]
# The version's number and its MLflow run are new each time, and so is what names them.
NEW_EACH_TIME = {"registered_version", "vouching"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, backbone_folder):
    folder = tmp_path_factory.mktemp("alone")
    (folder / "dags").mkdir()
    gate = {"max_asr": 1.0, "max_asr_over_floor": None, "min_cacc": 0.3, "max_cacc_drop": 1.0, "min_control_asr": 0.0}
    gate |= {"min_triggered_rows": 50, "max_cacc_drop_from_champion": 0.1}
    write_config(
        folder,
        backbone_folder,
        evaluation={"attacks": ["badnets"], "target": "1"},
        gate=gate,
        recipe={"name": "none", "preset": "bert-base", "learning_rate": 5e-3, "epochs": 4, "precision": "fp32"},
        schedule={"cron": "30 2 * * *"},
        stack_settings=str(ROOT / "configs" / "stacks" / "airflow.yaml"),
    )
    return folder


@pytest.fixture(scope="module")
def in_one_process(folder, musclelora):
    """A stored run of ZenML's local orchestrator: all steps in this process."""
    result = musclelora("retrain", folder / "run.yaml", "--output", folder / "out", "--set", "stack_settings=null")
    assert result.exit_code == 0, result.stderr
    return Client().list_pipeline_runs(sort_by="desc:created", hydrate=True).items[0]


@pytest.fixture(scope="module")
def in_many(folder, musclelora, in_one_process):
    """The same by Airflow's orchestrator, played step by step; with another store, so that nothing is in the cache."""
    client, name = Client(), "alone"
    store = {"path": str(Path(GlobalConfiguration().local_stores_path) / name)}
    dags = {"local": True, "dag_output_dir": str(folder / "dags")}
    client.create_stack_component(name, "local", StackComponentType.ARTIFACT_STORE, store)
    client.create_stack_component(name, "airflow", StackComponentType.ORCHESTRATOR, dags)
    client.create_stack(name, {StackComponentType.ORCHESTRATOR: name, StackComponentType.ARTIFACT_STORE: name})
    options = ("--set", f"stack={name}", "--set", "registry.name=another")
    applied = musclelora("schedule", folder / "run.yaml", "--apply", *options)
    assert applied.exit_code == 0, applied.stderr
    command = [sys.executable, "-m", "tests.pipelines.step_by_step", str(folder / "dags" / "tiny.zip"), "scheduled-1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    run = client.list_pipeline_runs(sort_by="desc:created", hydrate=True).items[0]
    assert run.id != in_one_process.id
    return run


def values_of(run):
    """The hash of each output's value, by step and name."""
    return {
        (name, output): artifact.content_hash
        for name, step in run.steps.items()
        for output, [artifact] in step.outputs.items()
        if output not in NEW_EACH_TIME
    }


def test_every_step_ran_by_itself_and_came_from_no_cache(in_many, in_one_process):
    assert in_many.status == ExecutionStatus.COMPLETED
    assert set(in_many.steps) == set(in_one_process.steps)
    assert {step.status for step in in_many.steps.values()} == {ExecutionStatus.COMPLETED}


def test_every_step_alone_makes_what_it_makes_in_one_process(in_many, in_one_process):
    alone, together = values_of(in_many), values_of(in_one_process)
    hashed = {key for key, value in together.items() if value is not None}
    assert len(hashed) >= 12
    assert {key: alone[key] for key in hashed} == {key: together[key] for key in hashed}


def test_its_last_word_is_a_champion(in_many):
    registered = in_many.steps["register"].outputs["registered_version"][0].load()
    assert (registered.name, registered.version, registered.aliases) == ("another", "1", ["challenger", "champion"])
