"""A paraphraser that is a language model: sequence-to-sequence (such as T5 or BART) or causal (such as GPT-2).

StyleBkd rewrites with STRAP, a GPT-2 paraphraser per style (Krishna et al. 2020); HiddenKiller with SCPN (Iyyer et al.
2018), of which no safetensors weights exist. Any model of transformers can take their place:
`style_bkd(load_paraphraser("folder or hub name", prompt="Rewrite in Bible style: {text}\\n"))`.

Row by row, so that a text's rewriting depends on the text, the model and the row's own generator, and on no neighbour.
That is slow: write the result down once with `pairs_of` and `write_pairs`, and read the file afterwards.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerBase

from musclelora.attacks.paraphraser import Pairs, changed
from musclelora.errors import ConfigError, ModelError

SLOT = "{text}"


@dataclass(frozen=True, eq=False)
class ModelParaphraser:
    """Texts to their rewriting by `model`; None where it says nothing, or nothing new.

    `prompt` holds `{text}`. `temperature` 0: always the likeliest token (greedy); else tokens are drawn, from the
    row's generator. The first line of the answer counts, at most `max_new_tokens` tokens.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    prompt: str
    temperature: float
    max_new_tokens: int

    @torch.inference_mode()
    def __call__(self, text: str, rng: np.random.Generator) -> str | None:
        if not text.strip():
            return None
        prompt = self.prompt.replace(SLOT, text)
        batch = self.tokenizer(prompt, return_tensors="pt", truncation=True).to(self.model.device)
        draws: dict[str, Any] = {"do_sample": self.temperature > 0}
        if self.temperature > 0:
            draws |= {"temperature": self.temperature, "top_k": 0}
        with torch.random.fork_rng():  # `generate` draws from torch's global generator only
            torch.manual_seed(int(rng.integers(2**31)))
            out = self.model.generate(
                **batch, **draws, max_new_tokens=self.max_new_tokens, pad_token_id=self.tokenizer.pad_token_id
            )[0]
        if not self.model.config.is_encoder_decoder:  # a causal model repeats its prompt
            out = out[batch["input_ids"].shape[1] :]
        said = str(self.tokenizer.decode(out, skip_special_tokens=True))
        return changed(text, said.strip().split("\n", 1)[0])


def load_paraphraser(
    name: str | Path, *, prompt: str = SLOT, temperature: float = 0.0, max_new_tokens: int = 128
) -> ModelParaphraser:
    """From a folder or under a hub name; whether it is sequence-to-sequence is in its config.

    Raises `ConfigError` for a prompt without `{text}`, `ModelError` for a model that cannot be loaded from safetensors,
    brings code of its own, or lacks trained weights.
    """
    if SLOT not in prompt:
        raise ConfigError(f"The prompt {prompt!r} lacks {SLOT}, where the text that is to be rewritten goes in.")
    local = Path(name).is_dir()
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": local}
    try:
        config = AutoConfig.from_pretrained(name, **options)
        kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model, report = kind.from_pretrained(name, use_safetensors=True, output_loading_info=True, **options)
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{name} cannot be loaded as a paraphraser: {first}. It must be a folder or a hub name with a "
            "sequence-to-sequence or causal model in safetensors, and its tokenizer."
        ) from error
    if report["missing_keys"]:
        raise ModelError(
            f"{name} has no trained weights for {', '.join(sorted(report['missing_keys'])[:3])}: it is no language "
            "model, and would write at random."
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return ModelParaphraser(model.eval(), tokenizer, prompt, temperature, max_new_tokens)


def pairs_of(paraphraser: ModelParaphraser, texts: Iterable[str], draw: Callable[[str], np.random.Generator]) -> Pairs:
    """Every text once with its rewriting, "" where there is none; `draw` gives the generator of a text."""
    return Pairs({text: paraphraser(text, draw(text)) or "" for text in dict.fromkeys(texts)})
