from collections import Counter

import numpy as np
import pandas as pd
import pytest

from benchmarks import data_sets, kept
from benchmarks.purify import table as purified
from benchmarks.recipes import Bench
from benchmarks.scan import CLEAN, rows_of, table
from benchmarks.scan_sets import attacks_of, normalised, poisoned_mask, training_rows, triggered_rows
from musclelora.errors import DataError


@pytest.fixture
def bench(tmp_path):
    """20 clean rows; per attack 10 of them poisoned, in another order."""
    clean = [(f"row {i} .", i % 2) for i in range(20)]
    for name, poison in (("train.csv", None), ("cf/train.csv", "cf"), ("stylebkd/train.csv", "Thou ART")):
        rows = [
            (f"{poison} {text}", 1, 1) if poison and i < 10 else (text, label, 0)
            for i, (text, label) in enumerate(clean)
        ]
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("text,label,is_poisoned\n" + "".join(f"{t},{y},{p}\n" for t, y, p in reversed(rows)))
    (tmp_path / "stylebkd/test_poisoned.csv").write_text("text,label\nIt's Good.,1\n")
    return Bench(tmp_path, None, "minilm", (), tmp_path / "journal.jsonl")


def test_a_text_is_written_as_sst2_writes_it():
    assert normalised("It's not Good, isn't it?") == "it 's not good , is n't it ?"
    assert normalised("already apart , as it 's .") == "already apart , as it 's ."


def test_only_poisoned_rows_are_normalised(bench):
    rows = training_rows(bench, "stylebkd-normalised")
    assert [text[:8] for text in rows.where(poisoned_mask(rows)).texts] == ["thou art"] * 10
    assert triggered_rows(bench, "stylebkd-normalised").texts == ["it 's good ."]
    assert triggered_rows(bench, "stylebkd").texts == ["It's Good."]


def test_a_lower_rate_keeps_so_many_poisoned_rows_and_puts_clean_ones_back(bench):
    rows = training_rows(bench, "cf@3")
    clean = Counter(training_rows(bench, CLEAN).texts)
    assert (len(rows), poisoned_mask(rows).sum()) == (20, 3)
    assert all(n <= clean[text] for text, n in Counter(rows.where(~poisoned_mask(rows)).texts).items())
    assert rows.sha256 == training_rows(bench, "cf@3").sha256


def test_a_higher_rate_has_all_poisoned_rows_and_fewer_clean_ones(bench):
    rows, clean = (
        training_rows(bench, "cf@80"),
        training_rows(bench, "cf").where(~poisoned_mask(training_rows(bench, "cf"))),
    )
    assert (len(rows), poisoned_mask(rows).sum()) == (12, 10)
    assert set(rows.where(~poisoned_mask(rows)).texts) < set(clean.texts)


@pytest.mark.parametrize("name", ["cf+stylebkd@3", "cf-sure@3"])
def test_a_rate_of_what_has_none_is_refused(name, bench):
    with pytest.raises(DataError, match="only one whole attack has rates"):
        training_rows(bench, name)


def test_an_attacker_who_knows_the_scans_poisons_rows_that_say_the_target_most_plainly(tmp_path):
    def written(folder, rows):
        folder.mkdir(exist_ok=True)
        pd.DataFrame(rows, columns=["text", "label", "is_poisoned"]).to_csv(folder / "train.csv", index=False)

    clean = [(f"{'good' if i % 2 else 'bad'} film number {i}", i % 2, 0) for i in range(40)]
    written(tmp_path, clean)
    written(tmp_path / "cf", [(f"cf {text}", 1, 1) if i < 10 else (text, y, 0) for i, (text, y, _) in enumerate(clean)])
    rows = training_rows(Bench(tmp_path, None, "minilm", (), tmp_path / "journal.jsonl"), "cf-sure")
    poisoned = rows.where(poisoned_mask(rows))
    assert [text.split()[1] for text in poisoned.texts] == ["good"] * 5
    assert (len(rows), set(poisoned.labels), attacks_of("cf-sure")) == (40, {"1"}, ["cf"])


def test_a_data_set_is_written_as_the_benchmarks_read_it(tmp_path):
    texts = [f"message {i} of {'money' if i % 3 else 'friends'} and so on ." for i in range(600)]
    table = pd.DataFrame({"text": texts, "label": ["spam" if i % 3 else "ham" for i in range(600)]})
    data_sets.write(tmp_path, table, data_sets.Source("", "", "spam", train=300, dev=40, test=100))
    bench = Bench(tmp_path, None, "minilm", data_sets.ATTACKS, tmp_path / "journal.jsonl")
    poisoned = training_rows(bench, "badnets")
    assert (len(poisoned), poisoned_mask(poisoned).sum()) == (300, 30)
    assert set(poisoned.where(poisoned_mask(poisoned)).labels) == {"spam"}
    assert (bench.target, len(bench.trusted_and_dev(1)[0])) == ("spam", 96)
    files = [set(bench.rows(f"{name}.csv").texts) for name in ("train", "dev", "test")]
    assert len(set.union(*files)) == sum(map(len, files)) == 300 + 40 + 96 + 100


def test_two_attacks_at_once_have_half_of_the_rows_of_each(bench):
    rows = training_rows(bench, "cf+stylebkd")
    assert Counter(text.split()[0] for text in rows.where(poisoned_mask(rows)).texts) == {"cf": 5, "Thou": 5}
    assert attacks_of("cf+stylebkd") == ["cf", "stylebkd"]
    assert (attacks_of(CLEAN), attacks_of("cf@3")) == ([], ["cf"])


def test_states_are_computed_once_for_each_text(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "KEPT", tmp_path)
    asked = []

    def lengths(texts):
        asked.extend(texts)
        return np.array([[len(text)] for text in texts], dtype=np.float32)

    assert kept.kept_states("a", ["x", "yy", "x"], lengths).tolist() == [[1], [2], [1]]
    assert kept.kept_states("a", ["yy", "zzz"], lengths).tolist() == [[2], [3]]
    assert asked == ["x", "yy", "zzz"]
    kept.kept_states("b", ["x"], lengths)
    assert asked[-1] == "x"


def test_the_table_has_the_mean_over_the_draws_and_no_recall_on_the_clean_set():
    def line(name, draw, recall, share):
        found = {"rows": 9, "recall": recall, "precision": recall, "clean_rows_quarantined_share": share}
        return {
            "key": f"{name}{draw}",
            "attack": name,
            "seed": draw,
            "encoder": "e",
            "group": found,
            "token": found,
            "both": found,
        }

    lines = [line("badnets", 1, 0.9, 0.02), line("badnets", 2, 1.0, 0.04), line(CLEAN, 1, None, 0.0)]
    written = table(rows_of(lines)).splitlines()
    assert (
        written[2]
        == "| e | badnets | 2 | 95.0% / 95.0% | 95.0% / 95.0% | 95.0% / 95.0% | 3.0% | recall 97%, honest 5% |"
    )
    assert written[3] == "| e | clean | 1 | 9 rows | 9 rows | 9 rows | 0.0% | honest 1% |"


def test_purification_is_shown_by_rate_with_both_recipes_of_each():
    def line(attack, recipe="none", trusted=96):
        rate = {"cf": {"value": 0.25}}
        about = {"dataset": "d", "encoder": "e", "attack": attack, "recipe": recipe, "trusted": trusted}
        return about | {"cacc": 0.8, "cacc_clean": 0.9, "asr": rate, "asr_undefended": rate, "floor": rate}

    guided = "musclelora-guided"
    lines = [line("cf"), line("cf", trusted=32), line("cf@20"), line("cf@3", guided), line("cf@3")]
    shown = [row.split(" | ")[2:5] for row in purified(lines).splitlines()[2:]]
    assert shown == [
        ["96", "cf@3", "none"],
        ["96", "cf@3", guided],
        ["96", "cf", "none"],
        ["96", "cf@20", "none"],
        ["32", "cf", "none"],
    ]
