"""A trained model on disk: plain weights that `transformers` loads, the adapters as evidence, and the record."""

import hashlib
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from musclelora.errors import ModelError
from musclelora.frozen import Frozen
from musclelora.training.frequency import FrequencyCurve
from musclelora.training.predict import DTYPES
from musclelora.training.recipes import InferencePrecision, Recipe

RECORD = "training.json"
PREFIX = "prefix"


class EpochMetrics(Frozen):
    """One epoch: mean losses, share of steps per alignment mode, and accuracy on the clean dev rows."""

    epoch: int
    loss: float
    reference_loss: float | None
    aligned: float
    mixed: float
    raw: float
    dev_accuracy: float | None


class Readmitted(Frozen):
    """How many rows that were set aside came back without their suspect words, and the numbers of the suspect groups,
    from 1, that any of them is of."""

    repaired: int
    groups: tuple[int, ...]


class TrainingRecord(Frozen):
    """What was trained, on what, and how it went. `logit_difference` is the largest between adapted and folded."""

    recipe: Recipe
    base: str
    base_sha256: str
    label_names: list[str]
    max_length: int
    seed: int
    rows: int
    readmitted: Readmitted | None = None
    data_sha256: str
    trusted_sha256: str
    trainable_parameters: int
    total_parameters: int
    device: str
    precision: str
    quantization: str = "none"
    curve: list[EpochMetrics]
    frequencies: FrequencyCurve | None = None
    best_epoch: int
    seconds: float
    logit_difference: float

    @property
    def raw_gradients(self) -> str | None:
        """A warning where the gate of the alignment let raw gradients through, else None.

        On some backbones the trusted loss falls under an absolute limit sooner than on those of the paper.
        """
        alignment, worst = self.recipe.alignment, max(self.curve, key=lambda epoch: epoch.raw, default=None)
        if alignment is None or worst is None or worst.raw == 0:
            return None
        return (
            f"In epoch {worst.epoch} the loss on the trusted rows (mean {worst.reference_loss:.2f}) fell under "
            f"min_ref_loss {alignment.min_ref_loss:g}, and raw gradients took {worst.raw:.0%} of the steps: in these a "
            "trigger is learned as in undefended training. Lower recipe.alignment.min_ref_loss, or take the recipe "
            "musclelora-guided, which has no such limit."
        )


@dataclass(frozen=True, eq=False)
class DefendedModel:
    """A folder with `model/` (safetensors, tokenizer, config), `adapters/` where there are any, `training.json`.

    `model/` is what plain transformers loads, but for a model of the recipe `prefix`: its `model/prefix/` needs peft.
    """

    folder: Path

    @property
    def model_folder(self) -> Path:
        return self.folder / "model"

    @cached_property
    def record(self) -> TrainingRecord:
        return TrainingRecord.model_validate_json((self.folder / RECORD).read_text(encoding="utf-8"))

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over the names and bytes of every file of `model/`: what the model computes, not how long it took."""
        digest = hashlib.sha256()
        for path in sorted(self.model_folder.rglob("*")):
            if path.is_file():
                digest.update(path.relative_to(self.model_folder).as_posix().encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def copied_to(self, folder: Path, recipe: str) -> "DefendedModel":
        """The same model in `folder`, which exists, under the name of a recipe that trains alike."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        record = self.record.model_copy(update={"recipe": self.record.recipe.model_copy(update={"name": recipe})})
        (folder / RECORD).write_text(record.model_dump_json(indent=1), encoding="utf-8")
        return DefendedModel(folder)

    def load(self, precision: InferencePrecision = "fp32") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The plain model in evaluation mode and its tokenizer; safetensors only, no remote code."""
        try:
            model = AutoModelForSequenceClassification.from_pretrained(
                self.model_folder, use_safetensors=True, local_files_only=True, dtype=DTYPES[precision]
            )
            tokenizer = AutoTokenizer.from_pretrained(self.model_folder, local_files_only=True)
            if (self.model_folder / PREFIX).is_dir():
                model = PeftModel.from_pretrained(model, self.model_folder / PREFIX)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"The model in {self.model_folder} cannot be loaded ({error}). The folder is incomplete or altered: "
                "train again, or restore it from the registry."
            ) from error
        return model.eval(), tokenizer
