"""What both scans found, as the report keeps it: some of its rows, beside rows of that label that no scan suspects."""

from collections.abc import Sequence

import numpy as np

from musclelora.data.records import TextDataset
from musclelora.validation import report
from musclelora.validation.group_checks import name_of
from musclelora.validation.group_scan import SuspectGroup
from musclelora.validation.report import Suspect
from musclelora.validation.token_scan import SuspectFeature

EXAMPLES, SHOWN = 3, 400  # rows shown of a suspect, and characters of each
INSERTABLE = ("words", "start", "end", "pair", "written", "character")


def suspects_of(
    features: Sequence[SuspectFeature], rows: TextDataset, groups: Sequence[SuspectGroup] = ()
) -> list[Suspect]:
    """The features of `rows`, words as the first of their rows writes them; `groups` is what else is suspected."""
    if not features:
        return []
    shown, texts = _Shown(features, groups, rows), rows.texts
    return [
        Suspect(
            text=_written(feature, texts[feature.rows[0]]),
            label=feature.label,
            z=feature.z,
            purity=feature.purity,
            rows=len(feature.rows),
            kind=feature.kind,
            says=feature.sentence,
            expected=feature.expected,
            effect=feature.effect,
            can_be_inserted=feature.kind in INSERTABLE,
            **shown.rows_of(feature.rows, feature.label),
        )
        for feature in features
    ]


def suspect_groups_of(
    groups: Sequence[SuspectGroup], rows: TextDataset, features: Sequence[SuspectFeature] = ()
) -> list[report.SuspectGroup]:
    """The groups of `rows`; `features` is what else is suspected."""
    if not groups:
        return []
    shown, row_ids = _Shown(features, groups, rows), rows.row_ids
    return [
        report.SuspectGroup(
            check=name_of(number, group),
            label=group.label,
            excess=group.excess,
            limit=group.limit,
            purity=group.purity,
            expected=group.expected,
            shared=list(group.shared),
            rows=len(group.rows),
            disagreeing=len(group.disagreeing),
            disagreeing_row_ids=[row_ids[row] for row in group.disagreeing],
            **shown.rows_of(group.rows, group.label),
        )
        for number, group in enumerate(groups, 1)
    ]


class _Shown:
    """The first rows of a suspect, and for each the row of its label nearest in length that no scan suspects."""

    def __init__(self, features: Sequence[SuspectFeature], groups: Sequence[SuspectGroup], rows: TextDataset) -> None:
        self._texts, labels = rows.texts, np.array(rows.labels)
        self._lengths = np.array([len(text) for text in self._texts])
        found: list[SuspectFeature | SuspectGroup] = [*features, *groups]
        unsuspected = np.ones(len(labels), dtype=bool)
        unsuspected[[row for one in found for row in one.rows]] = False
        self._others = {name: np.flatnonzero(unsuspected & (labels == name)) for name in {one.label for one in found}}

    def rows_of(self, rows: Sequence[int], label: str) -> dict[str, list[str]]:
        others, first = self._others[label], rows[:EXAMPLES]
        apart = [np.abs(self._lengths[others] - self._lengths[row]) for row in first if len(others)]
        near = dict.fromkeys(int(others[lengths.argmin()]) for lengths in apart)
        return {"examples": self._excerpts(first), "honest": self._excerpts(list(near))}

    def _excerpts(self, rows: Sequence[int]) -> list[str]:
        return [self._texts[row][:SHOWN] for row in rows]


def _written(feature: SuspectFeature, text: str) -> str:
    """The words of `text` that are the feature in lower case; the feature itself where tokens were taken apart."""
    words, wanted = text.split(), feature.text.replace(" ... ", " ")
    count = len(wanted.split())
    runs = (" ".join(words[i : i + count]) for i in range(len(words) - count + 1))
    return next((run for run in runs if run.lower() == wanted), wanted)
