"""A whole registration, cut at each call that changes the registry: what is left is told, and the next run works."""

import errno
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from musclelora.data.records import TextDataset, TrustedSet
from musclelora.errors import RegistryError
from musclelora.evaluation.report import RobustnessReport
from musclelora.governance import registry
from musclelora.governance.decision import decide
from musclelora.governance.evidence import Evidence, record_and_register
from musclelora.governance.policy import Policy
from musclelora.governance.promotion import promote
from musclelora.governance.registered import RegisteredVersion
from musclelora.governance.tracking import connect, sqlite_path
from musclelora.governance.verification import verify_ledger, verify_version
from musclelora.training.defended_model import DefendedModel
from tests.governance.conftest import PROBES, a_version, aliases
from tests.governance.reports import LABELS, a_report, a_validation, an_attack

NAME = "reviews"
ROOT = Path(__file__).parents[2]


def rows(prefix: str) -> TextDataset:
    ids = [f"{prefix}-{number}" for number in range(len(PROBES))]
    return TextDataset.from_columns({"row_id": ids, "text": PROBES, "label": [LABELS[0], LABELS[1], LABELS[1]]})


def run(
    store: str, model: DefendedModel, name: str, report: RobustnessReport | None = None, promote: bool = True
) -> RegisteredVersion:
    report = report or a_report()
    evidence = Evidence(
        models={"candidate": model},
        train=rows("train"),
        test=rows("test"),
        trusted=TrustedSet(rows("trusted"), owner="the tests"),
        validation=a_validation(),
        report=report,
        decision=decide(report, Policy()),
        pages={"robustness.html": "<p>page</p>"},
    )
    return record_and_register(
        evidence, name=NAME, promote=promote, tracking_uri=store, experiment="runs", run_name=name
    )


def test_an_accepted_version_waits_as_challenger_where_a_person_promotes(
    store: str, tiny_model: DefendedModel, tmp_path: Path
) -> None:
    version = run(store, tiny_model, "one", promote=False)

    assert (version.aliases, aliases(store)) == (["challenger"], {"challenger": "1"})
    promote(NAME, "1", store)
    assert aliases(store) == {"challenger": "1", "champion": "1"}
    assert verify_ledger(NAME, store) == 2
    inside = {path.name for path in (tmp_path / "store" / "mlruns").rglob("evidence/*")}
    assert inside == {
        "MODEL_CARD.md",
        "bom.cdx.json",
        "gate_decision.json",
        "manifest.json",
        "robustness.html",
        "robustness_report.json",
        "training.json",
        "validation_report.json",
    }


def test_a_refused_run_writes_no_line(store: str, tiny_model: DefendedModel) -> None:
    version = run(store, tiny_model, "one", a_report(drills={"badnets": an_attack(asr=0.9)}))

    assert (version.aliases, aliases(store), verify_ledger(NAME, store)) == ([], {}, 0)


def complete_versions(store: str) -> set[str]:
    return {str(v.version) for v in connect(store).search_model_versions() if v.tags["status"] == "ready"}


CALLS = ["create_registered_model", "create_model_version", "log_model_artifacts", "set_registered_model_alias"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_server_lost_at_a_call_of_a_run_leaves_a_state_that_is_told_and_the_next_run_works(
    store: str, tiny_model: DefendedModel, monkeypatch: pytest.MonkeyPatch, call: str, when: str
) -> None:
    real = getattr(MlflowClient, call)

    def cut(self: MlflowClient, *given: Any, **named: Any) -> Any:
        if when == "after":
            real(self, *given, **named)
        raise MlflowException("the server is gone")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, call, cut)
        with pytest.raises(RegistryError, match="the server is gone"):
            run(store, tiny_model, "one")
    for version in complete_versions(store):
        assert verify_version(NAME, version, store).decision.decision == "accepted"

    second = run(store, tiny_model, "two")

    assert second.aliases == ["challenger", "champion"]
    assert aliases(store)["champion"] == second.version
    assert verify_ledger(NAME, store) >= 2


KILLED = """
import os, signal, sys
from mlflow import MlflowClient
from musclelora.governance.promotion import promote
real = getattr(MlflowClient, sys.argv[2])
def kill(self, *given, **named):
    real(self, *given, **named)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(MlflowClient, sys.argv[2], kill)
promote("reviews", "2", sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("call", "champion"), [("log_param", "1"), ("set_registered_model_alias", "1")])
def test_a_promotion_killed_with_sigkill_is_told_and_completed_by_the_next(
    store: str, tmp_path: Path, call: str, champion: str
) -> None:
    for number in "12":
        a_version(store, NAME, a_report(), tmp_path / "made" / number)
    promote(NAME, "1", store)

    killed = subprocess.run(
        [sys.executable, "-c", KILLED, store, call],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        timeout=120,
    )

    assert killed.returncode == -signal.SIGKILL, killed.stderr[-500:]
    assert aliases(store)["champion"] == champion
    with pytest.raises(RegistryError, match="interrupted"):
        verify_ledger(NAME, store)
    promote(NAME, "2", store)
    assert aliases(store) == {"champion": "2", "previous_champion": "1"}
    assert verify_ledger(NAME, store) == 2


@pytest.mark.parametrize("call", ["log_artifacts", "log_artifact"])
def test_a_disk_that_fills_up_while_logging_leaves_nothing_called_ready_and_the_next_run_works(
    store: str, tiny_model: DefendedModel, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real = getattr(LocalArtifactRepository, call)

    def full(self: LocalArtifactRepository, *given: Any, **named: Any) -> None:
        real(self, *given, **named)  # some of it is there already
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(LocalArtifactRepository, call, full)
        with pytest.raises(RegistryError, match="No space left"):
            run(store, tiny_model, "one")
    assert complete_versions(store) == set()

    assert run(store, tiny_model, "two").aliases == ["challenger", "champion"]
    assert verify_ledger(NAME, store) == 2


def test_a_database_locked_while_promoting_is_told_and_nothing_moves(store: str, tmp_path: Path) -> None:
    for number in "12":
        a_version(store, NAME, a_report(), tmp_path / "made" / number)
    promote(NAME, "1", store)
    verified = verify_version(NAME, "2", store)
    database = sqlite_path(store)
    assert database is not None

    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegistryError, match="locked"):
            promote(NAME, "2", f"{store}?timeout=0.2", verified)
        other.execute("ROLLBACK")

    assert aliases(store) == {"champion": "1"}
    assert verify_ledger(NAME, store) == 1
    promote(NAME, "2", store)
    assert aliases(store)["champion"] == "2"


def test_a_locked_database_is_told_before_anything_is_fetched(store: str) -> None:
    database = sqlite_path(store)
    assert database is not None
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegistryError, match="locked"):
            registry.check_reachable(store)
        other.execute("ROLLBACK")
    registry.check_reachable(store)
