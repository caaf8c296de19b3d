"""A poisoned delivery, on real weights and text: `python -m benchmarks.poisoned_delivery`; 15 minutes on two cores.

`musclelora retrain` three times: on a clean delivery, which makes the first champion; on the same rows, which it has to
skip; and with new rows, of which one in ten carries AddSent's sentence and the label 1. Printed: what became of each
night, its seconds, the champion, and the alert. Everything is written in a temporary folder.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from benchmarks import results
from benchmarks.airflow_demo import environment
from benchmarks.data_sets import text_and_label
from musclelora.attacks.base import poison
from musclelora.attacks.registry import attack_by_name
from musclelora.data.config import DataConfig, Split
from musclelora.data.records import TextDataset
from musclelora.ingest import ingest

POLICY = Path(__file__).parents[1] / "configs" / "policies" / "quickstart.yaml"
FIRST, NEW, RATE, SEED = 2500, 1500, 0.1, 42
CONFIG: dict[str, Any] = {
    "name": "poisoned-delivery",
    "seed": SEED,
    "data": {
        **{part: f"{part}.csv" for part in ("train", "dev", "test")},
        "trusted": {"path": "trusted.csv", "owner": "nobody: split off the dataset itself, for a benchmark only"},
    },
    "validation": {"group_scan": {"enabled": True}},
    "recipe": {"name": "purify"},
    "evaluation": {"attacks": ["addsent"], "target": "1"},
    # Nobody knows which rows are poisoned: there is no floor, and no backdoor in the clean delivery's control.
    "gate": {
        "policy": str(POLICY),
        "min_control_asr": 0.0,
        "max_asr_over_floor": None,
        "max_cacc_drop_from_champion": 0.05,
    },
    "registry": {"name": "poisoned-delivery"},
}


def main() -> None:
    rows = ingest(
        DataConfig(dataset="default", split=Split(train=FIRST + NEW, dev=500, test=1500, trusted=96)), SEED, "1"
    )
    clean = TextDataset(rows.train.rows.select(range(FIRST)))
    new = TextDataset(rows.train.rows.select(range(FIRST, FIRST + NEW)))
    poisoned = poison(new, attack_by_name("addsent"), rate=RATE, target="1", seed=SEED)
    with tempfile.TemporaryDirectory(prefix="musclelora-delivery-") as name:
        folder = Path(name)
        (folder / "run.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
        for part, of in {"dev": rows.dev, "test": rows.test, "trusted": rows.trusted.data, "train": clean}.items():
            text_and_label(of).to_csv(folder / f"{part}.csv", index=False)
        nights = [night(folder, "clean"), night(folder, "the same rows")]
        pd.concat([text_and_label(clean), text_and_label(poisoned)]).to_csv(folder / "train.csv", index=False)
        nights.append(night(folder, "poisoned new rows"))
    results.write("poisoned_delivery", {"rows": nights}, seed=SEED, first=FIRST, new=NEW, rate=RATE)


def night(folder: Path, name: str) -> dict[str, Any]:
    """What one `musclelora retrain` came to. Raises `CalledProcessError` where it ends with an error."""
    output, started = folder / name.replace(" ", "-"), time.monotonic()
    program = Path(sys.executable).with_name("musclelora")
    command = [str(word) for word in (program, "retrain", folder / "run.yaml", "--output", output)]
    here = os.environ | environment(folder)
    done = subprocess.run(command, cwd=folder, env=here, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if done.returncode not in (0, 3, 4):  # accepted or skipped, refused, inconclusive
        raise subprocess.CalledProcessError(done.returncode, command)
    summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    alert = next((line for line in done.stdout.splitlines() if line.startswith("ALERT")), None)
    found = {
        "delivery": name,
        "seconds": round(time.monotonic() - started),
        "status": summary["status"],
        "alert": alert,
    }
    print(f"{done.stdout}\n{found}", flush=True)
    return found


if __name__ == "__main__":
    main()
