"""What a cell of the grid measured, as frozen records. Rates are fractions."""

from pydantic import Field

from musclelora.evaluation.report import Rate
from musclelora.frozen import Frozen
from musclelora.training.backbone import Backbone
from musclelora.training.recipes import Recipe

CLEAN = "clean"


class Cell(Frozen):
    """One training: all that decides it but the rows. `attack` is CLEAN for the rows without poison, the floor."""

    method: str
    recipe: Recipe
    defense: str | None
    settings: str = Field("{}", description="of the defence, as JSON")
    attack: str
    dataset: str
    backbone_name: str
    backbone: Backbone
    max_length: int
    seed: int

    @property
    def id(self) -> str:
        """Its name as a step and as a run."""
        return "_".join([self.dataset, self.backbone_name, self.method, self.attack, f"seed{self.seed}"])

    @property
    def needs_no_poison(self) -> bool:
        """Whether no untrusted row reaches it: then it is trained once, and is its own floor."""
        return self.recipe.train_on == "trusted"


class Attacked(Frozen):
    """One attack on one model: ASR, and per triggered row whether it was called the target ("1") or not ("0")."""

    asr: Rate
    called_target: str


class CellResult(Frozen):
    """`correct`: per clean test row "1" or "0". `attacks`: the cell's own, or all of them for a clean cell.

    `left_out` training rows, and which share of the poison was among them and which share of them was poison, where a
    defence of the training data acted and the truth is known. `refused_clean` is the share of clean test rows that a
    defence at inference gave no answer to.
    """

    cell: Cell
    train_rows: int
    left_out: int | None
    left_out_recall: float | None
    left_out_precision: float | None
    refused_clean: float
    cacc: Rate
    correct: str
    untriggered: Rate
    attacks: dict[str, Attacked]
    seconds: dict[str, float]
    peak_memory_mb: float
    train_sha256: str
    test_sha256: str


class Failure(Frozen):
    """A cell that gave no result, and why in one line."""

    cell: Cell
    reason: str
