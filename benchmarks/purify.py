"""Purification: `python -m benchmarks.purify --data ../shared/data/sst2 [--quick] [--minutes 60]`; resumable.

Per set of benchmarks.scan: what both scans set aside is left out, and the undefended recipe is trained on the rest.
True rows come back without their suspect words (musclelora/purification.py), and then the recipe is trained once more.
Reported: CACC and ASR of the last model, of the undefended model trained on all rows, and of one trained on the clean
set (its CACC is what there is to keep, its ASR the floor). `--recipe musclelora-guided` trains that on what is left
instead, the second line for what the scans do not see; its floor is its own on the clean set. `--data` may also be a
folder that benchmarks.data_sets has written. `--trusted N` takes fewer trusted rows, and with `--trusted-poisoned K` so
many of these are poisoned rows of the set.

Scans, states and models are kept (kept.py, audited_models.py). The rows go to benchmarks/results/purify.json and the
table to docs/benchmarks.md.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import results
from benchmarks.kept import kept_model
from benchmarks.recipes import ATTACKS, CLEAN, DOCUMENT, MAX_LENGTH, Bench, backbone_name
from benchmarks.recipes_tables import write_section
from benchmarks.scan import KeptTrustedModel, key_of, scanned
from benchmarks.scan_sets import (
    NORMALISED,
    PERCENT,
    attacks_of,
    poisoned_mask,
    training_rows,
    triggered_rows,
    trusted_set,
)
from musclelora.data.records import TextDataset, TrustedSet
from musclelora.evaluation.metrics import ASR, CACC
from musclelora.purification import readmit
from musclelora.training.backbone import Backbone, resolve_backbone
from musclelora.training.defended_model import DefendedModel
from musclelora.training.predict import logits_of
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import RecipeChoice

SETS = ("hiddenkiller", NORMALISED, "badnets", "addsent", "stylebkd", CLEAN)
SECTION = "benchmarks.purify"
UNDEFENDED = "none"
FIRST_LINES: dict[str, Any] = {"recipe": UNDEFENDED, "trusted": 96, "trusted_poisoned": 0}  # which did not say so


def trained(
    bench: Bench, rows: TextDataset, seed: int, recipe: str = UNDEFENDED, trusted: TrustedSet | None = None
) -> DefendedModel:
    """The recipe on `rows`; undefended, the same model as audited_models.py keeps where that has these rows, whoever is
    `trusted`: that recipe reads none of these."""
    drawn, dev = bench.trusted_and_dev(seed)
    trusted = drawn if trusted is None or recipe == UNDEFENDED else trusted
    resolved = resolve_recipe(RecipeChoice(name=recipe), bench.preset)
    return kept_model(rows, trusted, dev, resolved, bench.backbone, MAX_LENGTH, seed)


def measure(
    bench: Bench, name: str, encoder: Backbone, seed: int, recipe: str, trusted: TrustedSet, poisoned_trusted: int
) -> dict[str, Any]:
    rows, found = training_rows(bench, name), scanned(bench, name, encoder, seed, trusted=trusted)
    names = trusted.label_names
    accepted = rows.where(~found.masks(len(rows))["both"])
    model = trained(bench, accepted, seed)
    of_trusted = KeptTrustedModel(encoder, trusted)
    scans = partial(of_trusted.features, draw=seed), partial(of_trusted.grouped, draw=seed)
    kept, back = readmit(accepted, rows, found.features, found.grouped, names, logits_by(model), *scans)
    if len(kept) > len(accepted) or recipe != UNDEFENDED:
        model = trained(bench, kept, seed, recipe, trusted)
    undefended = trained(bench, bench.rows(f"{name}/train.csv") if name in ATTACKS else rows, seed)
    clean = trained(bench, bench.rows("train.csv"), seed, recipe, trusted)
    models = {"": model, "_undefended": undefended, "_clean": clean}
    return {
        "dataset": bench.data.name,
        "data_sha256": bench.rows("train.csv").sha256,
        "attack": name,
        "recipe": recipe,
        "seed": seed,
        "encoder": backbone_name(encoder),
        "trusted": len(trusted),
        "trusted_poisoned": poisoned_trusted,
        "set_aside": len(rows) - len(kept),
        "repaired": back.repaired,
        "poison_left": poison_left(rows, kept),
        **{f"cacc{of}": cacc(bench, one, names)["value"] for of, one in models.items()},
        "asr": {attack: asr(bench, model, names, attack) for attack in attacks_of(name)},
        "asr_undefended": {attack: asr(bench, undefended, names, attack) for attack in attacks_of(name)},
        "floor": {attack: asr(bench, clean, names, attack) for attack in attacks_of(name)},
    }


def poison_left(rows: TextDataset, kept: TextDataset) -> int:
    """Poisoned rows among those kept whose text is as it was."""
    was = dict(zip(rows.row_ids, rows.texts, strict=True))
    mine = zip(kept.row_ids, kept.texts, poisoned_mask(kept).tolist(), strict=True)
    return sum(poisoned and was[row_id] == text for row_id, text, poisoned in mine)


def logits_by(model: DefendedModel) -> Callable[[Sequence[str]], np.ndarray]:
    loaded = model.load()
    return lambda texts: logits_of(*loaded, texts, MAX_LENGTH)


def cacc(bench: Bench, model: DefendedModel, names: Sequence[str]) -> dict[str, Any]:
    test = bench.test
    return CACC().compute(predictions=logits_by(model)(test.texts).argmax(1), references=test.label_ids(names))["cacc"]


def asr(bench: Bench, model: DefendedModel, names: Sequence[str], attack: str) -> dict[str, Any]:
    triggered = triggered_rows(bench, attack)
    [target] = set(triggered.label_ids(names))
    # Which other class a row was of is not in the file, and ASR needs no more than that it was another.
    others = [next(i for i in range(len(names)) if i != target)] * len(triggered)
    return ASR(int(target)).compute(predictions=logits_by(model)(triggered.texts).argmax(1), references=others)["asr"]


def table(lines: Sequence[dict[str, Any]]) -> str:
    what = ["data", "encoder", "trusted", "set", "recipe", "set aside", "repaired", "poison left"]
    head = [*what, "CACC", "CACC clean", "ASR", "undefended", "floor"]
    body = [head, ["---"] * len(head)]
    for line in sorted((FIRST_LINES | line for line in lines), key=_place):
        rates = [
            " ".join(f"{100 * rate['value']:.1f}" for rate in line[of].values()) or "-"
            for of in ("asr", "asr_undefended", "floor")
        ]
        caccs = [f"{100 * line[of]:.1f}" for of in ("cacc", "cacc_clean")]
        planted = line["trusted_poisoned"]
        trusted = f"{line['trusted']}{f', {planted} poisoned' if planted else ''}"
        cell = [line["dataset"], line["encoder"], trusted, line["attack"], line["recipe"]]
        counts = [str(line.get(count, "-")) for count in ("set_aside", "repaired", "poison_left")]
        body.append([*cell, *counts, *caccs, *rates])
    return "\n".join("| " + " | ".join(row) + " |" for row in body)


def _place(line: dict[str, Any]) -> tuple[Any, ...]:
    """The rates of an attack from low to high with both recipes; fewer or poisoned trusted rows come after."""
    attack, _, percent = line["attack"].partition("@")
    trusted = -line["trusted"], line["trusted_poisoned"]
    second_line = line["recipe"] != UNDEFENDED
    return line["dataset"], line["encoder"], attack, *trusted, float(percent or PERCENT), second_line


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="one set")
    parser.add_argument("--encoder", default="default", help="of the trusted model; a name as in model.base")
    parser.add_argument("--recipe", default=UNDEFENDED, help="trained on what the scans leave")
    parser.add_argument("--trusted", type=int, default=96, metavar="N", help="trusted rows, of 96")
    parser.add_argument("--trusted-poisoned", type=int, default=0, metavar="K", help="of these")
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[1])
    parser.add_argument("--minutes", type=float, default=60, help="stop before a set that begins after this")
    options = parser.parse_args(arguments)
    name = "purify_quick" if options.quick else "purify"
    deadline = time.monotonic() + 60 * options.minutes
    journal = results.FOLDER / f"{name}.jsonl"
    bench = Bench(options.data, resolve_backbone("default"), "minilm", ATTACKS, journal)
    encoder = resolve_backbone(options.encoder)
    cells = [
        (s, encoder, seed) for seed in options.seeds for s in (options.sets[:1] if options.quick else options.sets)
    ]
    finished = True
    for number, cell in enumerate(cells, 1):
        trusted = trusted_set(bench, cell[2], cell[0], options.trusted, options.trusted_poisoned)
        key = f"{key_of(bench, *cell, trusted=trusted)}-{bench.backbone.sha256[:8]}"
        key += "" if options.recipe == UNDEFENDED else f"-{options.recipe}"
        if key in bench.finished():
            continue
        if time.monotonic() > deadline:
            print(f"Time is up at set {number} of {len(cells)}: run the same command again to go on.")
            finished = False
            break
        figures = measure(bench, *cell, options.recipe, trusted, options.trusted_poisoned)
        line = {"key": key} | figures | {"commit": results.commit()}
        bench.record(line)
        print(f"{number}/{len(cells)} {json.dumps(line)}", flush=True)
    rows = [{k: v for k, v in line.items() if k != "key"} for line in bench.finished().values()]
    results.write(name, {"rows": rows, "finished": finished})
    if not options.quick:
        write_section(DOCUMENT, table(rows), SECTION, HEADING)


HEADING = """## Purification

`python -m benchmarks.purify --data ../shared/data/sst2 --encoder FOLDER_OF_MPNET [--recipe musclelora-guided]`, and
`--data` a folder of `python -m benchmarks.data_sets`: the recipe on what both scans leave, and on what came back
without its suspect words. Set aside: rows not trained on; repaired: trained on without these words. CACC and
ASR in percent; CACC clean and the floor are those of the same recipe on the clean set. Poison left: poisoned rows that
were trained on as they are, of 692 of SST-2 where the set names no rate, of 300 of sms, of 280 of newsgroups and
newsgroups-kept."""


if __name__ == "__main__":
    main()
