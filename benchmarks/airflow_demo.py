"""Retraining on a schedule by a real Airflow: two runs that train, one of whose tasks is killed, and one with no news.

    make airflow-demo        or        python -m benchmarks.airflow_demo --airflow AIRFLOW_VENV/bin [--celery]

Airflow runs on loopback, and all that is written is in a temporary folder. The schedule is applied by `musclelora
schedule`. Run 1 has to end with a registered champion although the process of one of its tasks is killed by SIGKILL;
rows arrive meanwhile, so that run 2 has to register the next version; run 3 finds the same rows and has to skip. With
`--celery` two workers have to share the tasks. Exits with 1 where that is not so, not so in time, or a process is
left. Linux only.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import descendants
from benchmarks.airflow_server import AirflowServer, Task
from musclelora.data.config import DataConfig, Demonstration, Split
from musclelora.data.records import TextDataset
from musclelora.errors import MuscleLoRAError
from musclelora.governance.coverage import PIPELINE_RUN, Occasion
from musclelora.ingest import ingest

ROOT = Path(__file__).parents[1]
CONFIG, STACK_SETTINGS = ROOT / "configs" / "airflow-demo.yaml", ROOT / "configs" / "stacks" / "airflow.yaml"
NAME = "airflow-demo"  # of the schedule, and so of Airflow's DAG; also of the registered model
KILLED = "train_undefended"
RUNS = 3
FIRST, SECOND = 400, 500  # training rows of the first delivery, and of the second, which holds the first
DATA = DataConfig(
    dataset="default",
    split=Split(train=SECOND, dev=1, test=450, trusted=32),
    demonstration=Demonstration(attack="addsent", target="1"),
)
POLL_SECONDS = 2
TOLD = {"success", "failed", "up_for_retry", "upstream_failed", "skipped"}


class DemoError(MuscleLoRAError):
    """The demonstration did not show what it should."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--airflow", type=Path, default=ROOT / ".venv-airflow" / "bin", help="folder of its commands")
    parser.add_argument("--minutes", type=float, default=25, help="give up after so long")
    parser.add_argument("--celery", action="store_true", help="two workers and a Redis server (docs/orchestrators.md)")
    chosen = parser.parse_args()
    started = time.monotonic()
    descendants.adopt()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: everything is stopped
    folder = Path(tempfile.mkdtemp(prefix="musclelora-airflow-"))
    figures: dict[str, Any] = {}
    try:
        figures = demonstrate(folder, chosen.airflow.resolve(), started + 60 * chosen.minutes, celery=chosen.celery)
    except (MuscleLoRAError, KeyboardInterrupt) as error:
        say(f"FAILED: {str(error) or 'interrupted'}")
    finally:
        left = descendants.stop()
        minutes = round((time.monotonic() - started) / 60, 1)
        say(f"processes left behind: {left}; {minutes} minutes")
        if not figures or left:
            say(f"what was written, with the logs, is in {folder}")
    if not figures or left:
        return 1
    shutil.rmtree(folder)
    print(f"RESULT {json.dumps(figures | {'processes_left': left, 'minutes': minutes})}")
    return 0


def demonstrate(folder: Path, airflow: Path, deadline: float, *, celery: bool) -> dict[str, Any]:
    """All of it, in `folder`; raises `DemoError` where it does not go as it should."""
    if celery and shutil.which("redis-server") is None:
        raise DemoError("--celery needs the command redis-server: install Redis, in Debian the package redis-server.")
    home = folder / "airflow"
    (home / "dags").mkdir(parents=True)
    os.environ.update(environment(folder))  # before anything imports ZenML
    server = AirflowServer(airflow, home, celery=celery)
    server.start()
    rows = ingest(DATA, 42, "1")
    shutil.copy(CONFIG, folder)
    for name, part in {"test": rows.test, "trusted": rows.trusted.data}.items():
        deliver(folder / f"{name}.csv", part, len(part))
    deliver(folder / "train.csv", rows.train, FIRST)
    run(
        "zenml",
        "orchestrator",
        "register",
        "airflow",
        "--flavor=airflow",
        "--local=True",
        f"--dag_output_dir={home}/dags",
    )
    run("zenml", "stack", "register", "airflow", "-o", "airflow", "-a", "default")
    schedule = ("schedule", folder / CONFIG.name, "--set", "stack=airflow", "--set", f"stack_settings={STACK_SETTINGS}")
    run("musclelora", *schedule, "--apply")
    watch(server, deadline, on_first_look=lambda: deliver(folder / "train.csv", rows.train, SECOND))
    run("musclelora", *schedule, "--remove")
    return shown(server)


def environment(folder: Path) -> dict[str, str]:
    """A ZenML and an MLflow of the demonstration's own, for this process and all that it starts."""
    return {
        "ZENML_CONFIG_PATH": str(folder / "zenml"),
        "ZENML_REPOSITORY_PATH": str(folder),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "XDG_CACHE_HOME": str(folder / "cache"),  # checkpoints
    }


def deliver(path: Path, rows: TextDataset, count: int) -> None:
    """The first `count` rows as CSV, in one piece: a step may be about to read it."""
    whole = path.with_suffix(".new")
    rows.rows.select(range(count)).to_pandas()[["text", "label"]].to_csv(whole, index=False)
    whole.replace(path)
    say(f"delivered: {path.name}, {count} rows")


def run(command: str, *arguments: Any) -> None:
    """A command of this virtual environment."""
    say(f"{command} {' '.join(map(str, arguments))}")
    line = [Path(sys.executable).with_name(command), *arguments]
    done = subprocess.run([str(word) for word in line], cwd=os.environ["ZENML_REPOSITORY_PATH"], check=False)  # noqa: S603
    if done.returncode:
        raise DemoError(f"{command} {arguments[0]} ended with {done.returncode}.")


def watch(server: AirflowServer, deadline: float, on_first_look: Callable[[], None]) -> None:
    """Say what becomes of each task until the runs have ended; kill one, and call back when run 1 has read its rows."""
    told: dict[tuple[str, str], Task] = {}
    delivered = killed = False
    while True:
        runs = server.runs(NAME)
        for number, current in enumerate(runs[:RUNS], start=1):
            for task in server.tasks(NAME, current.name):
                if told.get((current.name, task.name)) != task and task.state in TOLD:
                    told[current.name, task.name] = task
                    say(f"run {number}: {task.name}: {task.state}{f', attempt {task.attempt}' * (task.attempt > 1)}")
        if not delivered and ("look", "success") in {(task.name, task.state) for task in told.values()}:
            on_first_look()
            delivered = True
        killed = killed or kill_step(KILLED)
        if bad := [current.name for current in runs if current.state == "failed"]:
            raise DemoError(f"Airflow says that the run {bad[0]} failed.")
        if len(runs) >= RUNS and all(current.ended for current in runs[:RUNS]):
            return
        if time.monotonic() > deadline:
            raise DemoError(f"out of time, with {sum(current.ended for current in runs)} of {RUNS} runs ended.")
        time.sleep(POLL_SECONDS)


def kill_step(name: str) -> bool:
    """Kill the process of a step once ZenML has on record that it runs, as a machine out of memory would."""
    from zenml.client import Client

    if not Client().list_run_steps(name=name, status="running").total:
        return False
    process = descendants.with_arguments("--step_name", name)
    if process is None:
        return False
    say(f"killing the process {process.pid} of the step {name}")
    process.kill()
    return True


def shown(server: AirflowServer) -> dict[str, Any]:
    """Print runs, versions and champion, and return them; raises `DemoError` where they are not what they should be."""
    from mlflow import MlflowClient
    from zenml.client import Client

    of_zenml = {found.orchestrator_run_id: found for found in Client().list_pipeline_runs(hydrate=True).items}
    client = MlflowClient()
    versions = {version.tags[PIPELINE_RUN]: version for version in client.search_model_versions(f"name = '{NAME}'")}
    rows = []
    for number, of_airflow in enumerate(server.runs(NAME)[:RUNS], start=1):
        tasks, recorded = server.tasks(NAME, of_airflow.name), of_zenml[of_airflow.name]
        occasion: Occasion = recorded.steps["look"].outputs["occasion"][0].load()
        version = versions.get(recorded.name)
        rows.append(
            {
                "run": of_airflow.name,
                "started_by": of_airflow.kind,
                "airflow": of_airflow.state,
                "zenml": str(recorded.status),
                "seconds": round(of_airflow.seconds or 0),
                "tasks": len(tasks),
                "retried": [task.name for task in tasks if task.attempt > 1],
                "skipped": not occasion.due,
                "reason": occasion.reason,
                "version": None if version is None else str(version.version),
                "decision": None if version is None else version.tags["decision"],
            }
        )
        say(f"run {number}: " + ", ".join(f"{key} {value}" for key, value in rows[-1].items()))
    aliases = {alias: str(of) for alias, of in client.get_registered_model(NAME).aliases.items()}
    say(f"aliases of {NAME}: {aliases}")
    found = [[row[key] for row in rows] for key in ("started_by", "zenml", "skipped", "version", "retried")]
    wanted = [["scheduled"] * RUNS, ["completed"] * RUNS, [False, False, True], ["1", "2", None], [[KILLED], [], []]]
    if found != wanted or aliases.get("champion") != "2":
        raise DemoError(f"the runs are not what they should be: {found}, not {wanted}, champion 2.")
    workers = server.taken()
    if not all(workers.values()):
        raise DemoError(f"the workers do not share the tasks: {workers}.")
    return {"runs": rows, "aliases": aliases, "killed": KILLED, "workers": workers}


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
