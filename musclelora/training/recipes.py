"""Recipes: how a model is trained. A name says which parts of the method are on; a preset gives their settings."""

from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError

from musclelora.errors import ConfigError, did_you_mean
from musclelora.frozen import Frozen

Precision = Literal["auto", "fp32", "bf16"]


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


class Schedule(Frozen):
    """Learning rate (AdamW, linear decay to 0), rows per step, passes over the rows."""

    learning_rate: PositiveFloat
    batch_size: PositiveInt
    epochs: PositiveInt


class Preset(Frozen):
    """Settings of every part for one backbone, and a schedule per way of training."""

    radial_scaling: RadialScaling
    lora: LoRA
    alignment: GradientAlignment
    adapters: Schedule
    full: Schedule
    trusted_only: Schedule


class Recipe(Frozen):
    """All that decides a training run, apart from data, backbone and seed. A part that is `None` is off."""

    name: str
    preset: str
    train_on: Literal["untrusted", "trusted"] = "untrusted"
    radial_scaling: RadialScaling | None = None
    lora: LoRA | None = None
    alignment: GradientAlignment | None = None
    learning_rate: PositiveFloat
    batch_size: PositiveInt
    epochs: PositiveInt
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: PositiveFloat = 1.0
    precision: Precision = Field("auto", description="auto = bf16 where the processor computes in it, else fp32")


class RecipeChoice(Frozen):
    """The `recipe` section of a config: a name, a preset, and any field that is to differ from it."""

    name: str = "musclelora"
    preset: str = Field("auto", description="auto = the preset of the backbone")
    radial_scaling: dict[str, Any] = Field(default_factory=dict)
    lora: dict[str, Any] = Field(default_factory=dict)
    alignment: dict[str, Any] = Field(default_factory=dict)
    learning_rate: PositiveFloat | None = None
    batch_size: PositiveInt | None = None
    epochs: PositiveInt | None = None
    weight_decay: float | None = Field(None, ge=0)
    max_grad_norm: PositiveFloat | None = None
    precision: Precision | None = None


PARTS: dict[str, frozenset[str]] = {
    "none": frozenset(),
    "trusted-only": frozenset(),
    "ga": frozenset({"alignment"}),
    "ms": frozenset({"radial_scaling"}),
    "lora": frozenset({"lora"}),
    "lora+ga": frozenset({"lora", "alignment"}),
    "lora+ms": frozenset({"lora", "radial_scaling"}),
    "lora+ms+ga": frozenset({"lora", "radial_scaling", "alignment"}),
    "musclelora": frozenset({"lora", "radial_scaling", "alignment"}),
}


def _published(scales: tuple[float, ...]) -> Preset:
    """The published encoder settings (paper, appendix); the plain schedules are our choice of the customary."""
    plain = Schedule(learning_rate=2e-5, batch_size=32, epochs=3)
    return Preset(
        radial_scaling=RadialScaling(scales=scales),
        lora=LoRA(),
        alignment=GradientAlignment(),
        adapters=Schedule(learning_rate=2e-5, batch_size=32, epochs=10),
        full=plain,
        trusted_only=Schedule(learning_rate=5e-5, batch_size=32, epochs=30),
    )


LARGE_SCALES = (1, 2, 3, 4, 5, 6, 7, 8, 9)
PRESETS: dict[str, Preset] = {
    "bert-base": _published((1, 4, 8, 12, 16, 20, 24, 28)),
    "bert-large": _published(LARGE_SCALES),
    "roberta-base": _published((1, 2, 4, 6, 8, 10, 12, 14, 16)),
    "roberta-large": _published(LARGE_SCALES),
    # Ours, for all-MiniLM-L6-v2 (docs/recipes.md): with the published alpha the branch is some 200 times as large as
    # the layer it scales and saturates its tanh, so alpha is smaller; the learning rate is larger, one epoch enough.
    "minilm": Preset(
        radial_scaling=RadialScaling(scales=(1, 4, 8, 12, 16, 20, 24, 28), alpha=0.25),
        lora=LoRA(),
        alignment=GradientAlignment(reference_batch_size=16),
        adapters=Schedule(learning_rate=1e-3, batch_size=32, epochs=1),
        full=Schedule(learning_rate=5e-5, batch_size=32, epochs=1),
        trusted_only=Schedule(learning_rate=5e-5, batch_size=32, epochs=30),
    ),
}


def auto_preset(model_type: str, hidden_size: int, backbone: str) -> str:
    """The preset of a backbone; raises `ConfigError` where there is none for its family."""
    if "minilm" in backbone.lower():
        return "minilm"
    name = f"{model_type}-{'large' if hidden_size >= 1024 else 'base'}"
    if name not in PRESETS:
        raise ConfigError(f"There is no preset for {model_type!r} models; set recipe.preset to one of {list(PRESETS)}.")
    return name


def resolve_recipe(choice: RecipeChoice, preset_of_backbone: str) -> Recipe:
    """The full recipe: the preset's settings for the parts that the name switches on, overridden by `choice`.

    Raises `ConfigError` for an unknown name or preset, a field of a part that is off, or a value out of range.
    """
    if choice.name not in PARTS:
        raise ConfigError(f"There is no recipe {choice.name!r}. {did_you_mean(choice.name, PARTS)}")
    preset_name = preset_of_backbone if choice.preset == "auto" else choice.preset
    if preset_name not in PRESETS:
        raise ConfigError(f"There is no preset {preset_name!r}. {did_you_mean(preset_name, PRESETS)}")
    preset, parts = PRESETS[preset_name], PARTS[choice.name]
    fields: dict[str, Any] = {"name": choice.name, "preset": preset_name, **_schedule(choice.name, preset).model_dump()}
    for part in ("radial_scaling", "lora", "alignment"):
        changes = getattr(choice, part)
        if part in parts:
            fields[part] = getattr(preset, part).model_dump() | changes
        elif changes:
            raise ConfigError(f"recipe.{part} is set, but the recipe {choice.name!r} has that part switched off.")
    fields["train_on"] = "trusted" if choice.name == "trusted-only" else "untrusted"
    scalars = choice.model_dump(exclude={"name", "preset", "radial_scaling", "lora", "alignment"}, exclude_none=True)
    try:
        return Recipe.model_validate(fields | scalars)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in ("recipe", *problem["loc"]))
        raise ConfigError(f"{where}: {problem['msg']} (given: {problem['input']!r}).") from error


def _schedule(name: str, preset: Preset) -> Schedule:
    if name == "trusted-only":
        return preset.trusted_only
    return preset.adapters if PARTS[name] & {"lora", "radial_scaling"} else preset.full
