"""Every backbone that can be had offline, for real: `python -m benchmarks.backbone_runs [--quick]`; resumable.

Each of MiniLM, MPNet and SmolLM2 is trained for 20 steps of 8 sentences (two epochs of 80 rows of Rotten Tomatoes, no
dev rows, 8 trusted rows a step) by `musclelora` and by `none`, folded, saved and read again by plain transformers.
Reported: the largest difference of the logits, rows per second of the second epoch, and the peak memory of the process
beside the memory plan. Each in a process of its own. The settings are those of the preset `minilm` for all: what is
learned is not the question. Set OMP_NUM_THREADS=1 on a machine that is shared.
"""

import argparse
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoConfig

from benchmarks.backbones import MPNET, SMOLLM2, fetched
from musclelora.config_file import load_config
from musclelora.ingest import ingest
from musclelora.training.backbone import EMBEDDED, load_tokenizer, resolve_backbone
from musclelora.training.fit import computes_in_bf16, peak_memory_mb, train
from musclelora.training.memory import plan_memory
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import RecipeChoice

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "backbone_runs.json"
BACKBONES = ("all-MiniLM-L6-v2", MPNET, SMOLLM2)
RECIPES, PRECISIONS = ("musclelora", "none"), ("bf16", "fp32")
ROWS, BATCH, EPOCHS, SEED, MAX_LENGTH = 80, 8, 2, 42, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="MiniLM only")
    parser.add_argument("--one", nargs=3, metavar=("BACKBONE", "RECIPE", "PRECISION"), help="one run, in this process")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(run(*arguments.one)))
        return
    done = json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else []
    chosen = BACKBONES[:1] if arguments.quick else BACKBONES
    for precision, recipe, backbone in itertools.product(PRECISIONS, RECIPES, chosen):
        wanted = {"backbone": backbone, "recipe": recipe, "precision": precision}
        if not any(wanted.items() <= row.items() for row in done):
            command = [sys.executable, "-m", "benchmarks.backbone_runs", "--one", *wanted.values()]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603
            done.append(json.loads(output.splitlines()[-1]))
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps({"machine": machine(), "runs": done}, indent=1))
            print(done[-1])
    print("RESULT", json.dumps({"runs": done}))


def run(name: str, recipe_name: str, precision: str) -> dict[str, Any]:
    backbone = resolve_backbone(EMBEDDED if "MiniLM" in name else str(fetched(name)))
    references = {"alignment": {"reference_batch_size": BATCH}} if recipe_name == "musclelora" else {}
    choice = RecipeChoice(
        name=recipe_name, preset="minilm", precision=precision, epochs=EPOCHS, batch_size=BATCH, **references
    )
    recipe, delivery = (
        resolve_recipe(choice, "minilm"),
        ingest(load_config(ROOT / "configs/quickstart.yaml").data, SEED, "1"),
    )
    rows = delivery.train.where([i < ROWS for i in range(len(delivery.train))])
    ends: list[float] = []
    with TemporaryDirectory() as folder:
        model = train(
            rows,
            delivery.trusted,
            None,
            recipe=recipe,
            backbone=backbone,
            max_length=MAX_LENGTH,
            seed=SEED,
            folder=Path(folder),
            on_epoch=lambda _: ends.append(time.monotonic()),
        )
        record = model.record
    tokens = load_tokenizer(backbone)(rows.texts + delivery.trusted.data.texts, truncation=True, max_length=MAX_LENGTH)
    longest = max(len(ids) for ids in tokens["input_ids"])
    plan = plan_memory(
        AutoConfig.from_pretrained(backbone.location),
        recipe,
        backbone,
        classes=2,
        tokens=longest,
        bf16=computes_in_bf16(recipe.precision),
    )
    return {
        "backbone": name,
        "recipe": recipe_name,
        "precision": precision,
        "logit_difference": record.logit_difference,
        "rows_per_second": round(ROWS / (ends[1] - ends[0]), 1),
        "peak_mb": round(peak_memory_mb()),
        "planned_mb": round(plan.peak),
        "plan": {key: round(value) for key, value in plan.model_dump().items()},
        "longest": longest,
        "losses": [round(epoch.loss, 3) for epoch in record.curve],
        "trainable": record.trainable_parameters,
    }


def machine() -> dict[str, Any]:
    return {"threads": torch.get_num_threads(), "torch": torch.__version__}


if __name__ == "__main__":
    main()
