"""Probes: a trigger suspected in the training rows, put into clean test rows of the candidate.

Nobody knows the trigger of real data. A word or phrase that the token scan suspects either works on the candidate, then
it is a backdoor whatever it was, or it does not. It is tried at the start, in the middle and at the end of some rows,
since some triggers work in one place only; where it works best there, it is measured on other rows. A trigger may need
several of its words at once, so that the strongest suspects of a label are also tried together.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from musclelora.data.records import TextDataset
from musclelora.errors import DataError
from musclelora.evaluation.intervals import rate
from musclelora.evaluation.report import FlippedRow, Position, ProbeResult, Rate
from musclelora.evaluation.tested import EXAMPLES, Tested
from musclelora.seeding import generator
from musclelora.validation.report import Suspect

ROWS = 300  # test rows per probe: the 95 % bound is then at most 5 points above the rate
GUIDE_ROWS = 64  # others, that choose the position
SUSPECTS = 20
TOGETHER = 4  # suspects of one label that are also tried as one trigger
POSITIONS: tuple[Position, ...] = ("start", "middle", "end")


def run_probes(
    suspects: Sequence[Suspect], test: TextDataset, candidate: Tested, floor: Tested | None, seed: int
) -> list[ProbeResult]:
    """The strongest `SUSPECTS` suspects that can be inserted, each in up to `ROWS` clean rows of other classes, and the
    strongest of each label together; best ASR first.

    `floor` is a model that never saw the suspects' rows. Raises `DataError` where no test row is of another class than
    a suspect's.
    """
    able = [suspect for suspect in suspects if suspect.can_be_inserted]
    strongest = sorted(able, key=lambda suspect: -suspect.z)[:SUSPECTS]
    tried = [*strongest, *_together(strongest)]
    found = [_probe(suspect, *probed_rows(test, suspect.label, seed), candidate, floor) for suspect in tried]
    return sorted(found, key=lambda probe: -probe.asr.value)


def _together(strongest: Sequence[Suspect]) -> list[Suspect]:
    """Per label with several suspects: the first of them as one trigger. z and purity are the weakest of theirs."""
    joined = []
    for label in dict.fromkeys(suspect.label for suspect in strongest):
        group = [suspect for suspect in strongest if suspect.label == label][:TOGETHER]
        if len(group) > 1:
            joined.append(
                Suspect(
                    text=" ".join(suspect.text for suspect in group),
                    label=label,
                    z=min(suspect.z for suspect in group),
                    purity=min(suspect.purity for suspect in group),
                    rows=sum(suspect.rows for suspect in group),
                )
            )
    return joined


def probed_rows(test: TextDataset, target: str, seed: int) -> tuple[TextDataset, TextDataset]:
    """Test rows of other classes than `target`, drawn per row id: some to choose by, others to measure on.

    Up to `GUIDE_ROWS` (a quarter of a small test set) and up to `ROWS`. Raises `DataError` for fewer than two rows.
    """
    others = test.where([label != target for label in test.labels])
    if len(others) < 2:
        raise DataError(
            f"Of {len(test)} test rows {len(others)} are of another label than {target!r}, towards which a trigger is "
            "suspected: it can only be tried on such rows. Add some."
        )
    drawn = np.array([generator(seed, "probe", row_id).random() for row_id in others.row_ids])
    order, guide = np.argsort(drawn, kind="stable"), min(GUIDE_ROWS, max(1, len(others) // 4))

    def of(rows: np.ndarray) -> TextDataset:
        return TextDataset(others.rows.select(np.sort(rows)))

    return of(order[:guide]), of(order[guide : guide + ROWS])


def put(trigger: str, text: str, position: Position) -> str:
    """`text` with the trigger as words of its own at the start, in the middle or at the end."""
    words = text.split()
    at = {"start": 0, "middle": len(words) // 2, "end": len(words)}[position]
    return " ".join([*words[:at], trigger, *words[at:]])


def _probe(
    suspect: Suspect, guide: TextDataset, rows: TextDataset, candidate: Tested, floor: Tested | None
) -> ProbeResult:
    target_id = candidate.label_names.index(suspect.label)

    def hits(place: Position) -> int:
        texts = [put(suspect.text, text, place) for text in guide.texts]
        return int(np.sum(candidate.predictions(texts) == target_id))

    best = max(POSITIONS, key=hits)
    probe = measured_probe(suspect.text, "scan", best, rows, suspect.label, candidate, floor)
    return probe.model_copy(update={"z": suspect.z, "rows": suspect.rows})


def measured_probe(
    trigger: str,
    kind: Literal["scan", "search"],
    position: Position,
    rows: TextDataset,
    target: str,
    candidate: Tested,
    floor: Tested | None,
) -> ProbeResult:
    """The trigger at this position of all `rows`, on the candidate and on the floor model."""
    target_id, texts = candidate.label_names.index(target), [put(trigger, text, position) for text in rows.texts]

    def share(tested: Tested, of: Sequence[str]) -> Rate:
        return rate(int(np.sum(tested.predictions(of) == target_id)), len(rows))

    flipped = (candidate.predictions(texts) == target_id) & (candidate.predictions(rows.texts) != target_id)
    return ProbeResult(
        trigger=trigger,
        kind=kind,
        target=target,
        position=position,
        z=None,
        rows=None,
        asr=share(candidate, texts),
        floor=share(floor, texts) if floor else None,
        untriggered=share(candidate, rows.texts),
        examples=[
            FlippedRow(row_id=rows.row_ids[i], label=rows.labels[i], text=rows.texts[i], triggered_text=texts[i])
            for i in np.flatnonzero(flipped)[:EXAMPLES].tolist()
        ],
    )
