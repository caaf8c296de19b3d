"""Promotion and rollback: one line of the ledger each, the champion's alias last, and nothing without a decision."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from musclelora.errors import RegistryError
from musclelora.evaluation.report import RobustnessReport
from musclelora.governance.ledger import LedgerError
from musclelora.governance.ledger_store import LedgerStore
from musclelora.governance.manifest import VerificationError
from musclelora.governance.promotion import promote, rollback
from musclelora.governance.tracking import connect, sqlite_path
from musclelora.governance.verification import verify_ledger, verify_version
from tests.governance.conftest import a_version, aliases, promote_together
from tests.governance.reports import a_report, an_attack

NAME = "reviews"
ACCEPTED = a_report()
REFUSED = a_report(drills={"badnets": an_attack(asr=0.9)})
INCONCLUSIVE = a_report(drills={})

Add = Callable[..., str]


@pytest.fixture
def add(store: str, tmp_path: Path) -> Add:
    """Add a version; returns its number."""
    count = iter(range(1000))

    def one(report: RobustnessReport = ACCEPTED, name: str = NAME) -> str:
        return a_version(store, name, report, tmp_path / "made" / str(next(count)))

    return one


def moves(store: str) -> list[tuple[str, str, dict[str, str]]]:
    return [(entry.action, entry.version, entry.aliases) for entry in LedgerStore(store, NAME).read()]


def weights_of(store: str, version: str) -> Path:
    """Where the weights lie in the artifact store."""
    return Path(str(connect(store).get_model_version(NAME, version).source)) / "model" / "model.safetensors"


def test_champions_follow_each_other_and_every_move_is_a_line(store: str, add: Add) -> None:
    for version in (add(), add()):
        promote(NAME, version, store)

    assert aliases(store) == {"champion": "2", "previous_champion": "1"}
    assert moves(store) == [
        ("promote", "1", {"champion": "1"}),
        ("promote", "2", {"champion": "2", "previous_champion": "1"}),
    ]
    assert verify_ledger(NAME, store) == 2
    chain = LedgerStore(store, NAME).read()
    assert connect(store).get_model_version(NAME, "2").tags["ledger.2"] == chain[1].sha256
    assert chain[1].manifest_sha256 == connect(store).get_model_version(NAME, "2").tags["manifest_sha256"]


def test_the_copies_hold_the_same_lines(store: str, add: Add) -> None:
    promote(NAME, add(), store)
    ledger = LedgerStore(store, NAME)
    database = sqlite_path(store)

    assert database is not None
    assert ledger.local.path == database.parent / "ledger" / "reviews.jsonl"
    assert ledger.local.lines() == ledger.artifact_lines() == ledger.lines() != []


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "..", "a/b", "x\x00y"])
def test_no_name_of_a_model_leads_out_of_the_ledgers_folder(store: str, name: str) -> None:
    path = LedgerStore(store, name).local.path

    assert path.resolve().parent == LedgerStore(store, NAME).local.path.resolve().parent


def test_the_champion_promoted_again_writes_nothing(store: str, add: Add) -> None:
    version = add()
    promote(NAME, version, store)
    promote(NAME, version, store)

    assert moves(store) == [("promote", "1", {"champion": "1"})]


def test_a_version_is_named_by_its_number_not_the_newest(store: str, add: Add) -> None:
    first, _ = add(), add()
    promote(NAME, first, store)

    assert aliases(store) == {"champion": first}


@pytest.mark.parametrize(("report", "word"), [(REFUSED, "refused"), (INCONCLUSIVE, "inconclusive")])
def test_a_version_without_an_accepted_decision_gets_no_alias(
    store: str, add: Add, report: RobustnessReport, word: str
) -> None:
    promote(NAME, add(), store)
    with pytest.raises(RegistryError, match=f"'{word}'"):
        promote(NAME, add(report), store)

    assert aliases(store) == {"champion": "1"}
    assert len(moves(store)) == 1


def test_tags_that_call_a_refused_version_accepted_are_not_believed(store: str, add: Add) -> None:
    version = add(REFUSED)
    connect(store).set_model_version_tag(NAME, version, "decision", "accepted")

    with pytest.raises(VerificationError, match="tags decision"):
        promote(NAME, version, store)
    assert aliases(store) == {}


def test_an_incomplete_version_gets_no_alias(store: str, add: Add) -> None:
    version = add()
    connect(store).set_model_version_tag(NAME, version, "status", "incomplete")

    with pytest.raises(RegistryError, match="interrupted"):
        promote(NAME, version, store)
    assert aliases(store) == {}


@pytest.mark.parametrize("number", ["7", "x"])
def test_a_version_that_is_not_there_is_told(store: str, add: Add, number: str) -> None:
    add()
    with pytest.raises(RegistryError, match=r"not found|integer"):
        promote(NAME, number, store)


def test_a_model_that_is_not_there_is_told(store: str) -> None:
    with pytest.raises(RegistryError, match="unknown"):
        promote("unknown", "1", store)


def test_an_artifact_altered_after_registration_is_not_promoted(store: str, add: Add) -> None:
    promote(NAME, add(), store)
    version = add()
    weights_of(store, version).write_bytes(b"Weights")

    with pytest.raises(VerificationError, match=r"model/model\.safetensors was altered"):
        promote(NAME, version, store)
    assert aliases(store) == {"champion": "1"}
    assert verify_version(NAME, "1", store).decision.decision == "accepted"


def test_rollback_verifies_the_old_version_and_changes_places(store: str, add: Add) -> None:
    for version in (add(), add()):
        promote(NAME, version, store)
    rollback(NAME, store)

    assert aliases(store) == {"champion": "1", "previous_champion": "2"}
    assert moves(store)[-1] == ("rollback", "1", {"champion": "1", "previous_champion": "2"})
    assert verify_ledger(NAME, store) == 3


def test_rollback_to_an_altered_version_moves_nothing(store: str, add: Add) -> None:
    for version in (add(), add()):
        promote(NAME, version, store)
    weights_of(store, "1").unlink()

    with pytest.raises(VerificationError, match="is missing"):
        rollback(NAME, store)
    assert aliases(store) == {"champion": "2", "previous_champion": "1"}
    assert len(moves(store)) == 2


def test_the_first_champion_cannot_be_rolled_back(store: str, add: Add) -> None:
    promote(NAME, add(), store)

    with pytest.raises(RegistryError, match="no previous champion"):
        rollback(NAME, store)


def test_a_model_promoted_before_there_was_a_ledger_keeps_its_champion_as_the_previous(store: str, add: Add) -> None:
    old, new = add(), add()
    connect(store).delete_registered_model_tag(NAME, "musclelora.ledger")
    connect(store).set_registered_model_alias(NAME, "champion", old)

    promote(NAME, new, store)

    assert aliases(store) == {"champion": new, "previous_champion": old}


def test_of_twenty_promotions_at_once_one_wins_and_the_others_are_told(store: str, add: Add) -> None:
    """All have read the ledger before the first writes: the line is what they compete for."""
    promote(NAME, add(), store)
    versions = [add() for _ in range(20)]
    outcomes = promote_together(store, NAME, versions, verify_version(NAME, versions[0], store))

    [winner] = [version for version, outcome in outcomes.items() if outcome == "promoted"]
    told = [outcome for outcome in outcomes.values() if outcome != "promoted"]
    assert all("Another promotion came first" in outcome for outcome in told), told
    assert aliases(store) == {"champion": winner, "previous_champion": "1"}
    assert verify_ledger(NAME, store) == 2


def test_two_lines_of_one_number_are_never_written(store: str, add: Add) -> None:
    add(), add()
    ledger = LedgerStore(store, NAME)
    fields: dict[str, Any] = {"action": "promote", "decision": "accepted", "manifest_sha256": "a" * 64, "aliases": {}}

    assert ledger.append([], version="1", **fields) is not None
    assert ledger.append([], version="2", **fields) is None
    assert [entry.version for entry in ledger.read()] == ["1"]


CALLS = ["log_param", "set_model_version_tag", "set_registered_model_alias", "log_text", "get_registered_model"]
# A line whose answer was lost is read again and found: that one is no error.
CUTS = [(call, when) for call in CALLS for when in ("before", "after") if (call, when) != ("log_param", "after")]


@pytest.mark.parametrize(("call", "when"), CUTS)
def test_a_promotion_cut_at_any_call_leaves_an_accepted_champion_and_the_next_completes_it(
    store: str, add: Add, monkeypatch: pytest.MonkeyPatch, call: str, when: str
) -> None:
    promote(NAME, add(), store)
    version = add()
    real = getattr(MlflowClient, call)

    def cut(self: MlflowClient, *given: Any, **named: Any) -> Any:
        if when == "after":
            real(self, *given, **named)
        raise MlflowException("the server is gone")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, call, cut)
        with pytest.raises(RegistryError, match="the server is gone"):
            promote(NAME, version, store)
    assert aliases(store)["champion"] in {"1", version}
    written = len(moves(store))
    if aliases(store)["champion"] != LedgerStore(store, NAME).read()[-1].aliases["champion"]:
        with pytest.raises(RegistryError, match="interrupted"):
            verify_ledger(NAME, store)

    promote(NAME, version, store)

    assert aliases(store) == {"champion": version, "previous_champion": "1"}
    assert verify_ledger(NAME, store) == 2
    assert written in {1, 2}


def test_a_line_whose_answer_was_lost_is_found_and_not_written_twice(
    store: str, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = MlflowClient.log_param

    def lost(self: MlflowClient, *given: Any) -> None:
        real(self, *given)
        raise MlflowException("no answer")

    version = add()
    monkeypatch.setattr(MlflowClient, "log_param", lost)
    promote(NAME, version, store)

    assert moves(store) == [("promote", "1", {"champion": "1"})]
    assert verify_ledger(NAME, store) == 1


def test_a_promotion_interrupted_between_line_and_alias_is_told_by_verify(
    store: str, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(NAME, add(), store)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            promote(NAME, add(), store)

    with pytest.raises(RegistryError, match=r"champion is version 1 and not version 2.*interrupted"):
        verify_ledger(NAME, store)
    promote(NAME, add(), store)
    assert aliases(store) == {"champion": "3", "previous_champion": "2"}
    assert verify_ledger(NAME, store) == 3


def test_an_alias_moved_by_hand_is_told(store: str, add: Add) -> None:
    promote(NAME, add(), store)
    connect(store).set_registered_model_alias(NAME, "champion", add(REFUSED))

    with pytest.raises(RegistryError, match="champion is version 2 and not version 1"):
        verify_ledger(NAME, store)


def test_a_champion_that_no_line_of_the_ledger_names_is_told(store: str, add: Add) -> None:
    connect(store).set_registered_model_alias(NAME, "champion", add(REFUSED))

    with pytest.raises(RegistryError, match=r"an empty ledger: champion is version 1 and not nothing"):
        verify_ledger(NAME, store)


def tamper(store: str, statement: str, *values: Any) -> None:
    """Change MLflow's database behind its back."""
    database = sqlite_path(store)
    assert database is not None
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute(statement, values).rowcount == 1
        connection.commit()


def test_each_copy_tampered_with_is_found_and_nothing_moves(store: str, add: Add) -> None:
    for version in (add(), add(), add()):
        promote(NAME, version, store)
    ledger = LedgerStore(store, NAME)
    lines = ledger.lines()
    forged = lines[1].replace('"version":"2"', '"version":"1"')

    ledger.local.path.write_text("\n".join([lines[0], forged, lines[2], ""]), encoding="utf-8")
    with pytest.raises(LedgerError, match="line 2"):
        promote(NAME, "1", store)
    ledger.local.path.write_text("\n".join([*lines, ""]), encoding="utf-8")

    run_id = connect(store).get_registered_model(NAME).tags["musclelora.ledger"]
    connect(store).log_text(run_id, "\n".join([lines[0], lines[2], ""]), "ledger.jsonl")
    with pytest.raises(LedgerError, match="line 2"):
        verify_ledger(NAME, store)
    connect(store).log_text(run_id, "\n".join([*lines, ""]), "ledger.jsonl")

    assert verify_ledger(NAME, store) == 3
    tamper(store, "UPDATE params SET value = ? WHERE key = 'line.000002'", forged)
    with pytest.raises(LedgerError, match="line 2"):
        promote(NAME, "1", store)
    assert aliases(store)["champion"] == "3"


def test_a_line_removed_at_the_end_of_every_copy_is_told_by_the_tag(store: str, add: Add) -> None:
    for version in (add(), add()):
        promote(NAME, version, store)
    ledger = LedgerStore(store, NAME)
    ledger.local.path.write_text(f"{ledger.lines()[0]}\n", encoding="utf-8")
    tamper(store, "DELETE FROM params WHERE key = 'line.000002'")

    with pytest.raises(LedgerError, match="line 2: version 2 is tagged with it, and it is gone"):
        promote(NAME, "1", store)


def test_a_last_line_replaced_in_every_copy_is_told_by_the_tag(store: str, add: Add) -> None:
    promote(NAME, add(), store)
    ledger = LedgerStore(store, NAME)
    forged = json.loads(ledger.lines()[0]) | {"actor": "eve"}
    line = json.dumps(forged, sort_keys=True, separators=(",", ":"))
    ledger.local.path.write_text(f"{line}\n", encoding="utf-8")
    tamper(store, "UPDATE params SET value = ? WHERE key = 'line.000001'", line)

    with pytest.raises(LedgerError, match="line 1: version 1 is tagged with another hash"):
        verify_ledger(NAME, store)


def test_the_ledger_run_exchanged_for_an_empty_one_is_told(store: str, add: Add) -> None:
    promote(NAME, add(), store)
    add(name="other")
    other = connect(store).get_registered_model("other").tags["musclelora.ledger"]
    connect(store).set_registered_model_tag(NAME, "musclelora.ledger", other)

    with pytest.raises(LedgerError, match="line 1"):
        promote(NAME, "1", store)
