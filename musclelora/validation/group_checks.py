"""What the group scan found, as checks of the validation report: in words, with rows to look at."""

from musclelora.data.records import TextDataset
from musclelora.validation.group_scan import GROUP_RESIDUAL, GroupScanResult, SuspectGroup
from musclelora.validation.report import Check, Outcome

TYPICAL = 5  # rows shown of a group
EXCERPT = 80  # characters
NO_GROUP = "No rows with a style or syntax of their own go with one label more surely than honest rows do."


def group_checks(result: GroupScanResult, rows: TextDataset) -> list[tuple[Check, list[int]]]:
    """A check per group with the numbers of its rows among the scanned `rows`; one that passes where there is none; one
    that warns of labels with too few rows, and one where only a sample was scanned."""
    texts, row_ids, found = rows.texts, rows.row_ids, []
    for number, group in enumerate(result.groups, 1):
        detail = (
            f"{len(group.rows)} rows with label {group.label!r} have in common: {', '.join(group.shared)}. Of all rows "
            f"with as much of it {group.purity:.1%} have that label, where the trusted model expects "
            f"{group.expected:.0%}; of {len(group.disagreeing)} it says another. Beyond what it explains: "
            f"{group.excess:.2f} (logits, weighed by doubt; with honest labels {group.limit:.2f} at most). Perhaps a "
            "backdoor whose trigger is a style or a syntax."
        )
        typical = [f"{row_ids[i]}: {texts[i][:EXCERPT]!r}" for i in group.rows[:TYPICAL]]
        check = _check(name_of(number, group), "quarantine", len(group.rows), detail, typical)
        found.append((check, list(group.rows)))
    if not found:
        found.append((_check(GROUP_RESIDUAL, "pass", 0, "", []), []))
    if result.not_scanned:
        detail = f"Too few rows to be scanned: label {', '.join(map(repr, result.not_scanned))}."
        found.append((_check(f"{GROUP_RESIDUAL}_coverage", "warn", 0, detail, []), []))
    if result.sample_rows is not None:
        detail = (
            f"A sample of {result.sample_rows:,} of {len(rows):,} rows was scanned; the others joined what it found: "
            "a trigger too rare for it is not seen. Raise validation.group_scan.sample_rows; that costs time."
        )
        found.append((_check(f"{GROUP_RESIDUAL}_sample", "warn", 0, detail, []), []))
    return found


def name_of(number: int, group: SuspectGroup) -> str:
    """The name of the check of one group, counted from 1."""
    return f"{GROUP_RESIDUAL}: group {number}, label {group.label}"


def _check(name: str, outcome: Outcome, failed_rows: int, detail: str, examples: list[str]) -> Check:
    return Check(
        name=name,
        expectation=NO_GROUP,
        dataset="train",
        outcome=outcome,
        failed_rows=failed_rows,
        detail=detail,
        examples=examples,
    )
