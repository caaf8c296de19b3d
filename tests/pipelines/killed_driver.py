"""Runs of `musclelora run` that are killed with SIGKILL at one place each: forked, so that the imports are paid once.

`python -m tests.pipelines.killed_driver run.yaml OUTPUT`: one line of JSON per place on the standard output.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

import steps.compare
import steps.decide
import steps.enforce
import steps.evaluate
import steps.ingest
import steps.register
import steps.train
import steps.validate
from musclelora import ingest
from pipelines.cli import main

# Where the kill falls: what is called there, and whether it is still done. In the order in which a run comes by.
PLACES: dict[str, tuple[Any, str, bool]] = {
    "ingest, while reading": (ingest, "read_table", False),
    "validate, after it": (steps.validate.suite, "validate", True),
    "train, after the first model": (steps.train.fit, "train", True),
    "evaluate, after it": (steps.evaluate, "evaluate_robustness", True),
    "compare, while the champion is fetched": (steps.compare, "fetch_champion", False),
    "decide, after it": (steps.decide.decision, "decide", True),
    "register, when the version is made": (MlflowClient, "create_model_version", True),
    "register, when a line of the ledger is written": (MlflowClient, "log_param", True),
    "enforce": (steps.enforce, "enforce_decision", False),
}


def killed_in(real: Callable[..., Any], done: bool) -> Callable[..., Any]:
    """The call, at which this process is killed."""

    def call(*given: Any, **named: Any) -> Any:
        if done:
            real(*given, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    return call


def run(config: str, output: str, place: str | None) -> int:
    """The command in a process of its own; its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        if place is not None:
            owner, name, done = PLACES[place]
            setattr(owner, name, killed_in(getattr(owner, name), done))
        try:
            main(["run", config, "--output", output], standalone_mode=False)
        except SystemExit as left:
            os._exit(int(left.code or 0))
        os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    for number, place in enumerate([*PLACES, None]):
        status = run(sys.argv[1], f"{sys.argv[2]}/{number}", place)
        sys.stdout.write(json.dumps({"place": place, "status": status}) + "\n")
        sys.stdout.flush()
        if sys.stdin.readline() == "":  # whoever asked looks at what is left, then says go on
            break
    Path(sys.argv[2], "end").touch()
