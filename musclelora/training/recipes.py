"""Recipes: how a model is trained. A name says which parts are on; `presets.py` gives their settings."""

from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from musclelora.frozen import Frozen

Precision = Literal["auto", "fp32", "bf16"]
InferencePrecision = Literal["fp32", "bf16"]
Quantization = Literal["none", "4bit"]


class RadialScaling(Frozen):
    """Multiple radial scalings of the dense layer before the output layer (paper, section 4.1)."""

    scales: tuple[PositiveFloat, ...] = Field(min_length=1, description="one per band; larger ones on larger layers")
    inner_rank: PositiveInt = Field(1, description="rank of each band; raise it for many classes")
    alpha: PositiveFloat = Field(6.0, description="weight of the branch; lower it where it drowns the layer it scales")


class LoRA(Frozen):
    """PEFT LoRA on the query and value projections (paper, section 4.2)."""

    rank: PositiveInt = Field(8, description="raise it when clean accuracy stalls; more capacity also learns triggers")
    alpha: PositiveInt = Field(32, description="weight of the branch, divided by the rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="on the branch's input")


class GradientAlignment(Frozen):
    """Alignment of each gradient to that of the trusted rows (paper, section 4.3)."""

    start_epoch: float = Field(1, ge=0, description="e0: from this epoch on, a share of the raw gradient is mixed in")
    rho_max: float = Field(0.1, ge=0, le=1, description="share of the raw gradient that the ramp leads to")
    min_ref_norm: float = Field(5e-7, ge=0, description="under this mean norm the reference gradient is noise")
    min_ref_loss: float = Field(0.4, ge=0, description="while the trusted loss is above it, only aligned gradients")
    reference_batch_size: PositiveInt = Field(32, description="trusted rows per step; fewer are faster and noisier")
    reference_every: PositiveInt = Field(1, description="steps that share one; faster, halve the learning rate")


class Contrastive(Frozen):
    """Trusted rows alone: the cosine of two rows' mean-pooled states is drawn to 1 (same label) or 0 (another)."""

    steps: NonNegativeInt = Field(80, description="0 leaves the encoder as it is; more cost time")
    batch_size: int = Field(16, ge=2, description="rows per step; every pair among them counts")
    learning_rate: PositiveFloat = Field(2e-5, description="of the encoder")
    inverse_penalty: PositiveFloat = Field(1.0, description="C of the logistic head: higher is surer of itself")


class Guidance(Frozen):
    """Each row's target is (1 - label_share) x what the contrastive model of the trusted rows says + label_share x its
    given label. So no label, and no trigger that comes with it, can move a prediction by more than that share."""

    label_share: float = Field(0.05, ge=0, lt=0.5, description="more trusts the labels more, and their triggers too")


class IA3(Frozen):
    """PEFT (IA)3: a factor per key, value and feed-forward unit (Liu et al. 2022); the output layer trains too.

    It stands for the adapter baselines: peft has no bottleneck adapters, and this one folds into plain weights.
    """


class Prefix(Frozen):
    """PEFT prefix tuning: learned keys and values before the text (Li and Liang 2021); the output layer trains too.

    For comparison only: no plain weight can hold a prefix, so such a model is not released.
    """

    tokens: PositiveInt = Field(20, description="length of the prefix; each takes a place of the model's longest text")


class Schedule(Frozen):
    """Learning rate (AdamW, linear decay to 0), rows per step, passes over the rows."""

    learning_rate: PositiveFloat
    batch_size: PositiveInt
    epochs: PositiveInt


class Recipe(Frozen):
    """All that decides a training run, apart from data, backbone and seed. A part that is `None` is off."""

    name: str
    preset: str
    train_on: Literal["untrusted", "trusted", "untrusted texts"] = Field(
        "untrusted", description='"untrusted texts": their labels are not used, the contrastive model labels them'
    )
    radial_scaling: RadialScaling | None = None
    lora: LoRA | None = None
    alignment: GradientAlignment | None = None
    contrastive: Contrastive | None = None
    guidance: Guidance | None = None
    ia3: IA3 | None = None
    prefix: Prefix | None = None
    learning_rate: PositiveFloat
    batch_size: PositiveInt
    epochs: PositiveInt
    found: tuple[Literal["scales", "learning_rate"], ...] = Field(
        (), description="settings that training finds on the backbone; the record of a model has the numbers found"
    )
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: PositiveFloat = 1.0
    precision: Precision = Field("auto", description="auto = bf16 where the processor computes in it, else fp32")

    @property
    def can_be_released(self) -> bool:
        """Whether plain transformers weights can hold what it trains."""
        return self.prefix is None


class RecipeChoice(Frozen):
    """The `recipe` section of a config: a name, a preset, and any field that is to differ from it."""

    name: str = "musclelora"
    preset: str = Field("auto", description="auto = the preset of the backbone")
    radial_scaling: dict[str, Any] = Field(default_factory=dict)
    lora: dict[str, Any] = Field(default_factory=dict)
    alignment: dict[str, Any] = Field(default_factory=dict)
    contrastive: dict[str, Any] = Field(default_factory=dict)
    guidance: dict[str, Any] = Field(default_factory=dict)
    prefix: dict[str, Any] = Field(default_factory=dict)
    learning_rate: PositiveFloat | Literal["auto"] | None = None
    batch_size: PositiveInt | None = None
    epochs: PositiveInt | None = None
    weight_decay: float | None = Field(None, ge=0)
    max_grad_norm: PositiveFloat | None = None
    precision: Precision | None = None


PURIFY = "purify"
PARTS: dict[str, frozenset[str]] = {
    "none": frozenset(),
    PURIFY: frozenset(),  # musclelora/purification.py
    "trusted-only": frozenset(),
    "trusted-contrastive": frozenset({"contrastive"}),
    "guided": frozenset({"contrastive", "guidance"}),
    "musclelora-guided": frozenset({"lora", "radial_scaling", "contrastive", "guidance"}),
    "ia3": frozenset({"ia3"}),
    "prefix": frozenset({"prefix"}),
    "ga": frozenset({"alignment"}),
    "ms": frozenset({"radial_scaling"}),
    "lora": frozenset({"lora"}),
    "lora+ga": frozenset({"lora", "alignment"}),
    "lora+ms": frozenset({"lora", "radial_scaling"}),
    "lora+ms+ga": frozenset({"lora", "radial_scaling", "alignment"}),
    "musclelora": frozenset({"lora", "radial_scaling", "alignment"}),
}
