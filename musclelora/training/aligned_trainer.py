"""transformers' Trainer with gradient alignment between the backward pass and the clipping."""

import math
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from musclelora.training.alignment import align, alignment_mode, mean_norm, raw_share
from musclelora.training.batches import LengthGrouped, References, joined
from musclelora.training.defended_model import EpochMetrics
from musclelora.training.dropout import Masks, fast_dropout
from musclelora.training.first_token import first_token_only
from musclelora.training.one_pass import Split, covers, one_pass
from musclelora.training.recipes import GradientAlignment
from musclelora.training.rounded import frozen_in_bf16

DEV_EVALUATIONS = 10  # at most, per training: thirty epochs over few rows would spend their time on the dev rows


class AlignedTrainer(Trainer):
    """Trainer that aligns gradients once they are accumulated and reduced over processes, and keeps the curve.

    `references` are the trusted batches (none without alignment), `masks` draws the dropout on CPUs. `on_epoch`
    receives each epoch's metrics as they come. `passes` is chosen by what is trained: one over training and reference
    rows together where each trained tensor's gradient can be split by rows, else two.
    """

    def __init__(
        self,
        *args: Any,
        alignment: GradientAlignment | None,
        references: References | None,
        masks: Masks,
        dev_accuracy: Callable[[PreTrainedModel], float | None],
        on_epoch: Callable[[EpochMetrics], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        # transformers takes a classifier with **kwargs for one that divides its loss by the accumulated batches itself.
        self.model_accepts_loss_kwargs = False
        self.alignment = alignment
        self.references = references
        self.masks = masks
        self.curve: list[EpochMetrics] = []
        self.best_epoch = 0
        self.best_state: dict[str, Tensor] = {}
        trained: Any = self.model
        self.passes = 1 if alignment is not None and covers(trained) else 2
        self._split = Split()
        self._losses: list[Tensor] = []
        self._reference_losses: list[float] = []
        self._reference_gradients: list[Tensor] = []
        self._reference_loss = 0.0
        self._modes: Counter[str] = Counter()
        self._dev_accuracy = dev_accuracy
        self._on_epoch = on_epoch
        self.add_callback(_EpochEnd(self))

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's, with what makes it faster for as long as it trains (docs/training.md)."""
        model: Any = self.model
        with ExitStack() as faster:
            faster.enter_context(first_token_only(model))
            if self.args.device.type == "cpu":
                faster.enter_context(fast_dropout(model, self.masks))
            if self.args.bf16:
                faster.enter_context(frozen_in_bf16(model))
            if self.passes == 1:
                faster.enter_context(one_pass(model, self._split))
            return super().train(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthGrouped:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        lengths = np.array([len(ids) for ids in rows["input_ids"]])
        return LengthGrouped(lengths, self._train_batch_size * self.args.world_size, self.args.seed)

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        settings, references = self.alignment, self.references
        aligned = settings is not None and references is not None and self.accelerator.sync_gradients
        due = aligned and self.state.global_step % settings.reference_every == 0  # type: ignore[union-attr]
        if due and self.passes == 1:
            loss = self._step_with_references(model, inputs, references)  # type: ignore[arg-type]
        else:
            loss = super().training_step(model, inputs, num_items_in_batch)
            if due:
                self._second_pass(model, references)  # type: ignore[arg-type]
        self._losses.append(loss * self.current_gradient_accumulation_steps)
        if aligned:
            self._align_gradients(settings)  # type: ignore[arg-type]
        return loss

    def _align_gradients(self, settings: GradientAlignment) -> None:
        trained = [p for p in self._trained() if p.grad is not None]
        gradients = [p.grad for p in trained if p.grad is not None]
        references, reference_loss = self._reference_gradients, self._reference_loss
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

    def _step_with_references(self, model: nn.Module, inputs: dict[str, Any], references: References) -> Tensor:
        """Forward and backward over the batch and the next trusted one together; the loss of the batch."""
        model.train()
        tokenizer: Any = self.processing_class
        inputs = self._prepare_inputs(inputs)
        batch = self._prepare_inputs(references.next(inputs["input_ids"].shape[1]))
        both = joined(inputs, batch, tokenizer.pad_token_id, tokenizer.padding_side)
        rows = len(inputs["labels"])
        with self._split.at(rows, rows + len(batch["labels"])):
            with self.compute_loss_context_manager():
                logits = model(**both).logits.float()
            loss = cross_entropy(logits[:rows], inputs["labels"]) / self.current_gradient_accumulation_steps
            reference_loss = cross_entropy(logits[rows:], batch["labels"])
            self.accelerator.backward(loss + reference_loss)
        left = self._split.references
        self._keep_references(reference_loss, [left.pop(p, torch.zeros_like(p)) for p in self._trained()])
        return loss.detach()

    def _second_pass(self, model: nn.Module, references: References) -> None:
        """Loss and gradients of the next trusted batch; leaves every `.grad` alone."""
        batch: Any = self._prepare_inputs(references.next())
        with self.compute_loss_context_manager():
            loss: Any = self.compute_loss(self.accelerator.unwrap_model(model), batch)
        trained = self._trained()
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
        self._keep_references(
            loss, [torch.zeros_like(p) if g is None else g for p, g in zip(trained, gradients, strict=True)]
        )

    def _keep_references(self, loss: Tensor, gradients: list[Tensor]) -> None:
        """Averaged over processes, and only for tensors that training reached."""
        reached = [g for p, g in zip(self._trained(), gradients, strict=True) if p.grad is not None]
        self._reference_loss = float(self.accelerator.reduce(loss.detach(), "mean"))
        self._reference_losses.append(self._reference_loss)
        self._reference_gradients = self.accelerator.reduce(reached, "mean")

    def _trained(self) -> list[nn.Parameter]:
        model: Any = self.model
        return [p for p in model.parameters() if p.requires_grad]

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
            raw=self._modes["raw"] / steps if self.alignment else 1.0,
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
