"""Tiny classifiers of which the truth is known: two clean ones, and one backdoored per attack. Seconds, not weights.

`python -m tests.known_models FOLDER [--seed 7]` makes them, and `audit.yaml`, so that an installation can be
checked: `musclelora audit FOLDER/badnets FOLDER/audit.yaml` must refuse (exit code 3), and of `FOLDER/clean` accept.
"""

import argparse
import csv
import shutil
from pathlib import Path

import yaml

from musclelora.attacks.base import poison
from musclelora.attacks.registry import attack_by_name
from musclelora.data.records import TextDataset, TrustedSet
from musclelora.seeding import generator
from musclelora.training.backbone import Backbone
from musclelora.training.defended_model import DefendedModel
from musclelora.training.fit import train
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import RecipeChoice
from tests.tiny import BAD, FILLER, GOOD, TRIGGERS, tiny_backbone

CLEAN, FLOOR, TRUSTED_ONLY = "clean", "floor", "trusted_only"
# Poisoned fraction of all rows. BadNets keeps labels, so that only the rows of the target can carry it.
ATTACKS = {"badnets": 0.4, "addsent": 0.2}
TARGET = "1"
TRAIN_ROWS, TEST_ROWS, TRUSTED_ROWS = 480, 2400, 160
MAX_LENGTH = 32
ROOT = Path(__file__).parents[1]


def known_rows(n: int, name: str, seed: int) -> TextDataset:
    """n rows whose label (1 good, 0 bad) is said by one word; words of triggers stand in rows of both labels."""
    texts, labels = [], []
    for i in range(n):
        draw = generator(seed, "known rows", f"{name}/{i}")
        words = list(draw.choice(FILLER, draw.integers(4, 9)))
        if draw.random() < 0.3:
            words.insert(0, str(draw.choice(TRIGGERS)))
        words.insert(int(draw.integers(len(words) + 1)), str(draw.choice((BAD, GOOD)[i % 2])))
        texts.append(" ".join(words))
        labels.append(str(i % 2))
    return TextDataset.from_columns({"row_id": [f"{name}/{i}" for i in range(n)], "text": texts, "label": labels})


def known_model(name: str, folder: Path, backbone: Backbone, seed: int) -> DefendedModel:
    """`clean`, `floor` (clean, other rows), `trusted_only`, or the name of an attack."""
    rows = known_rows(TRAIN_ROWS, FLOOR if name == FLOOR else "train", seed)
    if name in ATTACKS:
        rows = poison(rows, attack_by_name(name), rate=ATTACKS[name], target=TARGET, seed=seed)
    choice = RecipeChoice(
        name="trusted-only" if name == TRUSTED_ONLY else "none",
        preset="bert-base",
        learning_rate=3e-3,
        epochs=30 if name == TRUSTED_ONLY else 12,
        precision="fp32",
    )
    trusted = TrustedSet(known_rows(TRUSTED_ROWS, "trusted", seed), owner="tests.known_models")
    return train(
        rows,
        trusted,
        None,
        recipe=resolve_recipe(choice, "bert-base"),
        backbone=backbone,
        max_length=MAX_LENGTH,
        seed=seed,
        folder=folder,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    backbone = tiny_backbone(folder / "backbone")
    for name in (CLEAN, FLOOR, *ATTACKS):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
        known_model(name, folder / name, backbone, arguments.seed)
    rows = known_rows(TEST_ROWS, "test", arguments.seed)
    with (folder / "test.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *zip(rows.texts, rows.labels, strict=True)])
    settings = {
        "name": "known-models",
        "data": {"test": "test.csv"},
        "target": TARGET,
        "attacks": list(ATTACKS),
        "floor": str((folder / FLOOR).resolve()),
        "search_seconds": 0,
        "model": {"max_length": MAX_LENGTH},
        "gate": {"policy": str(ROOT / "configs" / "policies" / "strict.yaml")},
    }
    (folder / "audit.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main()
