"""A model folder that was copied anywhere: every byte of it is accounted for, and its decision is made again."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from musclelora.governance.decision import decide
from musclelora.governance.manifest import DECISION, MANIFEST, REPORT, VerificationError, verify_folder, write_evidence
from musclelora.governance.policy import Policy
from tests.governance.reports import a_report, an_attack

REPORT_TEXT = a_report().model_dump_json()
DECISION_TEXT = decide(a_report(), Policy()).model_dump_json()
FILES = {DECISION: DECISION_TEXT, REPORT: REPORT_TEXT, "card.md": "# Émile\n"}


def make(folder: Path, files: dict[str, str] | None = None) -> str:
    """A model folder with evidence; returns the hash of its manifest."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "model.safetensors").write_bytes(bytes(range(100)))
    (folder / "MLmodel").write_text("flavors: {}\n")
    return write_evidence(folder, FILES if files is None else files)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make(tmp_path / "model-folder")
    return tmp_path / "model-folder"


def test_a_whole_folder_is_verified_wherever_it_lies(tmp_path: Path) -> None:
    sha256 = make(tmp_path / "made")
    copy = Path(shutil.copytree(tmp_path / "made", tmp_path / "elsewhere"))
    (copy / "registered_model_meta").write_text("what MLflow adds to a download")

    verified = verify_folder(copy, sha256)

    assert verified.manifest_sha256 == sha256
    assert (verified.files, verified.decision.decision) == (5, "accepted")
    assert set(json.loads((copy / MANIFEST).read_text())["files"]) == {
        "MLmodel",
        "evidence/card.md",
        "evidence/gate_decision.json",
        "evidence/robustness_report.json",
        "model/model.safetensors",
    }


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_any_byte_changed_added_or_cut_is_found_and_its_file_named(folder: Path, data: st.DataObject) -> None:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    name = data.draw(st.sampled_from([name for name in names if name != MANIFEST]))
    before = (folder / name).read_bytes()
    place = data.draw(st.integers(0, len(before) - 1))
    change = data.draw(st.sampled_from(["flip", "add", "cut"]))
    bit = 1 << data.draw(st.integers(0, 7))
    after = {
        "flip": before[:place] + bytes([before[place] ^ bit]) + before[place + 1 :],
        "add": before[:place] + b"x" + before[place:],
        "cut": before[:place],
    }[change]
    (folder / name).write_bytes(after)
    try:
        with pytest.raises(VerificationError, match=f"{name} was altered"):
            verify_folder(folder)
    finally:
        (folder / name).write_bytes(before)
    verify_folder(folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(data=st.data())
def test_any_byte_of_the_manifest_changed_is_found(folder: Path, data: st.DataObject) -> None:
    before = (folder / MANIFEST).read_bytes()
    sha256 = verify_folder(folder).manifest_sha256
    place = data.draw(st.integers(0, len(before) - 1))
    (folder / MANIFEST).write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
    try:
        with pytest.raises(VerificationError, match="was altered"):
            verify_folder(folder, sha256)
    finally:
        (folder / MANIFEST).write_bytes(before)


def test_missing_and_added_files_are_named(folder: Path) -> None:
    (folder / "MLmodel").unlink()
    (folder / "model" / "modeling_evil.py").write_text("import os")

    with pytest.raises(VerificationError, match=r"MLmodel is missing; model/modeling_evil\.py is not in the manifest"):
        verify_folder(folder)


def test_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "same").write_text("flavors: {}\n")
    (folder / "MLmodel").unlink()
    (folder / "MLmodel").symlink_to(tmp_path / "same")

    with pytest.raises(VerificationError, match="MLmodel was altered"):
        verify_folder(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pkl", "state.PT"])
def test_a_pickle_is_refused_even_where_the_manifest_lists_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "made" / "model").mkdir(parents=True)
    (tmp_path / "made" / "model" / name).write_bytes(b"")
    write_evidence(tmp_path / "made", FILES)

    with pytest.raises(VerificationError, match=f"model/{name} may be a pickle"):
        verify_folder(tmp_path / "made")


REFUSED = a_report(drills={"badnets": an_attack(asr=0.9)})
LENIENT = decide(a_report(), Policy()).model_copy(update={"policy": Policy(max_asr=None)})


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({DECISION: DECISION_TEXT}, f"carries no evidence/{REPORT}"),
        ({REPORT: REPORT_TEXT}, f"carries no evidence/{DECISION}"),
        ({DECISION: "{}", REPORT: REPORT_TEXT}, "cannot be read"),
        ({DECISION: DECISION_TEXT, REPORT: REFUSED.model_dump_json()}, "says 'accepted', but .* gives 'refused'"),
        ({DECISION: LENIENT.model_dump_json(), REPORT: REPORT_TEXT}, "says 'accepted', but"),
    ],
)
def test_evidence_that_does_not_give_the_decision_is_refused(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    make(tmp_path / "made", files)

    with pytest.raises(VerificationError, match=message):
        verify_folder(tmp_path / "made")


@pytest.mark.parametrize("content", [None, "", "[]", '{"files": {"a": 1}}'])
def test_a_folder_without_a_manifest_is_told(folder: Path, content: str | None) -> None:
    if content is None:
        shutil.rmtree(folder / "evidence")
    else:
        (folder / MANIFEST).write_text(content)

    with pytest.raises(VerificationError, match=r"manifest\.json (cannot be read|is no manifest)"):
        verify_folder(folder)
