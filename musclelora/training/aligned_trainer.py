"""transformers' Trainer with gradient alignment between the backward pass and the clipping."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from musclelora.training.alignment import align, alignment_mode, mean_norm, raw_share
from musclelora.training.defended_model import EpochMetrics
from musclelora.training.dropout import Masks, fast_dropout
from musclelora.training.first_token import first_token_only
from musclelora.training.recipes import GradientAlignment
from musclelora.training.rounded import frozen_in_bf16

Batch = dict[str, Tensor]
DEV_EVALUATIONS = 10  # at most, per training: thirty epochs over few rows would spend their time on the dev rows


class AlignedTrainer(Trainer):
    """Trainer that aligns gradients once they are accumulated and reduced over processes, and keeps the curve.

    `references` yields collated trusted batches without end. `masks` draws the dropout on CPUs. `on_epoch` receives
    each epoch's metrics as they come.
    """

    def __init__(
        self,
        *args: Any,
        alignment: GradientAlignment | None,
        references: Iterator[Batch],
        masks: Masks,
        dev_accuracy: Callable[[PreTrainedModel], float | None],
        on_epoch: Callable[[EpochMetrics], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.alignment = alignment
        self.references = references
        self.masks = masks
        self.curve: list[EpochMetrics] = []
        self.best_epoch = 0
        self.best_state: dict[str, Tensor] = {}
        self._losses: list[Tensor] = []
        self._reference_losses: list[float] = []
        self._modes: Counter[str] = Counter()
        self._dev_accuracy = dev_accuracy
        self._on_epoch = on_epoch
        self.add_callback(_EpochEnd(self))

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's, with what makes it faster for as long as it trains (docs/training.md)."""
        with ExitStack() as faster:
            faster.enter_context(first_token_only(self.model))
            if self.args.device.type == "cpu":
                faster.enter_context(fast_dropout(self.model, self.masks))
            if self.args.bf16:
                faster.enter_context(frozen_in_bf16(self.model))
            return super().train(*args, **kwargs)

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._losses.append(loss * self.current_gradient_accumulation_steps)
        if self.alignment is not None and self.accelerator.sync_gradients:
            self._align_gradients(model, self.alignment)
        return loss

    def _align_gradients(self, model: nn.Module, settings: GradientAlignment) -> None:
        trained = [p for p in model.parameters() if p.requires_grad and p.grad is not None]
        gradients = [p.grad for p in trained if p.grad is not None]
        reference_loss, references = self._reference_gradients(model, trained)
        epoch, epochs = int(self.state.epoch or 0), self.args.num_train_epochs
        mode = alignment_mode(
            mean_norm(references),
            reference_loss,
            epoch,
            start_epoch=settings.start_epoch,
            rho_max=settings.rho_max,
            min_ref_norm=settings.min_ref_norm,
            min_ref_loss=settings.min_ref_loss,
        )
        rho = raw_share(epoch, epochs, settings.start_epoch, settings.rho_max)
        for parameter, gradient in zip(trained, align(gradients, references, mode, rho), strict=True):
            parameter.grad = gradient
        self._modes[mode] += 1
        self._reference_losses.append(reference_loss)

    def _reference_gradients(self, model: nn.Module, trained: list[nn.Parameter]) -> tuple[float, list[Tensor]]:
        """Loss and gradients of the next trusted batch, averaged over processes; leaves every `.grad` alone."""
        batch = self._prepare_inputs(next(self.references))
        with self.compute_loss_context_manager():
            loss: Any = self.compute_loss(self.accelerator.unwrap_model(model), batch)
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
        whole = [torch.zeros_like(p) if g is None else g for p, g in zip(trained, gradients, strict=True)]
        return float(self.accelerator.reduce(loss.detach(), "mean")), self.accelerator.reduce(whole, "mean")

    def close_epoch(self, model: PreTrainedModel) -> None:
        """Record the epoch, and keep its weights if its dev accuracy is the best so far (without dev: the last)."""
        steps = max(1, sum(self._modes.values()))
        references = self._reference_losses
        metrics = EpochMetrics(
            epoch=len(self.curve) + 1,
            loss=float(torch.stack(self._losses).mean()),
            reference_loss=sum(references) / len(references) if references else None,
            aligned=self._modes["aligned"] / steps,
            mixed=self._modes["mixed"] / steps,
            raw=self._modes["raw"] / steps if references else 1.0,
            dev_accuracy=self._dev_accuracy(model) if self._is_measured(len(self.curve) + 1) else None,
        )
        best = self.curve[self.best_epoch - 1].dev_accuracy if self.curve else None
        if best is None or (metrics.dev_accuracy is not None and metrics.dev_accuracy > best):
            self.best_epoch = metrics.epoch
            self.best_state = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
        self.curve.append(metrics)
        self._losses, self._reference_losses, self._modes = [], [], Counter()
        self._on_epoch(metrics)

    def _is_measured(self, epoch: int) -> bool:
        epochs = int(self.args.num_train_epochs)
        return epoch == epochs or epoch % math.ceil(epochs / DEV_EVALUATIONS) == 0


class _EpochEnd(TrainerCallback):
    """Calls `close_epoch`: the Trainer has no such method of its own to override."""

    def __init__(self, trainer: AlignedTrainer) -> None:
        self.trainer = trainer

    def on_epoch_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        self.trainer.close_epoch(self.trainer.accelerator.unwrap_model(self.trainer.model))
