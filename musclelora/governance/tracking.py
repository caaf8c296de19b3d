"""MLflow tracking with an explicit address: no global state is read or changed, so any process may call any function.

Metrics of a run: `cacc`, `asr.<attack>`, `asr_upper95.<attack>`, `asr_floor.<attack>`, `robust_accuracy.<attack>`,
`robust_accuracy_lower95.<attack>` of the candidate; the same with `drill.` before them for drills, and with the role
(`undefended.`) for comparisons; `asr_worst` and `asr_upper95_worst` over the candidate and the drills.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunStatus, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from musclelora.errors import ConfigError, RegistryError
from musclelora.evaluation.report import RobustnessReport
from musclelora.governance.decision import GateDecision
from musclelora.governance.metrics import report_metrics

if TYPE_CHECKING:  # torch and peft would come with it, and whoever only asks the registry need not wait for them
    from musclelora.training.defended_model import TrainingRecord

RUN_NAME = "musclelora.run_name"
TRAINING = "musclelora.training"  # which training of which pipeline run
_PARAM_LENGTH = 6000  # mlflow.utils.validation.MAX_PARAM_VAL_LENGTH
_DIGEST_LENGTH = 36  # the column `datasets.digest` of the store
_PARAMS_PER_BATCH = 100
_METRICS_PER_BATCH = 1000


def default_tracking_uri() -> str:
    """The address of MLflow where none is given: of the environment, else a database in the working folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').resolve()}"


def connect(tracking_uri: str) -> MlflowClient:
    """A client whose tracking server is also its registry."""
    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


def registered_aliases(name: str, tracking_uri: str) -> dict[str, str]:
    """Version by alias, as the registry has them."""
    with mlflow_errors(tracking_uri, f"find {name!r}"):
        return {alias: str(of) for alias, of in connect(tracking_uri).get_registered_model(name).aliases.items()}


def version_with_alias(name: str, alias: str, tracking_uri: str) -> ModelVersion | None:
    """The version of `name` with that alias; None where there is no such alias, or no such model yet."""
    try:
        return connect(tracking_uri).get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise


@contextmanager
def mlflow_errors(tracking_uri: str, doing: str) -> Iterator[None]:
    """Turn what MLflow, its database and its artifact store raise into a `RegistryError` without credentials."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, (MlflowException, SQLAlchemyError, OSError)) and not _of_an_object_store(error):
            raise
        shown = without_credentials(tracking_uri)
        # A chained traceback would show the address with its password.
        raise RegistryError(
            f"MLflow at {shown} failed to {doing}: {first_line(error)}. Check that the server "
            "runs, that its disk is not full, and that you may write there."
        ) from (error if shown == tracking_uri else None)


def _of_an_object_store(error: Exception) -> bool:
    """Whether the client of S3 raised it. Its errors have no base class of their own, and it need not be installed."""
    return type(error).__module__.partition(".")[0] in {"boto3", "botocore"}


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Environment variables for the length of a block; MLflow takes its HTTP settings from nowhere else."""
    former = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in former.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def without_credentials(text: str) -> str:
    """The text with `user:password@` cut out of every address in it."""
    return re.sub(r"(?<=://)[^/\s'\"]*@", "", text)


def first_line(error: Exception) -> str:
    """The first line of an error's message, without credentials and at most 300 characters."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return without_credentials(lines[0])[:300]


def sqlite_path(tracking_uri: str) -> Path | None:
    """The database file of a `sqlite:///` address, absolute; None for any other kind. In-memory ones are refused."""
    if not tracking_uri.startswith("sqlite:"):
        return None
    database = make_url(tracking_uri).database
    if not database or database == ":memory:":
        raise ConfigError(
            f"{tracking_uri!r} names no file, and a database in memory is lost with the process: "
            "write sqlite:////absolute/path/mlflow.db."
        )
    return Path(database).absolute()


def ensure_experiment(tracking_uri: str, name: str) -> str:
    """The id of the experiment, created if it is new; with SQLite its artifacts go to `mlruns` beside the database."""
    database = sqlite_path(tracking_uri)
    location = None if database is None else str(database.parent / "mlruns")
    with mlflow_errors(tracking_uri, f"find or create the experiment {name!r}"):
        client = connect(tracking_uri)
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            try:
                return str(client.create_experiment(name, artifact_location=location))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                experiment = client.get_experiment_by_name(name)  # another process was first
    if experiment is None or experiment.lifecycle_stage == "deleted":
        raise RegistryError(f"The experiment {name!r} was deleted in MLflow: restore it there, or choose another name.")
    return str(experiment.experiment_id)


def start_run(tracking_uri: str, experiment: str, run_name: str, tags: dict[str, str]) -> str:
    """The id of the running run called `run_name` in that experiment: the one that exists, else a new one."""
    if not re.fullmatch(r"[\w .:/+-]+", run_name):
        raise ConfigError(f"The run name {run_name!r} may hold letters, digits, spaces and . : / + - _ only.")
    experiment_id = ensure_experiment(tracking_uri, experiment)
    with mlflow_errors(tracking_uri, f"start the run {run_name!r}"):
        client = connect(tracking_uri)
        found = client.search_runs([experiment_id], f"tags.`{RUN_NAME}` = '{run_name}'", max_results=1)
        if not found:
            created = client.create_run(experiment_id, tags={**tags, RUN_NAME: run_name}, run_name=run_name)
            return str(created.info.run_id)
        run_id = str(found[0].info.run_id)
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        client.update_run(run_id, status=RunStatus.to_string(RunStatus.RUNNING))
        return run_id


def finish_run(tracking_uri: str, run_id: str, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
    with mlflow_errors(tracking_uri, f"end the run {run_id}"):
        end(connect(tracking_uri), run_id, status)


def log_training(
    tracking_uri: str, parent_run_id: str, child_name: str, record: "TrainingRecord", pipeline_run: str
) -> str:
    """A finished child run with what `log_record` writes: the run that was live (`live.py`), else a new one. Its id."""
    with mlflow_errors(tracking_uri, f"log the training {child_name!r}"):
        client = connect(tracking_uri)
        experiment_id = client.get_run(parent_run_id).info.experiment_id
        tags = {"mlflow.parentRunId": parent_run_id, RUN_NAME: child_name}
        live = f"tags.`{TRAINING}` = '{training_tag(pipeline_run, child_name)}' and attributes.status = 'FINISHED'"
        found = client.search_runs([experiment_id], live, max_results=1)
        if found:
            run_id = str(found[0].info.run_id)
            client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        else:
            run_id = str(client.create_run(experiment_id, tags=tags, run_name=child_name).info.run_id)
        log_record(tracking_uri, run_id, record)
        end(client, run_id, "FINISHED")
    return run_id


def log_record(tracking_uri: str, run_id: str, record: "TrainingRecord") -> None:
    """The record's settings as flat params of a run, its curve as metrics per epoch, its frequencies per step."""
    fields = record.model_dump(
        mode="json", exclude={"curve", "frequencies", "seconds", "logit_difference", "best_epoch"}
    )
    params = [Param(key, value[:_PARAM_LENGTH]) for key, value in flat(fields)]
    now = int(time.time() * 1000)
    metrics = [
        Metric(key, value, now, epoch.epoch)
        for epoch in record.curve
        for key, value in epoch.model_dump(exclude={"epoch"}).items()
        if value is not None
    ]
    metrics += [
        Metric(key, value, now, point.step)
        for point in (record.frequencies.points if record.frequencies else [])
        for key, value in point.means.items()
        if value is not None
    ]
    metrics += [Metric(key, getattr(record, key), now, 0) for key in ("seconds", "logit_difference", "best_epoch")]
    with mlflow_errors(tracking_uri, "log a training record"):
        client = connect(tracking_uri)
        for start in range(0, len(params), _PARAMS_PER_BATCH):
            client.log_batch(run_id, params=params[start : start + _PARAMS_PER_BATCH])
        for start in range(0, len(metrics), _METRICS_PER_BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + _METRICS_PER_BATCH])


def log_dataset(tracking_uri: str, run_id: str, dataset_name: str, sha256: str, rows: int, context: str) -> None:
    """Record a dataset as an input of the run. `context` says what for: train, test, trusted.

    MLflow keeps 36 characters of a digest: the whole SHA-256 is in the profile, the source and the run tag
    `musclelora.sha256.<context>`.
    """
    dataset = Dataset(
        name=dataset_name,
        digest=sha256[:_DIGEST_LENGTH],
        source_type="local",
        source=json.dumps({"uri": dataset_name, "sha256": sha256}),
        profile=json.dumps({"num_rows": rows, "sha256": sha256}),
    )
    with mlflow_errors(tracking_uri, f"log the dataset {dataset_name!r}"):
        client = connect(tracking_uri)
        client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])
        client.set_tag(run_id, f"musclelora.sha256.{context}", sha256)


def log_report(tracking_uri: str, run_id: str, report: RobustnessReport, decision: GateDecision) -> None:
    """The report's rates as metrics (named as this module says) and the decision as tags of the run."""
    values = report_metrics(report)
    now = int(time.time() * 1000)
    tags = {
        "decision": decision.decision,
        "policy_sha256": decision.policy_sha256,
        "report_sha256": decision.report_sha256,
    }
    with mlflow_errors(tracking_uri, "log the robustness report"):
        connect(tracking_uri).log_batch(
            run_id,
            metrics=[Metric(key, value, now, 0) for key, value in values.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )


def training_tag(pipeline_run: str, part: str) -> str:
    """The value of `TRAINING`: by it a finished record finds the run that showed its curve live."""
    return f"{pipeline_run}/{part}"


def end(client: MlflowClient, run_id: str, status: str) -> None:
    """Close a run, saying nothing."""
    # MLflow prints the address of the run otherwise, password included.
    with environment(MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true"):
        client.set_terminated(run_id, status)


def flat(item: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as `outer.inner` and text."""
    for key, value in item.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
