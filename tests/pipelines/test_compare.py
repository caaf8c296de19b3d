"""`musclelora compare` on a tiny delivery: a grid with a failing cell and a defence of the user's own, run again."""

import json
import signal
from pathlib import Path

import pytest
import yaml

from musclelora import defenses
from musclelora.comparison import measure as measuring
from musclelora.defenses.registry import defenses_table
from pipelines import compare
from steps.progress import Countdown
from tests.pipelines.deliveries import mlflow_of, write_delivery

NEW_DEFENSE = '''"""Leave out the rows that hold a word which no trusted row holds."""

from typing import ClassVar

import numpy as np
from pydantic import NonNegativeInt

from musclelora.data.records import TextDataset
from musclelora.defenses.base import Defender, Defense


class Vocabulary(Defense):
    """For tasks whose words are known."""

    name: ClassVar[str] = "vocabulary"
    paper: ClassVar[str] = "the tests"

    strange_words: NonNegativeInt = 1

    def suspects(self, rows: TextDataset, defender: Defender) -> np.ndarray:
        known = {word for text in defender.trusted.data.texts for word in text.split()}
        strange = [sum(word not in known for word in text.split()) for text in rows.texts]
        return np.array(strange) >= self.strange_words
'''
FAST = {"preset": "bert-base", "learning_rate": 5e-3, "epochs": 8, "batch_size": 16, "precision": "fp32"}


def recipe(name):
    return {"recipe": {"name": name, **FAST}}


@pytest.fixture
def folder(tmp_path, backbone_folder, database, monkeypatch):
    """A delivery, `compare.yaml`, and a file with a new defence on the path of the defences."""
    (tmp_path / "mlflow.db").write_bytes(database.read_bytes())
    own = tmp_path / "defenses"
    own.mkdir()
    (own / "vocabulary.py").write_text(NEW_DEFENSE, encoding="utf-8")
    monkeypatch.setattr(defenses, "__path__", [*defenses.__path__, str(own)])
    config = {
        "name": "tiny",
        "methods": [
            recipe("none"),
            recipe("trusted-only"),
            {"defense": "vocabulary", **recipe("none")},
            {"name": "unfit", "defense": "vocabulary", "settings": {"strange_words": 0}, **recipe("none")},
        ],
        "attacks": ["addsent"],
        "datasets": {"movies": {**write_delivery(tmp_path), "target": "1"}},
        "backbones": {"tiny": {"base": str(backbone_folder), "max_length": 32}},
        "preset": "bert-base",
        "tracking": {"uri": f"sqlite:///{tmp_path / 'mlflow.db'}"},
    }
    (tmp_path / "compare.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return tmp_path


def results(folder: Path):
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    for row in found["rows"]:
        del row["seconds"], row["memory_mb"]
    return {key: found[key] for key in ("rows", "failures")}


def test_a_comparison_with_a_failing_cell_and_a_new_defence_goes_on_and_gives_the_same(musclelora, folder, monkeypatch):
    measured = []

    def interrupted(cell, *arguments, **options):
        if len(measured) == 3:
            signal.raise_signal(signal.SIGTERM)
        measured.append(cell.id)
        return measure(cell, *arguments, **options)

    measure = measuring.measure
    monkeypatch.setattr("steps.cells.measure", interrupted)
    stopped = musclelora("compare", folder / "compare.yaml", "--output", folder / "stopped")
    assert stopped.exit_code == 1
    assert "Interrupted. Run the same command again" in stopped.output
    assert len(measured) == 3
    assert not (folder / "stopped").exists()

    monkeypatch.setattr("steps.cells.measure", measure)
    first = musclelora("compare", folder / "compare.yaml", "--output", folder / "first")
    assert first.exit_code == 1, first.output  # a cell failed
    assert "3 of 7 cells came from the cache" in first.output
    found = results(folder / "first")
    rows = {(row["method"], row["attack"]): row for row in found["rows"]}
    assert set(rows) == {("none", "addsent"), ("trusted-only", "addsent"), ("vocabulary", "addsent")}
    assert rows["vocabulary", "addsent"]["train_rows"] < rows["none", "addsent"]["train_rows"] == 320
    assert rows["none", "addsent"]["asr"] > rows["vocabulary", "addsent"]["asr"] + 0.3
    assert rows["trusted-only", "addsent"]["asr"] == rows["trusted-only", "addsent"]["floor"]
    assert {failure["method"] for failure in found["failures"]} == {"unfit"}
    assert "do not fit this data" in found["failures"][0]["reason"]
    table = (folder / "first/table.md").read_text(encoding="utf-8")
    assert "| `vocabulary` |" in table
    assert "movies_tiny_unfit_addsent_seed1" in table
    assert "| `vocabulary` | training data | `strange_words` (1) | the tests |" in defenses_table()
    page = (folder / "first/comparison.html").read_text(encoding="utf-8")
    assert page.count("<circle") == 3
    assert "unfit" in page

    second = musclelora("compare", folder / "compare.yaml", "--output", folder / "second")
    assert "5 of 7 cells came from the cache" in second.output, second.output
    assert results(folder / "second") == found
    check_mlflow(folder)

    uncached = compare.comparison_pipeline.with_options(enable_cache=False)
    monkeypatch.setattr(compare, "comparison_pipeline", uncached)
    whole = musclelora("compare", folder / "compare.yaml", "--output", folder / "whole")
    assert "0 of 7 cells came from the cache" in whole.output, whole.output
    assert results(folder / "whole") == found


def check_mlflow(folder):
    client = mlflow_of(folder)
    (experiment,) = client.search_experiments(filter_string="name = 'musclelora'")
    runs = client.search_runs([experiment.experiment_id], "tags.kind = 'cell' and tags.method = 'none'")
    assert len(runs) == 2  # two comparisons
    of = runs[0]
    assert {"cacc", "asr", "asr_upper95", "asr_floor", "asr_worst", "asr_above_floor"} <= set(of.data.metrics)
    assert {"method", "attack", "dataset", "backbone", "seed", "recipe.learning_rate"} <= set(of.data.params)
    assert [source.dataset.name for source in of.inputs.dataset_inputs] == ["movies/addsent/train", "movies/test"]
    method = client.get_run(of.data.tags["mlflow.parentRunId"])
    assert method.data.metrics["asr"] == of.data.metrics["asr"]
    parent = client.get_run(method.data.tags["mlflow.parentRunId"])
    assert parent.data.tags["kind"] == "comparison"
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} >= {"results.json", "comparison.html"}
    failed = client.search_runs([experiment.experiment_id], "tags.method = 'unfit'")
    assert {run.info.status for run in failed} == {"FAILED"}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("methods=[nonne]", "nonne"),
        ("methods=[none, none]", "listed twice"),
        ("attacks=[addsents]", "Did you mean 'addsent'"),
        ("attacks=[]", "attacks"),
        ("datasets.movies.target=9", "none of the labels"),
        ("methods=[{recipe: {name: none}, settings: {a: 1}}]", "defence"),
        ("datasets.movies.trusted_from_dev=8", "trusted_from_dev"),
    ],
)
def test_what_is_wrong_is_said(musclelora, folder, override, said):
    done = musclelora("compare", folder / "compare.yaml", "--set", override, "--output", folder / "wrong")
    assert done.exit_code in (1, 2)
    assert said in done.output


def test_the_countdown_says_which_cell_it_is_and_takes_a_method_for_as_long_as_before():
    countdown = Countdown()
    assert countdown.place("a1") == ""  # another process launched it
    countdown.expect({"a1": "a", "a2": "a", "b1": "b", "b2": "b"})
    assert countdown.place("a1") == "cell 1 of 4: "
    countdown.measured("a1", 20.0)
    assert countdown.place("a2") == "cell 2 of 4, about 60 s left: "
    countdown.measured("b1", 200.0)
    assert countdown.place("b2") == "cell 4 of 4, about 3 min left: "


def test_a_dry_run_counts_the_cells_and_starts_nothing(musclelora, folder):
    done = musclelora("compare", folder / "compare.yaml", "--dry-run")
    assert (done.exit_code, "7 cells" in done.output) == (0, True), done.output
    assert "movies: 320 training" in done.output
