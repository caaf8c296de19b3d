"""Which part of a poisoned mapping is learned first: `python -m benchmarks.fourier --data ../shared/data/sst2`.

AddSent on the embedded backbone, undefended and defended; the errors of `musclelora.evaluation.fourier` on clean and on
triggered dev rows while each model trains. Also the peak memory of an analysis of 10,000 rows, in its own process.
Finished trainings are kept in benchmarks/results/fourier.jsonl: started again, the command goes on where it stopped.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import results
from benchmarks.recipes import MAX_LENGTH, Bench, Cell
from musclelora.comparison.memory import peak_mb, reset_peak
from musclelora.evaluation.config import MAX_ROWS, FourierConfig
from musclelora.evaluation.fourier import distances_of, fourier_observer, frequency_errors
from musclelora.seeding import generator
from musclelora.training.backbone import load_backbone, resolve_backbone
from musclelora.training.fit import train
from musclelora.training.frequency import FrequencyCurve

ATTACK, RECIPES, SEED = "addsent", ("none", "musclelora", "musclelora-guided"), 1
MIB_LIMIT = 1.5 * 1024


def curve_of(bench: Bench, recipe: str, rows: int | None, settings: FourierConfig) -> FrequencyCurve:
    """Train the recipe on the poisoned rows and watch it."""
    cell = Cell(recipe=recipe, trained_on=ATTACK, seed=SEED, rows=rows)
    trusted, dev = bench.trusted_and_dev(SEED)
    observer = fourier_observer(
        dev,
        attack=ATTACK,
        target=bench.target,
        seed=SEED,
        label_names=trusted.label_names,
        loaded=load_backbone(bench.backbone, list(trusted.label_names), MAX_LENGTH),
        max_length=MAX_LENGTH,
        settings=settings,
    )
    with TemporaryDirectory(prefix="musclelora-benchmark-") as folder:
        model = train(
            bench.training_rows(cell),
            trusted,
            dev,
            recipe=bench.recipe(cell),
            backbone=bench.backbone,
            max_length=MAX_LENGTH,
            seed=SEED,
            folder=Path(folder),
            observer=observer,
        )
        curve = model.record.frequencies
    if curve is None:
        raise AssertionError("a watched training keeps its curve")
    return curve


def halved(curve: FrequencyCurve, name: str) -> int | None:
    """The first measured step at which the error is half of what it was before training; None where it never is."""
    errors = [(point.step, point.means[name]) for point in curve.points]
    start = errors[0][1]
    if start is None:
        return None
    return next((step for step, error in errors if error is not None and error <= start / 2), None)


def summary(curve: FrequencyCurve) -> dict[str, Any]:
    """When the low-frequency errors halved, and where the curves ended."""
    last = curve.points[-1]
    return {
        "low_halved_at_step": {rows: halved(curve, f"frequency.low.{rows}") for rows in ("clean", "poisoned")},
        "steps": last.step,
        "start": curve.points[0].means,
        "end": last.means,
        "points": [{"step": point.step} | point.means for point in curve.points],
    }


def analyse_many_rows(data: Path, rows: int) -> None:
    """One analysis of `rows` training rows; prints seconds and the peak memory of this process in MiB."""
    backbone = resolve_backbone("default")
    bench = Bench(data=data, backbone=backbone, preset="minilm", attacks=(ATTACK,), journal=Path("unused"))
    train_texts, test_texts = bench.rows("train.csv").texts, bench.rows("test.csv").texts
    texts = (train_texts + test_texts + bench.rows(f"{ATTACK}/train.csv").texts)[:rows]
    reset_peak()  # else it is that of the parent, which a new process begins with
    before, started = peak_mb(), time.monotonic()
    model, tokenizer = load_backbone(backbone, ["0", "1"], MAX_LENGTH)
    drawn = generator(SEED, "benchmarks/fourier").random((len(texts), 2))
    labels = (drawn[:, 0] > 0.5).astype(int)
    probabilities = np.stack([drawn[:, 1], 1 - drawn[:, 1]], axis=1)
    distances = distances_of(texts, model, tokenizer, MAX_LENGTH)
    errors = frequency_errors(distances, probabilities, labels)
    figures = {"rows": len(texts), "width": distances.width, "seconds": round(time.monotonic() - started, 1)}
    used = {"before_mib": round(before, 1), "peak_mib": round(peak_mb(), 1)}
    print(json.dumps(figures | used | {"low": errors.mean_low}))


def memory(data: Path, rows: int) -> dict[str, Any]:
    """What `analyse_many_rows` says, asked of a new process."""
    command = [sys.executable, "-m", "benchmarks.fourier", "--data", str(data), "--analyse", str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="the same code on 200 training and 1,000 analysed rows")
    parser.add_argument("--rows", type=int, help="train on so many rows instead of all")
    parser.add_argument("--analyse", type=int, metavar="ROWS", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.analyse:
        analyse_many_rows(options.data, options.analyse)
        return
    name = "fourier_quick" if options.quick else "fourier"
    rows, analysed = (200, 1000) if options.quick else (options.rows, MAX_ROWS)
    settings = FourierConfig(rows=32 if options.quick else 256)
    journal = results.FOLDER / f"{name}.jsonl"
    backbone = resolve_backbone("default")
    bench = Bench(data=options.data, backbone=backbone, preset="minilm", attacks=(ATTACK,), journal=journal)
    done = bench.finished()
    for recipe in RECIPES:
        decides = f"{bench.key(Cell(recipe=recipe, trained_on=ATTACK, seed=SEED, rows=rows))} {settings!r}"
        key = hashlib.sha256(decides.encode()).hexdigest()[:16]
        if key not in done:
            found = summary(curve_of(bench, recipe, rows, settings))
            done[key] = {"key": key, "recipe": recipe, "rows": rows, "commit": results.commit(), **found}
            journal.write_text("".join(json.dumps(line) + "\n" for line in done.values()), encoding="utf-8")
        print(f"{recipe}: {json.dumps(done[key])}", flush=True)
    used = memory(options.data, analysed)
    figures = {"memory": used, "within_1_5_gb": used["peak_mib"] < MIB_LIMIT, "trainings": list(done.values())}
    results.write(name, figures, attack=ATTACK, seed=SEED, settings=settings.model_dump())


if __name__ == "__main__":
    main()
