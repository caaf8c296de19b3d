import logging
from types import SimpleNamespace

import pytest

from musclelora import progress
from musclelora.progress import SECONDS_BETWEEN, about, watched


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only where a test says so."""
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def said_of(seconds, clock, caplog, sizes=None):
    """What is said while parts take these seconds each."""
    with caplog.at_level(logging.INFO, logger="musclelora.progress"):
        for of_part in watched(seconds, sizes or [1] * len(seconds), "reading"):
            clock[0] += of_part
    return [record.getMessage() for record in caplog.records]


def test_long_work_says_its_share_and_what_is_left_at_its_pace(clock, caplog):
    said = said_of([60] * 4, clock, caplog)
    left = [line.removeprefix("  reading: ") for line in said]
    assert left == ["25%, about 3 min left", "50%, about 2 min left", "75%, about 60 s left"]


def test_shares_are_of_the_sizes(clock, caplog):
    assert said_of([20, 60], clock, caplog, sizes=[1, 3]) == ["  reading: 25%, about 60 s left"]


def test_short_work_and_parts_in_quick_succession_say_nothing_more(clock, caplog):
    assert said_of([SECONDS_BETWEEN / 4] * 3, clock, caplog) == []
    caplog.clear()
    assert len(said_of([SECONDS_BETWEEN / 5] * 12, clock, caplog)) == 2


@pytest.mark.parametrize("sizes", [[], [0, 0], [0, 1]])
def test_every_part_comes_in_its_order_whatever_the_sizes(sizes, clock, caplog):
    parts = list(range(len(sizes)))
    assert list(watched(parts, sizes, "reading")) == parts
    assert said_of([99] * len(sizes), clock, caplog, sizes) == []


def test_sizes_of_other_parts_are_refused():
    with pytest.raises(ValueError, match="zip"):
        list(watched([1, 2], [1], "reading"))


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min")])
def test_time_in_words(seconds, words):
    assert about(seconds) == f"about {words}"
