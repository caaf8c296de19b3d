"""What `--dry-run` says of memory: an estimate per way of training, beside what the machine has free."""

from transformers import AutoConfig

from musclelora.ingest import Delivery
from musclelora.training.backbone import load_tokenizer
from musclelora.training.fit import computes_in_bf16
from musclelora.training.memory import MemoryPlan, memory_of_this_machine, plan_memory
from pipelines.launch import Prepared

HEADINGS = ("weights", "gradients", "optimizer", "kept", "activations", "process", "peak")


def memory_table(prepared: Prepared, delivery: Delivery) -> str:
    """One line per recipe of the plan, in MB, and a warning for each that needs more than is free."""
    plans = memory_plans(prepared, delivery)
    free, whose = memory_of_this_machine()
    title = "memory, MB (an estimate)"
    lines = [title + "".join(f"{heading:>13}" for heading in HEADINGS)]
    for name, plan in plans.items():
        numbers = "".join(f"{getattr(plan, heading):>13,.0f}" for heading in HEADINGS)
        lines.append(f"{name:<{len(title)}}{numbers}")
    lines.append(f"Free on {whose}: {free:,.0f} MB.")
    lines += [
        f"WARNING: {name} may need {plan.peak:,.0f} MB, more than is free. Lower recipe.batch_size or "
        "model.max_length, set model.gradient_checkpointing: true or model.quantization: 4bit, or take a smaller "
        "backbone."
        for name, plan in plans.items()
        if plan.peak > free
    ]
    return "\n".join(lines)


def memory_plans(prepared: Prepared, delivery: Delivery) -> dict[str, MemoryPlan]:
    """The plan of each part that trains by a recipe of its own; floors and drills train like one of these."""
    backbone, max_length = prepared.backbone, prepared.config.model.max_length
    config = AutoConfig.from_pretrained(backbone.location)
    texts = delivery.train.texts + delivery.trusted.data.texts
    lengths = load_tokenizer(backbone)(texts, truncation=True, max_length=max_length)["input_ids"]
    tokens = max(len(ids) for ids in lengths)
    classes = len(delivery.trusted.label_names)
    plans: dict[str, MemoryPlan] = {}
    for training in prepared.trainings:
        if training.part in ("candidate", "undefended", "trusted_only", "without_scan"):
            bf16 = computes_in_bf16(training.recipe.precision)
            plans[training.part] = plan_memory(
                config, training.recipe, backbone, classes=classes, tokens=tokens, bf16=bf16
            )
    return plans
