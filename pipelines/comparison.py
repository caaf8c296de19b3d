"""The comparison: one step per dataset, per attack on it, and per cell of the grid."""

from typing import Any

from zenml import pipeline
from zenml.enums import ExecutionMode

from musclelora.comparison.record import CLEAN, Cell
from musclelora.data.config import CompareData
from steps.cells import attacked, cell, deliver


@pipeline(name="musclelora_compare", execution_mode=ExecutionMode.CONTINUE_ON_FAILURE)
def comparison_pipeline(datasets: dict[str, CompareData], attacks: list[str], cells: list[Cell]) -> None:
    delivered: dict[tuple[str, int], Any] = {}
    poisoned: dict[tuple[str, int, str], Any] = {}
    for name, seed in dict.fromkeys((of.dataset, of.seed) for of in cells):
        train, dev, test, trusted = deliver(data=datasets[name], seed=seed, id=f"deliver_{name}_seed{seed}")
        delivered[name, seed] = (train, dev, test, trusted)
        for attack in attacks:
            rows, triggered = attacked(
                train, test, data=datasets[name], attack=attack, seed=seed, id=f"attack_{name}_{attack}_seed{seed}"
            )
            poisoned[name, seed, attack] = (rows, triggered)
    for of in cells:
        train, dev, test, trusted = delivered[of.dataset, of.seed]
        asked = attacks if of.attack == CLEAN else [of.attack]
        asked_rows = [poisoned[of.dataset, of.seed, attack][1] for attack in asked]
        rows = train if of.attack == CLEAN else poisoned[of.dataset, of.seed, of.attack][0]
        cell(
            rows,
            trusted,
            dev,
            test,
            asked_rows,
            attacks=asked,
            target=datasets[of.dataset].target,
            of=of,
            id=of.id,
        )
