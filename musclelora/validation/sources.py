"""Which source the trouble comes from: each beside the others, and what still stands out without its rows.

For a source and a label, z = sum(y - p) / sqrt(sum p (1 - p)) over its rows, as for a feature of the token scan, where
p is the trusted model's probability calibrated on the given labels of the *other* sources. A high z says that this
source gives the label more often than the others do to texts that read alike. That may be an honest habit, or another
task; so it is reported, and nothing is set aside for it.

A suspect feature hangs on a source if it no longer stands out when the rows of that source are left out.
"""

from collections.abc import Sequence

import numpy as np

from musclelora.data.records import TextDataset
from musclelora.validation.report import Check, SourceFinding
from musclelora.validation.token_scan import MIN_ROWS, Scan, SuspectFeature
from musclelora.validation.trusted_model import calibrate

SHOWN = 10  # sources: those with most suspect rows, then those furthest from what is expected
LEFT_OUT = 3  # sources without which the scan is made again
SOURCE = "source"  # the name of the check before that of a source


def sources_of(
    rows: TextDataset, scan: Scan, label_names: Sequence[str], found: Sequence[SuspectFeature]
) -> list[SourceFinding]:
    """The sources worth a look, at most `SHOWN`; none where there is no second source with `MIN_ROWS` rows.

    `found` are the suspect features of `rows` by `scan`. The trusted model reads no row again.
    """
    of_row = rows.sources
    if not of_row:
        return []
    names, codes = np.unique(np.array(of_row), return_inverse=True)
    counts = np.bincount(codes)
    if (counts >= MIN_ROWS).sum() < 2:
        return []
    given, said = rows.label_ids(list(label_names)), scan.probabilities(rows)
    suspect = np.bincount(codes[sorted({row for feature in found for row in feature.rows})], minlength=len(names))
    excess = _z(codes, given, calibrate(said, given)).max(1)
    worst = sorted(range(len(names)), key=lambda source: (-suspect[source], -excess[source]))
    left_out = {source for source in worst[:LEFT_OUT] if suspect[source] >= MIN_ROWS}
    findings = []
    for source in [source for source in worst if counts[source] >= MIN_ROWS][:SHOWN]:
        mine = codes == source
        hanging = _hanging(rows, scan, found, mine) if source in left_out else None
        finding = _finding(names[source], given, said, mine, label_names, suspect[source], hanging)
        findings += [finding] if finding else []
    return findings


def source_checks(findings: Sequence[SourceFinding]) -> list[Check]:
    """A warning for each source on which suspect features hang."""
    return [
        Check(
            name=f"{SOURCE}: {finding.source}",
            expectation="What stands out in the texts does not come from one source alone.",
            dataset="train",
            outcome="warn",
            failed_rows=finding.suspect_rows,
            detail=f"Of the {finding.rows:,} rows of the source {finding.source!r} {finding.suspect_rows:,} have a "
            f"suspect feature; without them nothing would stand out by {_listed(finding.hangs_on_it)}. It has the "
            f"label {finding.label!r} in {finding.share:.1%} of its rows, where the other sources' rows of such texts "
            f"have it in {finding.expected:.1%} (z = {finding.z:.1f}): ask where these rows come from.",
        )
        for finding in findings
        if finding.hangs_on_it
    ]


def _z(groups: np.ndarray, given: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Shape [groups, labels]."""
    columns = []
    for label in range(expected.shape[1]):
        p = expected[:, label]
        more = np.bincount(groups, (given == label) - p)
        columns.append(more / np.sqrt(np.bincount(groups, p * (1 - p))))
    return np.stack(columns, axis=1)


def _finding(
    name: str,
    given: np.ndarray,
    said: np.ndarray,
    mine: np.ndarray,
    label_names: Sequence[str],
    suspect_rows: int,
    hanging: list[str] | None,
) -> SourceFinding | None:
    """None where the others have too few rows of every label to say what is expected."""
    known = np.flatnonzero(np.bincount(given[~mine], minlength=len(label_names)) >= MIN_ROWS)
    if not len(known):
        return None
    expected = calibrate(said, given, learned=~mine)[mine]
    z = _z(np.zeros(int(mine.sum()), dtype=int), given[mine], expected)[0]
    label = int(known[np.argmax(z[known])])
    return SourceFinding(
        source=name,
        rows=int(mine.sum()),
        label=label_names[label],
        share=float((given[mine] == label).mean()),
        expected=float(expected[:, label].mean()),
        z=float(z[label]),
        suspect_rows=int(suspect_rows),
        hangs_on_it=hanging,
    )


def _hanging(rows: TextDataset, scan: Scan, found: Sequence[SuspectFeature], mine: np.ndarray) -> list[str]:
    """Names of the features that the scan does not find without the rows of this source."""
    still = {(feature.kind, feature.text, feature.label) for feature in scan(rows, without=mine)}
    return [feature.name for feature in found if (feature.kind, feature.text, feature.label) not in still]


def _listed(names: Sequence[str], most: int = 5) -> str:
    different = list(dict.fromkeys(names))
    shown = ", ".join(map(repr, different[:most]))
    return shown + (f" and {len(different) - most} others" if len(different) > most else "")
