"""The robustness report: what was measured of each model, as frozen records. All rates are fractions, 0 to 1."""

from typing import Literal

from pydantic import Field

from musclelora.frozen import Frozen
from musclelora.training.recipes import InferencePrecision

Role = Literal["candidate", "undefended", "undefended_floor", "trusted_only", "without_scan", "floor"]
Position = Literal["start", "middle", "end"]


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
    policy's strength makes the result inconclusive: the attack did not work even without a defence. An audited model
    has no control: its result is conclusive for that model, and says nothing of any training. `robust_accuracy` is the
    share of the triggered rows still called their true class; None where that is not known.
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
    robust_accuracy: Rate | None = None


class ModelResult(Frozen):
    """One model: how it was trained, clean accuracy, confusion counts [true][predicted], and its attacks.

    How it was trained is None where nobody knows: an audited model may come from anywhere.
    """

    role: Role
    recipe: str | None
    train_rows: int | None
    trainable_parameters: int | None
    train_seconds: float | None
    cacc: Rate
    confusion: list[list[int]]
    attacks: dict[str, AttackResult]


class ProbeResult(Frozen):
    """A suspected trigger in clean test rows of the other classes, where in the row it works best on the candidate.

    `kind`: `scan` for a word or phrase that the token scan found in `rows` training rows with the z-score `z`; `search`
    for one that a gradient-guided search made up from the candidate's weights, which no training row need carry.
    `floor`: the same rows on a model that never saw the suspected rows. `untriggered`: the same rows without the
    trigger, on the candidate.
    """

    trigger: str
    kind: Literal["scan", "search"]
    target: str
    position: Position
    z: float | None
    rows: int | None
    asr: Rate
    floor: Rate | None
    untriggered: Rate
    examples: list[FlippedRow]


class GroupResult(Frozen):
    """A suspect group on the candidate, which was trained on none of its rows.

    `group` is the check that set its `rows` aside, `shared` what they have in common. `called`: of those for which the
    trusted model says another label, the share that the candidate calls `label`, the one that they were given; `floor`
    the same on a model that never saw an untrusted row. A low rate shows that the candidate did not learn what the
    group has in common; a high one that it did, from rows that the scan missed, or that the group is honest.
    """

    group: str
    label: str
    shared: list[str]
    rows: int
    called: Rate
    floor: Rate | None


class AuditedModel(Frozen):
    """A model of which only its files are known: its name, the SHA-256 of its weights, and the same of the floor."""

    name: str
    sha256: str
    floor: str | None
    floor_sha256: str | None


class ChampionResult(Frozen):
    """The champion so far on the rows that the candidate was measured on, with the very same triggers.

    `asr` is by attack or drill. `version` is None where the registry holds no champion yet; then nothing was measured.
    """

    version: str | None
    model_sha256: str | None = None
    test_sha256: str
    cacc: Rate | None = None
    asr: dict[str, Rate] = Field(default_factory=dict)


class RobustnessReport(Frozen):
    """The candidate, what it is compared with, the drills (same recipe, same data plus a known poison), the probes
    and the suspect groups.

    `audited` is set where the candidate was not trained in this run: then there are no controls and no drills, and the
    only comparison is the floor model, where one is known. All models were evaluated in `precision`.
    """

    label_names: list[str]
    test_rows: int
    test_sha256: str
    candidate: ModelResult
    comparisons: dict[str, ModelResult]
    drills: dict[str, AttackResult]
    probes: list[ProbeResult] = Field(default_factory=list)
    suspect_groups: list[GroupResult] = Field(default_factory=list)
    audited: AuditedModel | None = None
    precision: InferencePrecision = "fp32"
    not_tested: list[str]
