"""What the scans set aside: `python -m benchmarks.scan --data ../shared/data/sst2 [--quick] [--minutes 30]`; resumable.

The data folder is that of benchmarks.recipes; the sets are in scan_sets.py. Per set, encoder of the trusted model and
draw of the 96 trusted rows: recall (share of the poisoned rows set aside), precision, and the share of the honest rows
set aside, for the group scan, the token scan, and both together as in validation. The scans read texts and labels of
the training rows only; no test row is read, and nothing is chosen here.

The trusted model's encoder is left as it is (`contrastive: {steps: 0}`): its states of a text are then the same in
every draw, and are kept (kept.py). Started again, the command goes on where it stopped; the first draw of everything
comes before the second of anything. The rows go to benchmarks/results/scan.json and the table to docs/benchmarks.md.

`--encoded N`: what it costs where the encoder reads N of the rows (`trusted_model.sample_rows`); scan_encoded.json.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks import results
from benchmarks.kept import KEPT, kept_states
from benchmarks.recipes import CLEAN, DOCUMENT, MAX_LENGTH, Bench, backbone_name
from benchmarks.recipes_tables import write_section
from benchmarks.scan_sets import NORMALISED, poisoned_mask, training_rows
from musclelora import validation
from musclelora.data.records import TextDataset, TrustedSet
from musclelora.frozen import Frozen
from musclelora.training.backbone import Backbone, resolve_backbone
from musclelora.training.recipes import Contrastive
from musclelora.validation.config import GroupScanConfig
from musclelora.validation.engine import LOCAL, Engine
from musclelora.validation.group_scan import GroupScanResult, scan_groups
from musclelora.validation.token_scan import SuspectFeature, scan_tokens
from musclelora.validation.trusted_model import TrustedModel

SETS = ("badnets", "addsent", "stylebkd", NORMALISED, "hiddenkiller", CLEAN)
DRAWS = (1, 2, 3)
SCANS = ("group", "token", "both")
WANTED = {"badnets": 0.97, "addsent": 0.97, "hiddenkiller": 0.9, "stylebkd": 0.8, NORMALISED: 0.75}
MOST_HONEST = {"poisoned": 0.05, CLEAN: 0.01}
SECTION, ENCODED = "benchmarks.scan", "benchmarks.scan --encoded"


class KeptTrustedModel(TrustedModel):
    """A trusted model with an encoder left as it is, whose states of a text are kept."""

    def __init__(self, backbone: Backbone, trusted: TrustedSet, sample_rows: int | None = None) -> None:
        super().__init__(backbone, trusted, MAX_LENGTH, contrastive=Contrastive(steps=0), sample_rows=sample_rows)

    said = TrustedModel.probabilities

    def probabilities(self, texts: Sequence[str], engine: Engine = LOCAL) -> np.ndarray:  # noqa: ARG002 (all is kept here)
        precision = "bf16" if self._options["bf16"] else "fp32"
        states = kept_states(f"{self.backbone.sha256} {MAX_LENGTH} {precision} mean", texts, self.states)
        return self._model.head.predict_proba(states)

    def features(self, rows: TextDataset, draw: int) -> list[SuspectFeature]:
        """The token scan that leans on this model."""
        labels, expected = rows.label_ids(self.label_names), self.calibrated(rows)
        return scan_tokens(rows.texts, labels, expected, self.label_names, seed=draw, said=self.said)

    def grouped(self, rows: TextDataset, draw: int) -> GroupScanResult:
        """The group scan that does."""
        labels, expected = rows.label_ids(self.label_names), self.calibrated(rows)
        return scan_groups(rows.texts, labels, expected, self.label_names, GroupScanConfig(), draw)


class Scanned(Frozen):
    """What both scans found in one set, and their CPU seconds."""

    grouped: GroupScanResult
    features: list[SuspectFeature]
    cpu_seconds: dict[str, float]

    def masks(self, rows: int) -> dict[str, np.ndarray]:
        """Rows set aside by each scan and by both, bool, shape [rows]."""
        group, token = np.zeros(rows, dtype=bool), np.zeros(rows, dtype=bool)
        for mask, found in ((group, self.grouped.groups), (token, self.features)):
            for one in found:
                mask[list(one.rows)] = True
        return {"group": group, "token": token, "both": group | token}


def scanned(
    bench: Bench, name: str, encoder: Backbone, draw: int, encoded: int | None = None, trusted: TrustedSet | None = None
) -> Scanned:
    """Both scans of a set, computed once for each state of their code; the encoder reads at most `encoded` rows.

    `trusted` in place of the draw's trusted rows.
    """
    trusted = trusted or bench.trusted_and_dev(draw)[0]
    code = b"".join(file.read_bytes() for file in sorted(Path(str(validation.__file__)).parent.glob("*.py")))
    key = f"{key_of(bench, name, encoder, draw, encoded, trusted)}-{hashlib.sha256(code).hexdigest()[:16]}"
    file = KEPT / "scans" / f"{key}.json"
    if file.is_file():
        return Scanned.model_validate_json(file.read_text(encoding="utf-8"))
    rows, model = training_rows(bench, name), KeptTrustedModel(encoder, trusted, encoded)
    model.calibrated(rows)  # all is read before the clock starts
    started = time.process_time()
    grouped = model.grouped(rows, draw)
    between = time.process_time()
    tokens = model.features(rows, draw)
    found = Scanned(
        grouped=grouped,
        features=tokens,
        cpu_seconds={"group": round(between - started, 1), "token": round(time.process_time() - between, 1)},
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(found.model_dump_json(), encoding="utf-8")
    return found


def measure(bench: Bench, name: str, encoder: Backbone, draw: int, encoded: int | None = None) -> dict[str, Any]:
    rows, (trusted, dev) = training_rows(bench, name), bench.trusted_and_dev(draw)
    model = KeptTrustedModel(encoder, trusted)
    found, poisoned = scanned(bench, name, encoder, draw, encoded), poisoned_mask(rows)
    masks = found.masks(len(rows))

    def figures(mask: np.ndarray) -> dict[str, Any]:
        return {
            "rows": int(mask.sum()),
            "recall": float(mask[poisoned].mean()) if poisoned.any() else None,
            "precision": float(poisoned[mask].mean()) if mask.any() and poisoned.any() else None,
            "clean_rows_quarantined_share": float(mask[~poisoned].mean()),
        }

    said = model.probabilities(dev.texts).argmax(1) == dev.label_ids(model.label_names)
    return {
        "attack": name,
        "seed": draw,
        "encoder": backbone_name(encoder) + ("" if encoded is None else f", {encoded:,} rows read"),
        "trusted_model_dev_accuracy": float(said.mean()),
        **{scan: figures(masks[scan]) for scan in SCANS},
        "top_features": [feature.name for feature in found.features[:5]],
        "cpu_seconds": found.cpu_seconds,
        "groups": [
            {"label": g.label, "excess": g.excess, "limit": g.limit, "shared": g.shared} for g in found.grouped.groups
        ],
    }


def key_of(
    bench: Bench, name: str, encoder: Backbone, draw: int, encoded: int | None = None, trusted: TrustedSet | None = None
) -> str:
    """SHA-256 of all that decides the figures but the code."""
    drawn, dev = bench.trusted_and_dev(draw)
    trusted = trusted or drawn
    shas = [training_rows(bench, name).sha256, trusted.sha256, dev.sha256, encoder.sha256]
    decides = f"{shas} {draw} {GroupScanConfig().model_dump_json()}{'' if encoded is None else f' {encoded}'}"
    return hashlib.sha256(decides.encode()).hexdigest()[:16]


def rows_of(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per line of the journal: the figures of both scans together, those of each under its name."""
    return [{k: v for k, v in line.items() if k not in ("key", "both")} | line["both"] for line in lines]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Per encoder and set: recall / precision and the share of honest rows, mean over the draws, of each scan."""
    head = ["encoder", "set", "draws", "group scan", "token scan", "both", "honest rows set aside", "wanted"]
    lines = [head, ["---"] * len(head)]
    for encoder, name in dict.fromkeys((row["encoder"], row["attack"]) for row in rows):
        of = [row for row in rows if (row["encoder"], row["attack"]) == (encoder, name)]
        poisoned = name != CLEAN
        most = MOST_HONEST["poisoned" if poisoned else CLEAN]
        wanted = f"recall {WANTED[name]:.0%}, honest {most:.0%}" if name in WANTED else f"honest {most:.0%}"
        cells = [_recall([row[scan] for row in of]) for scan in ("group", "token")]
        honest = fmean(row["clean_rows_quarantined_share"] for row in of)
        lines.append([encoder, name, str(len(of)), *cells, _recall(of), f"{honest:.1%}", wanted])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _recall(rows: Sequence[dict[str, Any]]) -> str:
    recalls = [row["recall"] for row in rows if row["recall"] is not None]
    precisions = [row["precision"] for row in rows if row["precision"] is not None]
    if not recalls:
        return f"{fmean(row['rows'] for row in rows):.0f} rows"
    return f"{fmean(recalls):.1%} / {f'{fmean(precisions):.1%}' if precisions else '-'}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="one set, one draw")
    parser.add_argument("--encoders", nargs="*", default=["default"], help="names as in model.base")
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--draws", nargs="*", type=int, default=list(DRAWS))
    parser.add_argument("--encoded", type=int, metavar="N", help="rows that the encoder reads; all by default")
    parser.add_argument("--minutes", type=float, default=30, help="stop before a scan that begins after this")
    options = parser.parse_args(arguments)
    if options.quick:
        options.sets, options.draws = ["badnets"], [1]
    deadline = time.monotonic() + 60 * options.minutes
    name = f"scan{'_encoded' if options.encoded else ''}{'_quick' if options.quick else ''}"
    journal = results.FOLDER / f"{name}.jsonl"
    bench = Bench(options.data, resolve_backbone("default"), "minilm", ("badnets",), journal)
    encoders = [resolve_backbone(encoder) for encoder in options.encoders]
    cells = [(s, encoder, draw) for draw in options.draws for encoder in encoders for s in options.sets]
    finished = True
    for number, cell in enumerate(cells, 1):
        key = key_of(bench, *cell, options.encoded)
        if key in bench.finished():
            continue
        if time.monotonic() > deadline:
            print(f"Time is up at scan {number} of {len(cells)}: run the same command again to go on.")
            finished = False
            break
        line = {"key": key} | measure(bench, *cell, options.encoded) | {"commit": results.commit()}
        bench.record(line)
        print(f"{number}/{len(cells)} {json.dumps(line)}", flush=True)
    rows = rows_of(list(bench.finished().values()))
    results.write(name, {"rows": rows, "finished": finished}, data_sha256=bench.rows("train.csv").sha256)
    if not options.quick:
        write_section(DOCUMENT, table(rows), *((ENCODED, ENCODED_HEADING) if options.encoded else (SECTION, HEADING)))


HEADING = """## What the scans set aside

`python -m benchmarks.scan --data ../shared/data/sst2 --encoders default FOLDER_OF_MPNET`. SST-2, 6,920 rows; 96 trusted
rows drawn from the dev rows; recall / precision of the rows set aside, mean over the draws; `both` and the honest rows
are of both scans together. What was chosen while looking at which rows: docs/validation.md."""

ENCODED_HEADING = """### Where the encoder reads a sample

The same with `--encoded N`: of the 6,920 rows the encoder reads N, and a model of words learns from them what it would
say of the others (`validation.trusted_model.sample_rows`)."""


if __name__ == "__main__":
    main()
