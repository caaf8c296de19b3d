"""Which models a run trains besides the candidate, and on which rows."""

from collections.abc import Sequence
from typing import Literal

from musclelora.attacks.base import poison
from musclelora.attacks.registry import attack_by_name
from musclelora.data.records import TextDataset
from musclelora.frozen import Frozen
from musclelora.training.recipes import Recipe


class Drill(Frozen):
    """A known poison added to the rows: the same recipe on them shows whether it resists that attack."""

    attack: str
    rate: float
    target: str
    seed: int


class Training(Frozen):
    """One model of a run. `part` is its name in the pipeline: candidate, undefended, drill_addsent, ..."""

    part: str
    recipe: Recipe
    rows: Literal["all", "unpoisoned"] = "all"
    drill: Drill | None = None

    def rows_of(self, data: TextDataset) -> TextDataset:
        """The training rows: without the demonstration's poison for a floor, with the drill's for a drill."""
        rows = data.unpoisoned() if self.rows == "unpoisoned" else data
        if self.drill is None:
            return rows
        drill = self.drill
        return poison(rows, attack_by_name(drill.attack), rate=drill.rate, target=drill.target, seed=drill.seed)


def plan(
    candidate: Recipe, undefended: Recipe, trusted_only: Recipe, *, demonstration: bool, drills: Sequence[Drill]
) -> list[Training]:
    """The candidate first; then its rivals, the floors where the poison is known, and two models per drill."""
    trainings = [
        Training(part="candidate", recipe=candidate),
        Training(part="undefended", recipe=undefended),
        Training(part="trusted_only", recipe=trusted_only),
    ]
    if demonstration:
        trainings += [
            Training(part="candidate_floor", recipe=candidate, rows="unpoisoned"),
            Training(part="undefended_floor", recipe=undefended, rows="unpoisoned"),
        ]
    for drill in drills:
        trainings += [
            Training(part=f"drill_{drill.attack}", recipe=candidate, drill=drill),
            Training(part=f"control_{drill.attack}", recipe=undefended, drill=drill),
        ]
    return trainings
