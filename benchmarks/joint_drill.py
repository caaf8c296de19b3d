"""One drill for all attacks, or one for each: `python -m benchmarks.joint_drill [--quick] [--minutes 60]`; resumable.

Rows, target and rate are those of benchmarks.rule_based_attacks, the attacks BadNets, AddSent, StyleBkd, HiddenKiller.
Drills and controls are planned and their rows made as `musclelora run` does it (musclelora/plan.py): recipe
`musclelora-guided`, control `none`, and for the recipe once without and once with the token scan, which sees the poison
of a drill too. Reported per attack and mode: ASR, bound, floor (the candidate), the control's ASR, seconds of training;
and the joint drill's figures less those of the separate ones. Each training is one line of
benchmarks/results/joint_drill.jsonl, written when it is done.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import results
from benchmarks.rule_based_attacks import MAX_LENGTH, PRECISION, PRESET, RATE, SEED, TARGET, delivered, measure
from musclelora.attacks.registry import ATTACKS
from musclelora.data.records import TextDataset
from musclelora.ingest import Delivery
from musclelora.plan import JOINED, Drill, Training, drilled, plan
from musclelora.training.backbone import Backbone
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import RecipeChoice
from musclelora.validation.trusted_model import TokenScan

DRILLED = ("badnets", "addsent", "stylebkd", "hiddenkiller")
TOGETHER = JOINED.join(DRILLED)


def trainings() -> list[tuple[Training, bool]]:
    """All models that both modes need, and whether the token scan looks at their rows first."""
    groups = [*drilled(DRILLED, joint=True), *drilled(DRILLED, joint=False)]
    drills = [Drill(attacks=attacks, rate=RATE, target=TARGET, seed=SEED) for attacks in groups]
    recipes = [
        resolve_recipe(RecipeChoice(name=name), PRESET) for name in ("musclelora-guided", "none", "trusted-only")
    ]
    planned = [of for of in plan(*recipes, demonstration=False, drills=drills) if of.part != "trusted_only"]
    return [(of, False) for of in planned] + [(of, True) for of in planned if of.defended]


def rows_for(training: Training, delivery: Delivery, scan: TokenScan | None) -> TextDataset:
    """The rows that the run would train on."""
    accepted = delivery.train
    if scan is not None and training.drill is None:
        suspect = {row for feature in scan(accepted) for row in feature.rows}
        accepted = accepted.where([i not in suspect for i in range(len(accepted))])
    return training.rows_of(accepted, delivery.train, scan)


def key_of(training: Training, rows: TextDataset, delivery: Delivery, backbone: Backbone) -> str:
    decides = [PRECISION, training.recipe.model_dump_json(), *asked(training), rows.sha256, delivery.dev.sha256]
    decides += [delivery.test.sha256, delivery.trusted.sha256, backbone.sha256]
    return hashlib.sha256(" ".join(decides).encode()).hexdigest()[:16]


def asked(training: Training) -> Sequence[str]:
    """The attacks that the model is asked about: those of its drill, all of them where it is a floor."""
    return DRILLED if training.drill is None else training.drill.attacks


def rows_of(found: dict[tuple[str, bool], dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per scan, attack and mode; of a joint drill with the differences to the separate one."""
    rows = []
    for scanned in (False, True):
        for attack in DRILLED:
            separate = row_of(found, scanned, attack, attack, "separate")
            joint = row_of(found, scanned, attack, TOGETHER, "joint")
            joint |= {f"{of}_less_separate": joint[of] - separate[of] for of in ("asr", "control_asr", "cacc")}
            rows += [separate, joint]
    return rows


def row_of(
    found: dict[tuple[str, bool], dict[str, Any]], scanned: bool, attack: str, drill: str, mode: str
) -> dict[str, Any]:
    model, control = found[f"drill_{drill}", scanned], found[f"control_{drill}", False]
    measured = model["attacks"][attack]
    return {
        "mode": mode,
        "attack": attack,
        "recipe": "musclelora-guided",
        "token_scan": scanned,
        "train_rows": model["train_rows"],
        "poison_left": model["poison"],
        "cacc": model["cacc"],
        "asr": measured["asr"]["value"],
        "asr_upper95": measured["asr"]["upper95"],
        "n": measured["asr"]["n"],
        "floor": found["candidate", scanned]["attacks"][attack]["asr"]["value"],
        "control_asr": control["attacks"][attack]["asr"]["value"],
        "seconds": model["seconds"] + control["seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the same code on 300 rows")
    parser.add_argument("--minutes", type=float, default=60, help="start no training after this")
    given = parser.parse_args()
    deadline = time.monotonic() + 60 * given.minutes
    name = "joint_drill_quick" if given.quick else "joint_drill"
    delivery, backbone = delivered(quick=given.quick)
    scan = TokenScan(backbone, delivery.trusted, MAX_LENGTH, seed=SEED)
    journal, found = results.Journal(results.FOLDER / f"{name}.jsonl"), {}
    planned = trainings()
    for training, scanned in planned:
        rows = rows_for(training, delivery, scan if scanned else None)
        key = key_of(training, rows, delivery, backbone)
        if key not in journal.done:
            if time.monotonic() > deadline:
                print("Time is up: run the same command again to go on.")
                break
            attacks = {attack: ATTACKS[attack] for attack in asked(training)}
            line = {"part": training.part, "recipe": training.recipe.name, "train_rows": len(rows)}
            line |= {"poison": sum(rows.column("is_poisoned")) if training.drill else 0}
            line |= measure(rows, delivery, backbone, attacks, training.recipe)
            journal.add(key, line)
        found[training.part, scanned] = journal.done[key]
        print(json.dumps(found[training.part, scanned] | {"token_scan": scanned}), flush=True)
    finished = len(found) == len(planned)
    about = {"backbone": backbone.name, "train_sha256": delivery.train.sha256, "test_sha256": delivery.test.sha256}
    figures = {"finished": finished, "rows": rows_of(found) if finished else []}
    results.write(name, figures, **about, seed=SEED, rate=RATE, precision=PRECISION)


if __name__ == "__main__":
    main()
