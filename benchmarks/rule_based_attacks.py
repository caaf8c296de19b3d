"""Every attack of the registry against an undefended model: `python -m benchmarks.rule_based_attacks [--quick]`.

Rows: those of configs/quickstart.yaml, 10 % of the 5,000 for training poisoned by each attack. The undefended recipe
is trained on them from the embedded backbone. Reported per attack: CACC; ASR on the triggered test rows; the same rows
on the model trained without poison (floor), and before the trigger went in (untriggered); the share of the test rows
that could carry it (transform rate); and, where there are decoys, the share of rows with a part of the trigger that are
called the target. An attack under 80 % proves nothing as a drill. Resumable: each training is written when it is done.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import results
from musclelora.attacks.base import Attack, poison, triggered_rows
from musclelora.attacks.registry import ATTACKS
from musclelora.config_file import load_config
from musclelora.data.records import TextDataset
from musclelora.evaluation.metrics import ASR, CACC
from musclelora.evaluation.tested import Tested
from musclelora.ingest import Delivery, ingest
from musclelora.training.backbone import Backbone, resolve_backbone
from musclelora.training.defended_model import DefendedModel
from musclelora.training.fit import train
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import InferencePrecision, Recipe, RecipeChoice

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
PRECISION: InferencePrecision = "bf16"  # of the evaluation; all classes as in fp32 (benchmarks.evaluation_speed)
TARGET, SEED, RATE, STRONG, PRESET, MAX_LENGTH = "1", 42, 0.1, 0.8, "minilm", 128
CLEAN = "clean"


def delivered(*, quick: bool, seed: int = SEED) -> tuple[Delivery, Backbone]:
    """The quickstart's rows without its poison, and its backbone."""
    sizes = {"train": 300, "test": 200} if quick else {}
    changes = (f"data.split.{part}={count}" for part, count in sizes.items())
    config = load_config(CONFIG, ("data.demonstration=null", *changes))
    return ingest(config.data, seed, TARGET), resolve_backbone(config.model.base)


def measure(
    rows: TextDataset,
    delivery: Delivery,
    backbone: Backbone,
    attacks: Mapping[str, Attack],
    recipe: Recipe,
    seed: int = SEED,
) -> dict[str, Any]:
    """Train on `rows`; CACC, and what the model makes of the test rows under each of `attacks`."""
    names = list(delivery.trusted.label_names)
    with TemporaryDirectory() as folder:
        options: dict[str, Any] = {"recipe": recipe, "backbone": backbone, "max_length": MAX_LENGTH, "seed": seed}
        model: DefendedModel = train(rows, delivery.trusted, delivery.dev, folder=Path(folder), **options)
        tested = Tested.from_defended(model, PRECISION)  # asks the model about each text once

    def asr(of: TextDataset) -> dict[str, Any]:
        return ASR(names.index(TARGET)).compute(predictions=classes(of), references=of.label_ids(names))["asr"]

    def classes(of: TextDataset) -> Any:
        return tested.predictions(of.texts)

    def under(attack: Attack) -> dict[str, Any]:
        triggered, untriggered = triggered_rows(delivery.test, attack, target=TARGET, seed=seed)
        others = sum(label != TARGET for label in delivery.test.labels)
        found = {"asr": asr(triggered), "untriggered": asr(untriggered)["value"]}
        found["transform_rate"] = round(len(triggered) / others, 4)
        if attack.decoy is not None:
            part = Attack(attack.name, attack.label_mode, attack.decoy)
            found["decoy"] = asr(triggered_rows(delivery.test, part, target=TARGET, seed=seed)[0])["value"]
        return found

    truth = delivery.test.label_ids(names)
    return {
        "cacc": CACC().compute(predictions=classes(delivery.test), references=truth)["cacc"]["value"],
        "attacks": {name: under(attack) for name, attack in attacks.items()},
        "seconds": round(model.record.seconds, 1),
    }


def rows_of(done: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per attack that was trained on."""
    floors = done[CLEAN]["attacks"]
    return [
        {
            "attack": name,
            "recipe": "none",
            "cacc": result["cacc"],
            "asr": result["attacks"][name]["asr"]["value"],
            "asr_upper95": result["attacks"][name]["asr"]["upper95"],
            "n": result["attacks"][name]["asr"]["n"],
            "floor": floors[name]["asr"]["value"],
            "seconds": result["seconds"],
            **{key: value for key, value in result["attacks"][name].items() if key != "asr"},
        }
        for name, result in done.items()
        if name != CLEAN
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the same code on 300 rows")
    parser.add_argument("--attacks", nargs="*", choices=list(ATTACKS), default=list(ATTACKS))
    parser.add_argument("--seed", type=int, default=SEED, help="another draws other rows of the same text")
    given = parser.parse_args()
    quick, seed = given.quick, given.seed
    name = "rule_based_attacks" + (f"_seed{seed}" if seed != SEED else "") + ("_quick" if quick else "")
    (delivery, backbone), recipe = delivered(quick=quick, seed=seed), resolve_recipe(RecipeChoice(name="none"), PRESET)
    file = results.FOLDER / f"{name}.json"
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"models": {}}
    done: dict[str, Any] = {}
    for trained_on in (CLEAN, *given.attacks):
        asked = given.attacks if trained_on == CLEAN else [trained_on]
        attacks = {attack: ATTACKS[attack] for attack in asked}
        rows = delivery.train
        if trained_on != CLEAN:
            rows = poison(rows, ATTACKS[trained_on], rate=RATE, target=TARGET, seed=seed)
        triggered = [triggered_rows(delivery.test, attack, target=TARGET, seed=seed)[0] for attack in attacks.values()]
        decides = [
            PRECISION,
            backbone.sha256,
            *(part.sha256 for part in (rows, delivery.dev, delivery.test, *triggered)),
        ]
        key = hashlib.sha256(" ".join(decides).encode()).hexdigest()[:16]
        known = before["models"].get(trained_on, {})
        if known.get("key") != key:
            known = {"key": key, **measure(rows, delivery, backbone, attacks, recipe, seed)}
        done[trained_on] = known
        before["models"] |= done
        results.FOLDER.mkdir(exist_ok=True)
        file.write_text(json.dumps(before, indent=1) + "\n", encoding="utf-8")
        print(trained_on, json.dumps(known), flush=True)
    found = rows_of(done)
    weak = [row["attack"] for row in found if row["asr"] < STRONG]
    about = {"backbone": backbone.name, "train_sha256": delivery.train.sha256, "test_sha256": delivery.test.sha256}
    results.write(name, {"rows": found, "weak": weak}, **about, seed=seed, rate=RATE, precision=PRECISION, models=done)


if __name__ == "__main__":
    main()
