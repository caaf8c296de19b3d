"""The champion so far on the test rows of a new candidate, under the very same triggers."""

from collections.abc import Iterable

from musclelora.data.records import TextDataset
from musclelora.errors import DataError
from musclelora.evaluation.report import ChampionResult
from musclelora.evaluation.suites import TriggeredFrom, made_suite
from musclelora.evaluation.tested import Tested
from musclelora.training.defended_model import DefendedModel
from musclelora.training.recipes import InferencePrecision


def measure_champion(
    version: str,
    model: DefendedModel,
    test: TextDataset,
    triggers: TriggeredFrom,
    drills: Iterable[str],
    precision: InferencePrecision = "fp32",
) -> ChampionResult:
    """Clean accuracy, and ASR under each attack and each drill's trigger.

    Raises `DataError` where the champion answers with other labels than the test rows carry.
    """
    names = model.record.label_names
    strangers = sorted(set(map(str, test.labels)) - set(names))
    if strangers or triggers.target not in names:
        raise DataError(
            f"The champion, version {version}, answers {names}, and the test rows have the labels {strangers or names} "
            f"and the target {triggers.target!r}: it is a model of another task. Register under another name "
            "(registry.name)."
        )
    tested = Tested.from_defended(model, precision)
    suites = [made_suite(name, test, triggers, names) for name in dict.fromkeys([*triggers.attacks, *drills])]
    return ChampionResult(
        version=version,
        model_sha256=model.sha256,
        test_sha256=test.sha256,
        cacc=tested.result("candidate", test, {}).cacc,
        asr={suite.attack: suite.asr(tested.predictions(suite.triggered.texts)) for suite in suites},
    )
