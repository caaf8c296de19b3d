import numpy as np
import pytest

from musclelora.errors import ConfigError
from musclelora.purification import check_scans, readmit
from musclelora.validation.config import GroupScanConfig, ValidationConfig
from musclelora.validation.group_scan import SuspectGroup
from tests.tiny import rows

LABELS = ("0", "1")
BOTH = ValidationConfig(group_scan=GroupScanConfig(enabled=True))
ALL = rows(100)
ACCEPTED = ALL.where(np.arange(100) >= 40)
HONEST = SuspectGroup("1", 1.0, 0.8, (), tuple(range(20)), tuple(range(20)))
PLANTED = SuspectGroup("0", 1.0, 0.8, (), tuple(range(20, 35)), tuple(range(20, 35)))  # and 5 rows for their words


def ones(texts):
    return np.ones(len(texts), dtype=int)


def test_an_honest_group_comes_back_and_nothing_else():
    trained_on = readmit(ACCEPTED, ALL, [HONEST, PLANTED], LABELS, ones)
    assert trained_on.row_ids == [f"train/{i}" for i in [*range(20), *range(40, 100)]]


@pytest.mark.parametrize("groups", [[PLANTED], []])
def test_without_an_honest_group_the_rows_stay_as_they_are(groups):
    assert readmit(ACCEPTED, ALL, groups, LABELS, ones) is ACCEPTED


@pytest.mark.parametrize("off", [{"token_scan": False}, {"group_scan": GroupScanConfig()}])
def test_purify_without_a_scan_is_refused(off):
    with pytest.raises(ConfigError, match="without them it is undefended"):
        check_scans("purify", BOTH.model_copy(update=off))


def test_purify_without_the_scans_beside_a_candidate_is_refused():
    with pytest.raises(ConfigError, match="it would be the undefended control"):
        check_scans("purify", BOTH, without_scan="purify")
    check_scans("purify", BOTH, without_scan="musclelora-guided")


@pytest.mark.parametrize(("recipe", "validation"), [("purify", BOTH), ("none", ValidationConfig())])
def test_purify_with_both_scans_and_other_recipes_without_are_accepted(recipe, validation):
    check_scans(recipe, validation)
