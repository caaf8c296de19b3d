"""Two gradients from one backward pass: that of the training rows and that of the reference rows in the same batch.

Rows do not mix, so the gradient of a weight W in y = x W^T is a sum over rows, and splits at row n:
g_train = gy[:n]^T x[:n],  g_ref = gy[n:]^T x[n:].  Where every trained tensor is such a W (A and B of LoRA, L and R of
the scaling), one pass over both batches gives both gradients; the loss is mean(train rows) + mean(reference rows).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from transformers import PreTrainedModel

from musclelora.adapters.radial_scaling import RadialScalingLinear
from musclelora.errors import ModelError

# DeBERTa sends its position embeddings, which belong to no row, through the same projections as the rows.
SHARED_BETWEEN_ROWS = frozenset({"deberta", "deberta-v2"})


class Split:
    """Where the batch is cut, and the reference gradients that the backward pass leaves here, by parameter."""

    def __init__(self) -> None:
        self.row: int | None = None
        self.rows = 0
        self.references: dict[nn.Parameter, Tensor] = {}

    @contextmanager
    def at(self, row: int, rows: int) -> Iterator[None]:
        """Within the block, forward and backward, a batch of `rows` rows is cut before `row`."""
        self.row, self.rows = row, rows
        try:
            yield
        finally:
            self.row = None

    def check(self, x: Tensor) -> None:
        """Raises `ModelError` where a cut is set and x does not hold the batch's rows."""
        if self.row is not None and len(x) != self.rows:
            raise ModelError(
                f"A trained layer saw {len(x)} rows of a batch of {self.rows}: this model rearranges its batches, so "
                "that training and reference rows cannot be told apart. Add its type to SHARED_BETWEEN_ROWS in "
                "one_pass.py."
            )

    def leave(self, parameter: nn.Parameter, reference: Tensor) -> None:
        """Add to the reference gradient of this parameter."""
        former = self.references.get(parameter)
        self.references[parameter] = reference if former is None else former + reference


class _SplitProduct(torch.autograd.Function):
    """x W^T; the gradient of W is that of the rows before `split.row`, the rest goes to `split.references`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, parameter: nn.Parameter, split: Split) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.parameter, ctx.split, ctx.row = parameter, split, split.row
        return nn.functional.linear(x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        gradient, row = gradients[0], ctx.row
        ctx.split.leave(ctx.parameter, _product(gradient[row:], x[row:]).to(ctx.parameter.dtype))
        return (gradient @ weight if ctx.needs_input_grad[0] else None), _product(gradient[:row], x[:row]), None, None


def _product(gradient: Tensor, x: Tensor) -> Tensor:
    """gy^T x over all leading dimensions: [out, in]."""
    return gradient.flatten(0, -2).T @ x.flatten(0, -2)


def _linear(x: Tensor, parameter: nn.Parameter, split: Split) -> Tensor:
    """x W^T in autocast's type where that is on; split only while a cut is set."""
    if split.row is None:
        return nn.functional.linear(x, parameter)
    split.check(x)
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    return _SplitProduct.apply(x.to(dtype), parameter.to(dtype), parameter, split)


def covers(model: PreTrainedModel) -> bool:
    """Whether every trained tensor belongs to a layer whose gradient can be split."""
    if model.config.model_type in SHARED_BETWEEN_ROWS:
        return False
    covered = {p for module in model.modules() for p in _weights(module)}
    return all(p in covered for p in model.parameters() if p.requires_grad)


@contextmanager
def one_pass(model: nn.Module, split: Split) -> Iterator[None]:
    """Within the block the layers that can be split are, wherever `split.row` is set."""
    forwards: dict[nn.Module, Any] = {}
    for module in model.modules():
        if _weights(module):
            maker: Any = _lora_forward if isinstance(module, LoraLinear) else _scaling_forward
            forwards[module] = maker(module, split)
    with replaced(forwards):
        yield


@contextmanager
def replaced(forwards: Mapping[nn.Module, Callable[..., Tensor]]) -> Iterator[None]:
    """Within the block these modules compute so; after it as before."""
    former = {module: module.__dict__.get("forward") for module in forwards}
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module, before in former.items():
            del module.forward
            if before is not None:
                module.forward = before


def _weights(module: nn.Module) -> list[nn.Parameter]:
    if isinstance(module, RadialScalingLinear):
        return [module.left, module.right]
    return lora_weights(module) if isinstance(module, LoraLinear) else []


def lora_weights(module: LoraLinear) -> list[nn.Parameter]:
    """A and B of each active adapter where the layer computes W x + b + scaling * B A x and nothing else, else none."""
    if list(module.lora_A) != module.active_adapters or module.lora_variant:
        return []
    layers: list[Any] = [part[name] for name in module.active_adapters for part in (module.lora_A, module.lora_B)]
    return [layer.weight for layer in layers] if all(layer.bias is None for layer in layers) else []


def _lora_forward(module: Any, split: Split) -> Callable[..., Tensor]:
    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result = module.base_layer(x, *args, **kwargs)
        for name in module.active_adapters:
            low = _linear(module.lora_dropout[name](x), module.lora_A[name].weight, split)
            result = result + (_linear(low, module.lora_B[name].weight, split) * module.scaling[name]).to(result.dtype)
        return result

    return forward


def _scaling_forward(module: Any, split: Split) -> Callable[[Tensor], Tensor]:
    return lambda x: module.scaled(x, lambda of, parameter: _linear(of, parameter, split))
