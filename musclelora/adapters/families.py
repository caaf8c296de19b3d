"""Where the scaled layer and the LoRA matrices sit in each backbone family: the one table to extend."""

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from musclelora.adapters.inner_head import SCALED_OF_DECODER
from musclelora.errors import ModelError


@dataclass(frozen=True)
class Family:
    """`scaled_layer`: path of the dense layer just before the output layer; `lora_targets`: query and value.

    A path or name is that of transformers' `*ForSequenceClassification`. A decoder has an output layer only (`score`);
    its scaled layer is the first one of the two-layer head that takes its place while training (`inner_head.py`).
    """

    scaled_layer: str
    lora_targets: tuple[str, ...]

    @property
    def is_decoder(self) -> bool:
        return self.scaled_layer == SCALED_OF_DECODER


# After the scaled layer come: tanh (bert, roberta, mpnet), ReLU (distilbert), GELU (electra, deberta-v2), GELU and a
# layer norm (modernbert), nothing (decoders); then dropout in every encoder, and the output layer.
FAMILIES: dict[str, Family] = {
    "bert": Family("bert.pooler.dense", ("query", "value")),
    "roberta": Family("classifier.dense", ("query", "value")),
    "distilbert": Family("pre_classifier", ("q_lin", "v_lin")),
    "electra": Family("classifier.dense", ("query", "value")),
    "deberta-v2": Family("pooler.dense", ("query_proj", "value_proj")),  # DeBERTa-v3 calls itself deberta-v2
    "modernbert": Family("head.dense", ("Wqkv",)),  # query, key and value are one matrix, so LoRA is on all three
    "mpnet": Family("classifier.dense", ("q", "v")),
    "gpt2": Family(SCALED_OF_DECODER, ("c_attn",)),  # one matrix for all three, as above; peft's default for GPT-2
    "llama": Family(SCALED_OF_DECODER, ("q_proj", "v_proj")),
    "qwen2": Family(SCALED_OF_DECODER, ("q_proj", "v_proj")),
    "qwen3": Family(SCALED_OF_DECODER, ("q_proj", "v_proj")),
    "mistral": Family(SCALED_OF_DECODER, ("q_proj", "v_proj")),
    "gemma": Family(SCALED_OF_DECODER, ("q_proj", "v_proj")),
    "gemma2": Family(SCALED_OF_DECODER, ("q_proj", "v_proj")),
    "gemma3_text": Family(SCALED_OF_DECODER, ("q_proj", "v_proj")),
}


def family_named(model_type: str) -> Family:
    """The family of a `config.model_type`; raises `ModelError` listing the families when it is none of them."""
    if model_type not in FAMILIES:
        raise ModelError(
            f"The backbone is of type {model_type!r}, and nobody has said yet which of its layers is to be scaled. "
            f"Families: {', '.join(sorted(FAMILIES))}. Choose such a backbone, or add a line to "
            "musclelora/adapters/families.py, as docs/backbones.md says under 'Adding a family'."
        )
    return FAMILIES[model_type]


def family_of(model: PreTrainedModel) -> Family:
    """The family of a model; raises `ModelError` as `family_named` does."""
    return family_named(model.config.model_type)


def scaled_layer_of(model: PreTrainedModel) -> nn.Linear:
    """The layer to scale; raises `ModelError` where the model has another head than its family's classifier."""
    path = family_of(model).scaled_layer
    try:
        layer = model.get_submodule(path)
    except AttributeError as error:
        raise ModelError(
            f"This {type(model).__name__} has no layer {path!r}, where the family {model.config.model_type!r} has the "
            "layer to scale. Load it with AutoModelForSequenceClassification, or correct the family's line in "
            "musclelora/adapters/families.py (docs/backbones.md)."
        ) from error
    if not isinstance(layer, nn.Linear):
        raise ModelError(
            f"{path} of this {model.config.model_type} model is a {type(layer).__name__}, not a torch.nn.Linear: only "
            "a plain linear layer can be scaled and folded. See docs/backbones.md, 'Adding a family'."
        )
    return layer
