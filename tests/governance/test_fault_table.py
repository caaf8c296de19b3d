"""docs/reliability.md names a test for every fault: each exists, and none is skipped for good."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = re.findall(
    r"^\| (\d+) \| (.+?) \| (.+?) \| `(\S+?)::(\w+)` \|$", (ROOT / "docs/reliability.md").read_text(), re.M
)


def test_there_are_at_least_thirty_faults_numbered_in_order() -> None:
    assert [int(row[0]) for row in ROWS] == list(range(1, len(ROWS) + 1))
    assert len(ROWS) >= 30
    assert len({row[1] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("file", sorted({row[3] for row in ROWS}))
def test_each_test_that_is_named_exists(file: str) -> None:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    there = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}

    assert {row[4] for row in ROWS if row[3] == file} <= there


def test_every_stage_at_which_a_run_is_killed_is_a_row() -> None:
    tree = ast.parse((ROOT / "tests/pipelines/killed_driver.py").read_text(encoding="utf-8"))
    [places] = [node.value for node in tree.body if isinstance(node, ast.AnnAssign)]
    assert isinstance(places, ast.Dict)
    assert len(places.keys) == sum("run killed (SIGKILL)" in row[1] for row in ROWS)
