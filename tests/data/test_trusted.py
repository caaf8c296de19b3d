"""The trusted set's check: every reason is named."""

from datetime import date

import pytest

from musclelora.data.records import TextDataset, TrustedSet
from musclelora.data.trusted import check_trusted
from musclelora.errors import DataError

TODAY = date(2026, 6, 1)


def table(prefix, *rows):
    return TextDataset.from_columns(
        {
            "row_id": [f"{prefix}/{i}" for i in range(len(rows))],
            "text": [text for text, _ in rows],
            "label": [label for _, label in rows],
        }
    )


def trusted(*rows, expires=None):
    return TrustedSet(table("trusted", *rows), "Ada", expires)


GOOD = (("a fine film", "1"), ("a poor film", "0"))
OTHER = table("test", ("another film", "1"), (None, "0"), (" ", None))


@pytest.mark.parametrize("expires", [None, TODAY, date(2027, 1, 1)])
def test_a_good_set_passes(expires):
    check_trusted(trusted(*GOOD, expires=expires), {"test": OTHER, "dev": OTHER}, TODAY, ["0", "1"])


def test_a_set_that_was_checked_tomorrow_is_refused():
    checked = TrustedSet(table("trusted", *GOOD), "Ada", checked=date(2026, 6, 2))
    with pytest.raises(DataError, match=r"Ada, checked it on 2026-06-02, and today is 2026-06-01"):
        check_trusted(checked, {"test": OTHER}, TODAY)


def test_overlap_with_train_is_left_to_validation():
    check_trusted(trusted(*GOOD), {"train": table("train", *GOOD), "test": OTHER}, TODAY)


@pytest.mark.parametrize(
    ("rows", "labels", "message"),
    [
        ((), None, "at least two are needed"),
        ((("a", "1"), ("b", "1")), None, "at least two are needed"),
        ((*GOOD, ("c", None)), None, "1 rows lack text or label .first: trusted/2"),
        ((*GOOD, (None, "1")), None, "lack text"),
        ((*GOOD, ("\u00a0", "1")), None, "lack text"),
        (GOOD, ["0", "1", "2"], "no row with label '2'"),
        (GOOD, ["0", "2"], "label '1' is not in data.labels"),
    ],
)
def test_bad_sets_are_refused(rows, labels, message):
    with pytest.raises(DataError, match=message):
        check_trusted(trusted(*rows), {"test": OTHER}, TODAY, labels)


@pytest.mark.parametrize("name", ["test", "dev"])
def test_overlap_is_refused_whatever_the_spelling(name):
    other = table(name, ("new", "1"), (" A  FINE\nﬁlm", "0"))
    with pytest.raises(DataError, match=rf"1 of its texts are also in {name} .*trusted/0 = {name}/1"):
        check_trusted(trusted(*GOOD), {"train": OTHER, name: other}, TODAY)


def test_all_reasons_are_named_at_once():
    with pytest.raises(DataError, match=r"expired on 2026-05-31.*at least two.*no row with label '0'.*also in test"):
        check_trusted(
            trusted(("x", "1"), expires=date(2026, 5, 31)), {"test": table("test", ("X", "1"))}, TODAY, ["0", "1"]
        )
