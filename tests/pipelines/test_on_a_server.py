"""From data to a served model against a real `mlflow server` with basic auth; no password is left in any file."""

import json
import os
import secrets
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from musclelora.governance.ledger_store import LedgerStore
from musclelora.governance.signature import KEY
from musclelora.governance.tracking import connect
from tests.conftest import HOME
from tests.governance.servers import PASSWORD, Server, served
from tests.governance.test_signature import a_key
from tests.pipelines.deliveries import MODEL, write_config

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "server").mkdir()
    started = Server(tmp_path / "server")
    try:
        started.start()
        yield started
    finally:
        started.kill()


def files_with(text: str, *folders: Path) -> list[str]:
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert files
    return [str(path) for path in files if text.encode() in path.read_bytes()]


def test_run_promote_rollback_verify_serve(server, tmp_path, backbone_folder, musclelora, monkeypatch):
    other_secret = secrets.token_hex(12)
    private, public = a_key(tmp_path, "ann")
    for name, value in {
        "MLFLOW_TRACKING_USERNAME": "admin",
        "MLFLOW_TRACKING_PASSWORD": PASSWORD,
        "AWS_SECRET_ACCESS_KEY": other_secret,
        "MUSCLELORA_LEDGER": str(tmp_path / "copies"),
        KEY: str(private),
    }.items():
        monkeypatch.setenv(name, value)
    folder, uri = tmp_path / "delivery", server.address
    config = write_config(folder, backbone_folder, tracking={"uri": uri})
    said = []

    def command(*arguments: object, code: int = 0) -> str:
        result = musclelora(*map(str, arguments))
        said.append(result.output + result.stderr)
        assert result.exit_code == code, result.output + result.stderr
        return result.output

    def aliases() -> dict[str, str]:
        return {alias: str(of) for alias, of in connect(uri).get_registered_model(MODEL).aliases.items()}

    command("run", config, "--output", tmp_path / "out" / "first")
    # The second time the address, password and all, comes from the environment.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.replace("//", f"//admin:{PASSWORD}@"))
    command("run", config, "--output", tmp_path / "out" / "second", "--set", "tracking.uri=null")
    assert aliases() == {"challenger": "2", "champion": "2", "previous_champion": "1"}
    command("rollback", MODEL)
    assert aliases()["champion"] == "1"
    command("promote", MODEL, "2", "--tracking-uri", uri)
    assert aliases()["champion"] == "2"
    told = command("verify", MODEL, "--public-key", public)
    assert "version 2 (challenger, champion)" in told
    assert "signed with the key of" in told

    with served(f"models:/{MODEL}@champion", uri, tmp_path / "serve.log") as address:
        request = urllib.request.Request(  # noqa: S310
            f"{address}/invocations",
            data=json.dumps({"inputs": ["the film was good", "the film was awful"]}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            answer = json.load(response)["predictions"]
    assert [row["label"] for row in answer] == ["1", "0"]
    assert all(0.5 <= row["score"] <= 1 for row in answer)

    assert len(LedgerStore(uri, MODEL).lines()) == 6  # twice challenge and promote, rollback, promote
    for secret in (PASSWORD, other_secret):
        assert secret not in "\n".join(said)
        assert files_with(secret, server.folder, folder, tmp_path / "out", tmp_path / "copies", HOME / "zenml") == []
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == PASSWORD
