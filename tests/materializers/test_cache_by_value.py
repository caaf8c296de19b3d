"""One real pipeline: a step that is never cached but returns equal values lets the next be served from cache."""

from pathlib import Path
from typing import Annotated

from zenml import pipeline, step
from zenml.artifacts.utils import load_artifact_visualization
from zenml.enums import ExecutionStatus, VisualizationType

import materializers  # noqa: F401  (registers the materializers)
from musclelora.data.records import TextDataset, TrustedSet
from musclelora.evaluation.report import RobustnessReport
from musclelora.training.defended_model import DefendedModel
from tests.materializers import examples

FOLDERS: list[Path] = []  # one per run: where its model is made


@step(enable_cache=False)
def make(
    rows: int,
) -> tuple[
    Annotated[TextDataset, "rows"],
    Annotated[TrustedSet, "trusted"],
    Annotated[DefendedModel, "model"],
    Annotated[RobustnessReport, "report"],
]:
    """Equal values on every run with equal `rows`, in other seconds."""
    folder = FOLDERS.pop()
    seconds = float(len(FOLDERS))
    model = examples.defended_model(folder, seconds)
    return examples.text_dataset(rows), examples.trusted_set(), model, examples.robustness_report(seconds)


@step
def use(rows: TextDataset, trusted: TrustedSet, model: DefendedModel, report: RobustnessReport) -> str:
    return f"{rows.sha256} {trusted.owner} {model.record.recipe.name} {report.test_rows}"


@pipeline
def chain(rows: int) -> None:
    use(*make(rows))


def test_equal_values_are_served_from_cache_and_changed_ones_are_not(tmp_path: Path) -> None:
    FOLDERS.extend(tmp_path / str(i) for i in range(3))

    first, second, third = chain(12), chain(12), chain(13)

    assert [run.steps["make"].status for run in (first, second, third)] == [ExecutionStatus.COMPLETED] * 3
    assert first.steps["use"].status == ExecutionStatus.COMPLETED
    assert second.steps["use"].status == ExecutionStatus.CACHED
    assert third.steps["use"].status == ExecutionStatus.COMPLETED

    outputs = second.steps["make"].outputs
    for name, heading in {
        "rows": "Text dataset",
        "trusted": "Trusted set",
        "model": "Training",
        "report": "Robust",
    }.items():
        page = load_artifact_visualization(outputs[name][0])
        assert page.type == VisualizationType.HTML
        assert f"<h1>{heading}" in str(page.value)
    assert outputs["rows"][0].run_metadata["sha256"] == outputs["rows"][0].load().sha256
    assert outputs["report"][0].load() == examples.robustness_report(train_seconds=1.0)
