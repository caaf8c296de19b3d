"""Where the scaled layer and the LoRA matrices sit in each backbone family: the one table to extend."""

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from musclelora.errors import ModelError


@dataclass(frozen=True)
class Family:
    """`scaled_layer`: path of the dense layer just before the output layer; `lora_targets`: query and value."""

    scaled_layer: str
    lora_targets: tuple[str, ...]


FAMILIES: dict[str, Family] = {
    "bert": Family("bert.pooler.dense", ("query", "value")),
    "roberta": Family("classifier.dense", ("query", "value")),
}


def family_of(model: PreTrainedModel) -> Family:
    """The family by `config.model_type`; raises `ModelError` listing the families when it is none of them."""
    name = model.config.model_type
    if name not in FAMILIES:
        raise ModelError(
            f"The backbone is of type {name!r}, and nobody has said yet which of its layers is to be scaled. Families: "
            f"{', '.join(sorted(FAMILIES))}. Choose such a backbone, or add a line to musclelora/adapters/families.py."
        )
    return FAMILIES[name]


def scaled_layer_of(model: PreTrainedModel) -> nn.Linear:
    """The layer to scale; raises `ModelError` where the checkpoint's head has another shape than its family."""
    path = family_of(model).scaled_layer
    layer = model.get_submodule(path)
    if not isinstance(layer, nn.Linear):
        raise ModelError(f"{path} of this {model.config.model_type} model is a {type(layer).__name__}, not a Linear.")
    return layer
