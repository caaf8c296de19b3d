import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from tqdm.auto import tqdm

from musclelora.errors import ConfigError, DataError, ModelError
from musclelora.training import callbacks, fit
from musclelora.training.predict import logits_of
from musclelora.training.presets import PRESETS, resolve_recipe
from musclelora.training.recipes import RecipeChoice
from tests.tiny import rows, tiny_backbone, trusted_rows

RECIPES = ["none", "ga", "ms", "lora", "lora+ga", "lora+ms", "lora+ms+ga", "trusted-only", "trusted-contrastive", "ia3"]


def recipe(name="musclelora", **changes):
    fast = {"learning_rate": 5e-3, "epochs": 2, "batch_size": 16, "precision": "fp32"} | changes
    return resolve_recipe(RecipeChoice(name=name, **fast), "bert-base")


def train(tmp_path, chosen, data=None, folder="out", **changes):
    backbone = changes.pop("backbone", None) or tiny_backbone(tmp_path / "base")
    settings = {"backbone": backbone, "max_length": 32, "seed": 7, "folder": tmp_path / folder} | changes
    return fit.train(data or rows(64), trusted_rows(), rows(20, "dev", 500), recipe=chosen, **settings)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_folds_and_reloads_in_plain_transformers(tmp_path, name):
    model = train(tmp_path, recipe(name, epochs=1))
    record = model.record
    assert record.logit_difference < 1e-4
    assert (tmp_path / "out/adapters/adapters.safetensors").exists() is ("lora" in name or name in ("ms", "ia3"))
    full = name in ("none", "ga", "trusted-only", "trusted-contrastive")
    assert (record.trainable_parameters == record.total_parameters) is full
    assert record.rows == (16 if name == "trusted-only" else 64)
    assert (record.curve[0].reference_loss is not None) is ("ga" in name)


def test_the_folder_loads_with_nothing_of_ours(tmp_path):
    model = train(tmp_path, recipe())
    texts = rows(8).texts
    ours = logits_of(*model.load(), texts, 32)
    script = (
        "import json, sys, torch\n"
        "from transformers import AutoModelForSequenceClassification as M, AutoTokenizer as T\n"
        "m, t = M.from_pretrained(sys.argv[1]).eval(), T.from_pretrained(sys.argv[1])\n"
        "x = t(json.loads(sys.argv[2]), padding=True, return_tensors='pt')\n"
        "assert not [name for name in sys.modules if name.startswith(('musclelora', 'peft'))]\n"
        "print(json.dumps([m(**x).logits.tolist(), m.config.id2label]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(model.model_folder), json.dumps(texts)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    logits, id2label = json.loads(done.stdout)
    np.testing.assert_allclose(logits, ours, atol=1e-4)
    assert id2label == {"0": "0", "1": "1"}


def test_same_seed_same_weights_and_another_seed_others(tmp_path):
    first, again = train(tmp_path, recipe()), train(tmp_path, recipe(), folder="again")
    other = train(tmp_path, recipe(), folder="other", seed=8)
    assert first.sha256 == again.sha256 != other.sha256
    assert first.record.curve == again.record.curve


def test_training_leaves_torchs_global_generator_alone(tmp_path):
    backbone = tiny_backbone(tmp_path / "base")
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train(tmp_path, recipe(epochs=1), backbone=backbone)
    assert torch.equal(torch.rand(3), expected)


def test_full_fine_tuning_learns_the_task_and_keeps_the_best_dev_epoch(tmp_path):
    model = train(tmp_path, recipe("none", epochs=10))
    accuracies = [epoch.dev_accuracy for epoch in model.record.curve]
    assert max(accuracies) > 0.9
    assert accuracies[model.record.best_epoch - 1] == max(accuracies)


def test_many_epochs_are_measured_ten_times_the_last_among_them(tmp_path):
    curve = train(tmp_path, recipe("trusted-only", epochs=25)).record.curve
    assert [e.epoch for e in curve if e.dev_accuracy is not None] == [3, 6, 9, 12, 15, 18, 21, 24, 25]


def test_without_dev_rows_the_last_epoch_is_kept(tmp_path):
    backbone, folder = tiny_backbone(tmp_path / "base"), tmp_path / "out"
    model = fit.train(
        rows(64), trusted_rows(), None, recipe=recipe(), backbone=backbone, max_length=32, seed=7, folder=folder
    )
    assert model.record.best_epoch == 2


def test_modes_follow_the_schedule(tmp_path):
    always = train(tmp_path, recipe(alignment={"min_ref_loss": 0, "rho_max": 0}), folder="a").record.curve
    assert [(e.aligned, e.mixed, e.raw) for e in always] == [(1, 0, 0)] * 2
    gated = train(tmp_path, recipe(alignment={"min_ref_loss": 1e9, "start_epoch": 1}), folder="b").record.curve
    assert [(e.aligned, e.mixed, e.raw) for e in gated] == [(0, 0, 1), (0, 1, 0)]


def test_epochs_are_reported_as_they_end(tmp_path):
    seen = []
    train(tmp_path, recipe(), on_epoch=seen.append)
    assert [metrics.epoch for metrics in seen] == [1, 2]


def test_the_progress_bar_tells_losses_and_modes(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(callbacks, "STEPS_PER_FIGURES", 2)
    monkeypatch.setattr(tqdm, "set_postfix_str", lambda _, text: told.append(text))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    train(tmp_path, recipe(alignment={"min_ref_loss": 0, "rho_max": 0}, epochs=1))
    assert len(told) == 2  # four steps
    assert all(
        re.fullmatch(r"loss \d\.\d{3}, reference loss \d\.\d{3}, aligned 100%, mixed 0%, raw 0%", t) for t in told
    )


def test_one_class_is_refused(tmp_path):
    ones = rows(64).where([label == "1" for label in rows(64).labels])
    with pytest.raises(DataError, match=r"all labelled \['1'\]"):
        train(tmp_path, recipe(), data=ones)


def test_a_model_that_saves_differently_is_refused(tmp_path, monkeypatch):
    def broken_fold(model):
        fold(model)
        model.classifier.weight.data += 1

    fold = fit.fold
    monkeypatch.setattr(fit, "fold", broken_fold)
    with pytest.raises(ModelError, match="logits differ"):
        train(tmp_path, recipe(epochs=1))
    assert not (tmp_path / "out/training.json").exists()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"name": "muscelora"}, "Did you mean 'musclelora'"),
        ({"preset": "bert-bas"}, "Did you mean 'bert-base'"),
        ({"name": "lora", "alignment": {"rho_max": 0.1}}, "switched off"),
        ({"alignment": {"rho_maxx": 0.1}}, "rho_maxx"),
        ({"alignment": {"rho_max": 2}}, "less than or equal to 1"),
    ],
)
def test_wrong_recipe_is_refused(choice, message):
    with pytest.raises(ConfigError, match=message):
        resolve_recipe(RecipeChoice(**choice), "bert-base")


def test_published_settings():
    published = resolve_recipe(RecipeChoice(), "bert-base")
    assert (published.lora.rank, published.lora.alpha) == (8, 32)
    assert published.radial_scaling.scales == (1, 4, 8, 12, 16, 20, 24, 28)
    assert (published.radial_scaling.inner_rank, published.radial_scaling.alpha) == (1, 6)
    alignment = published.alignment
    assert (alignment.start_epoch, alignment.rho_max, alignment.min_ref_norm, alignment.min_ref_loss) == (
        1,
        0.1,
        5e-7,
        0.4,
    )
    assert (published.learning_rate, published.batch_size, published.epochs, published.weight_decay) == (
        2e-5,
        32,
        10,
        0,
    )
    assert PRESETS["roberta-base"].radial_scaling.scales == (1, 2, 4, 6, 8, 10, 12, 14, 16)
    assert PRESETS["bert-large"].radial_scaling.scales == tuple(range(1, 10))
