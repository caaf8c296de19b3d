"""The frequency analysis against the golden file, in blocks, where it is undefined, and beside a training."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from materializers.pages import training_page
from musclelora.errors import DataError
from musclelora.evaluation import fourier
from musclelora.evaluation.config import FourierConfig
from musclelora.evaluation.fourier import Distances, fourier_observer, frequency_errors, measured_steps
from musclelora.seeding import generator
from musclelora.training import fit
from musclelora.training.backbone import load_backbone
from musclelora.training.predict import logits_of
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import RecipeChoice
from tests.tiny import rows, tiny_backbone, trusted_rows

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/fourier_filtering.json").read_text(encoding="utf-8"))


def distances(x):
    return Distances(lambda part: x[part], len(x), x.shape[1])


def random_case(n, classes=3):
    rng = generator(0, "tests/fourier")
    return rng.normal(size=(n, 7)), softmax(rng.normal(size=(n, classes)), axis=1), rng.integers(0, classes, n)


def test_the_golden_numbers():
    x, logits = np.array(GOLDEN["embeddings"]), np.array(GOLDEN["logits"])
    deltas = [case["delta"] for case in GOLDEN["expected"]]
    errors = frequency_errors(distances(x), softmax(logits, axis=1), np.array(GOLDEN["labels"]), deltas)
    assert errors.low == pytest.approx([case["low_relative_error"] for case in GOLDEN["expected"]], rel=1e-9)
    assert errors.high == pytest.approx([case["high_relative_error"] for case in GOLDEN["expected"]], rel=1e-9)


def test_blocks_give_what_the_whole_matrix_gives(monkeypatch):
    x, probabilities, labels = random_case(50)
    whole = frequency_errors(distances(x), probabilities, labels)
    monkeypatch.setattr(fourier, "BLOCK_ROWS", 7)
    monkeypatch.setattr(fourier, "KEPT_ROWS", 10)
    in_blocks = distances(x)
    assert max(block.size for _, _, block in in_blocks.blocks()) == 49
    for _ in range(2):
        blockwise = frequency_errors(in_blocks, probabilities, labels)
        assert blockwise.low == pytest.approx(whole.low, rel=1e-12)
        assert blockwise.high == pytest.approx(whole.high, rel=1e-12)
    assert in_blocks._kept == []


def test_a_wide_embedding_makes_narrow_blocks(monkeypatch):
    monkeypatch.setattr(fourier, "BLOCK_BYTES", 8 * 7 * 3)
    assert max(block.size for _, _, block in distances(random_case(10)[0]).blocks()) == 9


def test_labels_that_are_all_the_same_have_no_high_part_and_a_low_one():
    x, probabilities, _ = random_case(20)
    errors = frequency_errors(distances(x.astype(np.float32)), probabilities, np.ones(20, dtype=int))
    assert set(errors.high) == {None}
    assert errors.mean_high is None
    assert errors.mean_low == pytest.approx(np.mean([e for e in errors.low if e is not None]))
    assert all(error > 0 for error in errors.low)


def test_perfect_predictions_have_no_error():
    x, _, labels = random_case(20)
    errors = frequency_errors(distances(x), np.eye(3)[labels], labels)
    assert set(errors.low) == set(errors.high) == {0.0}
    assert errors.accuracy == 1


def test_predictions_smooth_over_neighbours_err_more_in_the_high_part():
    x, _, labels = random_case(60)
    smooth = fourier.low_pass(distances(x), np.eye(3)[labels], [2.0])[0]
    errors = frequency_errors(distances(x), smooth, labels)
    assert errors.mean_high > 5 * errors.mean_low


@pytest.mark.parametrize(("steps", "measurements"), [(434, 12), (5, 12), (1, 1)])
def test_measured_steps_start_at_zero_and_end_with_the_training(steps, measurements):
    chosen = sorted(measured_steps(steps, measurements))
    assert (chosen[0], chosen[-1]) == (0, steps)
    assert len(chosen) <= measurements + 1
    assert np.all(np.diff(np.diff(chosen)) >= -1)  # further and further apart, but for rounding


@pytest.fixture
def backbone(tmp_path):
    return tiny_backbone(tmp_path / "base")


def observer(backbone, dev, rows_measured=8):
    return fourier_observer(
        dev,
        attack="addsent",
        target="1",
        seed=7,
        label_names=("0", "1"),
        loaded=load_backbone(backbone, ["0", "1"], 32),
        max_length=32,
        settings=FourierConfig(rows=rows_measured, measurements=4),
    )


def train(tmp_path, backbone, watched, folder):
    recipe = resolve_recipe(
        RecipeChoice(name="musclelora", epochs=2, batch_size=16, precision="fp32", learning_rate=5e-3), "bert-base"
    )
    return fit.train(
        rows(48),
        trusted_rows(),
        rows(20, "dev", 500),
        recipe=recipe,
        backbone=backbone,
        max_length=32,
        seed=7,
        folder=tmp_path / folder,
        observer=watched,
    )


def test_a_training_that_is_watched_learns_the_same_and_keeps_the_curve(tmp_path, backbone):
    plain = train(tmp_path, backbone, None, "plain")
    model = train(tmp_path, backbone, observer(backbone, rows(40, "dev", 500)), "watched")
    texts = rows(8).texts
    assert np.array_equal(logits_of(*plain.load(), texts, 32), logits_of(*model.load(), texts, 32))
    assert plain.record.frequencies is None
    curve = model.record.frequencies
    assert [point.step for point in curve.points] == [0, 1, 2, 3, 6]
    assert (curve.rows, curve.attack, curve.target) == (8, "addsent", "1")
    assert all(point.poisoned.mean_high is None for point in curve.points)
    assert all(point.clean.mean_low > 0 and point.clean.mean_high > 0 for point in curve.points)
    page = training_page(model.record)
    assert page.count("<figure>") == 5
    assert "undefined" in page
    assert "What to see" in page
    assert "Frequencies" not in training_page(plain.record)


def test_no_more_rows_than_there_are(backbone):
    assert observer(backbone, rows(10, "dev", 500), rows_measured=100).rows == 5  # half of them are of other classes


def test_no_dev_rows_is_said(backbone):
    with pytest.raises(DataError, match="clean dev rows"):
        observer(backbone, rows(0))
