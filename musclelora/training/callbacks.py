"""What happens between the steps of a training: epochs are closed, checkpoints timed, whoever watches is told."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from musclelora.training.defended_model import EpochMetrics

if TYPE_CHECKING:
    from musclelora.training.aligned_trainer import AlignedTrainer

STEPS_PER_FIGURES = 10  # reading a loss off an accelerator waits for it
OnSteps = Callable[[int, int, EpochMetrics], None]


class Bar(ProgressCallback):
    """The Trainer's bar (steps, time left), with losses and the share of each alignment mode in this epoch so far."""

    def __init__(self, trainer: "AlignedTrainer") -> None:
        super().__init__()
        self.trainer = trainer

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        super().on_step_end(args, state, control, **kwargs)
        if state.is_world_process_zero and state.global_step % STEPS_PER_FIGURES == 0:
            self.training_bar.set_postfix_str(figures(self.trainer))  # type: ignore[attr-defined]


def figures(trainer: "AlignedTrainer") -> str:
    """Of the epoch so far: mean losses; with alignment the share of aligned, mixed and raw steps."""
    epoch = trainer.epoch_so_far()
    if epoch.reference_loss is None:
        return f"loss {epoch.loss:.3f}"
    modes = f"aligned {epoch.aligned:.0%}, mixed {epoch.mixed:.0%}, raw {epoch.raw:.0%}"
    return f"loss {epoch.loss:.3f}, reference loss {epoch.reference_loss:.3f}, {modes}"


class Curve(TrainerCallback):
    """Hands the epoch so far to `on_steps`, every few steps and at the last."""

    def __init__(self, trainer: "AlignedTrainer", on_steps: OnSteps) -> None:
        self.trainer, self.on_steps = trainer, on_steps

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:  # noqa: ARG002
        due = state.global_step % STEPS_PER_FIGURES == 0 or state.global_step == state.max_steps
        if state.is_world_process_zero and due:
            self.on_steps(state.global_step, state.max_steps, self.trainer.epoch_so_far())


class Moments(TrainerCallback):
    """Closes epochs and times checkpoints: the Trainer has no such methods of its own to override."""

    def __init__(self, trainer: "AlignedTrainer") -> None:
        self.trainer = trainer

    def on_train_begin(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        self.trainer.observe(state.global_step, state.max_steps)

    def on_epoch_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        self.trainer.close_epoch(self.trainer.accelerator.unwrap_model(self.trainer.model))
        control.should_save = self.trainer.is_time_to_save()

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        self.trainer.observe(state.global_step, state.max_steps)
        ends_epoch = state.epoch is not None and state.epoch == int(state.epoch)  # saved once the epoch is closed
        control.should_save = not ends_epoch and self.trainer.is_time_to_save()

    def on_save(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        self.trainer.finish_checkpoint()
