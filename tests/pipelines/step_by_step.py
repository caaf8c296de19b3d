"""Play Airflow: run the tasks of a DAG file one after the other, each in a process of its own.

    python -m tests.pipelines.step_by_step DAG.zip RUN_ID

The processes are forks of one that has imported the libraries and done nothing else, which saves their imports.
"""

import os
import runpy
import sys
import zipfile

import great_expectations  # noqa: F401
import mlflow.transformers  # noqa: F401
import torch
import zenml.entrypoints.step_entrypoint_configuration  # noqa: F401

from pipelines import retraining  # noqa: F401
from pipelines.airflow_dag import CONFIG_FILENAME, ENV_ZENML_AIRFLOW_RUN_ID, DagConfiguration, TaskConfiguration


def main(path: str, run_id: str) -> None:
    torch.set_num_threads(1)
    with zipfile.ZipFile(path) as archive:
        dag = DagConfiguration.model_validate_json(archive.read(CONFIG_FILENAME))
    for task in dag.tasks:
        child = os.fork()
        if child == 0:
            run(dag, task, run_id)
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit(f"the task {task.id} ended with {os.waitstatus_to_exitcode(status)}")


def run(dag: DagConfiguration, task: TaskConfiguration, run_id: str) -> None:
    """What the BashOperator of that task starts; does not return."""
    os.environ.update(dag.variables(task) | {ENV_ZENML_AIRFLOW_RUN_ID: run_id})
    python, module_switch, module = task.command
    assert (python, module_switch) == ("python", "-m")
    sys.argv = [module, *task.arguments]
    code = 1
    try:
        runpy.run_module(module, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
