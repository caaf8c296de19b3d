"""Promotions against a real `mlflow server`, which is lost at every call, killed, and shared by twenty at once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from musclelora.errors import RegistryError
from musclelora.governance import registry
from musclelora.governance.decision import decide
from musclelora.governance.ledger_store import LedgerStore
from musclelora.governance.policy import Policy
from musclelora.governance.promotion import challenge, promote, rollback
from musclelora.governance.tracking import connect, start_run
from musclelora.governance.verification import verify_ledger, verify_version
from musclelora.training.defended_model import DefendedModel
from tests.governance.conftest import PROBES, a_version, aliases, promote_together
from tests.governance.reports import a_report
from tests.governance.servers import PASSWORD, Lossy, Server, When
from tests.governance.stores import needs_postgresql, postgresql

NAME = "reviews"
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def of_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process knows its password from the environment, as a user's does."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MUSCLELORA_LEDGER", str(tmp_path / "copies"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("server"))
    try:
        started.start()
        yield started
    finally:
        started.kill()


def more_versions(uri: str, name: str, like: str, count: int) -> list[str]:
    """Versions of the same files as another, in a moment."""
    made = connect(uri).get_model_version(name, like)
    tags = {key: value for key, value in made.tags.items() if not key.startswith("ledger.")}
    return [
        str(connect(uri).create_model_version(name, made.source, run_id=made.run_id, tags=tags).version)
        for _ in range(count)
    ]


# Every call that a promotion makes, in the order of its first; a test below holds this list against the real calls.
CALLS = (
    "GET registered-models/get",
    "GET model-versions/search",
    "GET runs/get",
    "GET model-versions/get",
    "POST runs/log-parameter",
    "POST model-versions/set-tag",
    "POST registered-models/alias",
)


@pytest.fixture(scope="module")
def lossy(server: Server) -> Iterator[Lossy]:
    between = Lossy(server.address)
    yield between
    between.close()


def test_the_server_lost_before_during_and_after_each_call_of_a_promotion(
    server: Server, lossy: Lossy, tmp_path: Path
) -> None:
    name, uri = "lost", server.address
    first = a_version(uri, name, a_report(), tmp_path / "made")
    promote(name, first, uri)
    cuts = [(call, when) for call in CALLS for when in get_args(When)]
    versions = more_versions(uri, name, first, len(cuts) + 1)
    lossy.restart()
    promote(name, versions[-1], lossy.address)
    asked = {"registered-models", "model-versions", "runs"}
    assert {call for call in lossy.seen if call.split(" ")[1].partition("/")[0] in asked} == set(CALLS)

    champion = versions[-1]
    for (call, when), version in zip(cuts, versions, strict=False):
        lossy.restart()
        lossy.lose_at(call, when)
        with pytest.raises(RegistryError):
            promote(name, version, lossy.address)
        assert aliases(uri, name)["champion"] in {champion, version}, (call, when)
        line = LedgerStore(uri, name).read()[-1]
        if line.aliases["champion"] != aliases(uri, name)["champion"]:
            with pytest.raises(RegistryError, match="interrupted"):
                verify_ledger(name, uri)
        lossy.restart()
        promote(name, version, lossy.address)  # the next one completes it
        assert aliases(uri, name)["champion"] == version, (call, when)
        assert verify_ledger(name, uri) >= 2
        champion = version


REGISTERING = (
    "POST registered-models/create",
    "POST model-versions/create",
    "POST model-versions/set-tag",
    "POST registered-models/alias",
)


def test_the_server_lost_before_during_and_after_each_call_that_registers(
    server: Server, lossy: Lossy, tiny_model: DefendedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is stored once, for the first; what is cut is everything that the registry is asked afterwards."""
    stored = []
    real = registry.save_and_check

    def save_and_check(*given: Any, **named: Any) -> Any:
        if not stored:
            stored.append(real(*given, **named))
        return stored[0]

    def run(name: str, uri: str) -> str:
        version, verified = registry.register(
            tiny_model,
            decide(a_report(), Policy()),
            a_report(),
            name=name,
            tracking_uri=uri,
            run_id=start_run(uri, "runs", name, {}),
            input_example=PROBES[:1],
            probe_texts=PROBES,
            tags={},
            files={},
        )
        challenge(name, version.version, uri, verified)
        promote(name, version.version, uri, verified)
        return version.version

    monkeypatch.setattr(registry, "save_and_check", save_and_check)
    lossy.restart()
    run("whole", lossy.address)
    assert set(REGISTERING) <= set(lossy.seen)
    for number, (call, when) in enumerate((call, when) for call in REGISTERING for when in get_args(When)):
        name = f"new-{number}"
        lossy.restart()
        lossy.lose_at(call, when)
        with pytest.raises(RegistryError):
            run(name, lossy.address)
        left = [
            v for v in connect(server.address).search_model_versions(f"name = '{name}'") if v.tags["status"] == "ready"
        ]
        for version in left:
            assert verify_version(name, str(version.version), server.address).decision.decision == "accepted"
        if call != REGISTERING[0]:
            assert set(aliases(server.address, name).values()) <= {str(v.version) for v in left}, (call, when)

        lossy.restart()
        newest = run(name, lossy.address)

        assert aliases(server.address, name)["champion"] == newest, (call, when)
        assert verify_ledger(name, server.address) >= 2


def test_twenty_promotions_at_once_then_rollback_and_a_server_killed_and_started_again(
    server: Server, tmp_path: Path
) -> None:
    uri = server.address
    first = a_version(uri, NAME, a_report(), tmp_path / "made")
    promote(NAME, first, uri)
    versions = more_versions(uri, NAME, first, 20)

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


@needs_postgresql
def test_promotions_on_a_server_with_postgresql(tmp_path: Path) -> None:
    pytest.importorskip("psycopg2")
    with postgresql() as database:
        server = Server(tmp_path, auth=False, database=database)
        try:
            server.start()
            uri = server.address
            first = a_version(uri, NAME, a_report(), tmp_path / "made")
            promote(NAME, first, uri)
            versions = more_versions(uri, NAME, first, 5)
            outcomes = promote_together(uri, NAME, versions, verify_version(NAME, first, uri))
            [winner] = [version for version, outcome in outcomes.items() if outcome == "promoted"]
            rollback(NAME, uri)
            assert aliases(uri) == {"champion": first, "previous_champion": winner}
            assert verify_ledger(NAME, uri) == 3
        finally:
            server.kill()
        password = database.partition("mlflow:")[2].partition("@")[0]
        written = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "basic_auth.db"]
        assert written
        assert [path for path in written if password.encode() in path.read_bytes()] == []
