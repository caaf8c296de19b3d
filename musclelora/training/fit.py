"""Train one model: adapters in, aligned training, folding, a save that is reloaded and compared."""

import gc
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import numpy as np
import torch
from peft import PeftModel
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainingArguments,
)

from musclelora.adapters.four_bit import dequantise, is_four_bit
from musclelora.adapters.injection import fold, freeze, inject_lora, inject_radial_scaling, save_adapters
from musclelora.adapters.peft_baselines import inject_ia3, with_prefix
from musclelora.data.records import TextDataset, TrustedSet
from musclelora.errors import DataError, ModelError
from musclelora.seeding import derived_seed
from musclelora.training.aligned_trainer import AlignedTrainer
from musclelora.training.auto import with_fitted_alpha, with_found_rate
from musclelora.training.backbone import Backbone, load_backbone
from musclelora.training.batches import References
from musclelora.training.callbacks import Curve, OnSteps
from musclelora.training.checkpoints import folder_of
from musclelora.training.contrastive import contrastive_model, loss_to_targets
from musclelora.training.defended_model import PREFIX, RECORD, DefendedModel, EpochMetrics, Readmitted, TrainingRecord
from musclelora.training.dropout import Masks
from musclelora.training.frequency import FrequencyObserver
from musclelora.training.guidance import guided_targets
from musclelora.training.predict import computing_device, logits_of
from musclelora.training.recipes import Precision, Recipe

MAX_LOGIT_DIFFERENCE = 1e-4
COMPARED_ROWS = 64


def train(
    data: TextDataset,
    trusted: TrustedSet,
    dev: TextDataset | None,
    *,
    recipe: Recipe,
    backbone: Backbone,
    max_length: int,
    seed: int,
    folder: Path,
    on_epoch: Callable[[EpochMetrics], None] = lambda _: None,
    on_steps: OnSteps | None = None,
    checkpoints: Path | None = None,
    observer: FrequencyObserver | None = None,
    readmitted: Readmitted | None = None,
) -> DefendedModel:
    """Train `recipe` on `data` (or on the trusted rows alone) and write a `DefendedModel` into `folder`.

    The epoch kept is the one with the best accuracy on the clean `dev` rows; without them the last. Raises
    `DataError` for labels outside the trusted set's or fewer than two classes, `ModelError` when the folded or the
    reloaded model does not give the adapted one's logits within 1e-4.

    With `checkpoints`, a folder that lasts, a training that was killed goes on from its last checkpoint when it is
    started again with the same inputs (in one process), and ends with the same weights, bit by bit on a CPU in fp32.
    `on_steps` receives, every few steps, the step, the number of all steps and the metrics of the epoch so far.
    An `observer` measures the model while it learns, and changes nothing in what is learned. `readmitted`, which rows
    of `data` had been set aside, is for the record.
    """
    started, label_names = time.monotonic(), list(trusted.label_names)
    rows = trusted.data if recipe.train_on == "trusted" else data
    if len(set(rows.labels)) < 2:
        raise DataError(f"The {len(rows)} training rows are all labelled {rows.labels[:1]}: nothing can be learned.")
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(seed, "train/weights"))
        model: Any
        model, tokenizer = load_backbone(backbone, label_names, max_length)
        if recipe.prefix is not None:
            model.save_pretrained(folder / "model")  # what the prefix stands before
            model = with_prefix(model, recipe.prefix.tokens)
        recipe = with_fitted_alpha(recipe, model, tokenizer, trusted, max_length)
        prepare(model, recipe)
        bf16 = computes_in_bf16(recipe.precision)
        recipe = with_found_rate(recipe, model, tokenizer, trusted, max_length, seed, bf16=bf16)
        targets = _targets(rows, trusted, recipe, backbone, max_length, seed)
        resumable = None
        if checkpoints is not None:
            inputs = {"recipe": recipe.model_dump(mode="json"), "max_length": max_length, "seed": seed}
            inputs |= {"backbone": backbone.sha256, "data": rows.sha256, "trusted": trusted.sha256}
            inputs |= {
                "dev": None if dev is None else dev.sha256,
                "device": str(computing_device()),
                "observer": None if observer is None else [observer.attack, observer.target, observer.rows],
            }
            resumable = folder_of(checkpoints, inputs)
        trainer = build_trainer(
            model, tokenizer, rows, trusted, dev, recipe, seed, on_epoch, targets, resumable, observer
        )
        if on_steps is not None:
            trainer.add_callback(Curve(trainer, on_steps))
        trainer.train()
        trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # takes the autocast off `forward`
        model.load_state_dict(trainer.best_state, strict=False)
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        save_adapters(model, folder / "adapters")
        difference = _fold_save_compare(model, tokenizer, rows.texts[:COMPARED_ROWS], max_length, folder)
    total = sum(p.numel() for p in model.parameters())
    record = TrainingRecord(
        recipe=recipe,
        base=backbone.name,
        base_sha256=backbone.sha256,
        label_names=label_names,
        max_length=max_length,
        seed=seed,
        rows=len(rows),
        readmitted=readmitted,
        data_sha256=rows.sha256,
        trusted_sha256=trusted.sha256,
        trainable_parameters=trainable,
        total_parameters=total,
        device=str(trainer.args.device),
        precision="bf16" if trainer.args.bf16 else "fp32",
        quantization=backbone.quantization,
        curve=trainer.curve,
        frequencies=observer.curve(trainer.frequencies) if observer else None,
        best_epoch=trainer.best_epoch,
        seconds=time.monotonic() - started,
        logit_difference=difference,
    )
    del trainer, model
    if resumable is not None:
        shutil.rmtree(resumable, ignore_errors=True)
    gc.collect()  # the Trainer and its callbacks refer to each other, and hold the optimizer's states
    (folder / RECORD).write_text(record.model_dump_json(indent=1), encoding="utf-8")
    return DefendedModel(folder)


def prepare(model: PreTrainedModel, recipe: Recipe) -> None:
    """Freeze the backbone and inject the recipe's adapters, in place; a recipe without adapters trains everything."""
    plain = recipe.lora is None and recipe.radial_scaling is None and recipe.ia3 is None
    if (plain or recipe.ia3 is not None) and any(is_four_bit(module) for module in model.modules()):
        raise ModelError(
            f"The recipe {recipe.name!r} cannot train beside 4-bit weights: only LoRA and radial scaling can. Choose "
            "one with these, or model.quantization: none."
        )
    if plain:
        return
    freeze(model)
    if recipe.lora is not None:
        inject_lora(model, recipe.lora.rank, recipe.lora.alpha, recipe.lora.dropout)
    if recipe.radial_scaling is not None:
        scaling = recipe.radial_scaling
        inject_radial_scaling(model, scaling.scales, scaling.inner_rank, scaling.alpha)
    if recipe.ia3 is not None:
        inject_ia3(model)


def _targets(
    rows: TextDataset, trusted: TrustedSet, recipe: Recipe, backbone: Backbone, max_length: int, seed: int
) -> np.ndarray | None:
    """What the model of the trusted rows says of each row, guided or not; [rows, classes]. None: the given labels."""
    if recipe.contrastive is None:
        return None
    options: dict[str, Any] = {"backbone": backbone, "max_length": max_length, "seed": seed}
    bf16 = computes_in_bf16(recipe.precision)
    reference = contrastive_model(trusted, settings=recipe.contrastive, bf16=bf16, **options)
    said = reference.probabilities(rows.texts)
    if recipe.guidance is None:
        return said
    return guided_targets(said, rows.label_ids(trusted.label_names), recipe.guidance)


def build_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: TextDataset,
    trusted: TrustedSet,
    dev: TextDataset | None,
    recipe: Recipe,
    seed: int,
    on_epoch: Callable[[EpochMetrics], None] = lambda _: None,
    targets: np.ndarray | None = None,
    checkpoint_folder: Path | None = None,
    observer: FrequencyObserver | None = None,
) -> AlignedTrainer:
    """The trainer of a `prepare`d model: `train()` it, then read `curve` and `best_state`."""
    label_names, max_length = trusted.label_names, tokenizer.model_max_length
    collate = DataCollatorWithPadding(tokenizer)

    def dev_accuracy(trained: PreTrainedModel) -> float | None:
        if dev is None:
            return None
        logits = logits_of(trained, tokenizer, dev.texts, max_length)
        return float((logits.argmax(1) == dev.label_ids(label_names)).mean())

    with TemporaryDirectory(prefix="musclelora-") as unused:  # TrainingArguments wants a folder
        arguments = TrainingArguments(
            output_dir=str(checkpoint_folder or unused),
            num_train_epochs=recipe.epochs,
            per_device_train_batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            max_grad_norm=recipe.max_grad_norm,
            lr_scheduler_type="linear",
            bf16=computes_in_bf16(recipe.precision),
            use_cpu=not torch.accelerator.is_available(),
            seed=derived_seed(seed, "train/order") % 2**32,
            save_strategy="no",  # the trainer chooses the moments itself
            save_total_limit=2,
            logging_strategy="no",
            eval_strategy="no",
            report_to="none",
            dataloader_pin_memory=torch.accelerator.is_available(),
            disable_tqdm=not sys.stderr.isatty(),
        )
    references = None
    if recipe.alignment is not None:
        trusted_rows = _tokenized(trusted.data, tokenizer, label_names)
        references = References(trusted_rows, recipe.alignment.reference_batch_size, collate, seed)
    trainer = AlignedTrainer(
        model=model,
        args=arguments,
        train_dataset=_tokenized(rows, tokenizer, label_names, targets),
        data_collator=collate,
        processing_class=tokenizer,
        compute_loss_func=None if targets is None else loss_to_targets,
        alignment=recipe.alignment,
        references=references,
        masks=Masks(derived_seed(seed, "train/dropout")),
        dev_accuracy=dev_accuracy,
        on_epoch=on_epoch,
        checkpoint_folder=checkpoint_folder,
        observer=observer,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _tokenized(
    rows: TextDataset,
    tokenizer: PreTrainedTokenizerBase,
    label_names: tuple[str, ...],
    targets: np.ndarray | None = None,
) -> datasets.Dataset:
    encoded = dict(tokenizer(rows.texts, truncation=True))
    labels = rows.label_ids(label_names) if targets is None else targets.astype(np.float32)
    return datasets.Dataset.from_dict({**encoded, "labels": list(labels)})


def computes_in_bf16(precision: Precision) -> bool:
    """Whether to train in bf16; `auto` where the GPU or the CPU has instructions for it (else it is emulated)."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return any(has() for name in _BF16_PROBES if (has := getattr(torch.cpu, name, None)) is not None)


_BF16_PROBES = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")


def _fold_save_compare(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str], max_length: int, folder: Path
) -> float:
    """Fold, save, reload; the largest logit difference to the adapted model."""
    dequantise(model)
    model = model.float().cpu()
    adapted = logits_of(model, tokenizer, texts, max_length)
    if not isinstance(model, PeftModel):
        fold(model)
    target = folder / "model"
    try:
        model.save_pretrained(target / PREFIX if isinstance(model, PeftModel) else target, safe_serialization=True)
        tokenizer.save_pretrained(target)
    except OSError as error:
        raise ModelError(
            f"The trained model could not be written to {target}: {error.strerror or error}. Free some space and run "
            "again: the steps that had finished are served from the cache."
        ) from error
    reloaded, _ = DefendedModel(folder).load()
    difference = float(np.abs(logits_of(reloaded, tokenizer, texts, max_length) - adapted).max())
    if not difference < MAX_LOGIT_DIFFERENCE:
        raise ModelError(
            f"The saved model does not compute what was trained: its logits differ by {difference:.2g} (limit "
            f"{MAX_LOGIT_DIFFERENCE:g}). It is not released. This is a bug or a damaged disk: please report it."
        )
    return difference


def peak_memory_mb() -> float:
    """Peak resident memory of this process, in MiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if os.uname().sysname != "Darwin" else 1024**2)
