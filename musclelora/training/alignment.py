"""Gradient alignment (MuScleLoRA, section 4.3): pull each update towards what the trusted rows ask for."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Mode = Literal["aligned", "mixed", "raw"]


def raw_share(epoch: float, epochs: float, start_epoch: float, rho_max: float) -> float:
    """rho(e) = rho_max * (e - e0) / (E - e0); `epoch` counts from 0. Negative before e0, where it is not used.

    Zero where the ramp has no length (e0 >= E): it never starts.
    """
    if start_epoch >= epochs:
        return 0.0
    return rho_max * (epoch - start_epoch) / (epochs - start_epoch)


def alignment_mode(
    reference_norm: float,
    reference_loss: float,
    epoch: float,
    *,
    start_epoch: float,
    rho_max: float,
    min_ref_norm: float,
    min_ref_loss: float,
) -> Mode:
    """Which of the three updates this step takes; `reference_norm` is the mean over tensors of ||g_ref||."""
    if reference_norm > min_ref_norm and reference_loss > min_ref_loss:
        return "aligned"
    if rho_max > 0 and epoch >= start_epoch:
        return "mixed"
    return "raw"


def mean_norm(tensors: Sequence[Tensor]) -> float:
    """Mean over tensors of the Euclidean norm."""
    return float(torch.stack([tensor.norm() for tensor in tensors]).mean())


def aligned_gradient(gradient: Tensor, reference: Tensor) -> Tensor:
    """g_al = | ||g|| cos(g, g_ref) / ||g_ref|| | * g_ref, which is |<g, g_ref>| / ||g_ref||^2 * g_ref.

    A tensor whose g or g_ref is all zero keeps g: there is no direction to align to.
    """
    squared = (reference * reference).sum()
    if squared == 0 or not gradient.any():
        return gradient
    return ((gradient * reference).sum() / squared).abs() * reference


def align(gradients: Sequence[Tensor], references: Sequence[Tensor], mode: Mode, rho: float) -> list[Tensor]:
    """One update per tensor: aligned; or (1 - rho) aligned + rho raw; or raw.

    A tensor whose gradients are all zero keeps its raw one whole, in every mode.
    """
    if mode == "raw":
        return list(gradients)
    aligned = [aligned_gradient(g, ref) for g, ref in zip(gradients, references, strict=True)]
    if mode == "aligned":
        return aligned
    return [(1 - rho) * a + rho * g for a, g in zip(aligned, gradients, strict=True)]
