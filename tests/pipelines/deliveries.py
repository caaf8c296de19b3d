"""A delivery of files for the tiny backbone, the YAML that names them, and what the registry holds afterwards."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from mlflow import MlflowClient

from tests.tiny import BAD, FILLER, GOOD

MODEL = "tiny-classifier"
Rows = list[tuple[str, str]]


def distinct_rows(n: int, seed: int = 0) -> Rows:
    """n different texts whose label (1 good, 0 bad) is said by one word."""
    rng, seen = np.random.default_rng(seed), {}
    while len(seen) < n:
        label = len(seen) % 2
        words = list(rng.choice(FILLER, rng.integers(4, 9)))
        words.insert(int(rng.integers(len(words) + 1)), str(rng.choice(GOOD if label else BAD)))
        seen.setdefault(" ".join(words), str(label))
    return list(seen.items())


def mixed_rows(n: int, seed: int = 0) -> Rows:
    """n different texts whose label is that of three words out of five: no word or pair of words gives it away."""
    rng, seen = np.random.default_rng(seed), {}
    while len(seen) < n:
        label = len(seen) % 2
        mine, other = (GOOD, BAD) if label else (BAD, GOOD)
        words = [*rng.choice(mine, 3), *rng.choice(other, 2), *rng.choice(FILLER, 6)]
        rng.shuffle(words)
        seen.setdefault(" ".join(words), str(label))
    return list(seen.items())


def write_csv(path: Path, rows: Rows, header: tuple[str, ...] = ("text", "label")) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def write_delivery(folder: Path) -> dict[str, Any]:
    """train, dev, test and trusted CSV files in `folder`; returns the `data` section that names them."""
    rows = distinct_rows(640)
    parts = {"train": rows[:320], "dev": rows[320:360], "test": rows[360:600], "trusted": rows[600:]}
    for name, part in parts.items():
        write_csv(folder / f"{name}.csv", part)
    files = {name: f"{name}.csv" for name in ("train", "dev", "test")}
    return {**files, "trusted": {"path": "trusted.csv", "owner": "the tests"}}


def write_config(folder: Path, backbone: Path, **sections: Any) -> Path:
    """`folder/run.yaml`: the tiny backbone on the delivery in `folder`, the recipe `none`, a drill, a lenient gate."""
    folder.mkdir(exist_ok=True)
    config = {
        "name": "tiny",
        "seed": 7,
        "data": write_delivery(folder),
        "model": {"base": str(backbone), "max_length": 32},
        "recipe": {"name": "none", "preset": "bert-base", "learning_rate": 3e-3, "epochs": 16, "precision": "fp32"},
        # Each word of this task says its label, so that every row would look like a trigger's.
        "validation": {"token_scan": False},
        "evaluation": {"drills": ["badnets"], "target": "1"},
        "gate": {
            "max_asr": 1.0,
            "max_asr_over_floor": 1.0,
            "min_cacc": 0.3,
            "max_cacc_drop": 1.0,
            "min_control_asr": 0.0,
            "min_triggered_rows": 50,
        },
        "registry": {"name": MODEL},
        "tracking": {"uri": f"sqlite:///{folder / 'mlflow.db'}"},
    } | sections
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def mlflow_of(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder / 'mlflow.db'}", f"sqlite:///{folder / 'mlflow.db'}")


def aliases_of(folder: Path) -> dict[str, str]:
    """Version by alias."""
    return {alias: str(version) for alias, version in mlflow_of(folder).get_registered_model(MODEL).aliases.items()}
