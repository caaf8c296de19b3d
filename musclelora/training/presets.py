"""The settings of every part and schedule, per backbone, and how a config's `recipe` becomes a full one."""

from typing import Any

from pydantic import ValidationError

from musclelora.adapters.families import FAMILIES
from musclelora.errors import ConfigError, did_you_mean
from musclelora.frozen import Frozen
from musclelora.training.recipes import (
    IA3,
    PARTS,
    Contrastive,
    GradientAlignment,
    Guidance,
    LoRA,
    Prefix,
    RadialScaling,
    Recipe,
    RecipeChoice,
    Schedule,
)

ALL_PARTS = sorted(frozenset().union(*PARTS.values()))


class Preset(Frozen):
    """Settings of every part for one backbone, and a schedule per way of training."""

    radial_scaling: RadialScaling
    lora: LoRA
    alignment: GradientAlignment
    adapters: Schedule
    full: Schedule
    trusted_only: Schedule
    contrastive: Contrastive = Contrastive()
    guidance: Guidance = Guidance()
    ia3: IA3 = IA3()
    prefix: Prefix = Prefix()
    peft_baselines: Schedule


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
        peft_baselines=Schedule(learning_rate=5e-3, batch_size=32, epochs=10),
    )


def _published_decoder() -> Preset:
    """The published decoder settings (GPT2-XL, Llama2-7B); the plain schedules are ours. min_ref_loss 0 and rho_max 0:
    every step is aligned."""
    return Preset(
        radial_scaling=RadialScaling(scales=(1, 2, 3, 4), alpha=4),
        lora=LoRA(rank=2, alpha=8),
        alignment=GradientAlignment(start_epoch=0, rho_max=0, min_ref_loss=0, reference_batch_size=16),
        adapters=Schedule(learning_rate=1e-5, batch_size=16, epochs=5),
        full=Schedule(learning_rate=1e-5, batch_size=16, epochs=3),
        trusted_only=Schedule(learning_rate=1e-5, batch_size=16, epochs=15),
        peft_baselines=Schedule(learning_rate=5e-3, batch_size=16, epochs=5),
    )


LARGE_SCALES = (1, 2, 3, 4, 5, 6, 7, 8, 9)
PRESETS: dict[str, Preset] = {
    "bert-base": _published((1, 4, 8, 12, 16, 20, 24, 28)),
    "bert-large": _published(LARGE_SCALES),
    "roberta-base": _published((1, 2, 4, 6, 8, 10, 12, 14, 16)),
    "roberta-large": _published(LARGE_SCALES),
    "decoder": _published_decoder(),
    # Ours, for all-MiniLM-L6-v2, found by benchmarks/preset_minilm.py (docs/recipes.md): with the published alpha the
    # branch is some 200 times as large as the layer it scales and saturates its tanh.
    "minilm": Preset(
        radial_scaling=RadialScaling(scales=(1, 4, 8, 12, 16, 20, 24, 28), alpha=1.0),
        lora=LoRA(),
        alignment=GradientAlignment(reference_batch_size=16),
        adapters=Schedule(learning_rate=2e-3, batch_size=32, epochs=2),
        full=Schedule(learning_rate=5e-5, batch_size=32, epochs=1),
        trusted_only=Schedule(learning_rate=5e-5, batch_size=32, epochs=30),
        peft_baselines=Schedule(learning_rate=5e-3, batch_size=32, epochs=3),
    ),
}


# Whose published scales a family takes: the one whose classifier's head is built alike (roberta: a dense layer on the
# first token and an output layer beside it; bert: a pooler). Nobody has published scales for the others.
STEMS = {
    "bert": "bert",
    "distilbert": "bert",
    "deberta-v2": "bert",
    "modernbert": "bert",
    "roberta": "roberta",
    "electra": "roberta",
    "mpnet": "roberta",
}


def auto_preset(model_type: str, hidden_size: int, backbone: str) -> str:
    """The preset of a backbone; raises `ConfigError` where there is none for its family."""
    if "minilm" in backbone.lower():
        return "minilm"
    if model_type in FAMILIES and FAMILIES[model_type].is_decoder:
        return "decoder"
    if model_type not in STEMS:
        raise ConfigError(f"There is no preset for {model_type!r} models; set recipe.preset to one of {list(PRESETS)}.")
    return f"{STEMS[model_type]}-{'large' if hidden_size >= 1024 else 'base'}"


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
    found = []
    for part in ALL_PARTS:
        changes = getattr(choice, part, {})
        if changes.get("scales") == "auto":
            if "alpha" in changes:
                raise ConfigError("recipe.radial_scaling: `scales: auto` finds alpha, so do not give one beside it.")
            changes = {name: value for name, value in changes.items() if name != "scales"}
            found.append("scales")
        if part in parts:
            fields[part] = getattr(preset, part).model_dump() | changes
        elif getattr(choice, part, {}):
            raise ConfigError(f"recipe.{part} is set, but the recipe {choice.name!r} has that part switched off.")
    fields["train_on"] = {"trusted-only": "trusted", "trusted-contrastive": "untrusted texts"}.get(
        choice.name, "untrusted"
    )
    scalars = choice.model_dump(exclude={"name", "preset", *ALL_PARTS}, exclude_none=True)
    if scalars.get("learning_rate") == "auto":
        del scalars["learning_rate"]
        found.append("learning_rate")
    try:
        return Recipe.model_validate(fields | scalars | {"found": found})
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in ("recipe", *problem["loc"]))
        raise ConfigError(f"{where}: {problem['msg']} (given: {problem['input']!r}).") from error


def _schedule(name: str, preset: Preset) -> Schedule:
    if name == "trusted-only":
        return preset.trusted_only
    if PARTS[name] & {"ia3", "prefix"}:
        return preset.peft_baselines
    return preset.adapters if PARTS[name] & {"lora", "radial_scaling"} else preset.full
