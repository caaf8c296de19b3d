"""Frozen weights in bf16 while training in bf16: autocast would round them anew in every step."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def frozen_in_bf16(model: nn.Module) -> Iterator[None]:
    """Frozen weights of linear layers are rounded within the block, and are the original ones again after it.

    What is folded and saved is therefore never the rounded weight. Adapters and optimizer stay in fp32.
    """
    frozen = [
        (p, p.data)
        for module in model.modules()
        if isinstance(module, nn.Linear)
        for p in module.parameters(recurse=False)
        if not p.requires_grad and p.dtype == torch.float32
    ]
    for parameter, original in frozen:
        parameter.data = original.bfloat16()
    try:
        yield
    finally:
        for parameter, original in frozen:
            parameter.data = original.to(parameter.device)
