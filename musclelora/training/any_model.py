"""Load a text classifier of unknown origin, for evaluation only: safetensors, no code of its own."""

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from musclelora.data.code_files import refuse_code
from musclelora.errors import ModelError
from musclelora.training.predict import DTYPES
from musclelora.training.recipes import InferencePrecision

WEIGHTS = "*.safetensors"


@dataclass(frozen=True, eq=False)
class AnyModel:
    """The model in evaluation mode, its tokenizer, the labels in the order of its outputs, the SHA-256 of its weights
    (empty for a hub name, whose files transformers keeps)."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    label_names: list[str]
    sha256: str


def load_any_model(
    name: str,
    location: str | Path,
    labels: list[str] | None,
    precision: InferencePrecision = "fp32",
    allowed: Collection[str] = (),
) -> AnyModel:
    """A classifier from a folder, or under a hub name; `name` is what it is called in reports.

    In a folder it may lie in `model/`, where this project's trainings and MLflow put it. `labels` are its labels in the
    order of its outputs; without them its config must name them. Raises `ModelError` for pickles and code of its own
    that `allowed` does not name, a head that was never trained, a tokenizer that cannot pad, or labels that nobody
    knows.
    """
    folder = _folder(Path(location)) if Path(location).is_dir() else None
    if folder is not None and not list(folder.glob(WEIGHTS)):
        raise ModelError(
            f"{folder} holds no safetensors weights. Pickled weights are refused, since loading them runs code: save "
            "the model again with save_pretrained(FOLDER, safe_serialization=True)."
        )
    if folder is not None:
        refuse_code(folder, allowed)
    where = str(folder or location)
    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            where,
            use_safetensors=True,
            local_files_only=folder is not None,
            trust_remote_code=False,
            output_loading_info=True,
            dtype=DTYPES[precision],
        )
        tokenizer = AutoTokenizer.from_pretrained(where, local_files_only=folder is not None, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{name} cannot be loaded as a text classifier: {first}. It must be a folder with config.json, safetensors "
            "weights and a tokenizer, a hub name, or models:/NAME/VERSION or models:/NAME@ALIAS in MLflow."
        ) from error
    if report["missing_keys"]:
        missing = ", ".join(sorted(report["missing_keys"])[:3])
        raise ModelError(
            f"{name} has no trained weights for {missing}: it is a backbone, not a fine-tuned classifier, and what it "
            "answers is drawn at random. Name the fine-tuned model."
        )
    _make_padding(name, model, tokenizer)
    names = labels or _labels_of(model)
    if not names or len(names) != model.config.num_labels or len(set(names)) != len(names):
        raise ModelError(
            f"{name} has {model.config.num_labels} outputs, and its labels are {names or 'not named in its config'}: "
            "list them under `labels`, one per output, in the order of the outputs."
        )
    return AnyModel(name, model.eval(), tokenizer, list(names), _sha256(folder) if folder else "")


def _make_padding(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Rows of different lengths share a batch: padded on the right, with a token that is no word of theirs."""
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"The tokenizer of {name} has neither a pad nor an end-of-text token, so that texts of different "
                "lengths cannot share a batch. Set one and save the tokenizer again."
            )
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    config = model.config.get_text_config()
    if config.pad_token_id is None:  # a decoder's head reads the last token that is not this one
        config.pad_token_id = tokenizer.pad_token_id


def _folder(folder: Path) -> Path:
    inner = folder / "model"
    return inner if not (folder / "config.json").is_file() and (inner / "config.json").is_file() else folder


def _labels_of(model: PreTrainedModel) -> list[str] | None:
    """The config's label names; None where they are the placeholders LABEL_0, LABEL_1, ..."""
    numbered = {int(number): str(name) for number, name in (model.config.id2label or {}).items()}
    names = [numbered[number] for number in sorted(numbered)]
    return None if all(re.fullmatch(r"LABEL_\d+", name) for name in names) else names


def _sha256(folder: Path) -> str:
    """SHA-256 over names and bytes of the weights files."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob(WEIGHTS)):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
