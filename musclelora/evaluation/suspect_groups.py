"""Suspect groups before a judge: a model that was trained on none of their rows.

A scan may be wrong. The judge cannot have learned a trigger that only suspect rows carry. Of a group's rows for which
the trusted model says another label, it calls most the given label if that is honest, since other rows of such content
carry it too; if it was planted, the judge says what the text says, as the trusted model does. An honest group comes
back whole; of a planted one no row does, since its rows with a true label teach the trigger too. Rows with a suspect
word or phrase stay out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from musclelora.data.records import TextDataset
from musclelora.evaluation.intervals import rate
from musclelora.evaluation.report import GroupResult, Rate
from musclelora.evaluation.tested import Tested
from musclelora.validation.group_scan import SuspectGroup
from musclelora.validation.report import ValidationReport

HONEST = 0.5  # of the disagreeing rows, surely (95 %) so many must be called their given label

Predict = Callable[[Sequence[str]], np.ndarray]
"""Texts to classes, shape [rows]."""


@dataclass(frozen=True)
class JudgedGroup:
    """A group, and the share of its disagreeing rows that the judge calls their given label; none where there are no
    such rows, and nothing can be told."""

    group: SuspectGroup
    supported: Rate | None

    @property
    def is_honest(self) -> bool:
        return self.supported is not None and self.supported.lower95 > HONEST


def judged(
    groups: Sequence[SuspectGroup], rows: TextDataset, label_names: Sequence[str], judge: Predict
) -> list[JudgedGroup]:
    """The groups of a scan of `rows`, by a judge that was trained on none of their rows."""
    texts, found = rows.texts, []
    for group in groups:
        if not group.disagreeing:
            found.append(JudgedGroup(group, None))
            continue
        called = judge([texts[row] for row in group.disagreeing])
        hits = int(np.sum(called == list(label_names).index(group.label)))
        found.append(JudgedGroup(group, rate(hits, len(group.disagreeing))))
    return found


def readmitted(found: Sequence[JudgedGroup], suspect: np.ndarray) -> np.ndarray:
    """Which rows come back: those of honest groups that are in no planted group and not `suspect` by another scan.

    `suspect` and the result: bool, shape [rows].
    """
    honest, planted = np.zeros_like(suspect), suspect.copy()
    for one in found:
        (honest if one.is_honest else planted)[list(one.group.rows)] = True
    return honest & ~planted


def group_results(
    validation: ValidationReport, quarantined: TextDataset, candidate: Tested, floor: Tested | None
) -> list[GroupResult]:
    """The suspect groups of `validation` on the candidate; greatest share called the given label first.

    Without groups that came back (`readmitted`): what the candidate says of rows that it learned from tells nothing.
    `quarantined` has the groups' rows.
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
