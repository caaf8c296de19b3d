"""Settings found on the backbone from the trusted rows alone: the size of the scaling branch, the learning rate.

For backbones that nobody has tuned; `docs/recipes.md` has the evidence and its limits.
"""

import math
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from musclelora.adapters.families import family_of
from musclelora.adapters.inner_head import HEAD
from musclelora.data.records import TrustedSet
from musclelora.errors import ModelError
from musclelora.seeding import generator
from musclelora.training.predict import length_batches
from musclelora.training.recipes import Recipe

# Standard deviation of the branch's output that alpha is fitted to: on MiniLM 0.52 (alpha 0.25) trains well. A
# tanh then passes most of the gradient; at 12, which the published alpha gives there, nearly none.
BRANCH_STD = 0.5
LOWEST_RATE, HIGHEST_RATE, STEPS = 1e-6, 1e-1, 60
SMOOTHING, DIVERGED = 0.8, 2.0  # of the loss: share kept of the mean so far; multiple of the least that ends the test
BELOW_LEAST = 10  # the rate taken is this many times below the one with the least loss


def fitted_alpha(
    scales: tuple[float, ...],
    inner_rank: int,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    max_length: int,
) -> float:
    """The alpha with which the new branch's output on `texts` has the standard deviation `BRANCH_STD`.

    L and R are drawn with variances 1 / (3 in) and 1 / (3 m), so that the branch's output has the standard deviation
    alpha / (3 inner_rank) * rms(scales) * rms(x), x being the scaled layer's input. A common factor of all scales does
    the same as one of alpha: the proportions of the scales are the preset's, and their size is fitted here.
    """
    rms_scales = math.sqrt(sum(scale**2 for scale in scales) / len(scales))
    return BRANCH_STD * 3 * inner_rank / (rms_scales * input_rms(model, tokenizer, texts, max_length))


@torch.inference_mode()
def input_rms(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str], max_length: int) -> float:
    """Root mean square of what comes into the layer that is to be scaled, over `texts`; padding does not count."""
    family, squares = family_of(model), []
    layer = model.get_submodule(HEAD if family.is_decoder else family.scaled_layer)
    encoded = tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
    seen: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    was_training = model.training
    model.eval()
    try:
        for rows in length_batches([len(ids) for ids in encoded]):
            batch = tokenizer.pad({"input_ids": [encoded[i] for i in rows]}, return_tensors="pt").to(model.device)
            model(**batch)
            x = seen.pop()
            squares.append((x if x.dim() == 2 else x[batch["attention_mask"].bool()]).float().square().flatten())
    finally:
        hook.remove()
        model.train(was_training)
    return float(torch.cat(squares).mean().sqrt())


def found_learning_rate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    trusted: TrustedSet,
    batch_size: int,
    max_length: int,
    seed: int,
    *,
    bf16: bool,
) -> float:
    """A learning-rate range test (Smith 2017, arXiv 1506.01186) of a prepared model; the model itself stays as it was.

    The rate grows from 1e-6 to 1e-1 by the same factor each step, on batches of trusted rows, until the smoothed loss
    diverges; taken is a tenth of the rate with the least loss. On trusted rows because on the others the loss that
    falls first is the backdoor's. Raises `ModelError` where the loss never falls.
    """
    tested = deepcopy(model)
    tested.train()
    encoded = tokenizer(trusted.data.texts, truncation=True, max_length=max_length)["input_ids"]
    labels = torch.tensor(trusted.data.label_ids(trusted.label_names))
    optimizer = torch.optim.AdamW([p for p in tested.parameters() if p.requires_grad], lr=LOWEST_RATE, weight_decay=0.0)
    rates, losses, draw = np.geomspace(LOWEST_RATE, HIGHEST_RATE, STEPS), [], generator(seed, "learning-rate/batches")
    mean = 0.0
    for step, rate in enumerate(rates, 1):
        rows = draw.choice(len(encoded), min(batch_size, len(encoded)), replace=False)
        batch = tokenizer.pad({"input_ids": [encoded[i] for i in rows]}, return_tensors="pt").to(tested.device)
        loss = _loss(tested, batch, labels[rows].to(tested.device), bf16)
        mean = SMOOTHING * mean + (1 - SMOOTHING) * float(loss.detach())
        losses.append(mean / (1 - SMOOTHING**step))
        if not losses[-1] < DIVERGED * min(losses):
            break
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss.backward()
        nn.utils.clip_grad_norm_(tested.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    best = int(np.argmin(losses))
    if best < 1:
        raise ModelError(
            "The learning-rate test found no rate with which the loss on the trusted rows falls. Give "
            "recipe.learning_rate a number, and look at the trusted rows: are their labels right?"
        )
    return float(f"{rates[best - 1] / BELOW_LEAST:.2g}")  # the loss of a step is that of the rate before it


def with_fitted_alpha(
    recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, trusted: TrustedSet, max_length: int
) -> Recipe:
    """`recipe` with the alpha found, where it asks for that; `model` has no adapters yet."""
    scaling = recipe.radial_scaling
    if scaling is None or "scales" not in recipe.found:
        return recipe
    alpha = fitted_alpha(scaling.scales, scaling.inner_rank, model, tokenizer, trusted.data.texts, max_length)
    settled = scaling.model_copy(update={"alpha": float(f"{alpha:.2g}")})
    return recipe.model_copy(update={"radial_scaling": settled})


def with_found_rate(
    recipe: Recipe,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    trusted: TrustedSet,
    max_length: int,
    seed: int,
    *,
    bf16: bool,
) -> Recipe:
    """`recipe` with the learning rate found, where it asks for that; `model` is prepared for it."""
    if "learning_rate" not in recipe.found:
        return recipe
    rate = found_learning_rate(model, tokenizer, trusted, recipe.batch_size, max_length, seed, bf16=bf16)
    return recipe.model_copy(update={"learning_rate": rate})


def _loss(model: Any, batch: Any, labels: torch.Tensor, bf16: bool) -> torch.Tensor:
    with torch.autocast(labels.device.type, dtype=torch.bfloat16, enabled=bf16):
        return model(**batch, labels=labels).loss
