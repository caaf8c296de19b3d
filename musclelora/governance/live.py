"""The curve of a training in MLflow while it trains. What the run records when it is done does not depend on it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.entities import Metric, RunStatus

from musclelora.errors import RegistryError
from musclelora.governance import tracking
from musclelora.progress import logger
from musclelora.training.defended_model import EpochMetrics

SECONDS_BETWEEN = 5.0


class LiveCurve:
    """Called with a step and the epoch so far, logs `live.loss`, `live.reference_loss`, `live.aligned`, `live.mixed`,
    `live.raw` and `live.seconds_left` at that step, at most every `SECONDS_BETWEEN` seconds.

    An MLflow that fails does not cost the training: it is said once, and no more is logged.
    """

    def __init__(self, tracking_uri: str, experiment: str, pipeline_run: str, part: str) -> None:
        self.tracking_uri = tracking_uri
        self.run_id: str | None = None
        self._logged = time.monotonic()
        self._first: tuple[int, float] | None = None  # a training that was resumed does not begin at step 0
        try:
            experiment_id = tracking.ensure_experiment(tracking_uri, experiment)
            with tracking.mlflow_errors(tracking_uri, f"start the run of {part!r}"):
                tags = {tracking.TRAINING: tracking.training_tag(pipeline_run, part), tracking.RUN_NAME: part}
                created = tracking.connect(tracking_uri).create_run(experiment_id, tags=tags, run_name=part)
                self.run_id = str(created.info.run_id)
        except RegistryError as error:
            self._give_up(error)

    def __call__(self, step: int, steps: int, epoch: EpochMetrics) -> None:
        now = time.monotonic()
        first, then = self._first = self._first or (step, now)
        if self.run_id is None or (now - self._logged < SECONDS_BETWEEN and step < steps):
            return
        self._logged = now
        left = (now - then) * (steps - step) / (step - first) if step > first else None
        values = {**epoch.model_dump(exclude={"epoch", "dev_accuracy"}), "seconds_left": left}
        at = int(time.time() * 1000)
        metrics = [Metric(f"live.{name}", value, at, step) for name, value in values.items() if value is not None]
        try:
            with tracking.mlflow_errors(self.tracking_uri, "log the curve of a training"):
                tracking.connect(self.tracking_uri).log_batch(self.run_id, metrics=metrics)
        except RegistryError as error:
            self._give_up(error)

    def end(self, status: str) -> None:
        """Close the MLflow run of a training that ended so."""
        if self.run_id is None:
            return
        try:
            with tracking.mlflow_errors(self.tracking_uri, "end the run of a training"):
                tracking.end(tracking.connect(self.tracking_uri), self.run_id, status)
        except RegistryError as error:
            self._give_up(error)

    def _give_up(self, error: RegistryError) -> None:
        self.run_id = None
        logger.warning("  No live curve of this training: %s", error)


@contextmanager
def live_curve(tracking_uri: str, experiment: str, pipeline_run: str, part: str) -> Iterator[LiveCurve]:
    """A `LiveCurve` whose MLflow run ends with the block: FINISHED, FAILED or KILLED."""
    curve = LiveCurve(tracking_uri, experiment, pipeline_run, part)
    try:
        yield curve
    except BaseException as error:
        curve.end(RunStatus.to_string(RunStatus.FAILED if isinstance(error, Exception) else RunStatus.KILLED))
        raise
    curve.end(RunStatus.to_string(RunStatus.FINISHED))
