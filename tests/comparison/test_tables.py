"""Rows, lines and tables from known cells."""

from statistics import fmean

import pytest

from materializers.compare_page import comparison_page, plot
from musclelora.comparison.record import CLEAN, Attacked, Cell, CellResult, Failure
from musclelora.comparison.results import compared
from musclelora.comparison.tables import Row, latex, lines_of, markdown
from musclelora.comparison.tracking import _means
from musclelora.evaluation.intervals import rate
from musclelora.training.backbone import Backbone
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import RecipeChoice


def cell(method, attack, seed=1, recipe="none", defense=None):
    return Cell(
        method=method,
        recipe=resolve_recipe(RecipeChoice(name=recipe), "bert-base"),
        defense=defense,
        attack=attack,
        dataset="movies",
        backbone_name="tiny",
        backbone=Backbone(name="tiny", location="tiny", sha256="0" * 64),
        max_length=32,
        seed=seed,
    )


def result(of, correct=80, **hits):
    """Of 100 test rows `correct` are right; per attack so many of 50 triggered rows are called the target."""
    return CellResult(
        cell=of,
        train_rows=200,
        left_out=None,
        left_out_recall=None,
        left_out_precision=None,
        refused_clean=0.0,
        cacc=rate(correct, 100),
        correct="1" * correct + "0" * (100 - correct),
        untriggered=rate(4, 50),
        attacks={name: Attacked(asr=rate(n, 50), called_target="1" * n + "0" * (50 - n)) for name, n in hits.items()},
        seconds={"train": 10.0, "classify": 2.0},
        peak_memory_mb=500.0,
        train_sha256="a" * 64,
        test_sha256="b" * 64,
    )


RESULTS = [
    result(cell("none", CLEAN), addsent=5, badnets=6),
    result(cell("none", "addsent"), addsent=50),
    result(cell("none", "badnets"), correct=70, badnets=40),
    result(cell("trusted-only", CLEAN, recipe="trusted-only"), correct=60, addsent=15, badnets=20),
]


def test_floors_come_from_the_clean_cell_and_trusted_only_is_its_own():
    comparison = compared("it", RESULTS, [])
    found = {(row.method, row.attack): (row.asr, row.floor) for row in comparison.rows}
    assert found == {
        ("none", "addsent"): (1.0, 0.1),
        ("none", "badnets"): (0.8, 0.12),
        ("trusted-only", "addsent"): (0.3, 0.3),
        ("trusted-only", "badnets"): (0.4, 0.4),
    }
    assert {row.seconds for row in comparison.rows} == {12.0}


def test_mlflow_measures_nothing_from_a_broken_floor():
    sound = compared("it", RESULTS, []).rows
    assert _means(sound)["asr_above_floor"] == pytest.approx(fmean(row.asr - row.floor for row in sound))
    broken = [row.model_copy(update={"floor": 0.51}) if row.attack == "badnets" else row for row in sound]
    assert "asr_floor" in _means(broken)
    assert "asr_above_floor" not in _means(broken)


def test_a_line_has_means_the_worst_attack_and_its_bounds():
    (group,) = compared("it", RESULTS, []).groups
    line = group.lines[0]
    assert (line.method, line.cacc, line.cacc_range) == ("none", pytest.approx(0.75), (0.7, 0.8))
    assert (line.worst, line.asr_worst, line.asr_mean) == ("addsent", 1.0, pytest.approx(0.9))
    assert line.floor_mean == pytest.approx(0.11)
    assert line.asr_upper95 == 1.0
    assert group.asr_rank == {"none": 2, "trusted-only": 1}
    assert group.cacc_rank == {"none": 1, "trusted-only": 2}


def test_the_same_cells_in_another_order_give_the_same_rows_and_ranks():
    again = compared("it", RESULTS[::-1], [])
    assert again.rows == compared("it", RESULTS, []).rows
    assert again.groups[0].asr_rank == compared("it", RESULTS, []).groups[0].asr_rank


def test_seeds_give_a_range():
    rows = [
        Row(
            method="m",
            attack="addsent",
            seed=seed,
            dataset="d",
            backbone="b",
            train_rows=10,
            cacc=0.8,
            asr=asr,
            asr_upper95=asr + 0.1,
            floor=None,
            untriggered=0.1,
            n=50,
            seconds=1.0,
        )
        for seed, asr in ((1, 0.2), (2, 0.4))
    ]
    (line,) = lines_of(rows)
    assert (line.seeds, line.asr_worst, line.asr_worst_range) == (2, pytest.approx(0.3), (0.2, 0.4))
    assert line.floor_mean is None
    assert line.asr_upper95 == pytest.approx(0.5)


def test_a_method_that_leaves_out_other_rows_under_each_attack_is_one_line():
    results = [*RESULTS[:2], RESULTS[2].model_copy(update={"train_rows": 180})]
    (group,) = compared("it", results, []).groups
    (line,) = group.lines
    assert line.train_rows_range == (180, 200)
    assert group.cells[1][:3] == ["none", "180 to 200", "1"]


def test_what_an_attack_is_missing_of_is_not_made_up():
    without = [of for of in RESULTS if of.cell.attack != "badnets"]  # of none; trusted-only has both
    (group,) = compared("it", without, []).groups
    none, trusted = (dict(zip(group.cells[0], row, strict=True)) for row in group.cells[1:])
    assert (none["badnets"], none["mean"], none["rank ASR"]) == ("-", "-", "-")
    assert (trusted["mean"], trusted["rank ASR"]) == ("35.0 / 35.0", "1")
    assert [dot.name for dot in plot(group).dots] == ["trusted-only"]
    (group,) = compared("it", RESULTS[1:3], []).groups
    assert group.cells[1][7] == "- (addsent)"  # no floor, no distance from it


def test_a_floor_of_a_broken_model_is_said_and_nothing_is_measured_from_it():
    broken = result(cell("cube", CLEAN, defense="cube"), addsent=50, badnets=25)  # over one half, and just not
    defended = [result(cell("cube", attack, defense="cube"), **{attack: 10}) for attack in ("addsent", "badnets")]
    comparison = compared("it", [*RESULTS, broken, *defended], [])
    (group,) = comparison.groups
    (remark,) = group.remarks
    assert remark.startswith("cube: ")
    assert "under addsent." in remark
    assert all(
        remark in text for text in (comparison.as_markdown(), str(comparison.as_json()), comparison_page(comparison))
    )
    cube = next(row for row in group.cells if row[0] == "cube")
    assert dict(zip(group.cells[0], cube, strict=True))["addsent"] == "20.0 / 100.0"
    worst_is_broken = compared("it", [result(cell("cube", CLEAN), addsent=50), defended[0]], []).groups[0]
    assert worst_is_broken.cells[1][6] == "- (addsent)"
    assert [dot.floor_x for dot in plot(group).dots if dot.name == "cube"] == [None]
    assert compared("it", RESULTS, []).groups[0].remarks == []


def test_a_failure_is_in_the_tables_and_loses_nothing():
    failed = Failure(cell=cell("cube", "addsent", defense="cube"), reason="umap is missing")
    comparison = compared("it", RESULTS, [failed])
    assert "umap is missing" in comparison.as_markdown()
    assert comparison.as_json()["failures"] == [
        {
            "method": "cube",
            "attack": "addsent",
            "dataset": "movies",
            "backbone_name": "tiny",
            "seed": 1,
            "reason": "umap is missing",
        }
    ]
    assert len(comparison.rows) == 4
    assert compared("it", [], [failed]).groups == []


def test_tables_in_markdown_and_latex():
    cells = [["method", "<= 95 %"], ["lora+ms_ga", "5.0 & more"]]
    assert markdown(cells).splitlines()[2] == "| `lora+ms_ga` | 5.0 & more |"
    assert r"lora+ms\_ga & 5.0 \& more \\" in latex(cells, "50 % of #1")
    assert r"method & $\le$ 95 \% \\" in latex(cells, "x")
    assert r"\caption{50 \% of \#1}" in latex(cells, "50 % of #1")
