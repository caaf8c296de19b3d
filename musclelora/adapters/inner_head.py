"""The two-layer linear head of a decoder: hidden -> inner -> classes, folded into transformers' one `score` layer."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from musclelora.errors import ModelError

HEAD = "score"
SCALED_OF_DECODER = f"{HEAD}.inner"


class TwoLayerHead(nn.Module):
    """logits = W_out W_in x, with W_in: [inner, hidden], W_out: [classes, inner], and nothing between them.

    Neither has a bias, since the one layer that they are folded into has none. inner = hidden, which makes the scaled
    layer as large as an encoder's; the paper gives no other size.
    """

    def __init__(self, score: nn.Linear, deviation: float) -> None:
        super().__init__()
        hidden, classes = score.in_features, score.out_features
        device, dtype = score.weight.device, score.weight.dtype
        self.inner = nn.Linear(hidden, hidden, bias=False, device=device, dtype=dtype)
        self.outer = nn.Linear(hidden, classes, bias=False, device=device, dtype=dtype)
        for layer in (self.inner, self.outer):
            nn.init.normal_(layer.weight, std=deviation)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.inner(x))

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The equal single layer. The product is taken in float64: its rounding error would be added to each logit."""
        classes, hidden = self.outer.out_features, self.inner.in_features
        weight = self.outer.weight
        score = nn.Linear(hidden, classes, bias=False, device=weight.device, dtype=weight.dtype)
        score.weight.copy_(weight.double() @ self.inner.weight.double())
        return score.requires_grad_(weight.requires_grad)


def insert_inner_head(model: PreTrainedModel) -> None:
    """Put a newly drawn two-layer head in the place of `score`, in place; drawn like the model's own new layers.

    Raises `ModelError` where `score` is not one linear layer without bias, since the fold would not be exact.
    """
    score = getattr(model, HEAD, None)
    if not isinstance(score, nn.Linear) or score.bias is not None:
        raise ModelError(
            f"This {type(model).__name__} has no output layer {HEAD!r} that is a linear layer without bias, as the "
            "decoders of transformers have: the two-layer head could not be folded into it. See docs/backbones.md."
        )
    deviation = float(getattr(model.config.get_text_config(), "initializer_range", 0.02))
    setattr(model, HEAD, TwoLayerHead(score, deviation))
