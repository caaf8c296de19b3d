"""Adapters in, adapters saved, adapters folded into plain weights."""

from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from musclelora.adapters.families import family_of, scaled_layer_of
from musclelora.adapters.four_bit import dequantise, merge_lora
from musclelora.adapters.inner_head import HEAD, TwoLayerHead, insert_inner_head
from musclelora.adapters.radial_scaling import RadialScalingLinear
from musclelora.errors import ModelError


def freeze(model: nn.Module) -> None:
    """No parameter trains, the randomly initialised output layer included (paper, section 4.2)."""
    model.requires_grad_(False)


def inject_lora(model: PreTrainedModel, rank: int, alpha: int, dropout: float) -> None:
    """PEFT LoRA beside the query and value projections, in place.

    Raises `ModelError` where the model has no such projections.
    """
    targets = family_of(model).lora_targets
    found = [module for path, module in model.named_modules() if path.rpartition(".")[2] in targets]
    if not found:
        raise ModelError(
            f"This {type(model).__name__} has no layer named {' or '.join(targets)}, where the family "
            f"{model.config.model_type!r} has its query and value projections. Correct the family's line in "
            "musclelora/adapters/families.py (docs/backbones.md)."
        )
    settings = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=list(targets),
        bias="none",
        fan_in_fan_out=isinstance(found[0], Conv1D),  # GPT-2 stores its matrices transposed
    )
    inject_adapter_in_model(settings, model)


def inject_radial_scaling(model: PreTrainedModel, scales: Sequence[float], inner_rank: int, alpha: float) -> None:
    """The radial scaling branch around the dense layer before the output layer, in place.

    A decoder first gets its two-layer head, frozen.
    """
    family = family_of(model)
    if family.is_decoder:
        insert_inner_head(model)
        model.get_submodule(HEAD).requires_grad_(False)
    model.set_submodule(family.scaled_layer, RadialScalingLinear(scaled_layer_of(model), scales, inner_rank, alpha))


def adapter_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and scales of every adapter by name, on the CPU."""
    tensors: dict[str, torch.Tensor] = {
        name: p for name, p in model.named_parameters() if "lora_" in name or "ia3_" in name
    }
    for path, module in model.named_modules():
        if isinstance(module, RadialScalingLinear):
            own = {"left": module.left, "right": module.right, "scale": module.scale}
            tensors |= {f"{path}.{name}": tensor for name, tensor in own.items()}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def save_adapters(model: nn.Module, folder: Path) -> None:
    """`adapters.safetensors` in `folder`, as evidence of what training changed; nothing where there is no adapter."""
    tensors = adapter_tensors(model)
    if tensors:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / "adapters.safetensors")


def fold(model: PreTrainedModel) -> None:
    """Every adapter becomes part of the plain weight it stands beside, in place: the branches are linear."""
    dequantise(model)
    for path, module in list(model.named_modules()):
        if isinstance(module, RadialScalingLinear):
            model.set_submodule(path, module.folded())
        elif isinstance(module, LoraLayer):
            merge_lora(module)
            model.set_submodule(path, module.get_base_layer())
        elif isinstance(module, BaseTunerLayer):  # of another PEFT method
            module.merge(safe_merge=True)
            model.set_submodule(path, module.get_base_layer())
    for path, module in list(model.named_modules()):  # after the layers inside it are plain
        if isinstance(module, TwoLayerHead):
            model.set_submodule(path, module.folded())
    if hasattr(model, "peft_config"):
        del model.peft_config
