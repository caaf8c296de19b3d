"""Rows per second of training: `python -m benchmarks.training_speed [--quick] [--backbone default|bert-base-sized]`.

The job: LoRA on query and value, radial scalings, gradient alignment with 32 trusted rows for every 32 rows, on the
sentences of the quickstart's data set.

- `plain`: the loop as the literature runs it, written out here: fp32, random batches of 32 padded to the longest, two
  backward passes, eager attention, torch's dropout.
- `fp32`, `bf16`: this project's trainer, the one that `musclelora run` calls.
- `lora`, `every_4`: the same in the best precision, without scalings and alignment, and with a reference batch for
  every fourth batch only.

Each measurement is a process of its own, so that its peak memory is its own; variants take turns, medians count. Ten
batches of warm-up come before the clock starts. The matrix product behind `fraction_of_matmul_peak` is measured in the
same process, right after the training. `--resume` goes on where an interrupted run stopped. On a machine that others
use at the same time, `--shared` measures one thread's processor time instead of the wall clock.
"""

import argparse
import gc
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, get_linear_schedule_with_warmup

from benchmarks import results
from musclelora.config_file import load_config
from musclelora.data.records import TextDataset, TrustedSet
from musclelora.ingest import ingest
from musclelora.training import fit
from musclelora.training.alignment import align, alignment_mode, mean_norm, raw_share
from musclelora.training.backbone import load_backbone, resolve_backbone
from musclelora.training.presets import resolve_recipe
from musclelora.training.products import product
from musclelora.training.recipes import Recipe, RecipeChoice

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "build" / "training_speed.jsonl"
BATCH, WARM_UP, MAX_LENGTH, SEED = 32, 10, 128, 42
Measured = dict[str, list[dict[str, float]]]
VARIANTS = ("plain", "fp32", "bf16", "lora", "every_4")


def recipe_of(variant: str) -> Recipe:
    """LoRA + scaling + alignment; `plain` runs the same recipe in a loop of its own."""
    precision: Any = {"fp32": "fp32", "plain": "fp32", "bf16": "bf16"}.get(variant, "auto")
    alignment: dict[str, Any] = {"reference_batch_size": BATCH}
    if variant == "every_4":
        alignment["reference_every"] = 4
    name = "lora" if variant == "lora" else "musclelora"
    choice = RecipeChoice(
        name=name,
        precision=precision,
        learning_rate=5e-4,
        batch_size=BATCH,
        epochs=1,
        alignment={} if variant == "lora" else alignment,
    )
    return resolve_recipe(choice, "minilm")


def clock() -> float:
    """Seconds: of the wall; of the processor where one thread runs alone on its share of a busy machine."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def measure(variant: str, base: str, rows: int) -> dict[str, float]:
    """One variant in this process."""
    data = load_config(ROOT / "configs" / "quickstart.yaml").data.model_copy(update={"demonstration": None})
    delivery = ingest(data, SEED, "1")
    number = np.arange(len(delivery.train))
    run = plain if variant == "plain" else ours
    run(delivery.train.where(number < WARM_UP * BATCH), delivery.trusted, recipe_of(variant), base)
    gc.collect()  # the model of the warm-up
    measured = delivery.train.where(number < rows)

    seconds = run(measured, delivery.trusted, recipe_of(variant), base)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    in_bf16 = fit.computes_in_bf16(recipe_of(variant).precision)
    matmul = matmul_flops_per_s(torch.bfloat16 if in_bf16 else torch.float32)
    return {
        "rows_per_s": len(measured) / seconds,
        "peak_memory_mb": peak,
        "matmul_gflops": matmul / 1e9,
        "floor_rows_per_s": len(measured) * matmul / job_flops(measured, delivery.trusted, recipe_of(variant), base),
    }


def ours(rows: TextDataset, trusted: TrustedSet, recipe: Recipe, base: str) -> float:
    """Seconds that this project's trainer takes."""
    torch.manual_seed(SEED)
    model, tokenizer = load_backbone(resolve_backbone(base), list(trusted.label_names), MAX_LENGTH)
    fit.prepare(model, recipe)
    trainer = fit.build_trainer(model, tokenizer, rows, trusted, None, recipe, SEED)
    started = clock()
    trainer.train()
    return clock() - started


def plain(rows: TextDataset, trusted: TrustedSet, recipe: Recipe, base: str) -> float:
    """Seconds of the loop as the literature runs it, with the project's own adapters and alignment rule."""
    settings: Any = recipe.alignment
    torch.manual_seed(SEED)
    model, tokenizer = load_backbone(resolve_backbone(base), list(trusted.label_names), MAX_LENGTH)
    model.set_attn_implementation("eager")
    fit.prepare(model, recipe)
    model.train()
    trained: Any = [p for p in model.parameters() if p.requires_grad]

    def loader(of: TextDataset) -> torch.utils.data.DataLoader:
        pairs: Any = list(zip(of.texts, of.label_ids(trusted.label_names).tolist(), strict=True))
        return torch.utils.data.DataLoader(pairs, batch_size=BATCH, shuffle=True, collate_fn=collate, drop_last=True)

    def collate(pairs: list[tuple[str, int]]) -> dict[str, torch.Tensor]:
        texts, labels = zip(*pairs, strict=True)
        encoded = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        return {**encoded, "labels": torch.tensor(labels)}

    def references() -> Any:
        while True:
            yield from loader(trusted.data)

    batches, reference_batches = loader(rows), references()
    optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=0.0)
    scheduler = get_linear_schedule_with_warmup(optimizer, 0, len(batches) * recipe.epochs)
    started = clock()
    for epoch in range(recipe.epochs):
        for batch in batches:
            reference_loss = model(**next(reference_batches)).loss
            reference_loss.backward()
            reference_gradients = [p.grad.clone() for p in trained]
            optimizer.zero_grad()
            model(**batch).loss.backward()
            mode = alignment_mode(
                mean_norm(reference_gradients),
                float(reference_loss.detach()),
                epoch,
                **settings.model_dump(include={"start_epoch", "rho_max", "min_ref_norm", "min_ref_loss"}),
            )
            rho = raw_share(epoch, recipe.epochs, settings.start_epoch, settings.rho_max)
            for p, gradient in zip(
                trained, align([p.grad for p in trained], reference_gradients, mode, rho), strict=True
            ):
                p.grad = gradient
            torch.nn.utils.clip_grad_norm_(trained, recipe.max_grad_norm)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    return clock() - started


def job_flops(rows: TextDataset, trusted: TrustedSet, recipe: Recipe, base: str) -> float:
    """Floating-point operations of the matrix products of one epoch, if no token were padding.

    A row of n tokens needs a + b n + c n^2 (attention), forward and backward, without gradients of frozen weights: the
    three are solved for from three counted lengths.
    """
    model, tokenizer = load_backbone(resolve_backbone(base), list(trusted.label_names), MAX_LENGTH)
    fit.prepare(model, recipe)
    lengths = np.array([16, 64, 128])
    counted = []
    for n in lengths:
        with FlopCounterMode(display=False) as counter:
            model(
                input_ids=torch.ones(1, int(n), dtype=torch.long), labels=torch.zeros(1, dtype=torch.long)
            ).loss.backward()
        counted.append(counter.get_total_flops())
    polynomial = np.polynomial.Polynomial.fit(lengths, counted, 2)

    def flops(texts: list[str]) -> np.ndarray:
        return polynomial(np.array([len(ids) for ids in tokenizer(texts, truncation=True)["input_ids"]]))

    total = flops(rows.texts).sum()
    if recipe.alignment is not None:
        reference_batches = np.ceil(len(rows) / BATCH / recipe.alignment.reference_every)
        total += reference_batches * BATCH * flops(trusted.data.texts).mean()
    return float(total)


def matmul_flops_per_s(dtype: torch.dtype, size: int = 2048) -> float:
    """Of a product of two square matrices, the median of 15, by MKL or by oneDNN, whichever is faster."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)

    def seconds(multiply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> float:
        multiply(a, b)
        times = []
        for _ in range(15):
            started = clock()
            multiply(a, b)
            times.append(clock() - started)
        return statistics.median(times)

    return 2 * size**3 / min(seconds(multiply) for multiply in (torch.matmul, product))


def random_bert_base(folder: Path) -> str:
    """A random model of BERT-base's size with the embedded backbone's vocabulary."""
    tokenizer = AutoTokenizer.from_pretrained(resolve_backbone("default").location)
    torch.manual_seed(SEED)
    BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def collect(variants: tuple[str, ...], base: str, rows: int, repeats: int, given: argparse.Namespace) -> Measured:
    """All measurements by variant, each in a process of its own, variants taking turns."""
    MEASURED.parent.mkdir(exist_ok=True)
    done = {}
    if given.resume and MEASURED.exists():
        done = {tuple(entry["of"]): entry["got"] for entry in map(json.loads, MEASURED.read_text().splitlines())}
    elif MEASURED.exists():
        MEASURED.unlink()
    measured: Measured = {variant: [] for variant in variants}
    for repeat in range(repeats):
        for variant in variants:
            of = (given.backbone, rows, given.shared, repeat, variant)
            if of not in done:
                command = [sys.executable, "-m", "benchmarks.training_speed", "--measure", variant]
                command += ["--backbone", base, "--rows", str(rows), *(["--shared"] if given.shared else [])]
                out = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603
                done[of] = json.loads(out.splitlines()[-1])
                with MEASURED.open("a") as file:
                    file.write(json.dumps({"of": of, "got": done[of]}) + "\n")
            measured[variant].append(done[of])
            print(f"{variant:8}", " ".join(f"{name} {value:.1f}" for name, value in done[of].items()), flush=True)
    return measured


def figures_of(measured: Measured) -> dict[str, Any]:
    """Medians and the ratios they are judged by."""
    middle = {
        variant: {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        for variant, runs in measured.items()
    }

    def speed(variant: str) -> float:
        return middle[variant]["rows_per_s"]

    best = "bf16" if fit.computes_in_bf16("auto") else "fp32"
    return {
        "ratio_fp32": speed("fp32") / speed("plain"),
        "ratio_bf16": speed("bf16") / speed("plain"),
        "memory_ratio": middle["fp32"]["peak_memory_mb"] / middle["plain"]["peak_memory_mb"],
        "memory_ratio_bf16": middle["bf16"]["peak_memory_mb"] / middle["plain"]["peak_memory_mb"],
        "fraction_of_matmul_peak": speed(best) / middle[best]["floor_rows_per_s"],
        "fraction_of_matmul_peak_fp32": speed("fp32") / middle["fp32"]["floor_rows_per_s"],
        "alignment_overhead": speed("lora") / speed(best),
        "alignment_overhead_every_4": speed("lora") / speed("every_4"),
        "medians": middle,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rows, one turn")
    parser.add_argument("--backbone", default="default", help="default, bert-base-sized, a folder or a hub name")
    parser.add_argument("--rows", type=int, help="rows per measurement")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--measure", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--shared", action="store_true", help="one thread, its processor time")
    given = parser.parse_args()
    if given.shared:
        torch.set_num_threads(1)
    small = given.backbone == "default"
    rows = given.rows or ((640 if small else 160) if given.quick else (1600 if small else 320))
    if given.measure:
        print(json.dumps(measure(given.measure, given.backbone, rows)))
        return
    with TemporaryDirectory(prefix="musclelora-bench-") as folder:
        base = random_bert_base(Path(folder)) if given.backbone == "bert-base-sized" else given.backbone
        repeats = given.repeats or (1 if given.quick else 3)
        variants = tuple(given.variants.split(","))
        measured = collect(variants, base, rows, repeats, given)
    if set(variants) == set(VARIANTS):
        name = "training_speed" if small else f"training_speed_{Path(given.backbone).name}"
        config = {
            "batch": BATCH,
            "rows": rows,
            "repeats": repeats,
            "seed": SEED,
            "quick": given.quick,
            "shared": given.shared,
        }
        results.write(name, figures_of(measured), backbone=given.backbone, config=config)


if __name__ == "__main__":
    main()
