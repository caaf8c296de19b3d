"""An Airflow 3 of one's own in a folder, on loopback only, and what its public API says of a DAG.

`airflow standalone` would start the same, but its servers of logs listen on every interface: so its parts are started
one by one, without those, and without the triggerer, which waits for what none of our tasks waits for. With Celery,
two workers take the tasks from a Redis server, as they would on two hosts.
"""

import json
import os
import secrets
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

PARTS = ("scheduler", "--skip-serve-logs"), ("dag-processor",), ("api-server",)
WORKERS = "worker-1", "worker-2"


class Task(NamedTuple):
    """A task of a run; `attempt` is 1 where it was started once."""

    name: str
    state: str | None
    attempt: int


class Run(NamedTuple):
    """A run of a DAG; `kind` is `scheduled` where Airflow's own clock started it."""

    name: str
    state: str
    kind: str
    seconds: float | None

    @property
    def ended(self) -> bool:
        return self.state in {"success", "failed"}


class AirflowServer:
    """`commands` is the `bin` of Airflow's virtual environment, `home` its AIRFLOW_HOME, with a log of each part.

    `celery` needs Airflow's Celery provider in that environment, and the command `redis-server`.
    """

    def __init__(self, commands: Path, home: Path, *, celery: bool = False) -> None:
        self._commands, self._home, self._redis_port = commands, home, _free_port() if celery else None
        port = _free_port()
        self.address = f"http://127.0.0.1:{port}"
        self._settings = {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__API__BASE_URL": self.address,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.address}/execution/",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "1",  # ZenML's records are in SQLite: one task at a time
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",  # the API asks for no password
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }
        if self._redis_port is not None:
            redis = f"redis://127.0.0.1:{self._redis_port}"
            self._settings |= {
                "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
                "AIRFLOW__CELERY__BROKER_URL": f"{redis}/0",
                "AIRFLOW__CELERY__RESULT_BACKEND": f"{redis}/1",
                "AIRFLOW__CELERY__WORKER_CONCURRENCY": "1",
            }

    def start(self) -> None:
        """Make the database, then start the parts, each in a session of its own so that Ctrl-C reaches us alone."""
        self._start("migration", self._commands / "airflow", "db", "migrate").wait()
        for part in PARTS:
            self._start(part[0], self._commands / "airflow", *part)
        if self._redis_port is not None:
            self._start("redis", "redis-server", "--bind", "127.0.0.1", "--port", str(self._redis_port), "--save", "")
            for name in WORKERS:
                worker = "celery", "worker", "--celery-hostname", f"{name}@%h", "--skip-serve-logs"
                self._start(name, self._commands / "airflow", *worker)

    def _start(self, name: str, *command: str | Path) -> subprocess.Popen[bytes]:
        # PYTHONPATH is for this project's Python, whose packages are not Airflow's.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | self._settings
        with (self._home / f"{name}.log").open("wb") as log:
            return subprocess.Popen(  # noqa: S603
                command, cwd=self._home, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def taken(self) -> dict[str, int]:
        """How many tasks each Celery worker took; empty without Celery."""
        logs = {name: self._home / f"{name}.log" for name in WORKERS if self._redis_port is not None}
        lines = {name: log.read_text("utf-8").splitlines() for name, log in logs.items()}
        return {
            name: sum("execute_workload" in line and "received" in line for line in of) for name, of in lines.items()
        }

    def runs(self, dag: str) -> list[Run]:
        """All runs of the DAG, the oldest first; none as long as Airflow does not know it yet, or does not answer."""
        found = self._get(f"dags/{quote(dag)}/dagRuns?order_by=run_after&limit=100")
        return [
            Run(run["dag_run_id"], run["state"], run["run_type"], run.get("duration"))
            for run in found.get("dag_runs", [])
        ]

    def tasks(self, dag: str, run: str) -> list[Task]:
        found = self._get(f"dags/{quote(dag)}/dagRuns/{quote(run)}/taskInstances?limit=100")
        return [Task(task["task_id"], task["state"], task["try_number"]) for task in found.get("task_instances", [])]

    def _get(self, path: str) -> dict[str, Any]:
        """The answer of the API; empty where there is none yet."""
        try:
            with urllib.request.urlopen(f"{self.address}/api/v2/{path}", timeout=20) as reply:  # noqa: S310 (loopback)
                answer: dict[str, Any] = json.load(reply)
                return answer
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return {}
            raise
        except (urllib.error.URLError, TimeoutError):
            return {}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
