"""When a champion's evidence still covers the delivery, and when it does not."""

from datetime import datetime, timedelta, timezone

import pytest

from musclelora.governance.coverage import Coverage, covered_by_champion, occasion_of
from musclelora.governance.manifest import DECISION, REPORT, VALIDATION
from musclelora.governance.tracking import connect
from tests.governance.conftest import a_version
from tests.governance.reports import a_report

NOW = datetime(2026, 11, 24, 2, 30, tzinfo=timezone.utc)
DELIVERED = {"train": "a" * 64, "test": "b" * 64, "trusted": "c" * 64}


def covered(days=3.0, **changed):
    facts = {
        "version": "7",
        "pipeline_run": "reviews-1",
        "registered": NOW - timedelta(days=days),
        "train_sha256": DELIVERED["train"],
        "test_sha256": DELIVERED["test"],
        "trusted_sha256": DELIVERED["trusted"],
    }
    return Coverage(**(facts | changed))


def test_without_a_champion_a_training_is_due():
    occasion = occasion_of(DELIVERED, None, 30, NOW)
    assert (occasion.due, occasion.champion, occasion.reason) == (True, None, "There is no champion yet.")


def test_the_same_rows_and_young_evidence_are_no_occasion():
    occasion = occasion_of(DELIVERED, covered(), 30, NOW)
    assert (occasion.due, occasion.champion) == (False, "7")
    assert occasion.reason == "The rows are those that the champion, version 7, was made with, 3.0 days ago."


@pytest.mark.parametrize("rows", ["train", "test", "trusted"])
@pytest.mark.parametrize("known", ["d" * 64, None], ids=["other", "unknown"])
def test_rows_that_changed_or_are_not_known_are_an_occasion(rows, known):
    occasion = occasion_of(DELIVERED, covered(**{f"{rows}_sha256": known}), 30, NOW)
    assert occasion.due
    assert occasion.reason == f"The {rows} rows are not those that the champion, version 7, was made with."


@pytest.mark.parametrize(
    ("days", "limit", "due"), [(29.9, 30, False), (30, 30, False), (30.1, 30, True), (3000, None, False)]
)
def test_evidence_grows_old(days, limit, due):
    occasion = occasion_of(DELIVERED, covered(days), limit, NOW)
    assert occasion.due is due
    assert ("days are allowed" in occasion.reason) is due


def test_hours_are_said_as_hours():
    assert "6.0 hours ago" in occasion_of(DELIVERED, covered(0.25), 30, NOW).reason


def test_no_registered_model_and_no_champion_are_the_same(store, tmp_path):
    assert covered_by_champion("reviews", store) is None
    a_version(store, "reviews", a_report(), tmp_path / "model")
    assert covered_by_champion("reviews", store) is None


def test_a_champion_without_evidence_in_its_run_covers_nothing_known(store, tmp_path):
    version = a_version(store, "reviews", a_report(), tmp_path / "model")
    client = connect(store)
    for file in (VALIDATION, REPORT, DECISION):
        if f"sha256.{file}" in client.get_model_version("reviews", version).tags:
            client.delete_model_version_tag("reviews", version, f"sha256.{file}")
    client.set_registered_model_alias("reviews", "champion", version)
    found = covered_by_champion("reviews", store)
    assert (found.version, found.train_sha256, found.test_sha256, found.trusted_sha256) == (version, None, None, None)
    assert occasion_of(DELIVERED, found, None, NOW).due
