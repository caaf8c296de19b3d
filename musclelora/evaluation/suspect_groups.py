"""Suspect groups as tests of the candidate, which was trained on none of their rows.

Of a group's rows for which the trusted model says another label, a model that did not learn what the group shares calls
few the given label if that was planted, since the text says another.
"""

from musclelora.data.records import TextDataset
from musclelora.evaluation.intervals import rate
from musclelora.evaluation.report import GroupResult, Rate
from musclelora.evaluation.tested import Tested
from musclelora.validation.report import ValidationReport


def group_results(
    validation: ValidationReport, quarantined: TextDataset, candidate: Tested, floor: Tested | None
) -> list[GroupResult]:
    """The suspect groups of `validation` on the candidate; greatest share called the given label first.

    Without groups of which rows came back repaired (`musclelora/purification.py`): what the candidate says of rows that
    it learned from tells nothing. `quarantined` has the groups' rows.
    """
    record = candidate.record
    if record is None:
        return []
    came_back = record.readmitted.groups if record.readmitted else ()
    text_of = dict(zip(quarantined.row_ids, quarantined.texts, strict=True)) if validation.suspect_groups else {}
    found = []
    for number, group in enumerate(validation.suspect_groups, 1):
        if number in came_back:
            continue
        texts, label = [text_of[row_id] for row_id in group.disagreeing_row_ids], group.label
        if not texts:
            continue

        def called(tested: Tested, texts: list[str] = texts, label: str = label) -> Rate:
            hits = tested.predictions(texts) == tested.label_names.index(label)
            return rate(int(hits.sum()), len(texts))

        found.append(
            GroupResult(
                group=group.check,
                label=label,
                shared=group.shared,
                rows=group.rows,
                called=called(candidate),
                floor=called(floor) if floor else None,
            )
        )
    return sorted(found, key=lambda result: -result.called.value)
