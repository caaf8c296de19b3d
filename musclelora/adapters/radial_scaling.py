"""Multiple radial scalings of one linear layer (MuScleLoRA, section 4.1)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class RadialScalingLinear(nn.Module):
    """y = W0 x + b0 + (alpha / inner_rank) * R diag(K) L x, with W0 and b0 frozen.

    L: [m, in], R: [out, m], m = len(scales) * inner_rank; K repeats each scale inner_rank times, in order.
    L and R are both drawn Kaiming-uniform (a = sqrt 5): the branch is not zero at the start.
    """

    scale: Tensor

    def __init__(self, base: nn.Linear, scales: Sequence[float], inner_rank: int = 1, alpha: float = 6.0) -> None:
        super().__init__()
        if not scales:
            raise ValueError("radial scaling needs at least one scale")
        self.base = base.requires_grad_(False)
        bands = len(scales) * inner_rank
        self.left = nn.Parameter(base.weight.new_empty(bands, base.in_features))
        self.right = nn.Parameter(base.weight.new_empty(base.out_features, bands))
        nn.init.kaiming_uniform_(self.left, a=5**0.5)
        nn.init.kaiming_uniform_(self.right, a=5**0.5)
        self.register_buffer("scale", base.weight.new_tensor(scales).repeat_interleave(inner_rank))
        self.gain = alpha / inner_rank

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(x, nn.functional.linear)

    def scaled(self, x: Tensor, linear: Callable[[Tensor, nn.Parameter], Tensor]) -> Tensor:
        """y, by this x W^T. L and R keep their type under autocast: so few products cost nothing, bands of scale 28
        would make much of the rounding, and oneDNN would compile code in bf16 for every number of rows."""
        y = self.base(x)
        with torch.autocast(x.device.type, enabled=False):
            bands = linear(x.to(self.left.dtype), self.left) * self.scale  # [..., m]
            return y + (self.gain * linear(bands, self.right)).to(y.dtype)

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The equal plain layer: W0 + (alpha / inner_rank) * R diag(K) L."""
        self.base.weight += self.gain * (self.right * self.scale) @ self.left
        return self.base
