"""Cron, intervals and time zones by their run times; wrong ones get the nearest right one; files for timers."""

from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from musclelora.schedule import ScheduleConfig, is_cron, nearby_cron, said
from musclelora.timers import crontab_line, systemd_units

NOW = datetime(2026, 11, 24, 22, 10, tzinfo=timezone.utc)
COMMAND = ["/opt/my env/bin/musclelora", "retrain", "/etc/100%.yaml"]


def runs(count=3, now=NOW, **fields):
    return [f"{run:%m-%d %H:%M %z}" for run in ScheduleConfig(**fields).next_runs(now, count)]


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("30 2 * * *", ["11-25 02:30 +0000", "11-26 02:30 +0000", "11-27 02:30 +0000"]),
        ("*/20 22 * * *", ["11-24 22:20 +0000", "11-24 22:40 +0000", "11-25 22:00 +0000"]),
        ("0 3 * * mon-wed", ["11-25 03:00 +0000", "11-30 03:00 +0000", "12-01 03:00 +0000"]),
        ("0 3 * * 7", ["11-29 03:00 +0000", "12-06 03:00 +0000", "12-13 03:00 +0000"]),
        ("0 0 1 * mon", ["11-30 00:00 +0000", "12-01 00:00 +0000", "12-07 00:00 +0000"]),  # either, as cron has it
        ("@daily", ["11-25 00:00 +0000", "11-26 00:00 +0000", "11-27 00:00 +0000"]),
    ],
)
def test_next_runs_of_cron(cron, expected):
    assert runs(cron=cron) == expected


def test_runs_keep_their_hour_when_the_clocks_change():
    friday = datetime(2027, 3, 26, 22, 0, tzinfo=timezone.utc)
    at_four = runs(cron="0 4 * * *", timezone="Europe/Vienna", now=friday)
    assert at_four == ["03-27 04:00 +0100", "03-28 04:00 +0200", "03-29 04:00 +0200"]


def test_an_hour_that_does_not_exist_is_not_left_out():
    friday = datetime(2027, 3, 26, 22, 0, tzinfo=timezone.utc)
    at_half_past_two = runs(cron="30 2 * * *", timezone="Europe/Vienna", now=friday)
    assert at_half_past_two == ["03-27 02:30 +0100", "03-28 03:00 +0200", "03-29 02:30 +0200"]


def test_an_interval_is_as_long_on_the_day_when_the_clocks_change():
    saturday = datetime(2027, 3, 27, 12, 0, tzinfo=timezone.utc)
    assert runs(every_minutes=720, timezone="Europe/Vienna", now=saturday) == [
        "03-28 01:00 +0100",
        "03-28 14:00 +0200",
        "03-29 02:00 +0200",
    ]


def test_a_run_time_is_said_with_its_zone():
    [run] = ScheduleConfig(cron="0 2 * * *", timezone="Europe/Vienna").next_runs(NOW, 1)
    assert said(run) == "Wed 2026-11-25 02:00 CET (UTC+0100)"


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("0 25 * * *", "0 23 * * *"),
        ("61 2 * * *", "59 2 * * *"),
        ("30 2 * *", "30 2 * * *"),
        ("0 30 2 * * ?", "30 2 * * *"),  # Quartz, with seconds
        ("0 30 2 * * ? 2026", "30 2 * * *"),
        ("2:30", "30 2 * * *"),
        ("@dayly", "0 0 * * *"),
        ("0 2 * * mo", "0 2 * * mon"),
        ("0 2 * * 8", "0 2 * * 7"),
        ("0 2 L * *", "0 2 * * *"),
        ("0 2 * * mon#2", "0 2 * * *"),
        ("*/0 * * * *", "*/1 * * * *"),
        ("0 0 30 2 *", "0 0 * 2 *"),
        ("every night", "0 2 * * *"),
        ("", "0 2 * * *"),
    ],
)
def test_a_wrong_cron_is_refused_with_the_five_runs_of_a_near_one(wrong, near):
    assert not is_cron(wrong)
    assert nearby_cron(wrong) == near
    with pytest.raises(ValidationError) as refused:
        ScheduleConfig(cron=wrong)
    message = refused.value.errors()[0]["msg"]
    assert f"Did you mean {near!r}?" in message
    assert message.count("UTC (UTC+0000)") == 5


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=30) | st.lists(st.text("0123456789*,-/?LWmonsu#", max_size=6), max_size=8).map(" ".join))
def test_whatever_is_written_the_near_one_is_right(text):
    assert is_cron(nearby_cron(text))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "give either `cron` or `every_minutes`"),
        ({"cron": "0 2 * * *", "every_minutes": 5}, "give either `cron` or `every_minutes`"),
        ({"every_minutes": 0}, "greater than or equal to 1"),
        ({"cron": "0 2 * * *", "timezone": "Europe/Wien"}, "there is no time zone 'Europe/Wien'"),
        ({"cron": "0 2 * * *", "timezone": "../etc/passwd"}, "there is no time zone"),
        ({"cron": "0 2 * * *", "name": "a/b"}, "pattern"),
    ],
)
def test_what_is_not_a_schedule_is_refused(fields, complaint):
    with pytest.raises(ValidationError, match=complaint):
        ScheduleConfig(**fields)


def crontab(**fields):
    return crontab_line(ScheduleConfig(**fields), COMMAND, Path("/srv/my models"))


def test_a_crontab_line_is_quoted_for_the_shell_and_for_cron():
    assert crontab(cron="30 2 * * *") == (
        r"30 2 * * * cd '/srv/my models' && '/opt/my env/bin/musclelora' retrain /etc/100\%.yaml >> retrain.log 2>&1"
    )


@pytest.mark.parametrize(
    ("minutes", "start"),
    [(15, "*/15 * * * * cd"), (60, "0 */1 * * * cd"), (360, "0 */6 * * * cd"), (1440, "0 0 * * * cd")],
)
def test_an_interval_that_divides_the_hour_or_the_day_is_a_crontab_line(minutes, start):
    assert crontab(every_minutes=minutes).startswith(start)


@pytest.mark.parametrize("minutes", [7, 90, 300, 2880])
def test_any_other_interval_is_none(minutes):
    assert crontab(every_minutes=minutes) is None


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        ({"cron": "30 2 * * *", "timezone": "Europe/Vienna"}, ["OnCalendar=*-*-* 02:30:00 Europe/Vienna"]),
        ({"cron": "*/30 9-11 * * mon-fri"}, ["OnCalendar=Mon,Tue,Wed,Thu,Fri *-*-* 09,10,11:00,30:00 UTC"]),
        ({"cron": "0 3 * * 7"}, ["OnCalendar=Sun *-*-* 03:00:00 UTC"]),
        ({"cron": "0 0 1 1,7 *"}, ["OnCalendar=*-01,07-01 00:00:00 UTC"]),
        ({"cron": "0 0 1 * mon"}, ["OnCalendar=*-*-01 00:00:00 UTC", "OnCalendar=Mon *-*-* 00:00:00 UTC"]),
        ({"every_minutes": 7}, ["OnActiveSec=0", "OnUnitActiveSec=7min"]),
    ],
)
def test_a_systemd_timer_says_the_same(fields, lines):
    units = systemd_units(ScheduleConfig(**fields), "nightly", COMMAND, Path("/srv"))
    assert set(units) == {"nightly.service", "nightly.timer"}
    timer = units["nightly.timer"].split("[Timer]\n")[1].split("\n\n")[0].splitlines()
    assert timer == lines
    assert "ExecStart='/opt/my env/bin/musclelora' retrain /etc/100%%.yaml\n" in units["nightly.service"]
