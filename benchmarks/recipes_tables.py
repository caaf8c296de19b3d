"""The rows of benchmarks.recipes from its trainings, the tables of docs/benchmarks.md, and the judgement."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

from musclelora.comparison.tables import BROKEN_FLOOR

Row = dict[str, Any]
IDENTITY = ("backbone", "recipe", "seed", "trained_on", "rows")
MAX_MEAN_ASR, MAX_ABOVE_FLOOR, MIN_GAIN = 0.15, 0.05, 0.03


def rows_of(lines: Iterable[Row]) -> list[Row]:
    """One row per recipe, attack, seed and backbone; where a training was repeated with another setting, the last."""
    trained = {tuple(line[part] for part in IDENTITY): line for line in lines}
    rows = []
    for (backbone, recipe, seed, trained_on, count), line in trained.items():
        floor = trained.get((backbone, recipe, seed, "clean", count))
        if trained_on == "clean" and recipe != "trusted-only":
            continue
        for attack, asr in line["asr"].items():
            rows.append(
                {
                    "recipe": recipe,
                    "attack": attack,
                    "seed": seed,
                    "backbone": backbone,
                    "train_rows": line["train_rows"],
                    "cacc": line["cacc"]["value"],
                    "asr": asr["value"],
                    "asr_upper95": asr["upper95"],
                    "floor": floor["asr"][attack]["value"] if floor and attack in floor["asr"] else None,
                    "untriggered": line["untriggered"],
                    "n": asr["n"],
                    "seconds": line["train_seconds"],
                }
            )
    return rows


def tables(rows: list[Row]) -> str:
    """One table per backbone: per recipe CACC, ASR / floor per attack, their means, the worst attack.

    A seed under which a recipe has not met every attack yet is left out: it would count in some means only.
    """
    by_backbone = _grouped(_of_whole_seeds(rows), lambda row: row["backbone"])
    return "\n\n".join(f"### {backbone}\n\n{_table(of)}" for backbone, of in by_backbone.items())


def _of_whole_seeds(rows: list[Row]) -> list[Row]:
    attacks = {
        backbone: {row["attack"] for row in of} for backbone, of in _grouped(rows, lambda r: r["backbone"]).items()
    }
    seeds = _grouped(rows, lambda row: (row["backbone"], row["recipe"], row["train_rows"], row["seed"]))
    whole = [of for (backbone, *_), of in seeds.items() if {row["attack"] for row in of} == attacks[backbone]]
    return [row for of in whole for row in of]


def _table(rows: list[Row]) -> str:
    attacks = list(dict.fromkeys(row["attack"] for row in rows))
    head = ["recipe", "rows", "seeds", "CACC", *attacks, "mean", "worst above floor", "seconds"]
    body = []
    for (recipe, count), of in _grouped(rows, lambda row: (row["recipe"], row["train_rows"])).items():
        cells = [_asr_and_floor([row for row in of if row["attack"] == attack]) for attack in attacks]
        above = {a: _above([row for row in of if row["attack"] == a]) for a in attacks}
        known = {attack: value for attack, value in above.items() if value is not None}
        worst = max(known, key=lambda attack: known[attack]) if known else None
        body.append(
            [
                f"`{recipe}`",
                f"{count:,}",
                str(len({row["seed"] for row in of})),
                _spread([row["cacc"] for row in of]),
                *cells,
                _asr_and_floor(of),
                f"{100 * known[worst]:+.1f} ({worst})" if worst else "-",
                f"{fmean(row['seconds'] for row in of):.0f}",
            ]
        )
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def judgement(rows: list[Row]) -> list[str]:
    """What issue 4 asks of the defences, in words with the figures, per backbone; nothing for what was not trained."""
    said = []
    for backbone, of in _grouped(_of_whole_seeds(rows), lambda row: row["backbone"]).items():
        by_recipe = _grouped(of, lambda row: row["recipe"])
        for defence in ("musclelora", "musclelora-guided"):
            said += [f"{backbone}: {sentence}" for sentence in _judged(defence, by_recipe)]
    return said


def _judged(defence: str, by_recipe: dict[str, list[Row]]) -> list[str]:
    ours = by_recipe.get(defence, [])
    if not ours or any(row["floor"] is None for row in ours):
        return []
    broken = list(dict.fromkeys(row["attack"] for row in ours if row["floor"] > BROKEN_FLOOR))
    if broken:
        return [f"{defence} cannot be judged: its floor under {', '.join(broken)} is a broken model's."]
    asr, floor = fmean(row["asr"] for row in ours), fmean(row["floor"] for row in ours)
    limit = max(MAX_MEAN_ASR, floor + MAX_ABOVE_FLOOR)
    said = [
        f"mean ASR of {defence} {_percent(asr)}, floor {_percent(floor)}: "
        f"{'within' if asr <= limit else 'over'} the limit of {_percent(limit)}."
    ]
    cacc = fmean(row["cacc"] for row in ours)
    for rival, gain in (("trusted-only", MIN_GAIN), ("trusted-contrastive", 0.0)):
        if rival in by_recipe:
            needed = fmean(row["cacc"] for row in by_recipe[rival]) + gain
            said.append(
                f"CACC of {defence} {_percent(cacc)}, {rival} {_percent(needed - gain)}: "
                f"{'reaches' if cacc >= needed else 'short of'} the {_percent(needed)} asked for."
            )
    return said


def marks(benchmark: str) -> tuple[str, str]:
    """The lines between which a benchmark writes its tables."""
    return f"<!-- {benchmark}: written by the command, do not edit -->", f"<!-- end of {benchmark} -->"


def write_section(document: Path, text: str, benchmark: str = "benchmarks.recipes", heading: str | None = None) -> None:
    """Put `text` between the benchmark's two marks in `document`; they are added at its end, under the `heading`, where
    they are not there yet."""
    start, end = marks(benchmark)
    whole = document.read_text(encoding="utf-8") if document.exists() else "# Benchmarks\n"
    if start not in whole:
        whole = f"{whole.rstrip()}\n\n{heading or HEADING}\n\n{start}\n{end}\n"
    before, _, rest = whole.partition(start)
    _, _, after = rest.partition(end)
    document.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}", encoding="utf-8")


HEADING = """## Recipes and attacks

`python -m benchmarks.recipes --data ../shared/data/sst2`. SST-2 with 10 % of the rows poisoned by each attack; 96
trusted rows drawn from the dev rows with the seed. CACC: clean test accuracy, mean over seeds and attacks (lowest to
highest). Each attack: ASR / floor in percent, mean over seeds; the floor is the ASR of the same recipe trained on the
rows without poison. Worst: the attack whose ASR is most above its floor. Seconds: one training, mean."""


def _grouped(rows: list[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    groups: defaultdict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return dict(groups)


def _above(rows: list[Row]) -> float | None:
    """Nothing is measured from the floor of a broken model."""
    floors = [(row["asr"], row["floor"]) for row in rows if row["floor"] is not None]
    differences = [asr - floor for asr, floor in floors if floor <= BROKEN_FLOOR]
    return fmean(differences) if differences else None


def _asr_and_floor(rows: list[Row]) -> str:
    if not rows:
        return "-"
    floors = [row["floor"] for row in rows if row["floor"] is not None]
    floor = f"{100 * fmean(floors):.1f}" if len(floors) == len(rows) else "-"
    return f"{100 * fmean(row['asr'] for row in rows):.1f} / {floor}"


def _spread(values: list[float]) -> str:
    low, high = (f"{100 * value:.1f}" for value in (min(values), max(values)))
    mean = f"{100 * fmean(values):.1f}"
    return mean if low == high else f"{mean} ({low} to {high})"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
