"""Recipes: how a model is trained. Defaults are the published settings; presets are named per backbone."""

from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from musclelora.errors import ConfigError, did_you_mean
from musclelora.frozen import Frozen

Precision = Literal["auto", "fp32", "bf16"]


class RadialScaling(Frozen):
    """Multiple radial scalings of the dense layer before the output layer (paper, section 4.1)."""

    scales: tuple[PositiveFloat, ...] = Field(min_length=1, description="one scale per band; larger on small models")
    inner_rank: PositiveInt = Field(1, description="rank of each band; raise it for many classes")
    alpha: PositiveFloat = Field(6.0, description="weight of the branch; raise it when the reference loss stays flat")


class LoRA(Frozen):
    """PEFT LoRA on the query and value projections (paper, section 4.2)."""

    rank: PositiveInt = Field(8, description="raise it when clean accuracy stalls; more capacity also learns triggers")
    alpha: PositiveFloat = Field(32.0, description="weight of the branch, divided by the rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="on the branch's input")


class GradientAlignment(Frozen):
    """Alignment of each gradient to that of the trusted rows (paper, section 4.3). Names as in `method.md`."""

    start_epoch: float = Field(1, ge=0, description="e0: from this epoch on, a share of the raw gradient is mixed in")
    rho_max: float = Field(0.1, ge=0, le=1, description="share of the raw gradient that the ramp leads to")
    min_ref_norm: float = Field(5e-7, ge=0, description="under this mean norm the reference gradient is noise")
    min_ref_loss: float = Field(0.4, ge=0, description="while the trusted loss is above it, only aligned gradients")
    reference_batch_size: PositiveInt | None = Field(None, description="trusted rows per step; none = batch size")


class Recipe(Frozen):
    """All that decides a training run, apart from data, backbone and seed."""

    name: str
    preset: str
    train_on: Literal["untrusted", "trusted"] = "untrusted"
    radial_scaling: RadialScaling | None = None
    lora: LoRA | None = None
    alignment: GradientAlignment | None = None
    learning_rate: PositiveFloat = 2e-5
    batch_size: PositiveInt = 32
    epochs: PositiveInt = 10
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: PositiveFloat = 1.0
    precision: Precision = Field("auto", description="auto = bf16 where the processor computes in it, else fp32")

    @model_validator(mode="after")
    def _scaling_needs_a_frozen_base(self) -> "Recipe":
        if self.lora is None and self.radial_scaling is None and self.alignment is not None and self.name != "ga":
            raise ValueError(f"recipe {self.name!r} has gradient alignment only: call it 'ga'")
        return self


class RecipeChoice(Frozen):
    """The `recipe` section of a config: a name, a preset, and any field of it that is to differ."""

    name: str = "musclelora"
    preset: str = Field("auto", description="auto = the preset of the backbone")
    train_on: Literal["untrusted", "trusted"] | None = None
    radial_scaling: dict[str, Any] = {}
    lora: dict[str, Any] = {}
    alignment: dict[str, Any] = {}
    learning_rate: float | None = None
    batch_size: int | None = None
    epochs: int | None = None
    weight_decay: float | None = None
    max_grad_norm: float | None = None
    precision: Precision | None = None
