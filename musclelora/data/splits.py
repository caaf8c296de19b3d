"""One dataset cut into train, dev, test and trusted rows, for demonstrations and benchmarks."""

from collections import Counter, defaultdict
from typing import NamedTuple

from musclelora.data.config import Split
from musclelora.data.normalise import text_key
from musclelora.data.records import TextDataset, TrustedSet, label_order
from musclelora.errors import DataError
from musclelora.seeding import derived_seed


class Splits(NamedTuple):
    """The parts; no row and no text is in two of them."""

    train: TextDataset
    dev: TextDataset
    test: TextDataset
    trusted: TrustedSet


class _Group(NamedTuple):
    """All rows of one text, which stay together: their positions, and their label where they agree on one."""

    rows: list[int]
    label: str | None
    usable: bool


def split(dataset: TextDataset, sizes: Split, seed: int) -> Splits:
    """Exactly the sizes asked for; the same rows whatever order they come in, and in the same order.

    Equal texts (`text_key`) stay in one part. Rows without text or label go to train only, where validation sets them
    aside. Trusted rows are taken first, evenly per label, then test, dev and train: a larger train set leaves the
    others as they were. Rows left over are not used. Raises `DataError` where the rows do not suffice.
    """
    keys = {i: derived_seed(seed, "split", row_id) for i, row_id in enumerate(dataset.row_ids)}
    groups = _groups(dataset, keys)
    labels = label_order([label for label in dataset.labels if label is not None])
    trusted: list[int] = []
    for label, size in _per_label(sizes.trusted, labels).items():
        taken, groups = _take(groups, size, f"trusted rows with label {label!r}", label=label)
        trusted += taken
    test, groups = _take(groups, sizes.test, "test rows")
    dev, groups = _take(groups, sizes.dev, "dev rows")
    train, groups = _take(groups, sizes.train, "train rows", bare_too=True)

    def part(rows: list[int]) -> TextDataset:
        return TextDataset(dataset.rows.select(sorted(rows, key=keys.__getitem__)))

    return Splits(part(train), part(dev), part(test), TrustedSet(part(trusted), sizes.trusted_owner))


def _groups(dataset: TextDataset, keys: dict[int, int]) -> list[_Group]:
    """Rows by text, in the order of the least key among them."""
    by_text: defaultdict[tuple[str, int | None], list[int]] = defaultdict(list)
    labels = dataset.labels
    for i, text in enumerate(dataset.texts):
        has_text = text is not None and text.strip()
        by_text[(text_key(text), None) if has_text else ("", i)].append(i)
    groups = []
    for (_, alone), rows in by_text.items():
        names = {labels[i] for i in rows}
        usable = alone is None and None not in names
        groups.append(_Group(rows, names.pop() if usable and len(names) == 1 else None, usable))
    return sorted(groups, key=lambda group: min(keys[i] for i in group.rows))


def _per_label(size: int, labels: tuple[str, ...]) -> dict[str, int]:
    if len(labels) < 2 or size < len(labels):
        raise DataError(
            f"{size} trusted rows cannot cover the labels {list(labels)}. A trusted set needs at least two labels and "
            "a row of each: check data.columns.label, or raise data.split.trusted."
        )
    return {label: size // len(labels) + (i < size % len(labels)) for i, label in enumerate(labels)}


def _take(
    groups: list[_Group], size: int, what: str, *, label: str | None = None, bare_too: bool = False
) -> tuple[list[int], list[_Group]]:
    """The first fitting groups that add up to `size` rows, and the groups left. A group too large waits for later."""
    taken: list[int] = []
    left: list[_Group] = []
    for group in groups:
        fits = (group.usable or bare_too) and label in (None, group.label)
        if fits and len(taken) + len(group.rows) <= size:
            taken += group.rows
        else:
            left.append(group)
    if len(taken) < size:
        repeated = Counter(len(group.rows) > 1 for group in left)[True]
        raise DataError(
            f"The dataset has only {len(taken)} of the {size} {what} asked for, after the parts before it (order: "
            f"trusted, test, dev, train){f'; {repeated} repeated texts did not fit whole' if repeated else ''}. Lower "
            "the sizes in data.split, or use a larger dataset."
        )
    return taken, left
