"""The configuration of a run, of an audit, of a comparison: typed sections with their defaults."""

from collections import Counter
from typing import Annotated

from pydantic import Field, model_validator

from musclelora.comparison.method import Method
from musclelora.data.config import AuditData, CompareData, DataConfig
from musclelora.data.normalise import Label
from musclelora.evaluation.config import FourierConfig
from musclelora.frozen import Frozen
from musclelora.governance.policy import Policy
from musclelora.governance.waiver import Waiver
from musclelora.schedule import ScheduleConfig
from musclelora.training.recipes import InferencePrecision, Quantization, RecipeChoice
from musclelora.validation.config import ValidationConfig

GridName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._+-]{0,39}$")]


class ModelConfig(Frozen):
    """`base`: `default` (the embedded backbone, else bert-base-uncased), a package, a folder or a hub name."""

    base: str = "default"
    max_length: int = Field(128, ge=8, le=8192, description="tokens per row; longer rows are cut")
    allow: list[str] = Field([], description="files of the model's folder that are pickles or code, and may lie there")
    quantization: Quantization = Field("none", description="4bit: the frozen base in NF4; recipes with adapters only")
    gradient_checkpointing: bool = Field(False, description="compute activations twice instead of keeping them")


class AuditModelConfig(Frozen):
    """`base`: the encoder of the trusted model that the token scan leans on, named as in a run."""

    base: str = "default"
    max_length: int = Field(128, ge=8, le=8192, description="tokens per row; longer rows are cut")
    allow: list[str] = Field([], description="files of the model's folder that are pickles or code, and may lie there")


class EvaluationConfig(Frozen):
    """What the candidate is tested against: attacks known to be in the data, and drills (docs/gate.md)."""

    target: Label | None = Field(None, description="target label; none = the demonstration's, else the last label")
    attacks: list[str] = Field([], description="tested on the candidate itself; the demonstration's is always")
    drills: list[str] = Field([], description="one extra training with a known poison each, and its control")
    without_scan: RecipeChoice | None = Field(
        None, description="a recipe trained on all rows, beside the candidate: what it does where the scans see nothing"
    )
    fourier: FourierConfig | None = Field(None, description="measure frequencies while models with known poison train")
    drill_rate: float = Field(0.1, gt=0, lt=1, description="share of the training rows that each drill poisons")
    joint_drill: bool = Field(False, description="all drills in one training, each with its rate of other rows")
    precision: InferencePrecision = Field(
        "fp32", description="bf16: several times faster where the processor has it; some rows change their class"
    )


class RegistryConfig(Frozen):
    """Name of the registered model, and whether acceptance makes a version champion at once."""

    name: str = Field("musclelora-classifier", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    promote: bool = Field(True, description="false: an accepted version is challenger until `musclelora promote`")


class TrackingConfig(Frozen):
    """MLflow: none = MLFLOW_TRACKING_URI, else a sqlite file `mlflow.db` in the working folder."""

    uri: str | None = None
    experiment: str = Field("musclelora", min_length=1)


class RetrainingConfig(Frozen):
    """When `musclelora retrain` trains although no row changed (docs/orchestrators.md)."""

    max_evidence_age_days: float | None = Field(
        30, gt=0, description="the champion was measured longer ago: train anew; none = only when rows changed"
    )


class RunConfig(Frozen):
    """All of a run. The `gate` section may name a `policy` file whose thresholds it then overrides."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    seed: int = Field(42, ge=0)
    data: DataConfig
    model: ModelConfig = ModelConfig()
    recipe: RecipeChoice = RecipeChoice()
    validation: ValidationConfig = ValidationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    gate: Policy = Policy()
    waivers: list[Waiver] = Field([], description="files that waive a rule, each signed by whom gate.waiver_keys names")
    registry: RegistryConfig = RegistryConfig()
    tracking: TrackingConfig = TrackingConfig()
    retraining: RetrainingConfig = RetrainingConfig()
    schedule: ScheduleConfig | None = Field(None, description="when `musclelora schedule` has retrainings run")
    stack: str | None = Field(None, description="name of the ZenML stack; none = the active one")
    stack_settings: str | None = Field(None, description="YAML file of ZenML settings: images, resources per step")

    @property
    def attacks(self) -> list[str]:
        """Attacks to test on the candidate: the demonstration's first."""
        shown = [self.data.demonstration.attack] if self.data.demonstration else []
        return list(dict.fromkeys([*shown, *self.evaluation.attacks]))


class AuditConfig(Frozen):
    """All of an audit: what to try on a model that exists already, and how to judge it (docs/audit.md)."""

    name: str = Field("audit", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    seed: int = Field(42, ge=0)
    data: AuditData
    target: Label = Field(description="the label that attacks aim at")
    attacks: list[str] = Field([], description="built-in triggers to put into the test rows")
    labels: list[Label] | None = Field(None, description="the model's labels in the order of its outputs")
    floor: str | None = Field(None, description="a model of the same task that never saw the poison; named like MODEL")
    search_seconds: float = Field(0, ge=0, description="search of unknown triggers in the weights; needs a floor")
    precision: InferencePrecision = Field(
        "fp32", description="bf16: several times faster where the processor has it; some rows change their class"
    )
    model: AuditModelConfig = AuditModelConfig()
    gate: Policy = Policy()

    @model_validator(mode="after")
    def _tests_something(self) -> "AuditConfig":
        if self.search_seconds and self.floor is None:
            raise ValueError(
                "search_seconds needs a floor, a model of the same task that never saw the poison: any model can be "
                "led somewhere, and only beside another does that say anything. Name one under `floor`."
            )
        scanned = self.data.train is not None or self.data.dataset is not None
        if not (self.attacks or self.data.triggered or scanned or self.search_seconds):
            raise ValueError(
                "nothing is to be tested: name attacks, ready-made triggered rows (data.triggered), training rows to "
                "scan (data.train and data.trusted), or a search (search_seconds)."
            )
        twice = sorted(set(self.attacks) & set(self.data.triggered))
        if twice:
            raise ValueError(
                f"{', '.join(twice)} is among `attacks` and in `data.triggered`: its results would have one name. "
                "Name the ready-made one otherwise, such as `badnets_file`."
            )
        return self


class CompareConfig(Frozen):
    """All of a comparison: every method under every attack, on every dataset and backbone, with every seed."""

    name: str = Field("compare", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    methods: list[Method] = Field(min_length=1, description="names of recipes and defences, or sections of their own")
    attacks: list[str] = Field(min_length=1)
    datasets: dict[GridName, CompareData] = Field(min_length=1)
    backbones: dict[GridName, ModelConfig] = Field({"default": ModelConfig()}, min_length=1)
    preset: str = Field("auto", description="of every recipe that names none; auto = the preset of each backbone")
    seeds: list[Annotated[int, Field(ge=0)]] = Field([1], min_length=1)
    tracking: TrackingConfig = TrackingConfig()
    stack: str | None = Field(None, description="name of the ZenML stack; none = the active one")

    @model_validator(mode="after")
    def _nothing_twice(self) -> "CompareConfig":
        listed = {"method": [m.name for m in self.methods], "attack": self.attacks, "seed": map(str, self.seeds)}
        for what, names in listed.items():
            twice = next((name for name, times in Counter(names).items() if times > 1), None)
            if twice is not None:
                raise ValueError(f"the {what} {twice!r} is listed twice: give a second one of the same kind a `name`.")
        return self
