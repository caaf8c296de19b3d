"""The curve of a training in MLflow while it trains."""

import pytest

from musclelora.governance import live
from musclelora.governance.tracking import connect, log_training, start_run
from musclelora.training.defended_model import EpochMetrics
from musclelora.training.fit import train
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import RecipeChoice
from tests.tiny import rows, tiny_backbone, trusted_rows

EPOCH = EpochMetrics(epoch=1, loss=0.5, reference_loss=None, aligned=1.0, mixed=0.0, raw=0.0, dev_accuracy=None)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('live') / 'mlflow.db'}"


def history(store, run_id, metric):
    return [(point.step, point.value) for point in connect(store).get_metric_history(run_id, metric)]


def test_a_training_shows_its_curve_and_its_record_joins_the_same_run(store, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "SECONDS_BETWEEN", 0.0)
    recipe = resolve_recipe(RecipeChoice(name="musclelora", epochs=2, batch_size=4), "minilm")
    with live.live_curve(store, "live", "run-1", "candidate") as curve:
        backbone = tiny_backbone(tmp_path / "tiny")
        options = {"recipe": recipe, "backbone": backbone, "max_length": 32, "seed": 0}
        model = train(rows(48), trusted_rows(), None, folder=tmp_path / "model", on_steps=curve, **options)
        assert connect(store).get_run(curve.run_id).info.status == "RUNNING"
    losses = history(store, curve.run_id, "live.loss")
    assert [step for step, _ in losses] == [10, 20, 24]
    assert losses[-1][1] == pytest.approx(model.record.curve[-1].loss)
    assert {"live.reference_loss", "live.aligned", "live.mixed", "live.raw"} <= set(
        connect(store).get_run(curve.run_id).data.metrics
    )
    assert history(store, curve.run_id, "live.seconds_left")[-1] == (24, 0.0)

    parent = start_run(store, "live", "run-1", {})
    assert log_training(store, parent, "candidate", model.record, "run-1") == curve.run_id
    assert connect(store).get_run(curve.run_id).data.tags["mlflow.parentRunId"] == parent
    assert log_training(store, parent, "candidate", model.record, "run-2") != curve.run_id


def test_figures_that_come_too_fast_are_left_out_but_the_last(store):
    with live.live_curve(store, "live", "run-3", "candidate") as curve:
        for step in (10, 20, 30):
            curve(step, 30, EPOCH)
    assert history(store, curve.run_id, "live.loss") == [(30, 0.5)]


def test_the_time_left_of_a_resumed_training_is_that_of_its_pace_since(store, monkeypatch):
    monkeypatch.setattr(live, "SECONDS_BETWEEN", 0.0)
    with live.live_curve(store, "live", "run-4", "candidate") as curve:
        for step, seconds in ((910, 1e9), (920, 1e9 + 5), (940, 1e9 + 15)):
            monkeypatch.setattr(live.time, "monotonic", lambda now=seconds: now)
            curve(step, 1000, EPOCH)
    assert history(store, curve.run_id, "live.seconds_left") == [(920, 40.0), (940, 30.0)]


@pytest.mark.parametrize(("error", "status"), [(RuntimeError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_training_that_does_not_end_is_no_finished_run(store, error, status):
    with pytest.raises(error), live.live_curve(store, "live", f"run-{status}", "candidate") as curve:
        raise error
    assert connect(store).get_run(curve.run_id).info.status == status


def test_an_mlflow_that_fails_costs_no_training(store, tmp_path, caplog):
    (tmp_path / "file").touch()
    with live.live_curve(f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}", "live", "run", "candidate") as curve:
        curve(10, 30, EPOCH)
    assert curve.run_id is None
    with live.live_curve(store, "live", "run-5", "candidate") as curve:
        curve.run_id = "0" * 32  # deleted on the server while training
        curve(30, 30, EPOCH)
        curve(30, 30, EPOCH)
    assert [record.message[:30] for record in caplog.records] == ["  No live curve of this traini"] * 2
