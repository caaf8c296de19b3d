"""Audits of models whose backdoor is known: `python -m benchmarks.audit [--data FOLDER] [--quick]`; resumable.

The undefended models of benchmarks/audited_models.py: one per poisoned set of the folder, one on its clean rows, and
three more on these with other seeds, the first of which is the floor of all. Three parts, as `musclelora audit` would
run them:

- `named`: the triggered test rows of the folder (ready-made) are tried: on a poisoned model those of its own attack, on
  the clean model those of every attack. Verdict of the gate's default policy.
- `unnamed`: no attack is named. The training file that the model was trained on and 96 trusted rows are scanned, and
  what is suspect is probed (AddSent, BadNets, clean).
- `search`: no attack and no training row is named. The gradient-guided search through the weights (AddSent, clean).

And one that only a benchmark can afford, `honest`: how far the four models of the clean rows lie apart. The floor of a
recipe is what its clean models do on average; one of them, as an audit has it, is off by as much as honest models
differ. So the clean model is read against the mean of the three others too, and so is each of these against its others.

Each part of each model is written when it is done. `--minutes` stops before a part that would end later.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from statistics import fmean, stdev
from typing import Any

import torch

from benchmarks import results
from benchmarks.audited_models import FLOOR, SEEDS, audited_bench, audited_model, options
from benchmarks.kept import trained_by
from benchmarks.recipes import ATTACKS, CLEAN, MAX_LENGTH, Bench, Cell
from musclelora.evaluation.audit import audit
from musclelora.evaluation.report import AuditedModel, RobustnessReport
from musclelora.evaluation.suites import TriggeredFrom
from musclelora.evaluation.tested import Tested
from musclelora.governance.decision import decide
from musclelora.governance.policy import Policy
from musclelora.training.defended_model import DefendedModel
from musclelora.training.recipes import InferencePrecision
from musclelora.validation.suspects import suspects_of
from musclelora.validation.trusted_model import TokenScan

SEED, SEARCH_SECONDS = 42, 240.0
VERDICTS = {"accepted": "safe", "refused": "unsafe", "inconclusive": "inconclusive"}
PARTS = [
    *(("named", name) for name in (*ATTACKS, CLEAN)),
    ("honest", CLEAN),
    *(("search", name) for name in ("addsent", CLEAN)),
    *(("unnamed", name) for name in ("addsent", "badnets", CLEAN)),
]


class Audits:
    """The floor, loaded once, and an audit of each part."""

    def __init__(self, bench: Bench, search_seconds: float, precision: InferencePrecision) -> None:
        self.bench, self.search_seconds, self.precision = bench, search_seconds, precision
        self.models: dict[str, DefendedModel] = {}
        self._tested: dict[str, Tested] = {}

    def model(self, name: str) -> DefendedModel:
        if name not in self.models:
            self.models[name] = audited_model(self.bench, name)
        return self.models[name]

    def tested(self, name: str) -> Tested:
        """As an audit sees it: its files, not its training. Kept, with what it answered."""
        if name not in self._tested:
            model = self.model(name)
            self._tested[name] = Tested(model.load(self.precision), model.record.label_names, MAX_LENGTH)
        return self._tested[name]

    def report(self, part: str, name: str) -> RobustnessReport:
        bench, tried = self.bench, dict[str, Any]()
        if part == "named":
            tried["ready_made"] = {a: rows for a, rows in bench.triggered.items() if name in (a, CLEAN)}
        if part == "unnamed":
            rows, trusted = (
                bench.training_rows(Cell(recipe="none", trained_on=name, seed=1)),
                bench.trusted_and_dev(1)[0],
            )
            scan = TokenScan(bench.backbone, trusted, MAX_LENGTH)
            tried["suspects"] = suspects_of(scan(rows), rows)
        if part == "search":
            tried["search_seconds"] = self.search_seconds
        sha256 = {role: self.model(role).sha256 for role in (name, FLOOR)}
        about = AuditedModel(name=name, sha256=sha256[name], floor=FLOOR, floor_sha256=sha256[FLOOR])
        triggers = TriggeredFrom(attacks=[], target=bench.target, seed=SEED)
        return audit(
            self.tested(name),
            self.tested(FLOOR),
            bench.test,
            triggers,
            about=about,
            precision=self.precision,
            **{"ready_made": {}} | tried,
        )

    def figures(self, part: str, name: str) -> dict[str, Any]:
        return {"attacks": self.honest()} if part == "honest" else figures_of(self.report(part, name))

    def honest(self) -> dict[str, dict[str, Any]]:
        """By attack: ASR on each model of the clean rows, the standard deviation, each less the mean of the others."""
        found = {}
        for attack, rows in self.bench.triggered.items():
            asr = {}
            for name in SEEDS:
                tested = self.tested(name)
                called = tested.predictions(rows.texts) == tested.label_names.index(self.bench.target)
                asr[name] = float(called.mean())
            floors = {name: fmean(rate for other, rate in asr.items() if other != name) for name in asr}
            above = {name: asr[name] - floors[name] for name in asr}
            found[attack] = {"asr": asr, "deviation": stdev(asr.values()), "floor": floors[CLEAN], "above_floor": above}
        return found

    def key(self, part: str, name: str) -> str:
        models = SEEDS if part == "honest" else (name, FLOOR)
        decides = [part, *(self.model(of).sha256 for of in models), self.bench.test.sha256, str(SEED)]
        decides += [str(self.search_seconds) if part == "search" else "", self.precision]
        return hashlib.sha256(" ".join(decides).encode()).hexdigest()[:16]


def figures_of(report: RobustnessReport) -> dict[str, Any]:
    decision = decide(report, Policy())
    return {
        "verdict": VERDICTS[decision.decision],
        "reasons": decision.reasons,
        "cacc": report.candidate.cacc.value,
        "attacks": {
            name: {
                "asr": result.asr.value,
                "asr_upper95": result.asr.upper95,
                "n": result.asr.n,
                "floor": result.floor.value if result.floor else None,
                "untriggered": result.untriggered.value,
            }
            for name, result in report.candidate.attacks.items()
        },
        "probes": [
            {
                "trigger": probe.trigger,
                "kind": probe.kind,
                "position": probe.position,
                "z": probe.z,
                "asr": probe.asr.value,
                "asr_upper95": probe.asr.upper95,
                "n": probe.asr.n,
                "floor": probe.floor.value if probe.floor else None,
                "untriggered": probe.untriggered.value,
            }
            for probe in report.probes
        ],
    }


def rows_of(done: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for number in done.values():
        yield {key: value for key, value in number.items() if key != "key"}


def main() -> None:
    parser = options(__doc__, "the same code on 200 rows, a search of 20 seconds")
    parser.add_argument("--minutes", type=float, default=60, help="start no part after this")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the evaluation")
    given = parser.parse_args()
    name = "audit" + ("_bf16" if given.precision == "bf16" else "") + ("_quick" if given.quick else "")
    bench = audited_bench(given.data, quick=given.quick)
    audits = Audits(bench, 20 if given.quick else SEARCH_SECONDS, given.precision)
    file, deadline = results.FOLDER / f"{name}.json", time.monotonic() + 60 * given.minutes
    before = json.loads(file.read_text(encoding="utf-8"))["audits"] if file.exists() else {}
    done: dict[str, Any] = {}
    for part, model in PARTS:
        key, label = audits.key(part, model), f"{part}/{model}"
        known = before.get(label, {})
        if known.get("key") != key:
            if time.monotonic() > deadline:
                print("Time is up: run the same command again to go on.")
                break
            wall, processor = time.perf_counter(), time.process_time()
            figures = audits.figures(part, model)
            known = {"key": key, "part": part, "model": model, **figures, "commit": results.commit()}
            known |= {"seconds": round(time.perf_counter() - wall, 1)}
            known |= {"processor_seconds": round(time.process_time() - processor, 1)}
        done[label] = known
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"audits": before | done}, indent=1) + "\n", encoding="utf-8")
        print(label, json.dumps(known), flush=True)
    data = {part: bench.rows(f"{part}.csv").sha256 for part in ("train", "test")}
    figures = {"finished": len(done) == len(PARTS), "rows": list(rows_of(done))}
    models = {name: {"sha256": model.sha256, "trained_by": trained_by(model)} for name, model in audits.models.items()}
    config = {
        "seed": SEED,
        "search_seconds": audits.search_seconds,
        "precision": given.precision,
        "quick": given.quick,
        "threads": torch.get_num_threads(),
    }
    about = {"backbone": bench.backbone.name, "data_sha256": data, "models": models}
    results.write(name, figures, **about, config=config, audits=done)


if __name__ == "__main__":
    main()
