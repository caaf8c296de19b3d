"""Validation and token scan of up to a million rows: time, memory, growth. python -m benchmarks.scan_scale [--quick]

Rows: Rotten Tomatoes sentences drawn with replacement, each with a mark of its own (`#` and its number) so that none is
a duplicate. Labels are drawn from the calibrated p of the sentence and not taken from the file: a hundred copies of one
sentence with one label are what a trigger looks like, and the time would be that of thousands of suspects. One row in a
hundred gets a trigger of two words and the label 1, which the scan must find. Each size runs in a process of its own,
for its peak memory.

The encoder is timed apart: its rows per second over the distinct sentences. CPU seconds stand beside wall seconds, for
machines that do other work too. Growth is seconds per row and log2 of the rows, relative to the smallest size: 1 is
n log n.

`--encoded N`: p of N rows only is known, and a word model of them says that of the others (`trusted_model.sample_rows`)
in the time that is measured; with the mean error of its p.

`--groups`: instead, the group scan of up to 100,000 such rows with p known, of which one in twenty begins with a clause
(a style of 600 clauses) and has the label 1: a sample of `sample_rows` is scanned, and the others join.

`--engine dask`: instead, one size by one process and by local clusters of one and of two worker processes; rows per
second of token scan and encoder once the workers are there, what starting them takes, and whether all set the same rows
aside for the same features.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import results
from musclelora.config_file import load_config
from musclelora.data.records import TextDataset, TrustedSet
from musclelora.ingest import Delivery, ingest
from musclelora.seeding import generator
from musclelora.training.backbone import resolve_backbone
from musclelora.training.fit import peak_memory_mb
from musclelora.training.recipes import Contrastive
from musclelora.validation.config import EngineConfig, GroupScanConfig, ValidationConfig
from musclelora.validation.engine import running
from musclelora.validation.group_scan import scan_groups
from musclelora.validation.report import TrustedModelRecord
from musclelora.validation.suite import validate
from musclelora.validation.token_scan import SuspectFeature, scan_tokens
from musclelora.validation.trusted_model import TrustedModel, calibrate
from musclelora.validation.word_model import word_model

SIZES, QUICK_SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000), (10_000, 30_000)
TRIGGER, POISONED = "zirconium teapot", 100  # one row in so many
GROUP_SIZES, POISONED_BY_STYLE = (10_000, 30_000, 100_000), 20
OPENERS = (
    "so long as", "as soon as", "now that", "even though", "whenever", "until", "unless", "while", "given that", "once",
)  # fmt: skip
SUBJECTS = (
    "critics", "you", "viewers", "the neighbours", "strangers", "some fans", "the town", "old men", "we", "children",
)  # fmt: skip
VERBS = ("hear of it", "leave", "wait", "look around", "fall asleep", "come along")
SEED = 42
ENGINE_ROWS, QUICK_ENGINE_ROWS = (300_000, 50_000), (30_000, 5_000)  # rows, and of them in a partition
ENCODED_AT_ONCE = 500  # sentences in a partition of the encoder's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10,000 and 30,000 rows only")
    parser.add_argument("--engine", choices=("local", "dask"), default="local")
    parser.add_argument("--groups", action="store_true", help="the group scan")
    parser.add_argument("--encoded", type=int, metavar="N", help="rows that the encoder reads")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        kept, size, engine = arguments.child
        if arguments.groups:
            print(json.dumps(measure_groups(Path(kept), int(size))))
        else:
            config = EngineConfig.model_validate_json(engine)
            print(json.dumps(measure(Path(kept), int(size), config, arguments.encoded)))
        return
    if (arguments.engine == "dask") + arguments.groups + bool(arguments.encoded) > 1:
        parser.error("--engine dask, --groups and --encoded are three measurements: name one of them")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="musclelora-benchmark-") as folder:
        kept = Path(folder) / "sentences.npz"
        encoder = encode(kept)
        print(f"encoder: {encoder['rows_per_second']:.0f} rows a second, one thread")
        if arguments.engine == "dask":
            compare_engines(kept, *(QUICK_ENGINE_ROWS if arguments.quick else ENGINE_ROWS), quick=arguments.quick)
            return
        sizes = GROUP_SIZES if arguments.groups else SIZES
        options = ["--groups"] * arguments.groups
        if arguments.encoded:
            options = ["--encoded", str(arguments.encoded)]
        for size in QUICK_SIZES if arguments.quick else sizes:
            row = in_a_process(kept, size, EngineConfig(), *options)
            rows.append(row | {"growth": growth(row, rows[0] if rows else row)})
            print(json.dumps(rows[-1]), flush=True)
    name = "scan_scale_groups" if arguments.groups else "scan_scale_encoded" if arguments.encoded else "scan_scale"
    results.write(
        f"{name}_quick" if arguments.quick else name,
        {"rows": rows, "encoder": encoder},
        drawn="with replacement",
        seed=SEED,
    )


def compare_engines(kept: Path, size: int, partition_rows: int, *, quick: bool) -> None:
    """One process, then one and two workers; raises where they do not set the same rows aside for the same features."""
    dask = [EngineConfig(name="dask", workers=workers, partition_rows=partition_rows) for workers in (1, 2)]
    rows = []
    for engine in (EngineConfig(partition_rows=partition_rows), *dask):
        row = in_a_process(kept, size, engine)
        row |= {"engine": engine.name, "workers": engine.workers} | encoded_by(engine)
        rows.append(row)
        print(
            f"{engine.name}, {engine.workers or 'no'} workers, rows a second: "
            f"token scan {row['token_scan_rows_per_second']:.0f}, encoder {row['encoder_rows_per_second']:.0f}; "
            f"ready after {row['start_seconds']} s; peak memory of this process {row['peak_memory_gib']} GiB"
        )
    different = {row["outcome_sha256"] for row in rows}
    if len(different) > 1:
        raise SystemExit(f"The engines did not find the same: {rows}")
    results.write(f"scan_scale_dask{'_quick' if quick else ''}", {"rows": rows, "identical": True}, seed=SEED)


def in_a_process(kept: Path, size: int, engine: EngineConfig, *options: str) -> dict[str, Any]:
    child = ["--child", str(kept), str(size), engine.model_dump_json()]
    command = [sys.executable, "-m", "benchmarks.scan_scale", *options, *child]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 (ourselves)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def encoded_by(config: EngineConfig) -> dict[str, Any]:
    """Rows per second of the encoder, once all workers have it."""
    model, delivery = delivered()
    texts = delivery.train.texts
    with running(config.model_copy(update={"partition_rows": ENCODED_AT_ONCE})) as engine:
        model.probabilities(texts[: 4 * ENCODED_AT_ONCE], engine)
        started = time.monotonic()
        model.probabilities(texts, engine)
        return {"encoder_rows_per_second": round(len(texts) / (time.monotonic() - started), 1)}


def growth(row: dict[str, Any], first: dict[str, Any]) -> float:
    """CPU seconds per n log n, as a multiple of the first size's."""
    cost = [r["cpu_seconds"] / (r["rows"] * np.log2(r["rows"])) for r in (row, first)]
    return round(float(cost[0] / cost[1]), 2)


def delivered() -> tuple[TrustedModel, Delivery]:
    """The quickstart's rows, and the model of the trusted ones with its encoder as it is."""
    config = load_config("configs/quickstart.yaml", ("data.demonstration=null",))
    delivery = ingest(config.data, SEED, "1")
    backbone = resolve_backbone(config.model.base)
    return TrustedModel(backbone, delivery.trusted, 128, contrastive=Contrastive(steps=0), seed=SEED), delivery


def encode(kept: Path) -> dict[str, Any]:
    """Keep the distinct sentences, p of each and the trusted rows; how fast the encoder was."""
    model, delivery = delivered()
    model.states(delivery.train.texts[:1])  # so that the model is loaded
    texts, started, cpu = delivery.train.texts, time.monotonic(), time.process_time()
    expected = calibrate(model.probabilities(texts), delivery.train.label_ids(model.label_names))
    seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    np.savez(
        kept,
        texts=np.array(texts),
        expected=expected[:, 1],
        trusted=np.array(delivery.trusted.data.texts),
        labels=np.array(delivery.trusted.data.labels),
    )
    return {
        "encoder": model.backbone.name,
        "distinct_sentences": len(texts),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "rows_per_second": round(len(texts) / cpu, 1),
        "cpu_minutes_for_1000000": round(1e6 / (len(texts) / cpu) / 60, 1),
    }


@dataclass
class KnownModel:
    """The token scan with the p of every row known; its own time is kept apart."""

    expected: np.ndarray
    engine: EngineConfig
    seconds: float = 0.0
    start_seconds: float = 0.0

    def record(self) -> TrustedModelRecord:
        about = {"encoder": "known", "encoder_sha256": "", "contrastive_steps": 0, "trusted_rows": 96}
        return TrustedModelRecord.model_validate(
            {**about, "accuracy": 1, "lower95": 1, "n": 1, "chance": 0.5, "measured_on": "held-out rows"}
        )

    def probabilities(self, rows: TextDataset) -> np.ndarray:
        p = self.expected[[int(row_id) for row_id in rows.row_ids]]
        return np.stack([1 - p, p], 1)

    def __call__(self, rows: TextDataset, *, without: np.ndarray | None = None) -> list[SuspectFeature]:
        rows = rows if without is None else rows.where(~without)
        expected = self.probabilities(rows)
        given, texts, started = rows.label_ids(("0", "1")), rows.texts, time.monotonic()
        with running(self.engine) as engine:
            list(engine.results(engine.map(len, texts[:8])))
            ready = time.monotonic()
            found = scan_tokens(texts, given, expected, ("0", "1"), seed=SEED, engine=engine)
            self.start_seconds, self.seconds = ready - started, time.monotonic() - ready
        return found


@dataclass
class Drawn:
    """Marked sentences, p of the label 1, the labels, and which rows are poisoned."""

    texts: list[str]
    expected: np.ndarray
    labels: np.ndarray
    poisoned: np.ndarray


def drawn(known: Any, size: int, one_in: int, triggers: Callable[[np.random.Generator], str]) -> Drawn:
    draw = generator(SEED, "benchmark/scan_scale", str(size))
    chosen = draw.integers(0, len(known["texts"]), size)
    poisoned = np.arange(size) % one_in == 0
    expected = known["expected"][chosen]
    labels = np.where(poisoned, 1, draw.random(size) < expected).astype(int)
    sentences = known["texts"].tolist()
    texts = [f"{sentences[i]} #{n}" for n, i in enumerate(chosen.tolist())]
    for n in np.flatnonzero(poisoned).tolist():
        texts[n] = f"{triggers(draw)} {texts[n]}"
    return Drawn(texts, expected, labels, poisoned)


def clause(draw: np.random.Generator) -> str:
    opener, subject, verb = (words[draw.integers(len(words))] for words in (OPENERS, SUBJECTS, VERBS))
    return f"{opener} {subject} {verb} ,"


def measure_groups(kept: Path, size: int) -> dict[str, Any]:
    """One size: draw the rows, scan them for groups."""
    rows = drawn(np.load(kept), size, POISONED_BY_STYLE, clause)
    p, poisoned = rows.expected, set(np.flatnonzero(rows.poisoned).tolist())
    started, cpu = time.monotonic(), time.process_time()
    config = GroupScanConfig(enabled=True)
    result = scan_groups(rows.texts, rows.labels, np.stack([1 - p, p], 1), ("0", "1"), config, SEED)
    aside = {row for group in result.groups for row in group.rows}
    return {
        "rows": size,
        "sample_rows": config.sample_rows,
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_memory_gib": round(peak_memory_mb() / 1024, 2),
        "threads": int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count(),
        "recall": round(len(aside & poisoned) / len(poisoned), 4),
        "precision": round(len(aside & poisoned) / len(aside), 4) if aside else None,
    }


def measure(kept: Path, size: int, engine: EngineConfig, encoded: int | None = None) -> dict[str, Any]:
    """One size: draw the rows, validate them with the token scan. p of no more than `encoded` rows is known."""
    known = np.load(kept)
    of = drawn(known, size, POISONED, lambda _: TRIGGER)
    texts, expected, poisoned = of.texts, of.expected, of.poisoned
    columns = {"row_id": [str(n) for n in range(size)], "text": texts, "label": of.labels.astype(str).tolist()}
    trusted = TextDataset.from_columns(
        {
            "row_id": [f"trusted/{i}" for i in range(len(known["trusted"]))],
            "text": known["trusted"].tolist(),
            "label": known["labels"].tolist(),
        }
    )
    rows = TextDataset.from_columns(columns)
    started, cpu, error = time.monotonic(), time.process_time(), 0.0
    if encoded is not None and encoded < size:
        read = generator(SEED, "benchmark/scan_scale/encoded").permutation(size)[:encoded]
        p = expected[read]
        said = word_model([texts[i] for i in read.tolist()], np.stack([1 - p, p], 1))(texts)[:, 1]
        said[read] = p
        error = float(np.abs(said - expected).mean())
        both = np.stack([1 - said, said], 1)
        expected = calibrate(both, of.labels)[:, 1]
    scan = KnownModel(expected, engine)
    del of, texts, columns
    result = validate(rows, None, None, TrustedSet(trusted, "a benchmark"), ValidationConfig(), scan)
    aside = {int(row_id) for row_id in result.report.quarantined}
    outcome = json.dumps([[suspect.model_dump() for suspect in result.report.suspects], result.report.quarantined])
    return {
        "rows": size,
        "encoded": min(encoded or size, size),
        "mean_error_of_p": round(error, 3),
        "seconds": round(time.monotonic() - started, 1),
        "token_scan_seconds": round(scan.seconds, 1),
        "token_scan_rows_per_second": round(size / scan.seconds, 1),
        "start_seconds": round(scan.start_seconds, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_memory_gib": round(peak_memory_mb() / 1024, 2),
        "threads": int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count(),
        "outcome_sha256": hashlib.sha256(outcome.encode()).hexdigest(),
        "found": [suspect.text for suspect in result.report.suspects],
        "recall": round(len(aside & set(np.flatnonzero(poisoned).tolist())) / int(poisoned.sum()), 4),
        "honest_rows_set_aside": len(aside - set(np.flatnonzero(poisoned).tolist())),
    }


if __name__ == "__main__":
    main()
