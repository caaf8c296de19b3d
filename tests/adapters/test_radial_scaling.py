import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from musclelora.adapters.radial_scaling import RadialScalingLinear

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "radial_scaling.json").read_text())


def golden_layer() -> RadialScalingLinear:
    base = nn.Linear(GOLDEN["in_features"], GOLDEN["out_features"], dtype=torch.float64)
    layer = RadialScalingLinear(base, GOLDEN["scales"], GOLDEN["inner_rank"], GOLDEN["alpha"])
    with torch.no_grad():
        base.weight.copy_(torch.tensor(GOLDEN["weight"], dtype=torch.float64))
        base.bias.copy_(torch.tensor(GOLDEN["bias"], dtype=torch.float64))
        layer.left.copy_(torch.tensor(GOLDEN["L"], dtype=torch.float64))
        layer.right.copy_(torch.tensor(GOLDEN["R"], dtype=torch.float64))
    return layer


def test_output_matches_the_golden_file():
    x = torch.tensor(GOLDEN["x"], dtype=torch.float64)
    torch.testing.assert_close(golden_layer()(x), torch.tensor(GOLDEN["y"], dtype=torch.float64), atol=1e-9, rtol=0)


def test_folding_adds_the_golden_delta():
    layer = golden_layer()
    before = layer.base.weight.clone()
    delta = torch.tensor(GOLDEN["delta_weight"], dtype=torch.float64)
    torch.testing.assert_close(layer.folded().weight - before, delta, atol=1e-9, rtol=0)


def test_scales_are_repeated_within_their_band():
    assert golden_layer().scale.tolist() == [1, 1, 4, 4, 8, 8]


def test_base_is_frozen_and_the_branch_is_not_zero_at_the_start():
    layer = RadialScalingLinear(nn.Linear(6, 5), [1, 2], 1, 6.0)
    assert {name for name, p in layer.named_parameters() if p.requires_grad} == {"left", "right"}
    assert layer.left.abs().min() > 0
    assert layer.right.abs().max() > 0


@settings(max_examples=30, deadline=None)
@given(
    scales=st.lists(st.floats(0.1, 30), min_size=1, max_size=5),
    inner_rank=st.integers(1, 3),
    alpha=st.floats(0.01, 10),
    seed=st.integers(0, 2**16),
)
def test_folded_layer_equals_the_branch(scales, inner_rank, alpha, seed):
    torch.manual_seed(seed)
    layer = RadialScalingLinear(nn.Linear(7, 4, dtype=torch.float64), scales, inner_rank, alpha)
    x = torch.randn(9, 7, dtype=torch.float64)
    expected = layer(x)
    torch.testing.assert_close(layer.folded()(x), expected)


def test_no_scales_is_refused():
    with pytest.raises(ValueError, match="scale"):
        RadialScalingLinear(nn.Linear(3, 3), [], 1, 6.0)
