"""A real `mlflow server` with basic auth on the loopback address: promote, roll back, verify, and lose the server."""

import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from werkzeug.security import generate_password_hash

from musclelora.errors import RegistryError
from musclelora.governance.ledger_store import LedgerStore
from musclelora.governance.promotion import promote, rollback
from musclelora.governance.tracking import connect
from musclelora.governance.verification import verify_ledger, verify_version
from tests.governance.conftest import a_version, aliases, promote_together
from tests.governance.reports import a_report
from tests.governance.test_serving import wait_until_up

NAME = "reviews"
PASSWORD = secrets.token_hex(12)
pytestmark = pytest.mark.slow


class Server:
    """`mlflow server` on one port; can be killed and started again on the same database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"http://127.0.0.1:{free.getsockname()[1]}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        database = f"sqlite:///{self.folder}/mlflow.db"
        command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", self.address.rpartition(":")[2], "--backend-store-uri", database]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        settings = {"MLFLOW_FLASK_SERVER_SECRET_KEY": "x", "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD}
        log = self.folder / "server.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={
                    **os.environ,
                    **settings,
                    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until_up(f"{self.address}/health", self.process, log)
        with closing(sqlite3.connect(self.folder / "basic_auth.db")) as users:
            # MLflow computes the hash anew for every request, which takes most of a second on a busy machine.
            cheap = generate_password_hash(PASSWORD, method="pbkdf2:sha256:1")
            assert users.execute("UPDATE users SET password_hash = ?", [cheap]).rowcount == 1
            users.commit()

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)  # the command starts the server as its child
            self.process.wait(timeout=30)
            self.process = None


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A running server; this process knows its password from the environment, as a user's does."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MUSCLELORA_LEDGER", str(tmp_path / "copies"))
    (tmp_path / "server").mkdir()
    started = Server(tmp_path / "server")
    try:
        started.start()
        yield started
    finally:
        started.kill()


def test_promotions_on_a_server_with_passwords_that_is_killed_in_between(server: Server, tmp_path: Path) -> None:
    uri = server.address
    first = a_version(uri, NAME, a_report(), tmp_path / "made")
    promote(NAME, first, uri)
    made = connect(uri).get_model_version(NAME, first)
    tags = {key: value for key, value in made.tags.items() if not key.startswith("ledger.")}
    versions = [
        str(connect(uri).create_model_version(NAME, made.source, run_id=made.run_id, tags=tags).version)
        for _ in range(20)
    ]

    outcomes = promote_together(uri, NAME, versions, verify_version(NAME, first, uri))

    [winner] = [version for version, outcome in outcomes.items() if outcome == "promoted"]
    told = [outcome for outcome in outcomes.values() if "Another promotion came first" in outcome]
    assert len(told) == 19, outcomes
    assert aliases(uri) == {"champion": winner, "previous_champion": first}
    assert verify_ledger(NAME, uri) == 2

    rollback(NAME, uri)
    assert aliases(uri) == {"champion": first, "previous_champion": winner}
    server.kill()
    with pytest.raises(RegistryError, match="failed to"):
        promote(NAME, winner, uri)
    server.start()
    assert verify_ledger(NAME, uri) == 3
    promote(NAME, winner, uri)
    assert aliases(uri) == {"champion": winner, "previous_champion": first}

    lines = "\n".join(LedgerStore(uri, NAME).local.lines())
    assert LedgerStore(uri, NAME).local.path.is_relative_to(tmp_path / "copies")
    assert "admin@" in lines
    assert PASSWORD not in lines
