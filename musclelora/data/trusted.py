"""What a trusted set must be before anything relies on it."""

from collections.abc import Mapping, Sequence
from datetime import date

from musclelora.data.normalise import text_key
from musclelora.data.records import TextDataset, TrustedSet, label_order
from musclelora.errors import DataError, did_you_mean
from musclelora.frozen import Frozen


class Vouching(Frozen):
    """Who vouches for the trusted rows, when they last looked at them, until when, and the day this was asked."""

    sha256: str
    rows: int
    owner: str
    checked: date | None
    expires: date | None
    asked: date


def vouching(trusted: TrustedSet, today: date) -> Vouching:
    """What the gate reads of a trusted set on `today`."""
    return Vouching(
        sha256=trusted.sha256,
        rows=len(trusted),
        owner=trusted.owner,
        checked=trusted.checked,
        expires=trusted.expires,
        asked=today,
    )


def check_trusted(
    trusted: TrustedSet, others: Mapping[str, TextDataset], today: date, labels: Sequence[str] | None = None
) -> None:
    """Raise one `DataError` with every reason why `trusted` cannot be relied on.

    It must not have expired before `today`, have text and label in each row, cover at least two labels and exactly
    `labels` where given, and share no text (`text_key`) with any of `others`, named `dev`, `test` and so on. `train` is
    left out even if it is among them: validation quarantines training rows that repeat a trusted one.
    """
    reasons = []
    if trusted.expires is not None and trusted.expires < today:
        reasons.append(
            f"it expired on {trusted.expires} (today is {today}): its owner, {trusted.owner}, should look at the rows "
            "again and set a new date"
        )
    if trusted.checked is not None and trusted.checked > today:
        reasons.append(f"its owner, {trusted.owner}, checked it on {trusted.checked}, and today is {today}")
    bare = [
        row_id
        for row_id, text, label in zip(trusted.data.row_ids, trusted.data.texts, trusted.data.labels, strict=True)
        if label is None or text is None or not text.strip()
    ]
    if bare:
        reasons.append(f"{len(bare)} rows lack text or label (first: {', '.join(bare[:5])})")
    reasons += _label_reasons(trusted, labels)
    keys = _keys(trusted.data)
    for name, other in others.items():
        if name != "train":
            reasons += _overlap_reasons(name, other, keys)
    if reasons:
        raise DataError(f"The trusted set cannot be used: {'; '.join(reasons)}.")


def _label_reasons(trusted: TrustedSet, labels: Sequence[str] | None) -> list[str]:
    covered = label_order([label for label in trusted.data.labels if label is not None])
    reasons = []
    if len(covered) < 2:
        reasons.append(f"it has the labels {list(covered)}, and at least two are needed: add rows of the others")
    if labels is not None:
        missing = [label for label in labels if label not in covered]
        strangers = [label for label in covered if label not in labels]
        if missing:
            reasons.append(f"it has no row with label {', '.join(map(repr, missing))} of data.labels: add some")
        if strangers:
            reasons.append(f"its label {strangers[0]!r} is not in data.labels. {did_you_mean(strangers[0], labels)}")
    return reasons


def _overlap_reasons(name: str, other: TextDataset, keys: dict[str, str]) -> list[str]:
    shared = [(keys[key], row_id) for key, row_id in _keys(other).items() if key in keys]
    if not shared:
        return []
    pairs = ", ".join(f"{ours} = {theirs}" for ours, theirs in shared[:5])
    return [
        f"{len(shared)} of its texts are also in {name} (trusted row = {name} row: {pairs}), so that {name} would "
        "measure what training has seen: remove them from one of the two"
    ]


def _keys(dataset: TextDataset) -> dict[str, str]:
    """Row id by text key; texts that are missing or blank have none."""
    pairs = zip(dataset.texts, dataset.row_ids, strict=True)
    return {text_key(text): row_id for text, row_id in pairs if text is not None and text.strip()}
