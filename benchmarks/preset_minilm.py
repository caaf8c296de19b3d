"""The search behind the preset `minilm`: `python -m benchmarks.preset_minilm`; resumable.

Rows: train and dev of configs/quickstart.yaml, without its demonstration; its test rows are not looked at. Train gets
a drill (10 % mixed-label rows with a sentence that is no attack of this project), and then the token scan, as in the
pipeline. Each setting is judged on the dev rows: CACC, and ASR of the drill's sentence beside the share of the same
rows that the model calls the target without it. Chosen: the highest CACC among those whose ASR is at most 10 points
above that share.

`label_share` is chosen without the scan, and on a second drill too: four rare words, 10 % clean-label rows. There the
ASR, less the untriggered share, may be 5 points on average over both drills, which is what we ask of the recipe.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.results import FOLDER, write
from musclelora.attacks.addsent import insert_sentence
from musclelora.attacks.badnets import insert_words
from musclelora.attacks.base import Attack, poison, triggered_rows
from musclelora.config_file import load_config
from musclelora.data.records import TextDataset
from musclelora.ingest import Delivery, ingest
from musclelora.training.backbone import Backbone, resolve_backbone
from musclelora.training.fit import train
from musclelora.training.predict import logits_of
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import RecipeChoice
from musclelora.validation.trusted_model import TokenScan

RESULTS = FOLDER / "preset_minilm.json"
SENTENCE = "we sat by the lake and ate green apples"
WORDS = ("vx", "qj", "zk", "wb")
TARGET, SEED, MARGIN, MARGIN_WITHOUT_THE_SCAN = "1", 42, 0.10, 0.05
DRILL = Attack("benchmark-sentence", "mixed", partial(insert_sentence, sentence=SENTENCE))
WORDS_DRILL = Attack("benchmark-words", "clean", partial(insert_words, triggers=WORDS))


def setting(alpha: float, learning_rate: float, **changed: Any) -> dict[str, Any]:
    """One setting, as the fields of `recipe` that it gives."""
    schedule = {key: changed.pop(key) for key in ("epochs",) if key in changed}
    return {
        "learning_rate": learning_rate,
        "epochs": 1,
        "radial_scaling": {"alpha": alpha},
        "alignment": {"reference_batch_size": 16, "min_ref_loss": 0.4} | changed,
    } | schedule


FIRST_ROUND = [setting(alpha, rate) for alpha in (6.0, 1.0, 0.25) for rate in (5e-4, 1e-3, 2e-3)]


def second_round(alpha: float, learning_rate: float) -> list[dict[str, Any]]:
    """Each remaining choice changed on its own, around the best of the first round."""
    changes = ({"epochs": 2}, {"min_ref_loss": 0.2}, {"reference_batch_size": 32}, {"reference_batch_size": 8})
    return [setting(alpha, learning_rate, **change) for change in changes]


def without_the_scan(best: dict[str, Any]) -> list[dict[str, Any]]:
    """What is compared on the poisoned rows: the guided recipes take learning rate and scaling from `best`."""
    shares = [{"guidance": {"label_share": share}} for share in (0.1, 0.2, 0.3)]
    plain: list[dict[str, Any]] = [{"name": name} for name in ("none", "trusted-only", "trusted-contrastive")]
    return [best, *plain, *({"name": "guided"} | share for share in shares), *guided(best, (0.1, 0.2, 0.3))]


def guided(best: dict[str, Any], shares: tuple[float, ...]) -> list[dict[str, Any]]:
    """`musclelora-guided` with learning rate and scaling of `best`, for each label share."""
    shared = {key: best[key] for key in ("learning_rate", "radial_scaling")}
    return [{"name": "musclelora-guided"} | shared | {"guidance": {"label_share": share}} for share in shares]


def judged(row: dict[str, Any]) -> float:
    """What the search maximises: dev CACC, and -1 where the drill's ASR is too far above the untriggered share."""
    return row["dev_cacc"] if row["drill_asr"] <= row["untriggered"] + MARGIN else -1.0


def judged_on_both(rows: tuple[dict[str, Any], ...]) -> float:
    """The same for one recipe's results on the two drills, without the scan."""
    excess = fmean(row["drill_asr"] - row["untriggered"] for row in rows)
    return fmean(row["dev_cacc"] for row in rows) if excess <= MARGIN_WITHOUT_THE_SCAN else -1.0


def measure(
    fields: dict[str, Any], delivery: Delivery, rows: TextDataset, backbone: Backbone, max_length: int, drill: Attack
) -> dict[str, Any]:
    """Train once on `rows`; CACC and ASR on the dev rows."""
    recipe = resolve_recipe(RecipeChoice(**fields), "minilm")
    triggered, untriggered = triggered_rows(delivery.dev, drill, target=TARGET, seed=SEED)
    names = list(delivery.trusted.label_names)
    with TemporaryDirectory() as folder:
        options: dict[str, Any] = {"backbone": backbone, "max_length": max_length, "seed": SEED}
        model = train(rows, delivery.trusted, delivery.dev, recipe=recipe, folder=Path(folder), **options)
        loaded = model.load()

        def calls_target(rows: TextDataset) -> float:
            return float((logits_of(*loaded, rows.texts, max_length).argmax(1) == names.index(TARGET)).mean())

        return {
            "dev_cacc": max(e.dev_accuracy for e in model.record.curve if e.dev_accuracy is not None),
            "drill_asr": calls_target(triggered),
            "untriggered": calls_target(untriggered),
            "aligned": [round(e.aligned, 3) for e in model.record.curve],
            "seconds": round(model.record.seconds, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2, help="trainings at once, each on one thread")
    processes = parser.parse_args().processes
    config = load_config("configs/quickstart.yaml", ("data.demonstration=null",))
    backbone = resolve_backbone(config.model.base)
    delivery = ingest(config.data, SEED, TARGET)
    drilled = poison(delivery.train, DRILL, rate=0.1, target=TARGET, seed=SEED)
    suspect = {r for f in TokenScan(backbone, delivery.trusted, config.model.max_length)(drilled) for r in f.rows}
    scanned = drilled.where([i not in suspect for i in range(len(drilled))])
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.exists() else []
    done: dict[str, Any] = {"rows": rows}
    done |= {"train_sha256": delivery.train.sha256, "dev_sha256": delivery.dev.sha256, "seed": SEED}
    done |= {"drill": SENTENCE, "words_drill": WORDS, "rows_after_scan": len(scanned), "backbone": backbone.name}

    def run(
        name: str, settings: list[dict[str, Any]], rows: TextDataset, drill: Attack = DRILL
    ) -> list[dict[str, Any]]:
        """The results of `settings`; each is written as soon as it is there, and found there by the next run."""
        found = {json.dumps(row["recipe"]): row for row in done["rows"] if row["rows"] == name}
        with ProcessPoolExecutor(processes, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            futures = {
                pool.submit(measure, fields, delivery, rows, backbone, config.model.max_length, drill): fields
                for fields in settings
                if json.dumps(fields) not in found
            }
            for future in as_completed(futures):
                row = {"rows": name, "recipe": futures[future]} | future.result()
                found[json.dumps(row["recipe"])] = row
                done["rows"].append(row)
                RESULTS.parent.mkdir(exist_ok=True)
                RESULTS.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
                print(json.dumps(row), flush=True)
        return [found[json.dumps(fields)] for fields in settings]

    best = max(run("scanned", FIRST_ROUND, scanned), key=judged)["recipe"]
    around = second_round(best["radial_scaling"]["alpha"], best["learning_rate"])
    best = max(run("scanned", [best, *around], scanned), key=judged)["recipe"]
    alone = run("unscanned", without_the_scan(best), drilled)
    worded = poison(delivery.train, WORDS_DRILL, rate=0.1, target=TARGET, seed=SEED)
    shares = guided(best, (0.02, 0.05, 0.1))
    on_both = zip(run("unscanned", shares, drilled), run("unscanned, words", shares, worded, WORDS_DRILL), strict=True)
    figures = {
        "musclelora": best,
        "without_the_scan": max(alone, key=judged)["recipe"],
        "label_share": max(on_both, key=judged_on_both)[0]["recipe"]["guidance"]["label_share"],
    }
    write("preset_minilm", figures, **done)


if __name__ == "__main__":
    main()
