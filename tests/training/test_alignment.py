import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musclelora.training.alignment import align, aligned_gradient, alignment_mode, mean_norm, raw_share

CASES = json.loads((Path(__file__).parents[1] / "golden" / "gradient_alignment.json").read_text())["cases"]
SETTINGS = {"start_epoch": 1, "rho_max": 0.1, "min_ref_norm": 5e-7, "min_ref_loss": 0.4}


def tensors(values):
    return [torch.tensor(value, dtype=torch.float64) for value in values]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_golden_case(case):
    gradients, references = tensors(case["gradients"]), tensors(case["reference_gradients"])
    rho = raw_share(case["epoch"], case["epochs"], case["start"], case["rho_max"])
    assert rho == pytest.approx(case["rho"], abs=1e-9)
    mode = alignment_mode(
        mean_norm(references),
        case["ref_loss"],
        case["epoch"],
        start_epoch=case["start"],
        rho_max=case["rho_max"],
        min_ref_norm=case["min_norm"],
        min_ref_loss=case["min_loss"],
    )
    for got, expected in zip(align(gradients, references, mode, rho), tensors(case["expected"]), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("norm", "loss", "epoch", "mode"),
    [
        (1.0, 0.41, 0, "aligned"),
        (1.0, 0.40, 0, "raw"),
        (1.0, 0.40, 1, "mixed"),
        (5e-7, 0.9, 1, "mixed"),
        (5e-7, 0.9, 0, "raw"),
        (6e-7, 0.9, 9, "aligned"),
    ],
)
def test_mode_at_its_boundaries(norm, loss, epoch, mode):
    assert alignment_mode(norm, loss, epoch, **SETTINGS) == mode


def test_without_a_raw_share_nothing_is_mixed():
    assert alignment_mode(1.0, 0.1, 5, **SETTINGS | {"rho_max": 0}) == "raw"


def test_ramp_that_never_starts_has_no_raw_share():
    assert raw_share(0, 1, 1, 0.1) == 0


@pytest.mark.parametrize("mode", ["aligned", "mixed", "raw"])
def test_zero_reference_keeps_the_raw_gradient(mode):
    gradient = torch.tensor([1.0, -2.0])
    torch.testing.assert_close(align([gradient], [torch.zeros(2)], mode, 0.3)[0], gradient)


vectors = st.lists(st.floats(-10, 10, width=32), min_size=3, max_size=3).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)


@settings(max_examples=100, deadline=None)
@given(vectors, vectors)
def test_aligned_gradient_never_opposes_the_trusted_rows(gradient, reference):
    aligned = aligned_gradient(gradient, reference)
    if reference.norm() > 1e-3 and gradient.norm() > 1e-3:
        assert float(aligned @ reference) >= 0
        assert float(aligned.norm()) <= float(gradient.norm()) * (1 + 1e-9)


@settings(max_examples=50, deadline=None)
@given(vectors, vectors, st.floats(0.1, 100))
def test_aligned_gradient_ignores_the_length_of_the_reference(gradient, reference, factor):
    if reference.norm() > 1e-3:
        torch.testing.assert_close(
            aligned_gradient(gradient, reference * factor), aligned_gradient(gradient, reference)
        )
