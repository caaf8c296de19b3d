"""Which models a run trains besides the candidate, and on which rows."""

from collections.abc import Callable, Sequence

from musclelora.attacks.base import poison_jointly
from musclelora.attacks.registry import attack_by_name
from musclelora.data.records import TextDataset
from musclelora.frozen import Frozen
from musclelora.training.recipes import Recipe
from musclelora.validation.group_scan import GroupScanResult
from musclelora.validation.token_scan import Scan

JOINED = "__"  # between the attacks in the part of a joint drill


class Drill(Frozen):
    """Known poison added to the rows: the same recipe on them shows whether it resists these attacks."""

    attacks: tuple[str, ...]
    rate: float
    target: str
    seed: int


class Training(Frozen):
    """One model of a run. `part` is its name in the pipeline: candidate, undefended, drill_addsent, ... (of a joint
    drill: drill_addsent__badnets).

    `defended` rows went through the scans, the others did not; `unpoisoned` leaves out the demonstration's poison.
    `twin` is the part of a training alike in all but its rows: where these are the same too, so is the model.
    """

    part: str
    recipe: Recipe
    defended: bool
    unpoisoned: bool = False
    drill: Drill | None = None
    twin: str | None = None

    def rows_of(
        self,
        accepted: TextDataset,
        unscanned: TextDataset,
        scan: Scan | None,
        group_scan: Callable[[TextDataset], GroupScanResult] | None = None,
    ) -> TextDataset:
        """The training rows. A drill's poison goes in before the scans, which are part of the defence it tests."""
        if self.drill is None:
            rows = accepted if self.defended else unscanned
            return rows.unpoisoned() if self.unpoisoned else rows
        drill = self.drill
        attacks = [attack_by_name(attack) for attack in drill.attacks]
        poisoned = poison_jointly(unscanned, attacks, rate=drill.rate, target=drill.target, seed=drill.seed)
        if not self.defended:
            return poisoned
        suspect: set[int] = set()
        if scan is not None:
            suspect.update(row for feature in scan(poisoned) for row in feature.rows)
        if group_scan is not None:
            suspect.update(row for group in group_scan(poisoned).groups for row in group.rows)
        return poisoned.where([i not in suspect for i in range(len(poisoned))])


def drilled(attacks: Sequence[str], *, joint: bool) -> list[tuple[str, ...]]:
    """The attacks of each drill: one each, or all in one."""
    once = tuple(dict.fromkeys(attacks))
    return [once] if joint and once else [(attack,) for attack in once]


def plan(
    candidate: Recipe,
    undefended: Recipe,
    trusted_only: Recipe,
    without_scan: Recipe | None = None,
    *,
    demonstration: bool,
    drills: Sequence[Drill],
) -> list[Training]:
    """The candidate first; then its rivals, the floors where the poison is known, and two models per drill."""
    trainings = [
        Training(part="candidate", recipe=candidate, defended=True),
        Training(part="undefended", recipe=undefended, defended=False),
        Training(part="trusted_only", recipe=trusted_only, defended=False),
    ]
    if without_scan is not None:
        trainings.append(Training(part="without_scan", recipe=without_scan, defended=False))
    if demonstration:
        poisonable = [training for training in trainings if training.part != "trusted_only"]
        trainings += [_floor(training, candidate) for training in poisonable]
    for drill in drills:
        name = JOINED.join(drill.attacks)
        trainings += [
            Training(part=f"drill_{name}", recipe=candidate, defended=True, drill=drill),
            Training(part=f"control_{name}", recipe=undefended, defended=False, drill=drill),
        ]
    return trainings


def _floor(training: Training, candidate: Recipe) -> Training:
    """The same training without the poison. Scans that set aside this and nothing else left the candidate its rows."""
    alike = training.recipe == candidate.model_copy(update={"name": training.recipe.name})
    twin = "candidate" if alike else None
    return training.model_copy(update={"part": f"{training.part}_floor", "unpoisoned": True, "twin": twin})
