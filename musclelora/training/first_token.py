"""The last encoder layer for the first token only: the classifier's head reads no other.

Of the last layer, keys and values are needed for every token; query, attention output and feed-forward only for the
first. In a model of six layers that saves a seventh of all matrix products, and the result is the same.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from musclelora.training.dropout import eager_attention

# Types built from BERT's layer, whose classification head reads token 0.
BERT_LAYERS = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "electra"})


@contextmanager
def first_token_only(model: nn.Module) -> Iterator[None]:
    """Within the block the last layer returns [rows, 1, hidden]; nothing changes for other types of model.

    Nor for a wrapped one (peft's prefix), whose layers get more than this forward takes.
    """
    config: Any = getattr(model, "config", None)
    if (
        not isinstance(model, PreTrainedModel)
        or config.model_type not in BERT_LAYERS
        or config.is_decoder
        or config.add_cross_attention
    ):
        yield
        return
    layer: Any = model.base_model.encoder.layer[-1]  # type: ignore[union-attr,index]
    if "forward" in vars(layer):  # within such a block already, as dev rows are in a training
        yield
        return
    layer.forward = _first_token_forward(layer)
    try:
        yield
    finally:
        del layer.forward


def _first_token_forward(layer: Any) -> Callable[..., Tensor]:
    def forward(hidden: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        inner = layer.attention.self
        first = hidden[:, :1]
        context, _weights = ALL_ATTENTION_FUNCTIONS.get_interface(inner.config._attn_implementation, eager_attention)(
            inner,
            _heads(inner, inner.query(first)),
            _heads(inner, inner.key(hidden)),
            _heads(inner, inner.value(hidden)),
            None if attention_mask is None else attention_mask[:, :, :1],
            dropout=inner.dropout.p if inner.training else 0.0,
            scaling=inner.scaling,
        )
        attended = layer.attention.output(context.reshape(len(hidden), 1, -1), first)
        return layer.feed_forward_chunk(attended)

    return forward


def _heads(inner: Any, states: Tensor) -> Tensor:
    return states.unflatten(-1, (-1, inner.attention_head_size)).transpose(1, 2)
