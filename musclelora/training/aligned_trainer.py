"""transformers' Trainer with gradient alignment between the backward pass and the clipping."""

import math
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, ProgressCallback, Trainer

from musclelora.training import checkpoints
from musclelora.training.alignment import align, alignment_mode, mean_norm, raw_share
from musclelora.training.batches import LengthGrouped, References, cut_by_length, joined, rows_of
from musclelora.training.callbacks import Bar, Moments
from musclelora.training.defended_model import EpochMetrics
from musclelora.training.dropout import Masks, fast_dropout
from musclelora.training.first_token import first_token_only
from musclelora.training.frequency import FrequencyObserver, FrequencyPoint
from musclelora.training.one_pass import Split, covers, one_pass
from musclelora.training.products import onednn_products
from musclelora.training.recipes import GradientAlignment
from musclelora.training.rounded import frozen_in_bf16

TOKENS_PER_PASS = 768  # at most, on CPUs: larger passes need more memory and are hardly faster, smaller ones are slower
CHECKPOINT_SECONDS = 120.0  # at most so much of a killed training is done again
DEV_EVALUATIONS = 10  # at most, per training: thirty epochs over few rows would spend their time on the dev rows


class AlignedTrainer(Trainer):
    """Trainer that aligns gradients once they are accumulated and reduced over processes, and keeps the curve.

    `references` are the trusted batches (none without alignment), `masks` draws the dropout on CPUs. `on_epoch`
    receives each epoch's metrics as they come. `passes` is chosen: one over training and reference rows together
    where each trained tensor's gradient can be split by rows, else two. With `checkpoints`, a folder of
    this training alone, it saves there every `CHECKPOINT_SECONDS`, and goes on from what is there. What an `observer`
    measures is in `frequencies`.
    """

    def __init__(
        self,
        *args: Any,
        alignment: GradientAlignment | None,
        references: References | None,
        masks: Masks,
        dev_accuracy: Callable[[PreTrainedModel], float | None],
        on_epoch: Callable[[EpochMetrics], None],
        checkpoint_folder: Path | None = None,
        observer: FrequencyObserver | None = None,
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
        self.frequencies: list[FrequencyPoint] = []
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
        self._checkpoint_folder = checkpoint_folder
        self._observer = observer
        self._saved_at = time.monotonic()
        self.add_callback(Moments(self))
        if not self.args.disable_tqdm:
            self.remove_callback(ProgressCallback)
            self.add_callback(Bar(self))

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's, with what makes it faster for as long as it trains (docs/training.md)."""
        last = None if self._checkpoint_folder is None else checkpoints.latest(self._checkpoint_folder)
        if last is not None:
            kwargs["resume_from_checkpoint"] = str(last)
        model: Any = self.model
        with ExitStack() as faster:
            faster.enter_context(first_token_only(model))
            if self.args.device.type == "cpu":
                faster.enter_context(fast_dropout(model, self.masks))
            if self.args.bf16:
                faster.enter_context(frozen_in_bf16(model))
            if self.passes == 1:
                faster.enter_context(one_pass(model, self._split))
            if self.args.device.type == "cpu":
                dtype = torch.bfloat16 if self.args.bf16 else torch.float32
                faster.enter_context(onednn_products(model, dtype, self._split))
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
            loss = self._plain_step(model, inputs, num_items_in_batch)
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

    def _plain_step(self, model: nn.Module, inputs: dict[str, Any], items: Tensor | int | None) -> Tensor:
        """The Trainer's step, in parts; the mean loss."""
        accumulated, rows, losses = self.current_gradient_accumulation_steps, len(inputs["labels"]), []
        for _, part in self._parts(inputs):
            # What the Trainer divides a mean loss by: a part counts by its share of the rows.
            self.current_gradient_accumulation_steps = accumulated * rows / len(part["labels"])
            losses.append(super().training_step(model, part, items))
        self.current_gradient_accumulation_steps = accumulated
        return torch.stack(losses).sum()

    def _step_with_references(self, model: nn.Module, inputs: dict[str, Any], references: References) -> Tensor:
        """Forward and backward over the batch and the next trusted one together; the loss of the batch."""
        model.train()
        tokenizer: Any = self.processing_class
        inputs = self._prepare_inputs(inputs)
        batch = self._prepare_inputs(references.next(inputs["input_ids"].shape[1]))
        rows, trusted = len(inputs["labels"]), len(batch["labels"])
        accumulated = self.current_gradient_accumulation_steps
        both = joined(inputs, batch, tokenizer.pad_token_id, tokenizer.padding_side)
        total, reference_total = torch.zeros(2, device=self.args.device)
        for numbers, part in self._parts(both):
            labels, cut = part.pop("labels"), int(np.searchsorted(numbers, rows))
            with self._split.at(cut, len(labels)):
                with self.compute_loss_context_manager():
                    logits = model(**part).logits.float()
                loss = cross_entropy(logits[:cut], labels[:cut], reduction="sum") / (rows * accumulated)
                reference_loss = cross_entropy(logits[cut:], labels[cut:], reduction="sum") / trusted
                self.accelerator.backward(loss + reference_loss)
            total += loss.detach()
            reference_total += reference_loss.detach()
        left = self._split.references
        self._keep_references(reference_total, [left.pop(p, torch.zeros_like(p)) for p in self._trained()])
        return total

    def _second_pass(self, model: nn.Module, references: References) -> None:
        """Loss and gradients of the next trusted batch; leaves every `.grad` alone."""
        batch: Any = self._prepare_inputs(references.next())
        trained, plain, rows = self._trained(), self.accelerator.unwrap_model(model), len(batch["labels"])
        total, summed = torch.zeros((), device=self.args.device), [torch.zeros_like(p) for p in trained]
        for _, part in self._parts(batch):
            labels = part.pop("labels")
            with self.compute_loss_context_manager():
                logits = plain(**part).logits.float()
            loss = cross_entropy(logits, labels, reduction="sum") / rows
            gradients = torch.autograd.grad(loss, trained, allow_unused=True)
            total += loss.detach()
            summed = [s if g is None else s + g for s, g in zip(summed, gradients, strict=True)]
        self._keep_references(total, summed)

    def _parts(self, batch: dict[str, Any]) -> list[tuple[np.ndarray, dict[str, Any]]]:
        """On CPUs a batch is computed in parts, each padded for itself: the same gradient from fewer tokens.

        Each part with its row numbers in the batch, ascending.
        """
        if self.args.device.type != "cpu" or self.args.world_size > 1:
            return [(np.arange(len(batch["labels"])), batch)]
        lengths = batch["attention_mask"].sum(1).numpy()
        side = self.processing_class.padding_side  # type: ignore[union-attr]
        cuts = [np.sort(part) for part in cut_by_length(lengths, TOKENS_PER_PASS)]
        return [(numbers, rows_of(batch, numbers, side)) for numbers in cuts]

    def _keep_references(self, loss: Tensor, gradients: list[Tensor]) -> None:
        """Averaged over processes, and only for tensors that training reached."""
        reached = [g for p, g in zip(self._trained(), gradients, strict=True) if p.grad is not None]
        self._reference_loss = float(self.accelerator.reduce(loss, "mean"))
        self._reference_losses.append(self._reference_loss)
        self._reference_gradients = self.accelerator.reduce(reached, "mean")

    def _trained(self) -> list[nn.Parameter]:
        model: Any = self.model
        return [p for p in model.parameters() if p.requires_grad]

    def close_epoch(self, model: PreTrainedModel) -> None:
        """Record the epoch, and keep its weights if its dev accuracy is the best so far (without dev: the last)."""
        metrics = self.epoch_so_far()
        if self._is_measured(metrics.epoch):
            metrics = metrics.model_copy(update={"dev_accuracy": self._dev_accuracy(model)})
        best = self.curve[self.best_epoch - 1].dev_accuracy if self.curve else None
        if best is None or (metrics.dev_accuracy is not None and metrics.dev_accuracy > best):
            self.best_epoch = metrics.epoch
            self.best_state = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
        self.curve.append(metrics)
        self._losses, self._reference_losses, self._modes = [], [], Counter()
        self._on_epoch(metrics)

    def epoch_so_far(self) -> EpochMetrics:
        """The metrics of the steps since the last epoch was closed, at least one; without a dev accuracy."""
        steps = max(1, sum(self._modes.values()))
        references = self._reference_losses
        return EpochMetrics(
            epoch=len(self.curve) + 1,
            loss=float(torch.stack(self._losses).mean()),
            reference_loss=sum(references) / len(references) if references else None,
            aligned=self._modes["aligned"] / steps,
            mixed=self._modes["mixed"] / steps,
            raw=self._modes["raw"] / steps if self.alignment else 1.0,
            dev_accuracy=None,
        )

    def _is_measured(self, epoch: int) -> bool:
        epochs = int(self.args.num_train_epochs)
        return epoch == epochs or epoch % math.ceil(epochs / DEV_EVALUATIONS) == 0

    def observe(self, step: int, steps: int) -> None:
        """Measure the frequencies after this step of so many, where it is one of those that are to be measured."""
        seen = {point.step for point in self.frequencies}
        if self._observer is not None and step in self._observer.steps_of(steps) - seen:
            self.frequencies.append(self._observer.measure(self.accelerator.unwrap_model(self.model), step))

    def is_time_to_save(self) -> bool:
        """In one process only: several would have to agree on the moment."""
        if self._checkpoint_folder is None or self.args.world_size > 1:
            return False
        return time.monotonic() - self._saved_at >= CHECKPOINT_SECONDS

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """The trained tensors alone: what is frozen is the backbone."""
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)

    def finish_checkpoint(self) -> None:
        """Beside what the Trainer saved: the trained tensors, the curve, and where every random stream stands."""
        model: Any = self.model
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        tensors: dict[str, Any] = {"trained": named, "best": self.best_state}
        if self.alignment is not None and self.alignment.reference_every > 1:
            tensors["references"] = {str(i): g for i, g in enumerate(self._reference_gradients)}
        state = {
            "curve": [metrics.model_dump() for metrics in self.curve],
            "best_epoch": self.best_epoch,
            "losses": [float(loss) for loss in self._losses],
            "reference_losses": self._reference_losses,
            "reference_loss": self._reference_loss,
            "modes": dict(self._modes),
            "frequencies": [point.model_dump() for point in self.frequencies],
            "masks": self.masks.state,
            "references": None if self.references is None else self.references.state,
        }
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        checkpoints.write_state(folder, state, tensors)
        self._saved_at = time.monotonic()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        folder, trained = Path(resume_from_checkpoint), model or self.model
        state, tensors = checkpoints.read_state(folder), checkpoints.read_tensors(folder, "trained")
        with torch.no_grad():
            for name, parameter in trained.named_parameters():  # type: ignore[union-attr]
                if parameter.requires_grad:
                    parameter.copy_(tensors[name])
        self.curve = [EpochMetrics.model_validate(metrics) for metrics in state["curve"]]
        self.best_epoch = state["best_epoch"]
        self.best_state = {n: t.to(self.args.device) for n, t in checkpoints.read_tensors(folder, "best").items()}
        self._losses = [torch.tensor(loss, device=self.args.device) for loss in state["losses"]]
        self._reference_losses, self._reference_loss = state["reference_losses"], state["reference_loss"]
        self._modes = Counter(state["modes"])
        self.frequencies = [FrequencyPoint.model_validate(point) for point in state["frequencies"]]
        self.masks.state = state["masks"]
        if self.references is not None:
            self.references.state = state["references"]
        if self.alignment is not None and self.alignment.reference_every > 1:
            kept = checkpoints.read_tensors(folder, "references")
            self._reference_gradients = [kept[str(i)].to(self.args.device) for i in range(len(kept))]
