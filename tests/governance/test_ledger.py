"""The ledger: whatever is done to its lines is found, and named by its line."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musclelora.errors import RegistryError
from musclelora.governance.ledger import GENESIS, LedgerEntry, LedgerError, LocalLedger, check_copy, read_chain

MODEL = "reviews"


def a_line(number: int, previous: str, actor: str = "ann@host", model: str = MODEL) -> LedgerEntry:
    return LedgerEntry(
        number=number,
        previous=previous,
        id=f"id-{number}",
        time="2026-11-24T12:00:00+00:00",
        actor=actor,
        action="promote",
        model=model,
        version=str(number),
        decision="accepted",
        manifest_sha256="a" * 64,
        aliases={"champion": str(number)},
    )


def a_ledger(length: int, actors: list[str] | None = None) -> list[str]:
    lines: list[LedgerEntry] = []
    for number in range(1, length + 1):
        actor = actors[number - 1] if actors else "ann@host"
        lines.append(a_line(number, lines[-1].sha256 if lines else GENESIS, actor))
    return [entry.line for entry in lines]


def test_a_line_is_canonical_and_its_hash_is_known() -> None:
    entry = a_line(1, GENESIS)

    assert entry.line == (
        '{"action":"promote","actor":"ann@host","aliases":{"champion":"1"},"decision":"accepted","id":"id-1",'
        f'"manifest_sha256":"{"a" * 64}","model":"reviews","number":1,"previous":"{GENESIS}",'
        '"time":"2026-11-24T12:00:00+00:00","version":"1"}'
    )
    assert entry.sha256 == "f9f9e5084abbcb4330676248b3ea3423839b5b13a7f0063d745708f847193f8f"  # sha256sum of that line


@given(st.lists(st.text(), max_size=6))
def test_a_ledger_reads_back_whatever_its_names_hold(actors: list[str]) -> None:
    lines = a_ledger(len(actors), actors)

    assert [entry.actor for entry in read_chain(lines, MODEL)] == actors
    assert all("\n" not in line for line in lines)


@given(data=st.data(), length=st.integers(2, 8))
def test_an_altered_line_is_found(data: st.DataObject, length: int) -> None:
    lines = a_ledger(length)
    altered = data.draw(st.integers(1, length - 1))  # the last one is held by tags and copies only
    line = lines[altered - 1]
    place = data.draw(st.integers(0, len(line) - 1))
    other = data.draw(st.characters(codec="utf-8").filter(lambda character: character != line[place]))
    lines[altered - 1] = line[:place] + other + line[place + 1 :]

    with pytest.raises(LedgerError) as caught:
        read_chain(lines, MODEL)
    assert caught.value.line in {altered - 1, altered}  # `previous` of a line speaks of the one before it


@given(data=st.data(), length=st.integers(2, 8))
def test_a_removed_line_is_found(data: st.DataObject, length: int) -> None:
    lines = a_ledger(length)
    removed = data.draw(st.integers(1, length - 1))
    del lines[removed - 1]

    with pytest.raises(LedgerError) as caught:
        read_chain(lines, MODEL)
    assert caught.value.line == removed


@given(data=st.data(), length=st.integers(2, 8))
def test_lines_in_another_order_are_found(data: st.DataObject, length: int) -> None:
    lines = a_ledger(length)
    moved = data.draw(st.permutations(lines).filter(lambda order: order != lines))

    with pytest.raises(LedgerError) as caught:
        read_chain(moved, MODEL)
    assert caught.value.line == next(n for n, (a, b) in enumerate(zip(lines, moved, strict=True), 1) if a != b)


@given(data=st.data(), length=st.integers(1, 8))
def test_lines_missing_at_the_end_are_found_against_a_copy_only(data: st.DataObject, length: int) -> None:
    lines = a_ledger(length)
    kept = lines[: data.draw(st.integers(0, length - 1))]

    assert len(read_chain(kept, MODEL)) == len(kept)
    with pytest.raises(LedgerError, match="removed at the end") as caught:
        check_copy(kept, lines, "the local copy")
    assert caught.value.line == len(kept) + 1
    check_copy(lines, kept, "the local copy")  # a copy may lag behind


@given(cut=st.integers(1, 40))
def test_a_cut_last_line_is_found(cut: int) -> None:
    lines = a_ledger(3)

    with pytest.raises(LedgerError) as caught:
        read_chain([*lines[:2], lines[2][:-cut]], MODEL)
    assert caught.value.line == 3


def test_a_chain_written_anew_is_found_against_a_copy() -> None:
    forged = a_ledger(4, ["ann", "eve", "ann", "ann"])

    read_chain(forged, MODEL)
    with pytest.raises(LedgerError) as caught:
        check_copy(forged, a_ledger(4, ["ann", "bob", "ann", "ann"]), "the local copy")
    assert caught.value.line == 2


def test_a_ledger_of_another_model_and_other_spacing_are_refused() -> None:
    with pytest.raises(LedgerError, match="'other'"):
        read_chain([a_line(1, GENESIS, model="other").line], MODEL)
    with pytest.raises(LedgerError, match="canonical"):
        read_chain([json.dumps(json.loads(a_ledger(1)[0]), sort_keys=True)], MODEL)


def test_the_local_copy_follows_and_is_never_written_anew(tmp_path: Path) -> None:
    lines, local = a_ledger(4), LocalLedger(tmp_path / "ledger" / "reviews.jsonl")
    assert local.lines() == []
    local.follow(lines[:2])
    inode = local.path.stat().st_ino
    local.follow(lines)
    local.follow(lines[:3])  # what a slower process read before

    assert local.lines() == lines
    assert local.path.stat().st_ino == inode
    assert local.path.read_text(encoding="utf-8") == "".join(f"{line}\n" for line in lines)


def test_the_local_copy_goes_on_after_a_crash_in_the_middle_of_a_line(tmp_path: Path) -> None:
    lines, local = a_ledger(3), LocalLedger(tmp_path / "reviews.jsonl")
    local.path.write_text(f"{lines[0]}\n{lines[1][:30]}", encoding="utf-8")

    local.follow(lines)

    assert local.lines() == lines


def test_the_local_copy_refuses_to_follow_another_ledger(tmp_path: Path) -> None:
    local = LocalLedger(tmp_path / "reviews.jsonl")
    local.follow(a_ledger(3))
    before = local.path.read_bytes()

    with pytest.raises(LedgerError) as caught:
        local.follow(a_ledger(4, ["ann@host", "eve", "eve", "eve"]))
    assert caught.value.line == 2
    assert local.path.read_bytes() == before


def test_a_full_disk_and_a_folder_that_is_a_file_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryError, match="cannot be read or written"):
        LocalLedger(tmp_path / "file" / "reviews.jsonl").follow(a_ledger(1))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RegistryError, match="No space left"):
        LocalLedger(tmp_path / "reviews.jsonl").follow(a_ledger(1))


def test_several_processes_write_one_ledger(tmp_path: Path) -> None:
    """Each knows another length of the same ledger; whoever comes when, the file holds every line once."""
    script = (
        "import sys; from pathlib import Path\n"
        "from musclelora.governance.ledger import LocalLedger\n"
        "lines = Path(sys.argv[2]).read_text(encoding='utf-8').splitlines()\n"
        "lengths = range(int(sys.argv[3]), len(lines) + 1, 4)\n"
        "for length in lengths: LocalLedger(Path(sys.argv[1])).follow(lines[:length])\n"
        "LocalLedger(Path(sys.argv[1])).follow(lines)\n"
    )
    lines = a_ledger(60)
    (tmp_path / "lines").write_text("\n".join(lines), encoding="utf-8")
    command = [sys.executable, "-c", script, str(tmp_path / "reviews.jsonl"), str(tmp_path / "lines")]
    running = [subprocess.Popen([*command, str(start)]) for start in range(4)]

    assert [process.wait(timeout=60) for process in running] == [0, 0, 0, 0]
    assert LocalLedger(tmp_path / "reviews.jsonl").lines() == lines
