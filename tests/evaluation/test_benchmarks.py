"""What benchmarks.audit and benchmarks.joint_drill make of their measurements, and the journal they go on from."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import audit, joint_drill, results
from benchmarks.audit import Audits
from musclelora.ingest import Delivery
from musclelora.training.backbone import Backbone
from tests.tiny import rows, trusted_rows

NO_BACKBONE = Backbone(name="none", location="none", sha256="0" * 64)
TRIGGERED = rows(10, "triggered")


def test_the_clean_model_is_read_against_the_mean_of_the_others_and_so_is_each(monkeypatch):
    called = {"clean": 4, "floor": 1, "floor-3": 2, "floor-4": 3}  # of ten rows, the target

    def tested(_audits, name):
        target = np.arange(10) < called[name]
        return SimpleNamespace(label_names=["0", "1"], predictions=lambda _texts: target.astype(int))

    monkeypatch.setattr(Audits, "tested", tested)
    audits = Audits(SimpleNamespace(triggered={"addsent": TRIGGERED}, target="1"), 0, "fp32")
    found = audits.honest()["addsent"]
    assert found["asr"] == {"clean": 0.4, "floor": 0.1, "floor-3": 0.2, "floor-4": 0.3}
    assert found["floor"] == pytest.approx(0.2)
    assert found["above_floor"] == pytest.approx(
        {"clean": 0.2, "floor": -0.2, "floor-3": -0.0667, "floor-4": 0.0667}, abs=1e-3
    )
    assert found["deviation"] == pytest.approx(0.1291, abs=1e-4)


def test_a_joint_drill_is_planned_beside_separate_ones_and_only_what_is_defended_is_scanned():
    parts = [(of.part, scanned) for of, scanned in joint_drill.trainings()]
    drills = [joint_drill.TOGETHER, *joint_drill.DRILLED]
    defended = ["candidate", *(f"drill_{drill}" for drill in drills)]
    assert {part for part, scanned in parts if scanned} == set(defended)
    assert {part for part, scanned in parts if not scanned} == {
        *defended,
        "undefended",
        *(f"control_{drill}" for drill in drills),
    }


def test_the_scan_sees_the_poison_of_a_drill_and_leaves_a_control_its_rows():
    data = rows(40)
    delivery = Delivery(data, rows(0), rows(10, "test"), trusted_rows())
    trainings = {of.part: of for of, scanned in joint_drill.trainings() if not scanned}

    def scan(of):
        poisoned = (
            of.column("is_poisoned") if "is_poisoned" in of.rows.column_names else [i == 0 for i in range(len(of))]
        )
        return [SimpleNamespace(rows=np.flatnonzero(poisoned).tolist())]

    def trained_on(part, by):
        return joint_drill.rows_for(trainings[part], delivery, by)

    drill = f"drill_{joint_drill.TOGETHER}"
    assert sum(trained_on(drill, None).column("is_poisoned")) == 16  # 10 % for each of four attacks
    assert len(trained_on(drill, scan)) == 24
    assert len(trained_on(f"control_{joint_drill.TOGETHER}", scan)) == 40
    assert trained_on("candidate", None).sha256 == data.sha256
    assert len(trained_on("candidate", scan)) == 39


def test_joint_figures_less_the_separate_ones():
    def line(asr, seconds=1.0):
        rate = {"asr": {"value": asr, "upper95": asr, "n": 10}}
        attacks = dict.fromkeys(joint_drill.DRILLED, rate)
        return {"attacks": attacks, "cacc": 0.8, "train_rows": 40, "poison": 4, "seconds": seconds}

    found = {}
    for of, scanned in joint_drill.trainings():
        joint = of.part.endswith(joint_drill.TOGETHER)
        found[of.part, scanned] = line({"drill": 0.3, "control": 0.9}.get(of.part.split("_")[0], 0.2) + 0.05 * joint)
    table = joint_drill.rows_of(found)
    assert [(row["mode"], row["token_scan"]) for row in table[:2]] == [("separate", False), ("joint", False)]
    assert len(table) == 2 * 2 * len(joint_drill.DRILLED)
    assert {row["floor"] for row in table} == {0.2}
    joint = [row for row in table if row["mode"] == "joint"]
    assert [row["asr_less_separate"] for row in joint] == pytest.approx([0.05] * 8)
    assert [row["control_asr_less_separate"] for row in joint] == pytest.approx([0.05] * 8)


def test_a_joint_drill_goes_on_where_it_stopped(monkeypatch, tmp_path, capsys):
    delivery = Delivery(rows(40), rows(10, "dev"), rows(10, "test"), trusted_rows())
    measured = []

    def measure(of, _delivery, _backbone, attacks, recipe):
        measured.append((recipe.name, len(of), tuple(attacks)))
        rate = {"value": 0.5, "upper95": 0.6, "n": 5}
        return {"cacc": 0.8, "seconds": 1.0, "attacks": {attack: {"asr": rate} for attack in attacks}}

    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(joint_drill, "delivered", lambda **_: (delivery, NO_BACKBONE))
    monkeypatch.setattr(joint_drill, "TokenScan", lambda *_, **__: lambda _rows: [])
    monkeypatch.setattr(joint_drill, "measure", measure)
    monkeypatch.setattr("sys.argv", ["joint_drill", "--minutes", "0"])
    joint_drill.main()
    assert measured == []
    assert json.loads((tmp_path / "joint_drill.json").read_text())["finished"] is False
    monkeypatch.setattr("sys.argv", ["joint_drill"])
    joint_drill.main()
    assert len(measured) == 2 + 2 * 5  # a scan that finds nothing leaves rows measured already
    joint_drill.main()
    assert len(measured) == 12
    written = json.loads((tmp_path / "joint_drill.json").read_text())
    assert written["finished"] is True
    assert len(written["rows"]) == 16
    assert capsys.readouterr().out.splitlines()[-1].startswith("RESULT ")


def test_an_audit_goes_on_where_it_stopped(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    data = SimpleNamespace(rows=lambda _file: TRIGGERED, backbone=NO_BACKBONE)
    monkeypatch.setattr(audit, "audited_bench", lambda _data, **_: data)
    monkeypatch.setattr(Audits, "key", lambda _audits, part, name: f"{part} {name}")
    asked = []

    def figures(_audits, part, name):
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append((part, name))
        return {"attacks": {}}

    monkeypatch.setattr(Audits, "figures", figures)
    monkeypatch.setattr("sys.argv", ["audit", "--precision", "bf16"])
    with pytest.raises(KeyboardInterrupt):
        audit.main()
    first = list(asked)
    monkeypatch.setattr(Audits, "figures", lambda _audits, part, name: asked.append((part, name)) or {"attacks": {}})
    audit.main()
    assert asked[:3] == first
    assert asked == audit.PARTS
    assert ("honest", "clean") in asked
    written = json.loads((tmp_path / "audit_bf16.json").read_text())
    assert written["finished"] is True
    assert written["config"]["precision"] == "bf16"


def test_a_journal_is_read_again_and_keeps_its_other_lines(tmp_path):
    file = tmp_path / "results" / "some.jsonl"
    results.Journal(file).add("a", {"value": 1})
    second = results.Journal(file)
    second.add("b", {"value": 2})
    second.add("b", {"value": 3})
    lines = results.Journal(file).done
    assert {key: line["value"] for key, line in lines.items()} == {"a": 1, "b": 3}
    assert all(line["commit"] == results.commit() for line in lines.values())
    assert [path.name for path in file.parent.iterdir()] == ["some.jsonl"]
