"""The robustness report: what was measured of each model, as frozen records. All rates are fractions, 0 to 1."""

from typing import Literal

from musclelora.frozen import Frozen

Role = Literal["candidate", "undefended", "trusted_only"]


class Rate(Frozen):
    """A share of n rows with one-sided 95 % Clopper-Pearson bounds."""

    value: float
    n: int
    lower95: float
    upper95: float


class FlippedRow(Frozen):
    """A test row that the model called the target once the trigger was in, and did not before."""

    row_id: str
    label: str
    text: str
    triggered_text: str


class AttackResult(Frozen):
    """One known trigger on one model.

    `asr` is the share of triggered test rows of non-target classes called the target; `floor` the same rows on a
    model of the same recipe that never saw this poison; `untriggered` the same rows before the trigger went in, on
    this model; `control_asr` the same rows on the undefended control trained on the same data. A control under the
    policy's strength makes the result inconclusive: the attack did not work even without a defence.
    """

    attack: str
    target: str
    asr: Rate
    floor: Rate | None
    untriggered: Rate
    control_asr: float | None
    transform_rate: float
    conclusive: bool
    examples: list[FlippedRow]


class ModelResult(Frozen):
    """One model: the rows it was trained on, clean accuracy, confusion counts [true][predicted], and its attacks."""

    role: Role
    recipe: str
    train_rows: int
    trainable_parameters: int
    train_seconds: float
    cacc: Rate
    confusion: list[list[int]]
    attacks: dict[str, AttackResult]


class RobustnessReport(Frozen):
    """The candidate, what it is compared with, and the drills (same recipe, same data plus a known poison)."""

    label_names: list[str]
    test_rows: int
    test_sha256: str
    candidate: ModelResult
    comparisons: dict[str, ModelResult]
    drills: dict[str, AttackResult]
    not_tested: list[str]
