"""Does a test fail when the gate is changed? `python -m benchmarks.mutation [--quick]`.

Every mutation that cosmic-ray knows of the code that decides (MUTATED), and every `in` turned into `not in`, one at a
time, against the known-answer tests of the gate (TESTS; its property tests are left out, so that no answer depends on
what hypothesis draws). cosmic-ray starts an interpreter for each, whose imports take ten times as long as the tests.
Here they are done once, in a parent that has imported no module of the gate; each mutation is a fork of it, which
imports the gate with one module's source exchanged. Nothing on disk is changed.

Started again, it goes on where it was stopped, unless the gate or a test has changed since. `--quick`: a sample of 40.
`pip install cosmic-ray==8.7.0` first: it is no dependency of the project.
"""

import argparse
import difflib
import gc
import hashlib
import importlib
import json
import os
import re
import resource
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from musclelora.seeding import generator

ROOT = Path(__file__).parents[1]
GATE = ROOT / "musclelora" / "governance"
MUTATED = ("attack_rules", "champion_rules", "data_rules", "decision", "metric_rules", "policy", "rule", "waiver")
TESTS = (
    "test_decision",
    "test_attack_rules",
    "test_data_rules",
    "test_champion_rules",
    "test_metric_rules",
    "test_policy",
    "test_rounding",
    "test_waiver",
)
# Types (`float | None`) are no arithmetic, a bitwise operator raises on a float, `is` on a number is no comparison.
EXCLUDED = re.compile(
    "core/(ReplaceBinaryOperator_BitOr_|ReplaceBinaryOperator_.*_(BitAnd|BitOr|BitXor|LShift|RShift|Mod|Pow|FloorDiv)"
    "|ReplaceComparisonOperator_(Lt|LtE|Gt|GtE|Eq|NotEq)_(Is|IsNot)$)"
)
COMPARISON, MEMBERSHIP = "core/ReplaceComparisonOperator_", "in, not in"
WARM = (  # what gate and tests import beside the gate
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "mlflow.models.evaluation.validation",
    "musclelora.data.trusted",
    "musclelora.evaluation.probes",
    "musclelora.validation.token_scan",
)
CPU_SECONDS = 120  # a mutation that takes longer does not end
PASSED, FAILED, NOT_IMPORTED = 0, 1, 2  # exit codes of pytest


@dataclass(frozen=True)
class Mutation:
    """One module's changed source. `diff`: the lines that left and those that came."""

    module: str
    operator: str
    source: str
    diff: tuple[str, ...]

    @property
    def is_comparison(self) -> bool:
        return self.operator.startswith(COMPARISON) or self.operator == MEMBERSHIP

    @property
    def sha256(self) -> str:
        return hashlib.sha256(f"{self.module}\n{self.source}".encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.module}, {self.operator.removeprefix('core/')}: {' '.join(self.diff)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a sample of 40 mutations")
    quick = parser.parse_args().quick
    mutations = list(all_mutations())
    if quick:
        drawn = generator(1, "mutations").choice(len(mutations), 40, replace=False)
        mutations = [mutations[index] for index in sorted(drawn)]
    warm_up()
    if outcome_of(None) != PASSED:
        raise SystemExit("The tests fail without any mutation: mend them first.")
    outcomes = {}
    for number, (mutation, outcome) in enumerate(kept_outcomes(mutations), 1):
        outcomes[mutation] = outcome
        if outcome == PASSED:
            print(f"survived: {mutation}", flush=True)
        if number % 50 == 0:
            print(f"{number} of {len(mutations)}", flush=True)
    figures = {
        "all": score(outcomes.values()),
        "comparisons": score(outcome for mutation, outcome in outcomes.items() if mutation.is_comparison),
        "survived": [str(mutation) for mutation, outcome in outcomes.items() if outcome == PASSED],
    }
    from benchmarks import results  # only now: torch in the parent would make every fork slower

    results.write("mutation_quick" if quick else "mutation", figures)


def all_mutations() -> Iterator[Mutation]:
    """Module by module, operator by operator, in the order of the lines."""
    try:
        from cosmic_ray.ast import ast_nodes, get_ast
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator, operator_names
    except ImportError as error:
        raise SystemExit(f"{error}. `pip install cosmic-ray==8.7.0` brings it.") from error
    classes = {name: get_operator(name) for name in operator_names() if not EXCLUDED.match(name)}
    operators = {name: made() for name, made in classes.items() if not made.arguments()} | {MEMBERSHIP: Membership()}
    for module in MUTATED:
        source = (GATE / f"{module}.py").read_text(encoding="utf-8")
        for name, operator in operators.items():
            places = sum(len(list(operator.mutation_positions(node))) for node in ast_nodes(get_ast(source)))
            for place in range(places):
                mutated = mutate_code(source, operator, place)
                yield Mutation(module, name, mutated, tuple(_diff(source, mutated)))


class Membership:
    """An operator of cosmic-ray's kind, which it lacks: `in` becomes `not in`, and the reverse."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        if node.type == "comparison":
            for operator in node.children[1::2]:
                if operator.get_code().split() in (["in"], ["not", "in"]):
                    yield operator.start_pos, operator.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        import parso

        places = [
            place
            for place in range(1, len(node.children), 2)
            if node.children[place].get_code().split() in (["in"], ["not", "in"])
        ]
        is_in = node.children[places[index]].get_code().split() == ["in"]
        node.children[places[index]] = parso.parse(" not in" if is_in else " in")
        return node


def warm_up() -> None:
    for module in WARM:
        importlib.import_module(module)
    loaded = [name for name in sys.modules if name.startswith("musclelora.governance.")]
    if loaded:
        raise SystemExit(f"Already imported, so that no mutation would reach it: {', '.join(loaded)}.")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    gc.collect()
    gc.freeze()  # pytest collects garbage when it ends: of its own objects alone, not of all that was imported here


def kept_outcomes(mutations: Sequence[Mutation]) -> Iterator[tuple[Mutation, int]]:
    """The outcome of each, from the journal of a run that was stopped where it holds them already."""
    files = [*GATE.glob("*.py"), *(ROOT / "tests" / "governance").glob("*.py")]
    code = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    journal = cache / "musclelora" / "mutation" / f"{code[:16]}.jsonl"
    journal.parent.mkdir(parents=True, exist_ok=True)
    known = dict(map(json.loads, journal.read_text(encoding="utf-8").splitlines())) if journal.exists() else {}
    with journal.open("a", encoding="utf-8") as lines:
        for mutation in mutations:
            if mutation.sha256 not in known:
                known[mutation.sha256] = outcome_of(mutation)
                lines.write(f"{json.dumps([mutation.sha256, known[mutation.sha256]])}\n")
                lines.flush()
            yield mutation, known[mutation.sha256]


def outcome_of(mutation: Mutation | None) -> int:
    """PASSED, FAILED or NOT_IMPORTED: what the tests say in a fork of this process."""
    child = os.fork()
    if child == 0:
        code = 70  # of a fork that itself fails
        try:
            code = _run_tests(mutation)
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        return FAILED
    if not os.WIFEXITED(status) or os.WEXITSTATUS(status) not in {PASSED, FAILED, NOT_IMPORTED}:
        raise SystemExit(f"The tests ended with the status {status} under the mutation {mutation}.")
    return os.WEXITSTATUS(status)


def _run_tests(mutation: Mutation | None) -> int:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.dup2(nowhere, sys.stderr.fileno())
    if mutation is not None:
        sys.meta_path.insert(0, MutatedModule(mutation))
    files = [str(ROOT / "tests" / "governance" / f"{name}.py") for name in TESTS]
    # conftest.py would import torch; capturing logs takes as long as the tests.
    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:logging", "--noconftest", f"--rootdir={ROOT}"]
    return int(pytest.main([*options, *files]))


class MutatedModule(MetaPathFinder, InspectLoader):
    """Imports the mutated source where its module is asked for."""

    def __init__(self, mutation: Mutation) -> None:
        self.name, self.source = f"musclelora.governance.{mutation.module}", mutation.source

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        del path, target
        return spec_from_loader(name, self) if name == self.name else None

    def get_source(self, name: str) -> str:
        del name
        return self.source


def score(outcomes: Iterable[int]) -> dict[str, float]:
    """How many there are, how many the tests notice, how many of these not even import, and the share noticed."""
    counted = Counter(outcomes)
    total, noticed = counted.total(), counted.total() - counted[PASSED]
    return {
        "mutations": total,
        "noticed": noticed,
        "not_imported": counted[NOT_IMPORTED],
        "share": round(noticed / total, 4) if total else 0.0,
    }


def _diff(before: str, after: str) -> Iterator[str]:
    for line in difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""):
        if line[0] in "+-" and line[:3] not in {"---", "+++"}:
            yield f"{line[0]} {line[1:].strip()}"


if __name__ == "__main__":
    main()
