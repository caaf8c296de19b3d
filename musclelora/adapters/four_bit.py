"""A frozen base in 4 bits (QLoRA, arXiv 2305.14314) while training, and plain weights again for folding.

What is trained beside the 4-bit weights is folded into *their* values, not into those of the original checkpoint: the
shipped model is the one that was trained and tested, at the price of the rounding to 4 bits staying in it.
"""

import importlib.util
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from musclelora.adapters.families import family_named
from musclelora.errors import ModelError


def four_bit_settings(model_type: str) -> BitsAndBytesConfig:
    """NF4 with doubly quantised constants; computed in bf16 on a GPU, in fp32 on a CPU.

    The layers of the classification head stay as they are: they are small, and one of them is scaled and folded.
    Raises `ModelError` where bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError('4-bit weights need bitsandbytes: pip install "musclelora-pipelines[4bit]".')
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if torch.cuda.is_available() else torch.float32,
        llm_int8_skip_modules=[family_named(model_type).scaled_layer, "classifier", "score", "out_proj"],
    )


def settle(model: PreTrainedModel) -> None:
    """After loading in 4 bits, in place: what transformers and bitsandbytes would do to such a model behind our back.

    transformers' Trainer refuses a quantised model whose adapters it did not put in itself. bitsandbytes repacks the
    weights when a CPU with bf16 instructions evaluates them, and rounds their constants in doing so.
    """
    quantizer: Any = model.hf_quantizer
    quantizer.remove_quantization_config(model)
    layer: Any
    for layer in model.modules():
        if is_four_bit(layer):
            layer.support_avx512bf16_for_cpu = False


def is_four_bit(module: nn.Module) -> bool:
    """Whether this is a linear layer of bitsandbytes with 4-bit weights (and not PEFT's wrapper of one)."""
    return hasattr(dict(module.named_parameters(recurse=False)).get("weight"), "quant_state")


@torch.no_grad()
def dequantise(model: nn.Module) -> None:
    """Every 4-bit layer becomes the plain fp32 layer with the values it stood for, on the CPU, in place.

    Adapters stay. On the CPU since that is where models are folded, and a GPU that needed 4 bits has no room for fp32.
    """
    for path, module in list(model.named_modules()):
        if is_four_bit(module):
            model.set_submodule(path, _plain(module))


def _plain(layer: Any) -> nn.Linear:
    from bitsandbytes.functional import dequantize_4bit

    weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).float().cpu()
    plain = nn.Linear(weight.shape[1], weight.shape[0], bias=layer.bias is not None, device="meta")  # draws nothing
    plain.weight = nn.Parameter(weight, requires_grad=False)
    if layer.bias is not None:
        plain.bias = nn.Parameter(layer.bias.float().cpu(), requires_grad=False)
    return plain


@torch.no_grad()
def merge_lora(layer: Any) -> None:
    """W0 += (alpha / r) B A in a LoRA layer of PEFT, in place; its own merge would quantise a 4-bit layer again.

    Raises `ModelError` where a weight is then not a number: the training diverged.
    """
    base = layer.get_base_layer()
    for name in layer.active_adapters:
        base.weight += layer.get_delta_weight(name).to(base.weight)
    if not torch.isfinite(base.weight).all():
        raise ModelError("The trained LoRA weights are not finite: the training diverged. Lower recipe.learning_rate.")
