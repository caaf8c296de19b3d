"""Two parameter-efficient baselines from peft. As is the custom with them, the output layer trains too."""

from typing import Any

from peft import IA3Config, PrefixTuningConfig, TaskType, get_peft_model, inject_adapter_in_model
from transformers import PreTrainedModel

from musclelora.errors import ModelError

OUTPUT_LAYERS = ("classifier", "score")  # what transformers calls them; peft goes by the same two names


def inject_ia3(model: PreTrainedModel) -> None:
    """(IA)3 factors where peft's own table for the model's family puts them, in place. They fold like LoRA.

    Raises `ModelError` for a family that is not in that table.
    """
    try:
        inject_adapter_in_model(IA3Config(), model)
    except ValueError as error:
        raise ModelError(
            f"peft does not say where (IA)3 goes in a {model.config.model_type!r} model ({error}). Choose another "
            "recipe, or another backbone."
        ) from error
    for name in OUTPUT_LAYERS:
        if hasattr(model, name):
            getattr(model, name).requires_grad_(True)


def with_prefix(model: PreTrainedModel, tokens: int) -> Any:
    """A `PeftModel`: `tokens` learned keys and values before each layer's own, and the output layer; all else frozen.

    Raises `ModelError` where peft cannot put a prefix before this family's text.
    """
    config = PrefixTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=tokens)
    try:
        return get_peft_model(model, config)
    except (ValueError, NotImplementedError, AttributeError) as error:
        raise ModelError(
            f"peft cannot tune a prefix of a {model.config.model_type!r} model ({error}). Choose another recipe."
        ) from error
