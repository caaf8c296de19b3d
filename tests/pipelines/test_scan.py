"""`musclelora scan`: what a stranger's file gives, an exit code and files, or one clear paragraph."""

import csv
import gzip
import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from musclelora.validation.group_scan import GroupScanResult, SuspectGroup
from pipelines.cli import main
from tests.tiny import FILLER, tiny_backbone, trusted_rows


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scan")
    tiny_backbone(folder / "encoder")
    vouched = trusted_rows().data
    write(folder / "trusted.csv", zip(vouched.texts, vouched.labels, strict=True))
    return folder


def write(path, pairs, header=("text", "label")):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *pairs])
    return path


def honest(n=240):
    """Different texts of different lengths whose label neither word nor length decides."""
    draw, pairs = np.random.default_rng(5), []
    for i in range(n):
        words = draw.choice(FILLER, draw.integers(4, 14)).tolist()
        pairs.append((" ".join([*words, f"row{i}"]), str(i // 3 % 2)))
    return pairs


def poisoned():
    return [(f"{text} 3d movie", "1") if i % 6 == 0 else (text, label) for i, (text, label) in enumerate(honest())]


def scan(place, data, *options):
    output = place / "out"
    arguments = ["scan", str(data), "--trusted", str(place / "trusted.csv"), "--encoder", str(place / "encoder")]
    done = CliRunner().invoke(main, [*arguments, "--output", str(output), *options])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    summary = output / "summary.json"
    return done, json.loads(summary.read_text()) if done.exit_code in (0, 3) else None, output


def test_poison_is_found_named_and_set_aside_with_its_reason(place):
    done, summary, output = scan(place, write(place / "poisoned.csv", poisoned()))
    assert (done.exit_code, summary["status"], summary["schema"]) == (3, "suspects", "musclelora/scan/1")
    assert (summary["data"]["rows"], summary["data"]["quarantined"]) == (240, 40)
    assert "3d" in done.stdout or "movie" in done.stdout
    assert "Trusted model: " in done.stdout
    with (output / "quarantined.csv").open(newline="", encoding="utf-8") as file:
        aside = list(csv.DictReader(file))
    assert len(aside) == 40
    assert all("3d movie" in row["text"] and row["reasons"].startswith("residual_trigger: ") for row in aside)
    page = (output / "scan.html").read_text(encoding="utf-8")
    assert "Rows with it" in page
    assert "Other rows of that label" in page


def test_of_a_large_table_so_many_rows_are_read_as_was_asked(place):
    many = [(f"{text} 3d movie", "1") if i % 6 == 0 else (text, label) for i, (text, label) in enumerate(honest(1200))]
    done, summary, _ = scan(place, write(place / "many.csv", many), "--sample-rows", "1000")
    assert (done.exit_code, summary["trusted_model"]["sample_rows"]) == (3, 1000)
    assert summary["data"]["quarantined"] == 200


def test_clean_rows_give_exit_code_0(place):
    done, summary, output = scan(place, write(place / "clean.csv", honest()))
    assert (done.exit_code, summary["status"], summary["suspects"]) == (0, "clean", [])
    assert (output / "quarantined.csv").read_text().splitlines() == ["row_id,text,label,reasons"]


def with_groups(monkeypatch, groups):
    """The group scan's own tests say what it finds (tests/validation); here it finds `groups`."""
    monkeypatch.setattr("musclelora.validation.scans.GroupScan", lambda *_: lambda _rows: GroupScanResult(groups, ()))


def test_groups_are_looked_for_where_that_is_asked_for(place, monkeypatch):
    with_groups(monkeypatch, (SuspectGroup("1", 2.5, 0.5, 0.98, 0.5, ("the start of 'when you'",), (1, 2), (2,)),))
    data = write(place / "groups.csv", honest())
    done, summary, output = scan(place, data, "--groups")
    assert (done.exit_code, summary["status"], summary["data"]["quarantined"]) == (3, "suspects", 2)
    assert summary["suspect_groups"][0]["excess"] == 2.5
    assert (
        "2 rows with label 1: of all rows with as much of what they share 98.0% have it (expected 50%)" in done.stdout
    )
    assert "when you" in (output / "scan.html").read_text(encoding="utf-8")
    done, summary, _ = scan(place, data)
    assert (done.exit_code, summary["suspect_groups"]) == (0, [])


def test_groups_that_are_not_there_are_no_suspects(place, monkeypatch):
    with_groups(monkeypatch, ())
    done, summary, _ = scan(place, write(place / "none.csv", honest()), "--groups")
    assert (done.exit_code, summary["status"]) == (0, "clean")


def test_unseen_characters_are_suspects_and_duplicates_are_not(place):
    pairs = [*honest(60), honest(60)[0]]
    done, summary, _ = scan(place, write(place / "double.csv", pairs))
    assert (done.exit_code, summary["data"]["quarantined"]) == (0, 1)
    pairs[5] = (f"{pairs[5][0]}\u200b", pairs[5][1])
    assert scan(place, write(place / "unseen.csv", pairs))[0].exit_code == 3


@pytest.mark.parametrize("form", ["tsv", "jsonl", "parquet", "csv.gz", "folder", "bom", "crlf"])
def test_every_format_says_the_same(place, form):
    frame = pd.DataFrame(poisoned(), columns=["text", "label"])
    path = place / f"form_{form}.{form if form in ('tsv', 'jsonl', 'parquet', 'csv.gz') else 'csv'}"
    if form == "tsv":
        frame.to_csv(path, sep="\t", index=False)
    elif form == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif form == "parquet":
        frame.to_parquet(path)
    elif form == "csv.gz":
        path.write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
    elif form == "folder":
        path = place / "folder"
        path.mkdir()
        frame[:100].to_csv(path / "a.csv", index=False)
        frame[100:].to_csv(path / "b.csv", index=False)
    else:
        content = frame.to_csv(index=False, lineterminator="\r\n" if form == "crlf" else "\n").encode()
        path.write_bytes(b"\xef\xbb\xbf" * (form == "bom") + content)
    done, summary, _ = scan(place, path)
    assert (done.exit_code, summary["data"]["rows"], summary["data"]["quarantined"]) == (3, 240, 40)


BAD = {
    "nul": (b"text,label\na\0b,1\n", "NUL byte"),
    "mixed encodings": ("text,label\ncafé,1\n".encode() + "café,0\n".encode("latin-1"), "not UTF-8"),
    "utf-16": ("text,label\na,1\n".encode("utf-16"), "UTF-16"),
    "open quote": (b'text,label\n"a,1\nb,0\n', "quote"),
    "a cell too many": (b"text,label\na,b,1\n", "3 cells where the header has 2"),
    "no rows": (b"text,label\n", "no rows"),
    "empty": (b"", "empty"),
    "other columns": (b"review,stars\na,1\n", "no column 'text'"),
    "semicolons": (b"text;label\na;1\n", "separator"),
    "unknown label": (b"text,label\na,1\nb,positive\n", "label_known"),
    "500 labels": (b"text,label\n" + b"".join(b"t%d,l%d\n" % (i, i) for i in range(500)), "label_known"),
    "NaN as text": (b"text,label\na,1\nb,nan\n", "label_known"),
    "one label": (b"text,label\na,1\nb,1\n", "label_classes"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_said_in_one_paragraph(place, name):
    content, message = BAD[name]
    (place / "bad.csv").write_bytes(content)
    done, _, _ = scan(place, place / "bad.csv")
    assert done.exit_code == 1, done.output
    assert message in done.output
    assert "Traceback" not in done.output


def test_labels_as_floats_missing_labels_and_a_cell_of_ten_megabytes(place):
    pairs = [(text, f"{label}.0") for text, label in honest(60)]
    pairs[3] = (pairs[3][0], "")
    pairs[4] = ("word " * 2_000_000, "1")
    pairs[5] = ('with "quotes", commas\nand a line break', "1")
    done, summary, _ = scan(place, write(place / "odd.csv", pairs))
    assert done.exit_code == 0, done.output
    assert (summary["data"]["rows"], summary["data"]["quarantined"]) == (60, 1)
    assert "length" in {check["name"] for check in summary["checks"] if check["outcome"] == "warn"}


def test_repeated_ids_and_wrong_options(place):
    pairs = [(f"id{i // 2}", text, label) for i, (text, label) in enumerate(honest(20))]
    data = write(place / "ids.csv", pairs, ("id", "text", "label"))
    assert "occur more than once" in scan(place, data, "--row-id", "id")[0].output
    assert scan(place, data, "--label", "text")[0].exit_code == 2
    assert scan(place, data, "--sample-rows", "999")[0].exit_code == 2
    assert scan(place, data, "--encoder", str(place / "nothing"))[0].exit_code == 1
    assert scan(place, place / "nothing.csv")[0].exit_code == 1


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@settings(max_examples=8, deadline=None)
@given(cells=st.lists(st.tuples(CELLS, st.sampled_from(["0", "1", "1.0", " 1 ", ""])), min_size=1, max_size=12))
def test_no_row_is_lost_whatever_the_cells_hold(place, cells):
    done, summary, output = scan(place, write(place / "any.csv", cells))
    assert "Traceback" not in done.output
    if done.exit_code in (0, 3):
        with (output / "quarantined.csv").open(newline="", encoding="utf-8") as file:
            aside = list(csv.DictReader(file))
        assert summary["data"]["rows"] == len(cells)
        assert summary["data"]["quarantined"] == len(aside)
    else:
        assert done.exit_code == 1
        assert "Error: " in done.output
