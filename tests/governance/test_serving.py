"""The champion behind `mlflow models serve`, on the loopback address, as a user would start it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from musclelora.governance.decision import decide
from musclelora.governance.policy import Policy
from musclelora.governance.promotion import promote
from musclelora.governance.registry import register
from musclelora.governance.tracking import start_run
from musclelora.training.defended_model import DefendedModel
from tests.governance.conftest import PROBES
from tests.governance.reports import LABELS, a_report

WAIT_SECONDS = 120


@pytest.mark.slow
def test_the_champion_is_served_over_http(store: str, tiny_model: DefendedModel, tmp_path: Path) -> None:
    version, verified = register(
        tiny_model,
        decide(a_report(), Policy()),
        a_report(),
        name="reviews",
        tracking_uri=store,
        run_id=start_run(store, "quickstart", "run", {}),
        input_example=PROBES[:1],
        probe_texts=PROBES,
        tags={},
        files={},
    )
    promote("reviews", version.version, store, verified)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/reviews@champion"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    log = tmp_path / "server.log"

    with log.open("w") as output:
        server = subprocess.Popen(
            command,
            env={
                **os.environ,
                "MLFLOW_TRACKING_URI": store,
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # of uvicorn
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_until_up(f"http://127.0.0.1:{port}/ping", server, log)
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/invocations",
                data=json.dumps({"inputs": ["a good film", "good " * 100]}).encode(),
                headers={"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
                answer = json.load(response)
        finally:
            os.killpg(server.pid, signal.SIGTERM)  # the command starts the server as its child
            server.wait(timeout=30)

    (tmp_path / "answer.json").write_text(json.dumps(answer))
    assert [sorted(row) for row in answer["predictions"]] == [["label", "score"]] * 2
    assert {row["label"] for row in answer["predictions"]} <= set(LABELS)
    assert all(0.5 <= row["score"] <= 1 for row in answer["predictions"])


def wait_until_up(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2):  # noqa: S310
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"The server did not come up:\n{log.read_text()[-3000:]}")
