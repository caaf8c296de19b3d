"""Where this run is recorded: from the pipeline's `extra`, so that it is not part of any cache key."""

from zenml import get_step_context

from musclelora.config import TrackingConfig


def tracking() -> tuple[TrackingConfig, str]:
    """MLflow settings of this pipeline run, and the run's name."""
    run = get_step_context().pipeline_run
    return TrackingConfig.model_validate(run.config.extra["tracking"]), run.name
