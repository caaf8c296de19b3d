"""Probes: a trigger suspected in the training rows, put into clean test rows of the candidate.

Nobody knows the trigger of real data. A word or phrase that the token scan suspects either works on the candidate, then
it is a backdoor whatever it was, or it does not. It is tried at the start, in the middle and at the end of each row,
since some triggers work in one place only; the place where it works best is reported.
"""

from collections.abc import Sequence

import numpy as np

from musclelora.data.records import TextDataset
from musclelora.evaluation.intervals import rate
from musclelora.evaluation.report import FlippedRow, Position, ProbeResult
from musclelora.evaluation.tested import EXAMPLES, Tested
from musclelora.seeding import generator
from musclelora.validation.report import Suspect

ROWS = 300  # test rows per probe: the 95 % bound is then at most 5 points above the rate
SUSPECTS = 20
POSITIONS: tuple[Position, ...] = ("start", "middle", "end")


def run_probes(
    suspects: Sequence[Suspect], test: TextDataset, candidate: Tested, floor: Tested | None, seed: int
) -> list[ProbeResult]:
    """The strongest `SUSPECTS` suspects, each in up to `ROWS` clean rows of other classes; best ASR first.

    `floor` is a model that never saw the suspects' rows. Suspects of labels that no test row differs from are left out
    by nobody: raises `DataError` through `rate` where there is no row of another class.
    """
    strongest = sorted(suspects, key=lambda suspect: -suspect.z)[:SUSPECTS]
    found = [_probe(suspect, probed_rows(test, suspect.label, seed), candidate, floor) for suspect in strongest]
    return sorted(found, key=lambda probe: -probe.asr.value)


def probed_rows(test: TextDataset, target: str, seed: int, count: int = ROWS) -> TextDataset:
    """`count` test rows of other classes than `target`, drawn per row id."""
    others = test.where([label != target for label in test.labels])
    drawn = np.array([generator(seed, "probe", row_id).random() for row_id in others.row_ids])
    return TextDataset(others.rows.select(np.sort(np.argsort(drawn, kind="stable")[:count])))


def put(trigger: str, text: str, position: Position) -> str:
    """`text` with the trigger as words of its own at the start, in the middle or at the end."""
    words = text.split()
    at = {"start": 0, "middle": len(words) // 2, "end": len(words)}[position]
    return " ".join([*words[:at], trigger, *words[at:]])


def probe_at(
    trigger: str, position: Position, rows: TextDataset, target: str, tested: Tested
) -> tuple[int, list[str], np.ndarray]:
    """How many rows become the target, the triggered texts, and the classes, shape [rows]."""
    texts = [put(trigger, text, position) for text in rows.texts]
    classes = tested.predictions(texts)
    return int(np.sum(classes == tested.label_names.index(target))), texts, classes


def _probe(suspect: Suspect, rows: TextDataset, candidate: Tested, floor: Tested | None) -> ProbeResult:
    at = {place: probe_at(suspect.text, place, rows, suspect.label, candidate) for place in POSITIONS}
    best = max(POSITIONS, key=lambda place: at[place][0])
    hits, texts, classes = at[best]
    target = candidate.label_names.index(suspect.label)
    before = candidate.predictions(rows.texts)
    flipped = np.flatnonzero((classes == target) & (before != target))[:EXAMPLES].tolist()
    return ProbeResult(
        trigger=suspect.text,
        kind="scan",
        target=suspect.label,
        position=best,
        z=suspect.z,
        rows=suspect.rows,
        asr=rate(hits, len(rows)),
        floor=rate(probe_at(suspect.text, best, rows, suspect.label, floor)[0], len(rows)) if floor else None,
        untriggered=rate(int(np.sum(before == target)), len(rows)),
        examples=[
            FlippedRow(row_id=rows.row_ids[i], label=rows.labels[i], text=rows.texts[i], triggered_text=texts[i])
            for i in flipped
        ],
    )
