"""Dependencies point one way: pipelines -> steps -> musclelora, and inside musclelora as `ALLOWED` says."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BASE = {"errors", "frozen", "progress", "seeding"}
# Parts of the library that each of its folders may import, besides itself and `BASE`.
ALLOWED = {
    "data": set(),
    "adapters": set(),
    "attacks": {"data"},
    "validation": {"data", "training"},
    "training": {"data", "adapters"},
    "evaluation": {"data", "training", "attacks", "validation"},
    "comparison": {"data", "training", "attacks", "defenses", "evaluation", "governance", "ingest"},
    "defenses": {"data", "adapters", "training", "validation", "evaluation", "purification"},
    "governance": {"data", "training", "validation", "evaluation"},
}
# Governance reads what training and evaluation recorded; it runs neither.
RECORDS_ONLY = {"musclelora.training.defended_model", "musclelora.training.recipes", "musclelora.evaluation.report"}
BODY_LINES = 60


def imports_of(path):
    """All modules that a file imports, wherever in it; `from a.b import c` as a.b.c where that is a module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layer"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = (ROOT / whole.replace(".", "/")).with_suffix(".py").exists()
                found.add(whole if is_module else node.module)
    return found


def files_of(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    return files


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("musclelora", {"zenml", "pipelines", "steps", "materializers", "benchmarks", "tests"}),
        ("materializers", {"pipelines", "steps", "benchmarks", "tests"}),
        ("steps", {"pipelines", "benchmarks", "tests"}),
        ("pipelines", {"benchmarks", "tests"}),
    ],
)
def test_outer_layers_are_not_imported(folder, forbidden):
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files_of(folder)
        for module in imports_of(path)
        if module.split(".")[0] in forbidden
    ]
    assert wrong == []


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_parts_of_the_library_know_those_below_only(part):
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files_of(f"musclelora/{part}")
        for module in imports_of(path)
        if module.startswith("musclelora.") and module.split(".")[1] not in ALLOWED[part] | BASE | {part}
    ]
    assert wrong == []


def test_every_folder_of_the_library_has_its_rule():
    """`defenses` and whatever else comes must say what it may import."""
    folders = {path.parent.name for path in (ROOT / "musclelora").glob("*/__init__.py")}
    assert folders == set(ALLOWED)


def test_governance_reads_records_and_runs_nothing():
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files_of("musclelora/governance")
        for module in imports_of(path)
        if module.startswith(("musclelora.training", "musclelora.evaluation")) and module not in RECORDS_ONLY
    ]
    assert wrong == []


def test_pipelines_read_as_their_stages():
    lengths = {
        f"{path.name}:{node.name}": node.end_lineno - node.body[0].lineno + 1
        for path in files_of("pipelines")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
        and any("pipeline" in ast.unparse(decorator) for decorator in node.decorator_list)
    }
    assert lengths
    assert {name: lines for name, lines in lengths.items() if lines > BODY_LINES} == {}


@pytest.mark.parametrize("module", ["musclelora", "musclelora.config_file", "musclelora.ingest", "pipelines.cli"])
def test_importing_contacts_nobody_and_prints_nothing(module, tmp_path):
    script = (
        "import socket, sys\n"
        "def refuse(*args, **kwargs): raise AssertionError('a socket was opened at import')\n"
        "socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse\n"
        f"import {module}\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('zenml', 'mlflow')]\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
