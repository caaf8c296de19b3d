"""`musclelora retrain`: the retraining pipeline, its summary and its pages. Whether it is due says `first_look`."""

from dataclasses import dataclass
from pathlib import Path

from materializers import pages
from pipelines.launch import Finished, Prepared, artifact, finish, running
from pipelines.retraining import retraining_pipeline


@dataclass(frozen=True)
class Retrained:
    """A retraining that went through to its decision, and what was told to people (empty where nothing had to be)."""

    finished: Finished
    alert: str


def retrain(prepared: Prepared, output: Path) -> Retrained:
    """Run the retraining pipeline on the active stack and write summary, pages and `new-rows.html` into `output`.

    Raises as `launch`; nothing is written then.
    """
    with running(retraining_pipeline, prepared, output) as run:
        new_rows = artifact(run, "screen", "new_rows_report")
        more = {"new-rows.html": pages.validation_page(new_rows)} if new_rows else {}
        finished = finish(run, prepared, output, first_step="look", pages_too=more)
        return Retrained(finished, artifact(run, "alert", "alert"))
