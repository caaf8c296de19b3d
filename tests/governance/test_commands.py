"""`musclelora promote`, `rollback`, `verify` as a user types them."""

import hashlib
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from musclelora.evaluation.report import RobustnessReport
from pipelines.cli import main
from tests.governance.conftest import a_version, aliases
from tests.governance.reports import a_report, an_attack

Command = Callable[..., Result]

NAME = "reviews"
REFUSED = a_report(drills={"badnets": an_attack(asr=0.9)})


@pytest.fixture
def musclelora(store: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command with these arguments, with MLflow's address in the environment."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


def versions(store: str, folder: Path, *reports: RobustnessReport) -> None:
    for number, report in enumerate(reports):
        a_version(store, NAME, report, folder / "made" / str(number))


def said(result: Result) -> tuple[int, str]:
    assert "Traceback" not in result.output
    return result.exit_code, " ".join(result.output.split())


def test_promote_and_rollback_say_where_the_aliases_are(store: str, tmp_path: Path, musclelora: Command) -> None:
    versions(store, tmp_path, a_report(), a_report())

    assert said(musclelora("promote", NAME, "1")) == (0, "reviews: champion is version 1")
    assert said(musclelora("promote", NAME, "2", "--tracking-uri", store)) == (
        0,
        "reviews: champion is version 2, previous_champion is version 1",
    )
    assert said(musclelora("rollback", NAME)) == (0, "reviews: champion is version 1, previous_champion is version 2")
    assert aliases(store) == {"champion": "1", "previous_champion": "2"}


def test_what_may_not_be_promoted_is_told_in_one_paragraph(store: str, tmp_path: Path, musclelora: Command) -> None:
    versions(store, tmp_path, REFUSED)

    for arguments, message in [
        (("promote", NAME, "1"), "its gate decision is 'refused'"),
        (("promote", NAME, "9"), "not found"),
        (("promote", "other", "1"), "other"),
        (("rollback", NAME), "no previous champion"),
        (("rollback", NAME, "--tracking-uri", f"sqlite:///{tmp_path}/none.db"), "There is no MLflow database"),
    ]:
        code, output = said(musclelora(*arguments))
        assert code == 1
        assert message in output
    assert aliases(store) == {}
    assert not (tmp_path / "none.db").exists()


def test_verify_says_what_is_whole(store: str, tmp_path: Path, musclelora: Command) -> None:
    versions(store, tmp_path, a_report(), REFUSED)
    musclelora("promote", NAME, "1")

    assert said(musclelora("verify", NAME)) == (
        0,
        "reviews: the ledger is whole (1 lines), and the aliases are where it says. version 1 (champion): all 3 files "
        "are as registered, and its report gives the decision: accepted.",
    )
    code, output = said(musclelora("verify", NAME, "2"))
    assert code == 0
    assert "version 2 (no alias)" in output
    assert "the decision: refused." in output


def test_verify_says_where_the_ledger_was_tampered_with(store: str, tmp_path: Path, musclelora: Command) -> None:
    versions(store, tmp_path, a_report(), a_report())
    for number in "12":
        musclelora("promote", NAME, number)
    copy = tmp_path / "store" / "ledger" / "reviews.jsonl"
    copy.write_text(copy.read_text().replace("version", "Version", 1))

    code, output = said(musclelora("verify", NAME))

    assert code == 1
    assert "broken at line 1" in output
    assert str(copy) in output


def test_a_folder_is_verified_without_a_network_and_a_changed_byte_is_named(
    store: str, tmp_path: Path, musclelora: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions(store, tmp_path, a_report())
    folder = tmp_path / "cwd" / "copied"
    shutil.copytree(tmp_path / "made" / "0", folder)
    sha256 = hashlib.sha256((folder / "evidence" / "manifest.json").read_bytes()).hexdigest()
    called: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: called.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: called.append(address))

    code, output = said(musclelora("verify", folder))
    assert (code, sha256 in output) == (0, True)
    assert said(musclelora("verify", folder, "--manifest-sha256", sha256))[0] == 0
    assert said(musclelora("verify", folder, "--manifest-sha256", "0" * 64))[0] == 1
    (folder / "model" / "model.safetensors").write_bytes(b"weighTs")
    code, output = said(musclelora("verify", folder))

    assert code == 1
    assert "model/model.safetensors was altered" in output
    assert called == []
