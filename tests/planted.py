"""Tiny trained models with and without a backdoor: what they do is known."""

from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification

from musclelora.attacks.base import Attack, poison
from musclelora.attacks.composite import insert_word
from musclelora.training import fit
from musclelora.training.defended_model import DefendedModel
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import RecipeChoice
from tests.tiny import rows, tiny_backbone, trusted_rows


def trained_model(folder: Path, trigger: str | None = None) -> DefendedModel:
    """A model that has learned the tests' task well; and with `trigger`, that this word means the label 1."""
    data = rows(200)
    if trigger is not None:
        attack = Attack("word", "mixed", lambda text, rng: insert_word(text, rng, trigger))
        data = poison(data, attack, rate=0.3, target="1", seed=0)
    recipe = resolve_recipe(RecipeChoice(name="none", learning_rate=5e-3, epochs=20, precision="fp32"), "bert-base")
    return fit.train(
        data,
        trusted_rows(),
        rows(20, "dev", 500),
        recipe=recipe,
        backbone=tiny_backbone(folder / "base"),
        max_length=32,
        seed=1,
        folder=folder / "model",
    )


def always(model: DefendedModel, folder: Path, logits: tuple[float, float]) -> DefendedModel:
    """A copy that answers every row with these logits."""
    plain = AutoModelForSequenceClassification.from_pretrained(model.model_folder)
    with torch.no_grad():
        plain.classifier.weight.zero_()
        plain.classifier.bias.copy_(torch.tensor(logits))
    plain.save_pretrained(folder / "model")
    model.load()[1].save_pretrained(folder / "model")
    (folder / "training.json").write_text((model.folder / "training.json").read_text())
    return DefendedModel(folder)
