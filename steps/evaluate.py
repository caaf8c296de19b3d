"""Clean accuracy and attack success of every model of the run."""

from typing import Annotated

from zenml import step

from musclelora.data.records import TextDataset
from musclelora.evaluation.report import RobustnessReport
from musclelora.evaluation.robustness import ModelsUnderTest, evaluate_robustness
from musclelora.evaluation.suites import TriggeredFrom
from musclelora.training.defended_model import DefendedModel
from musclelora.training.recipes import InferencePrecision
from musclelora.validation.report import ValidationReport
from steps.cache import LIBRARY_CODE
from steps.idle import unless_idle
from steps.progress import announce


@step(cache_policy=LIBRARY_CODE)
@unless_idle
def evaluate(
    models: list[DefendedModel],
    parts: list[str],
    test: TextDataset,
    validation: ValidationReport,
    quarantined: TextDataset,
    triggers: TriggeredFrom,
    min_control_asr: float,
    precision: InferencePrecision,
) -> Annotated[RobustnessReport, "robustness_report"]:
    announce(f"evaluate: {len(models)} models on {len(test)} clean rows and their triggered copies")
    by_part = dict(zip(parts, models, strict=True))
    return evaluate_robustness(
        ModelsUnderTest.from_parts(by_part),
        test,
        triggers,
        min_control_asr=min_control_asr,
        validation=validation,
        quarantined=quarantined,
        precision=precision,
    )
