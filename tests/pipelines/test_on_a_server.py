"""From data to a served model against a real `mlflow server` with basic auth; no password is left in any file.

Once on SQLite with the artifacts of the server's own disk, once on PostgreSQL with the artifacts in an S3 store, whose
keys the client has.
"""

import json
import os
import secrets
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from musclelora.governance.ledger_store import LedgerStore
from musclelora.governance.signature import KEY
from musclelora.governance.tracking import connect
from tests.conftest import HOME
from tests.governance.servers import PASSWORD, Server, served
from tests.governance.stores import POSTGRES, ObjectStore, object_store, postgresql, tables_of
from tests.governance.test_signature import a_key
from tests.pipelines.deliveries import MODEL, write_config

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Place:
    """A server and what it keeps things in; `secrets` are not to be found anywhere."""

    server: Server
    secrets: list[str]
    environment: dict[str, str]
    objects: ObjectStore | None = None

    def lay_open(self) -> list[Path]:
        """Where all that the server keeps lies, in files that can be searched."""
        folder = self.server.folder
        if self.objects is None:
            return [folder / "artifacts", folder / "mlflow.db"]
        self.objects.download(folder / "objects")
        tables_of(self.server.database, folder / "tables")
        return [folder / "objects", folder / "tables"]


@pytest.fixture(params=["SQLite and files", "PostgreSQL and S3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    folder = tmp_path / "server"
    folder.mkdir()
    with ExitStack() as running:
        if request.param == "SQLite and files":
            secret = secrets.token_hex(12)
            made = Place(Server(folder), [PASSWORD, secret], {"AWS_SECRET_ACCESS_KEY": secret})
        else:
            if not (POSTGRES / "pg_ctl").exists():
                pytest.skip("PostgreSQL is not installed")
            pytest.importorskip("psycopg2")
            database, objects = running.enter_context(postgresql()), running.enter_context(object_store(folder))
            made = Place(
                Server(folder, database=database, artifacts=f"s3://{objects.bucket}/mlflow"),
                [PASSWORD, str(urlsplit(database).password), objects.environment["AWS_SECRET_ACCESS_KEY"]],
                objects.environment,
                objects,
            )
        running.callback(made.server.kill)
        made.server.start()
        yield made


def files_with(text: str, *folders: Path) -> list[str]:
    files = [path for folder in folders for path in (folder, *folder.rglob("*")) if path.is_file()]
    assert files
    return [str(path) for path in files if text.encode() in path.read_bytes()]


def test_run_promote_rollback_verify_serve(place, tmp_path, backbone_folder, musclelora, monkeypatch):
    private, public = a_key(tmp_path, "ann")
    for name, value in {
        "MLFLOW_TRACKING_USERNAME": "admin",
        "MLFLOW_TRACKING_PASSWORD": PASSWORD,
        **place.environment,
        "MUSCLELORA_LEDGER": str(tmp_path / "copies"),
        KEY: str(private),
    }.items():
        monkeypatch.setenv(name, value)
    folder, uri = tmp_path / "delivery", place.server.address
    config = write_config(folder, backbone_folder, tracking={"uri": uri})
    said = []

    def command(*arguments: object, code: int = 0) -> str:
        result = musclelora(*map(str, arguments))
        said.append(result.output + result.stderr)
        assert result.exit_code == code, said[-1]
        return said[-1]

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

    if place.objects is not None:  # the database itself as the address, password and all
        monkeypatch.setenv("MLFLOW_TRACKING_URI", place.server.database)
        assert "version 2 (challenger, champion)" in command("verify", MODEL)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{place.server.database}-none")
        assert "-none cannot be used" in command("verify", MODEL, code=1)

    assert len(LedgerStore(uri, MODEL).lines()) == 6  # twice challenge and promote, rollback, promote
    (tmp_path / "said.log").write_text("\n".join(said), encoding="utf-8")
    for kept in place.lay_open():
        assert files_with(MODEL, kept), kept
    for secret in place.secrets:
        assert files_with(secret, tmp_path, HOME / "zenml") == []
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == PASSWORD
