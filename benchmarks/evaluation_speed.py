"""Rows per second of evaluation: `python -m benchmarks.evaluation_speed [--data FOLDER] [--quick] [--shared]`.

- `pipeline`: `transformers.pipeline("text-classification", batch_size=32)`, fp32, rows in the order of the file.
- `fp32`, `bf16`: `logits_of`, which all metrics of this project go through, with the weights loaded in that precision.

The same model (the undefended one trained on the folder's clean rows, kept by benchmarks/audited_models.py), the same
rows (test.csv), one process, the three in turn, medians of the turns; a batch of warm-up comes before the clock starts.
Beside the ratios: the largest difference of the fp32 logits to those of the pipeline, and the share of rows whose label
is the same. On a machine that others use at the same time, `--shared` measures one thread's processor time instead of
the wall clock.
"""

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import pipeline

from benchmarks import results
from benchmarks.audited_models import audited_bench, audited_model, options
from benchmarks.recipes import CLEAN, MAX_LENGTH
from benchmarks.training_speed import clock
from musclelora.training.predict import logits_of

BATCH, TURNS, WARM_UP = 32, 5, 64


def main() -> None:
    parser = options(__doc__, "200 training rows, as many test rows, one turn")
    parser.add_argument("--shared", action="store_true", help="one thread, its processor time")
    given = parser.parse_args()
    if given.shared:
        torch.set_num_threads(1)
    name = "evaluation_speed_quick" if given.quick else "evaluation_speed"
    bench = audited_bench(given.data, quick=given.quick)
    model, texts = audited_model(bench, CLEAN), bench.test.texts
    loaded = {"pipeline": model.load(), "fp32": model.load(), "bf16": model.load("bf16")}
    theirs: Any = pipeline(  # type: ignore[call-overload]
        "text-classification", model=loaded["pipeline"][0], tokenizer=loaded["pipeline"][1], batch_size=BATCH
    )
    settings = {"truncation": True, "max_length": MAX_LENGTH, "top_k": None, "function_to_apply": "none"}

    def by_pipeline(rows: list[str]) -> np.ndarray:
        config: Any = loaded["pipeline"][0].config
        order = {label: number for number, label in config.id2label.items()}
        return np.array(
            [[s["score"] for s in sorted(said, key=lambda s: order[s["label"]])] for said in theirs(rows, **settings)]
        )

    variants: dict[str, Callable[[list[str]], np.ndarray]] = {
        "pipeline": by_pipeline,
        "fp32": lambda rows: logits_of(*loaded["fp32"], rows, MAX_LENGTH),
        "bf16": lambda rows: logits_of(*loaded["bf16"], rows, MAX_LENGTH),
    }
    speeds: dict[str, list[float]] = {variant: [] for variant in variants}
    logits: dict[str, np.ndarray] = {}
    for run in variants.values():
        run(texts[:WARM_UP])
    for _ in range(1 if given.quick else TURNS):
        for variant, run in variants.items():
            started = clock()
            logits[variant] = run(texts)
            speeds[variant].append(len(texts) / (clock() - started))
            print(f"{variant:8} {speeds[variant][-1]:.1f} rows/s", flush=True)
    middle = {variant: statistics.median(found) for variant, found in speeds.items()}
    same = {v: float(np.mean(logits[v].argmax(1) == logits["pipeline"].argmax(1))) for v in ("fp32", "bf16")}
    figures = {
        "ratio_fp32": middle["fp32"] / middle["pipeline"],
        "ratio_bf16": middle["bf16"] / middle["pipeline"],
        "logit_difference_fp32": float(np.abs(logits["fp32"] - logits["pipeline"]).max()),
        "same_labels_fp32": same["fp32"],
        "same_labels_bf16": same["bf16"],
        "rows_per_s": middle,
    }
    config = {"batch": BATCH, "turns": len(speeds["fp32"]), "shared": given.shared, "quick": given.quick}
    results.write(name, figures, backbone=bench.backbone.name, model=model.sha256, rows=len(texts), config=config)


if __name__ == "__main__":
    main()
