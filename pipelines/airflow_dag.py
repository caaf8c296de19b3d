"""A DAG for Airflow 3 whose tasks are processes on the worker: no Docker. Each ZenML step is one BashOperator.

ZenML's Airflow orchestrator reads this module's classes (`custom_dag_generator: pipelines.airflow_dag`), and puts the
file itself as `dag.py` into the zip that Airflow loads, beside `config.json`: there it must do without ZenML.
"""

import os
import shlex
import sys
import zipfile
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, Field

CONFIG_FILENAME = "config.json"
ENV_ZENML_AIRFLOW_RUN_ID = "ZENML_AIRFLOW_RUN_ID"
# What a step takes from the shell that applied the schedule; all else is the environment of the Airflow worker.
PASSED_ON = ("PYTHONPATH", "ZENML_CONFIG_PATH", "ZENML_REPOSITORY_PATH", "HF_HUB_OFFLINE", "OMP_NUM_THREADS")


class TaskConfiguration(BaseModel):
    """One step. `docker_image` and the operator are what ZenML would use with Docker."""

    id: str
    zenml_step_name: str
    upstream_steps: list[str]
    docker_image: str
    command: list[str]
    arguments: list[str]
    environment: dict[str, str] = {}
    operator_source: str
    operator_args: dict[str, Any] = {}


def passed_on() -> dict[str, str]:
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}


class DagConfiguration(BaseModel):
    """One schedule: its tasks, when they run, and the Python and environment of who applied it."""

    id: str
    tasks: list[TaskConfiguration]
    local_stores_path: str | None = None
    schedule: timedelta | str
    start_date: datetime
    end_date: datetime | None = None
    catchup: bool = False
    tags: list[str] = []
    dag_args: dict[str, Any] = {}
    python: str = Field(default_factory=lambda: sys.executable)
    environment: dict[str, str] = Field(default_factory=passed_on)

    def bash(self, task: TaskConfiguration) -> str:
        """The command line of a step."""
        python, *rest = [*task.command, *task.arguments]
        return shlex.join([self.python if python == "python" else python, *rest])

    def variables(self, task: TaskConfiguration) -> dict[str, str]:
        """The environment of a step; the run id is filled in by Airflow."""
        return {**self.environment, **task.environment, ENV_ZENML_AIRFLOW_RUN_ID: "{{ run_id }}"}


def _in_zip() -> zipfile.ZipFile | None:
    """The zip that this file is in; None where it was imported as a module."""
    path = os.path.dirname(__file__)
    return zipfile.ZipFile(path) if os.path.isfile(path) else None


if archive := _in_zip():
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import DAG

    config = DagConfiguration.model_validate_json(archive.read(CONFIG_FILENAME))
    with DAG(
        dag_id=config.id,
        schedule=config.schedule,
        start_date=config.start_date,
        end_date=config.end_date,
        catchup=config.catchup,
        tags=config.tags,
        max_active_runs=1,  # a retraining that is still going is not started twice
        is_paused_upon_creation=False,
        **config.dag_args,
    ) as dag:
        operators = {}
        for task in config.tasks:
            operators[task.zenml_step_name] = BashOperator(
                task_id=task.id,
                bash_command=config.bash(task),
                env=config.variables(task),
                append_env=True,
                **task.operator_args,
            )
            for upstream in task.upstream_steps:
                operators[task.zenml_step_name].set_upstream(operators[upstream])
