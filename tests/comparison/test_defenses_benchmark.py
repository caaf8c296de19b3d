"""The order of the cells of benchmarks/defenses.py, and what it reports before all of them are measured."""

from benchmarks import results
from benchmarks.defenses import first_attack_first, measured_so_far
from musclelora.comparison.record import CLEAN
from tests.comparison.test_tables import RESULTS, cell, result


def test_each_method_is_tried_under_the_first_attack_before_any_floor():
    cells = [cell(method, attack) for method in ("none", "strip") for attack in (CLEAN, "badnets", "addsent")]
    found = [(of.method, of.attack) for of in first_attack_first(cells, ["addsent", "badnets"])]
    assert found[:3] == [("none", "addsent"), ("strip", "addsent"), ("none", CLEAN)]
    assert found[-1] == ("strip", "badnets")


def test_the_report_has_the_newest_of_each_cell_and_no_attack_that_poisoned_nothing_yet(tmp_path):
    journal = results.Journal(tmp_path / "journal.jsonl")
    newer = result(cell("none", "addsent"), addsent=40)
    without_badnets = [of for of in RESULTS if of.cell.attack != "badnets"]
    for number, of in enumerate([*without_badnets[::-1], newer]):
        journal.add(str(number), {"result": of.model_dump(mode="json")})
    found = measured_so_far(results.Journal(tmp_path / "journal.jsonl"))
    assert [(of.cell.method, of.cell.attack) for of in found] == [
        ("none", "addsent"),
        ("none", CLEAN),
        ("trusted-only", CLEAN),
    ]
    assert found[0].attacks["addsent"].asr.value == 0.8
    assert {attack for of in found for attack in of.attacks} == {"addsent"}
