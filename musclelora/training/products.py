"""Linear layers on CPUs by oneDNN, in fp32 too; a LoRA layer in one step with the layer that it adapts.

PyTorch leaves products in fp32 to MKL, which makes no use of AVX-512 on AMD's processors: 105 GFLOP/s a core where
oneDNN reaches 220 (EPYC, 832 rows, 384 x 384 to 384 x 1536); on Intel's both use it. With AVX2 and no AVX-512 MKL is
the faster one, and stays. In bf16 PyTorch takes oneDNN itself, and what is gained is autocast's work: each input is
rounded once and not once per product.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from musclelora.training.one_pass import Split, lora_weights, replaced

# oneDNN keeps code and up to 4 MB of scratch memory for each of the last 1024 shapes: few shapes, little memory. Of 64
# shapes a training of 1,600 sentences is as fast, and peaks 0.2 GB lower. Read by oneDNN at its first product.
ROWS_MULTIPLE = 64
MKL_IS_FASTER = torch.backends.cpu.get_cpu_capability() == "AVX2" and torch.backends.mkl.is_available()
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


@contextmanager
def onednn_products(model: nn.Module, dtype: torch.dtype, split: Split) -> Iterator[None]:
    """Within the block every linear layer computes in `dtype`, and returns it; gradients as by autograd.

    While a cut is set in `split`, a LoRA layer leaves the gradients of the reference rows there. Changes nothing where
    PyTorch was built without oneDNN. Layers of other classes (4 bit, GPT-2's Conv1D) stay as they are, as does a LoRA
    layer with dropout of its own but for its base layer.
    """
    if not torch.backends.mkldnn.is_available():
        yield
        return
    forwards: dict[nn.Module, Callable[..., Tensor]] = {}
    for module in model.modules():
        if type(module) is nn.Linear:
            forwards[module] = _linear_forward(module, dtype)
        elif isinstance(module, LoraLinear) and _is_simple(module):
            forwards[module] = _lora_forward(module, dtype, split)
    with replaced(forwards):
        yield


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b in the type of W and b; x [..., in], W [out, in] in any layout."""
    rows = x.flatten(0, -2)
    y = _matmul(_filled(rows, weight.dtype), weight, bias)
    return y[: len(rows)].view(*x.shape[:-1], -1)


def weight_gradient(gradient: Tensor, x: Tensor) -> Tensor:
    """gy^T x, [out, in], summed over rows; gy [rows, out], x [rows, in]."""
    gradient, x = _filled(gradient, gradient.dtype), _filled(x, x.dtype)
    if gradient.dtype != torch.float32 or MKL_IS_FASTER:
        return gradient.T @ x
    if gradient.shape[1] <= x.shape[1]:
        return _matmul(gradient.T, x.T)
    return _matmul(x.T, gradient.T).T.contiguous()  # oneDNN is slow where the result has more rows than columns


def _matmul(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if _by_onednn(x.dtype):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return torch.nn.functional.linear(x, weight, bias)


def _by_onednn(dtype: torch.dtype) -> bool:
    """Whether oneDNN computes products in that type on this processor."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported() if dtype == torch.bfloat16 else not MKL_IS_FASTER


def _filled(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """In that type, and for oneDNN with rows of zeros up to a multiple of `ROWS_MULTIPLE`: one copy for both."""
    missing = -len(rows) % ROWS_MULTIPLE if _by_onednn(dtype) else 0
    if not missing:
        return rows.to(dtype)
    filled = rows.new_empty(len(rows) + missing, rows.shape[1], dtype=dtype)
    filled[: len(rows)] = rows
    filled[len(rows) :] = 0
    return filled


class _Linear(torch.autograd.Function):
    """x W^T + b, with the gradients of those of the three that want one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        rounded = weight.to(dtype)
        used = x.to(dtype) if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(used, rounded)
        ctx.types = x.dtype, weight.dtype, None if bias is None else bias.dtype
        return product(x if used is None else used, rounded, None if bias is None else bias.to(dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        (used, rounded), (x_type, weight_type, bias_type) = ctx.saved_tensors, ctx.types
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = product(gradients[0], rounded.T).to(x_type)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            rows = gradients[0].to(rounded.dtype).flatten(0, -2)
            of_weight = None if used is None else weight_gradient(rows, used.flatten(0, -2)).to(weight_type)
            of_bias = rows.sum(0).to(bias_type) if ctx.needs_input_grad[2] else None
        return of_x, of_weight, of_bias, None


class _Lora(torch.autograd.Function):
    """x W^T + b + gain * x A^T B^T, W and b frozen; the rows from `split.row` on are reference rows."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        gain: float,
        dtype: torch.dtype,
        parameters: tuple[nn.Parameter, nn.Parameter],
        split: Split,
    ) -> Tensor:
        used = _filled(x.flatten(0, -2), dtype)
        weight, a_used, b_used = weight.to(dtype), a.to(dtype), b.to(dtype)
        low = product(used, a_used).mul_(gain)
        y = product(used, weight, None if bias is None else bias.to(dtype)).addmm_(low, b_used.T)
        ctx.save_for_backward(used, weight, a_used, b_used, low)
        ctx.gain, ctx.shape, ctx.types = gain, x.shape, (x.dtype, a.dtype, b.dtype)
        ctx.parameters, ctx.split = parameters, split
        ctx.cut = None if split.row is None else split.row * x.shape[1:-1].numel()
        return y[: x.shape[:-1].numel()].view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        used, weight, a, b, low = ctx.saved_tensors
        x_type, a_type, b_type = ctx.types
        gradient = _filled(gradients[0].flatten(0, -2), used.dtype)
        of_low = product(gradient, b.T).mul_(ctx.gain)
        if ctx.cut is None:
            of_a, of_b = weight_gradient(of_low, used).to(a_type), weight_gradient(gradient, low).to(b_type)
        else:
            of_a, reference_of_a = weight_gradient(_apart(of_low, ctx.cut), used).to(a_type).chunk(2)
            of_b, reference_of_b = weight_gradient(gradient, _apart(low, ctx.cut)).to(b_type).chunk(2, dim=1)
            for parameter, reference in zip(ctx.parameters, (reference_of_a, reference_of_b), strict=True):
                ctx.split.leave(parameter, reference)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = product(gradient, weight.T).addmm_(of_low, a)[: ctx.shape[:-1].numel()].view(ctx.shape).to(x_type)
        return of_x, None, None, of_a, of_b, None, None, None, None


def _apart(low: Tensor, cut: int) -> Tensor:
    """[rows, 2 rank]: what is before the cut on the left, the rest on the right, 0 elsewhere; one product sums both."""
    both = low.new_zeros(len(low), 2 * low.shape[1])
    both[:cut, : low.shape[1]] = low[:cut]
    both[cut:, low.shape[1] :] = low[cut:]
    return both


def _is_simple(module: Any) -> bool:
    """Whether it computes W x + b + gain * B A x and nothing else."""
    undropped = all(isinstance(module.lora_dropout[name], nn.Identity) for name in module.active_adapters)
    return undropped and type(module.base_layer) is nn.Linear and len(lora_weights(module)) == 2


def _linear_forward(module: nn.Linear, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda x: _Linear.apply(x, module.weight, module.bias, dtype)


def _lora_forward(module: Any, dtype: torch.dtype, split: Split) -> Callable[[Tensor], Tensor]:
    base, (name,) = module.base_layer, module.active_adapters
    a, b = module.lora_A[name].weight, module.lora_B[name].weight

    def forward(x: Tensor) -> Tensor:
        split.check(x)
        return _Lora.apply(x, base.weight, base.bias, a, b, module.scaling[name], dtype, (a, b), split)

    return forward
