"""Where this run is recorded: from the pipeline's `extra`, so that it is not part of any cache key."""

from zenml import get_step_context

from musclelora.config import TrackingConfig
from musclelora.governance.tracking import default_tracking_uri, without_credentials


def for_the_record(tracking: TrackingConfig, address: str) -> dict[str, str | None]:
    """What ZenML may store of them: an address with a password comes from the environment, and stays there."""
    shown = address if without_credentials(address) == address else None
    return {"uri": shown, "experiment": tracking.experiment}


def tracking() -> tuple[str, str, str]:
    """MLflow's address, the experiment, and the name of this pipeline run."""
    run = get_step_context().pipeline_run
    settings = TrackingConfig.model_validate(run.config.extra["tracking"])
    return settings.uri or default_tracking_uri(), settings.experiment, run.name
