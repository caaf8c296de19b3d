"""How much memory a training takes, from the config alone: no weights are loaded, and nothing is allocated.

The model is built of fake tensors (shapes without content) and run once. Parameters are counted, and so is what
autograd keeps for the backward pass: this holds for every family, and follows whatever the model and the recipe do.
"""

import copy
from contextlib import nullcontext
from typing import Any

import psutil
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from musclelora.adapters.families import family_named
from musclelora.frozen import Frozen
from musclelora.training.backbone import Backbone
from musclelora.training.fit import prepare
from musclelora.training.recipes import Recipe

MIB = 2**20
PROCESS_MB = 900  # Python with its libraries, measured; a GPU process needs about as much for CUDA
ADAM_STATES = 2  # AdamW keeps two moving averages per trained weight
NF4_BYTES = 0.516  # 4 bits, and 8 bits of scale per 64 weights with theirs (QLoRA, section 3)


class MemoryPlan(Frozen):
    """MiB by purpose. Peak = process + weights + what is there besides: while training, or while comparing what ships.

    `gradients`: one per trained weight, with alignment also the reference's and the aligned one. `kept`: the best
    epoch's trained weights. `activations`: what autograd keeps of one step, and half as much again for the gradients
    on their way back. `reloaded`: the saved model, read again and compared.
    """

    weights: float
    gradients: float
    optimizer: float
    kept: float
    activations: float
    reloaded: float
    process: float = PROCESS_MB

    @property
    def peak(self) -> float:
        training = self.gradients + self.activations
        return self.process + self.weights + self.optimizer + self.kept + max(training, self.reloaded)


def plan_memory(
    config: PreTrainedConfig, recipe: Recipe, backbone: Backbone, *, classes: int, tokens: int, bf16: bool
) -> MemoryPlan:
    """The plan for batches whose rows are all `tokens` long, which is what the longest batch comes to.

    `config` is the backbone's. Raises `ModelError` for a family that is not in the table.
    """
    family_named(config.model_type)
    rows = recipe.batch_size + (recipe.alignment.reference_batch_size if recipe.alignment else 0)
    model = _empty_model(config, classes)
    quantised = _linear_weights(model) if backbone.quantization == "4bit" else 0
    with torch.device("meta"):
        prepare(model, recipe)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    every = sum(p.numel() for p in model.parameters())
    activations: float = _saved_bytes(model.train(), rows, tokens, bf16)
    if backbone.gradient_checkpointing:
        layers = int(config.get_text_config().num_hidden_layers)
        hidden = int(config.get_text_config().hidden_size)
        activations = activations / layers + layers * rows * tokens * hidden * 4
    copies = 3 if recipe.alignment else 1
    return MemoryPlan(
        weights=(4 * (every - quantised) + NF4_BYTES * quantised) / MIB,
        gradients=4 * copies * trained / MIB,
        optimizer=4 * ADAM_STATES * trained / MIB,
        kept=4 * trained / MIB,
        activations=1.5 * activations / MIB,
        reloaded=(4 * every + (4 - NF4_BYTES) * quantised) / MIB,
    )


def memory_of_this_machine() -> tuple[float, str]:
    """MiB free for a training, and whose they are."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0] / MIB, "the GPU"
    return psutil.virtual_memory().available / MIB, "this machine"


def _empty_model(config: PreTrainedConfig, classes: int) -> PreTrainedModel:
    config = copy.deepcopy(config)
    config.num_labels = classes
    if config.get_text_config().pad_token_id is None:
        config.get_text_config().pad_token_id = 0  # any: a decoder wants to know one
    with torch.device("meta"):
        model: Any = AutoModelForSequenceClassification.from_config(
            config, attn_implementation="eager", dtype=torch.float32
        )
    return model


def _linear_weights(model: PreTrainedModel) -> int:
    """Weights that 4-bit quantisation packs: of the linear layers inside the backbone, not of the head."""
    base: Any = model.base_model
    return sum(module.weight.numel() for module in base.modules() if isinstance(module, torch.nn.Linear))


def _saved_bytes(model: PreTrainedModel, rows: int, tokens: int, bf16: bool) -> int:
    """Bytes that autograd keeps of one forward pass, each storage once, the parameters left out."""
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with FakeTensorMode(allow_non_fake_inputs=True):
        state = {name: torch.empty(t.shape, dtype=t.dtype) for name, t in model.state_dict(keep_vars=True).items()}
        state |= {name: torch.empty(t.shape, dtype=t.dtype) for name, t in model.named_buffers()}
        for name, parameter in model.named_parameters():
            state[name].requires_grad_(parameter.requires_grad)
        inputs = {"input_ids": torch.ones(rows, tokens, dtype=torch.long)}
        autocast = torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
            torch.func.functional_call(model, state, kwargs=inputs, tie_weights=True)
    own = {tensor.untyped_storage()._cdata for tensor in state.values()}
    return sum(tensor.untyped_storage().nbytes() for storage, tensor in kept.items() if storage not in own)
