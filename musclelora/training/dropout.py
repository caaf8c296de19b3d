"""Dropout with cheaply drawn masks, for CPUs: torch's own `bernoulli_` took up to a quarter of a training step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

WORD = 65536  # one 16-bit word per element: the probability is off by at most 1/131072
SAME_BITS = {torch.float64: torch.int64, torch.float32: torch.int32, torch.bfloat16: torch.int16}
ATTENTION = "musclelora_eager"
# Types whose eager attention is softmax(q k^T * scaling + mask), dropout, times v: what `eager_attention` computes.
STANDARD_ATTENTION = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert"})


class Masks:
    """A stream of independent 16-bit words from a seeded SFC64; its state goes into checkpoints."""

    def __init__(self, seed: int) -> None:
        self._words = np.random.SFC64(seed)

    def dropped(self, shape: torch.Size, p: float) -> Tensor:
        """A boolean mask of `shape`, true with probability p (rounded to 1/65536), each element on its own."""
        n = shape.numel()
        words = np.asarray(self._words.random_raw((n + 3) // 4)).view(np.uint16)[:n]
        return torch.from_numpy(words < round(p * WORD)).view(shape)

    @property
    def state(self) -> dict[str, Any]:
        """Plain integers only, so that it can be stored as JSON."""
        inner: Any = self._words.state
        return {"words": [int(word) for word in inner["state"]["state"]]}

    @state.setter
    def state(self, saved: dict[str, Any]) -> None:
        inner: Any = self._words.state
        inner["state"]["state"] = np.array(saved["words"], dtype=np.uint64)
        self._words.state = inner


class _Drop(torch.autograd.Function):
    """x / (1 - p) where `kept` has all bits set, 0 where it has none.

    Zeroed by AND: a product with a boolean, or `where`, takes four times as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.scale = scale
        return _scaled_and_zeroed(x, kept, scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        return _scaled_and_zeroed(gradients[0], kept, ctx.scale), None, None


def _scaled_and_zeroed(x: Tensor, kept: Tensor, scale: float) -> Tensor:
    return (x * scale).contiguous().view(kept.dtype).bitwise_and_(kept).view(x.dtype)


def drop(x: Tensor, p: float, masks: Masks) -> Tensor:
    """Dropout of any tensor on the CPU; each element is zeroed with probability p, the others grow by 1 / (1 - p)."""
    exact = round(p * WORD) / WORD
    kept = masks.dropped(x.shape, p).to(SAME_BITS[x.dtype]).sub_(1)
    return _Drop.apply(x, kept, 1 / (1 - exact))


class FastDropout(nn.Module):
    """In the place of an `nn.Dropout`; the identity in evaluation."""

    def __init__(self, p: float, masks: Masks) -> None:
        super().__init__()
        self.p, self.masks = p, masks

    def forward(self, x: Tensor) -> Tensor:
        return drop(x, self.p, self.masks) if self.training and self.p > 0 else x


def eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """transformers' eager attention with our dropout; q [rows, heads, i, size], k and v [rows, heads, j, size].

    In fp32 within bf16 training too: one product in a hundred is attention's at the lengths of sentences, in fp32 it is
    no slower where shapes change, and oneDNN, which PyTorch takes in bf16, would keep 3 MB for each shape of a batch.
    """
    with torch.autocast(query.device.type, enabled=False):
        dtype = torch.promote_types(query.dtype, torch.float32)
        q, k, v = (states.to(dtype, memory_format=torch.contiguous_format) for states in (query, key, value))
        weights = torch.matmul(q, k.transpose(2, 3)) * (q.size(-1) ** -0.5 if scaling is None else scaling)
        if attention_mask is not None:
            weights = weights + attention_mask
        weights = nn.functional.softmax(weights, dim=-1)
        if dropout > 0:
            masks: Any = getattr(module, "dropout_masks", None)
            weights = nn.functional.dropout(weights, dropout) if masks is None else drop(weights, dropout, masks)
        return torch.matmul(weights, v).transpose(1, 2).contiguous().to(query.dtype), weights


AttentionInterface.register(ATTENTION, eager_attention)
AttentionMaskInterface.register(ATTENTION, eager_mask)


@contextmanager
def fast_dropout(model: nn.Module, masks: Masks) -> Iterator[None]:
    """Every `nn.Dropout` of the model, and where its attention is of the standard form that too, draws from `masks`."""
    plain = {path: module for path, module in model.named_modules() if type(module) is nn.Dropout}
    standard = isinstance(model, PreTrainedModel) and model.config.model_type in STANDARD_ATTENTION
    former = model.config._attn_implementation if standard else None  # type: ignore[union-attr]
    for path, dropout in plain.items():
        model.set_submodule(path, FastDropout(dropout.p, masks).train(dropout.training))
    if standard:
        for module in model.modules():
            module.dropout_masks = masks  # type: ignore[assignment]
        model.set_attn_implementation(ATTENTION)  # type: ignore[operator]
    try:
        yield
    finally:
        for path, dropout in plain.items():
            model.set_submodule(path, dropout.train(model.training))
        if standard:
            for module in model.modules():
                module.__dict__.pop("dropout_masks", None)
            model.set_attn_implementation(former)  # type: ignore[operator]
