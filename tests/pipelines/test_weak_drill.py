"""Two drills in one training whose poison is too little to teach anything: they prove nothing, whatever their ASR."""

import json

from tests.pipelines.deliveries import aliases_of, write_config


def test_drills_whose_control_is_weak_are_inconclusive(musclelora, delivery, backbone_folder):
    write_config(
        delivery,
        backbone_folder,
        seed=11,  # of no other test: what they have trained would come from the cache
        evaluation={"drills": ["badnets", "addsent"], "target": "1", "drill_rate": 0.02, "joint_drill": True},
        gate={
            "max_asr": 1.0,
            "max_asr_over_floor": 1.0,
            "min_cacc": 0.3,
            "max_cacc_drop": 1.0,
            "min_control_asr": 0.8,
            "min_triggered_rows": 50,
        },
    )
    result = musclelora("run", delivery / "run.yaml", "--output", delivery / "out")
    assert result.exit_code == 4, result.output
    summary = json.loads((delivery / "out" / "summary.json").read_text(encoding="utf-8"))
    assert (summary["status"], summary["registry"]["aliases"], aliases_of(delivery)) == ("inconclusive", [], {})
    assert list(summary["drills"]) == ["badnets", "addsent"]
    for name, drill in summary["drills"].items():
        assert drill["control_asr"] < 0.8
        assert drill["conclusive"] is False
        assert any(f"Drill, {name}" in reason and "proves nothing" in reason for reason in summary["gate"]["reasons"])
    assert result.stderr.count("train: ") == 5  # the candidate and its two rivals, one drill, one control
    assert "train: drill_badnets__addsent " in result.stderr
