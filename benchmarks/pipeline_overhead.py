"""What ZenML costs: the pipeline against the same functions called in plain Python.

    python -m benchmarks.pipeline_overhead [--quick] [--turns N] [--data FOLDER] [--config FILE] [--set KEY=VALUE ...]

`pipeline` is what `musclelora run CONFIG` does: it runs the training pipeline on ZenML's local stack, nothing from the
cache, and writes its pages. `plain` calls the functions of the steps one after the other. Each is a process of its own
with a new MLflow; all seconds are counted from its start, by the wall clock and by the processor: where a machine does
other work too, the first are too many, and the second leave out waiting for the disk. `plain` would not have to import
ZenML: the seconds of that import are taken off. The database of ZenML, made once on a machine, is made before.

The difference between two runs that train for minutes is mostly noise, and what ZenML does hardly depends on the rows.
So the small case (few rows, as many models, median of the turns) says the seconds. `outside` is the difference
without the seconds inside the functions, in which the two do the same: it is what to read of the whole run, made
once: on all rows of `--data`, or those of the configuration.
"""

import argparse
import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

from benchmarks import results

if TYPE_CHECKING:
    from pipelines.launch import Prepared

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
SMALL = [
    "data.split={train: 400, dev: 100, test: 450, trusted: 32}",
    "recipe.name=none",
    "validation.trusted_model.contrastive.steps=0",
    "evaluation.without_scan={name: musclelora-guided, contrastive: {steps: 0}}",
]
TURNS = 3
CLOCKS = ("wall", "processor")  # the two columns of every array of seconds here
inside: defaultdict[str, np.ndarray] = defaultdict(lambda: np.zeros(2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the small case only, one turn")
    parser.add_argument("--turns", type=int, default=TURNS, help="of the small case")
    parser.add_argument("--data", type=Path, help="of the whole run: a folder with train.csv, dev.csv and test.csv")
    parser.add_argument("--config", type=Path, default=CONFIG, help="the quickstart's")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        print(json.dumps(measure(chosen.child[0], Path(chosen.child[1]), chosen.config, tuple(chosen.overrides))))
        return
    with tempfile.TemporaryDirectory(prefix="musclelora-overhead-") as folder:
        os.environ |= {"ZENML_CONFIG_PATH": f"{folder}/zenml", "ZENML_REPOSITORY_PATH": folder}
        child("nothing", folder, chosen.config, [])  # makes ZenML's database
        # A seed of its own for each turn, so that nothing comes from the cache of the turn before.
        numbers = range(1 if chosen.quick else chosen.turns)
        turns = [turn(folder, chosen.config, [*chosen.overrides, *SMALL, f"seed={number}"]) for number in numbers]
        small = {key: np.median([found[key] for found in turns], axis=0) for key in turns[0]}
        figures: dict[str, Any] = {"seconds": round(small["overhead"][0], 1), "small": said(small)}
        if not chosen.quick:
            rows = rows_of(chosen.data, Path(folder)) if chosen.data else []
            whole = turn(folder, chosen.config, [*chosen.overrides, *rows])
            figures |= {"share": round(whole["outside"][0] / whole["plain"][0], 4), "whole": said(whole)}
    results.write(
        "pipeline_overhead_quick" if chosen.quick else "pipeline_overhead",
        figures,
        config=chosen.config.name,
        data=chosen.data and chosen.data.name,
        overrides=chosen.overrides,
        small=SMALL,
        turns=len(turns),
        threads=os.environ.get("OMP_NUM_THREADS"),
    )


def rows_of(data: Path, folder: Path) -> list[str]:
    """Overrides that make it the data: all its rows, the trusted ones taken from those of dev.csv."""
    from benchmarks.data_sets import text_and_label
    from benchmarks.defenses import folder_data
    from musclelora.comparison.deliver import deliver

    given = deliver(folder_data(data, None), seed=0)
    for name, rows in (("trusted", given.trusted.data), ("dev", given.dev)):
        text_and_label(rows).to_csv(folder / f"{name}.csv", index=False)
    files = {"train": data / "train.csv", "dev": folder / "dev.csv", "test": data / "test.csv"}
    return [
        "data.dataset=null",
        "data.split=null",
        *(f"data.{name}={file.absolute()}" for name, file in files.items()),
        f"data.trusted={{path: {folder / 'trusted.csv'}, owner: nobody}}",
    ]


def said(seconds: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    return {key: dict(zip(CLOCKS, values.round(1).tolist(), strict=True)) for key, values in seconds.items()}


def turn(folder: str, config: Path, overrides: list[str]) -> dict[str, np.ndarray]:
    """Seconds of both, and what the pipeline takes more: in all, and outside the functions."""
    seconds, outside = {}, {}
    for kind in ("plain", "pipeline"):
        taken, spent = child(kind, folder, config, overrides)
        seconds[kind] = taken - (spent.pop("import_zenml") if kind == "plain" else 0)
        outside[kind] = seconds[kind] - sum(value for name, value in spent.items() if name != "import_zenml")
        print(kind, said({"all": seconds[kind], "outside": outside[kind], **spent}), flush=True)
    more = {"overhead": seconds["pipeline"] - seconds["plain"], "outside": outside["pipeline"] - outside["plain"]}
    return seconds | more


def child(kind: str, folder: str, config: Path, overrides: list[str]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A process that does it: its seconds, and those of its parts."""
    options = [part for override in overrides for part in ("--set", override)]
    command = [sys.executable, "-m", "benchmarks.pipeline_overhead", "--config", str(config), *options]
    started = of_children()
    done = subprocess.run([*command, "--child", kind, folder], check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    parts = json.loads(done.stdout.splitlines()[-1])
    return of_children() - started, {name: np.array(part) for name, part in parts.items()}


def of_children() -> np.ndarray:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([time.monotonic(), used.ru_utime + used.ru_stime])


def now() -> np.ndarray:
    return np.array([time.monotonic(), time.process_time()])


def measure(kind: str, folder: Path, path: Path, overrides: tuple[str, ...]) -> dict[str, list[float]]:
    """One run in this process; seconds of ZenML's import, and inside each function."""
    from pipelines.cli import QUIET

    os.environ |= QUIET
    started = now()
    from zenml.client import Client
    from zenml.pipelines.pipeline_definition import Pipeline  # noqa: F401

    imported = now() - started
    if kind == "nothing":
        Client()
        return {}
    from musclelora.config_file import load_config
    from pipelines.launch import launch, prepare, scratch

    with tempfile.TemporaryDirectory(dir=folder) as output:
        config = load_config(path, (f"tracking.uri=sqlite:///{output}/mlflow.db", *overrides))
        os.chdir(output)
        time_functions()
        prepared = prepare(config)
        if kind == "pipeline":
            launch(prepared, Path(output) / "pages")
        else:
            with scratch():
                plain(prepared)
    return {name: seconds.tolist() for name, seconds in [("import_zenml", imported), *inside.items()]}


def time_functions() -> None:
    """From here on `inside` counts the seconds in the functions of the steps; of `register` without ZenML's part."""
    import steps.register
    from steps import compare, decide, evaluate, ingest, train, validate

    for module in (ingest, validate, train, evaluate, compare, decide):
        name = module.__name__.rsplit(".", 1)[-1]
        time_function(getattr(module, name), "entrypoint", name)
    time_function(steps.register, "record_and_register", "register")


def time_function(owner: Any, attribute: str, name: str) -> None:
    function = getattr(owner, attribute)

    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        started = now()
        try:
            return function(*args, **kwargs)
        finally:
            inside[name] += now() - started

    setattr(owner, attribute, timed)


def plain(prepared: "Prepared") -> None:
    """What pipelines/training.py lays out, by calls of the functions of its steps; what they ask ZenML is answered."""
    from musclelora.governance.enforcement import GateInconclusiveError, GateRefusedError, enforce_decision
    from musclelora.governance.tracking import default_tracking_uri
    from steps.decide import decide
    from steps.evaluate import evaluate
    from steps.ingest import ingest
    from steps.register import register
    from steps.train import train
    from steps.validate import validate

    config, triggers = prepared.config, prepared.triggers
    recorded = (config.tracking.uri or default_tracking_uri(), config.tracking.experiment, "plain")
    how = {"encoder": prepared.encoder, "max_length": config.model.max_length, "seed": config.seed}
    with (
        patch("steps.train.tracking", return_value=recorded),
        patch("steps.register.tracking", return_value=recorded),
        patch("steps.register.follow_aliases"),  # ZenML's own stages
    ):
        delivered, dev, test, trusted = ingest.entrypoint(data=config.data, seed=config.seed, target=triggers.target)
        report_of_rows, accepted, quarantined, unscanned = validate.entrypoint(
            delivered, dev, test, trusted, config=config.validation, **how
        )
        models: dict[str, Any] = {}
        for training in prepared.trainings:
            models[training.part] = train.entrypoint(
                accepted,
                unscanned,
                dev,
                trusted,
                models[training.twin] if training.twin else None,
                training=training,
                validation=config.validation,
                backbone=prepared.backbone,
                triggers=triggers,
                fourier=config.evaluation.fourier,
                **how,
            )
        of_all = list(models.values()), list(models)
        report = evaluate.entrypoint(
            *of_all,
            test,
            report_of_rows,
            quarantined,
            triggers=triggers,
            min_control_asr=config.gate.min_control_asr,
            precision=config.evaluation.precision,
        )
        decision, vouched = decide.entrypoint(
            report, report_of_rows, trusted, None, policy=config.gate, waivers=config.waivers
        )
        register.entrypoint(
            *of_all,
            accepted,
            test,
            trusted,
            report_of_rows,
            report,
            decision,
            vouched,
            None,
            name=config.registry.name,
            promote=config.registry.promote,
        )
    try:
        enforce_decision(decision)
    except (GateRefusedError, GateInconclusiveError):
        return  # as `launch` does


if __name__ == "__main__":
    main()
