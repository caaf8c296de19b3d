"""Measure the champion so far on the candidate's test rows. Never cached: who that is is known only after asking."""

import tempfile
from pathlib import Path
from typing import Annotated

from zenml import step

from musclelora.data.records import TextDataset
from musclelora.evaluation.champion import measure_champion
from musclelora.evaluation.report import ChampionResult
from musclelora.evaluation.suites import TriggeredFrom
from musclelora.governance.champion import fetch_champion
from musclelora.training.recipes import InferencePrecision
from steps.idle import unless_idle
from steps.progress import announce
from steps.tracking import tracking


@step(enable_cache=False)
@unless_idle
def compare(
    test: TextDataset, triggers: TriggeredFrom, drills: list[str], name: str, precision: InferencePrecision
) -> Annotated[ChampionResult, "champion_result"]:
    with tempfile.TemporaryDirectory(prefix="musclelora-champion-") as folder:
        found = fetch_champion(name, tracking()[0], Path(folder))
        if found is None:
            announce(f"compare: {name} has no champion yet")
            return ChampionResult(version=None, test_sha256=test.sha256)
        announce(f"compare: the champion of {name}, version {found[0]}, on the same rows and triggers")
        return measure_champion(*found, test, triggers, drills, precision)
