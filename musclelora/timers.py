"""A schedule for a machine whose orchestrator has none: a crontab line, and a systemd service with its timer."""

import shlex
from pathlib import Path

from croniter import croniter

from musclelora.schedule import DAYS, ScheduleConfig

_DAY_OF_MONTH, _MONTH, _DAY_OF_WEEK = 2, 3, 4


def crontab_line(schedule: ScheduleConfig, command: list[str], folder: Path) -> str | None:
    """One line for `crontab -e`; None for an interval that cron cannot say, such as every 7 minutes.

    cron reads it in the time zone of the machine.
    """
    expression = schedule.five_fields or _as_cron(schedule.every_minutes or 0)
    if expression is None:
        return None
    shell = f"cd {shlex.quote(str(folder))} && {shlex.join(command)} >> retrain.log 2>&1"
    return f"{expression} {shell.replace('%', chr(92) + '%')}"  # cron takes a bare % for the end of the line


def systemd_units(schedule: ScheduleConfig, name: str, command: list[str], folder: Path) -> dict[str, str]:
    """`NAME.service` and `NAME.timer` for ~/.config/systemd/user. A run that is still going is never started twice."""
    when = (
        "\n".join(_calendar(schedule.five_fields, schedule.timezone))
        if schedule.five_fields
        else (f"OnActiveSec=0\nOnUnitActiveSec={schedule.every_minutes}min")
    )
    service = (
        f"[Unit]\nDescription=musclelora retrain ({name})\n\n"
        f"[Service]\nType=oneshot\nWorkingDirectory={folder}\nExecStart={_exec(command)}\n"
    )
    timer = (
        f"[Unit]\nDescription=When to run musclelora retrain ({name})\n\n"
        f"[Timer]\n{when}\n\n[Install]\nWantedBy=timers.target\n"
    )
    return {f"{name}.service": service, f"{name}.timer": timer}


def _as_cron(minutes: int) -> str | None:
    """An interval that divides the hour or the day."""
    if minutes < 60:
        return f"*/{minutes} * * * *" if 60 % minutes == 0 else None
    if minutes % 60 == 0 and 24 % (minutes // 60) == 0:
        hours = minutes // 60
        return "0 0 * * *" if hours == 24 else f"0 */{hours} * * *"
    return None


def _calendar(cron: str, zone: str) -> list[str]:
    """`OnCalendar=` lines: `DAYS *-MONTHS-DAYS HOURS:MINUTES:00 ZONE`.

    cron runs where the day of the month or that of the week is right, if both are restricted; systemd where both are:
    hence two lines then.
    """
    fields = cron.split()
    expanded = [_numbers(field) for field in croniter.expand(cron)[0]]
    minute, hour, day, month = (",".join(f"{n:02d}" for n in field) or "*" for field in expanded[:_DAY_OF_WEEK])
    week = ",".join(DAYS[n % 7].capitalize() for n in expanded[_DAY_OF_WEEK])
    clock = f"{hour}:{minute}:00 {zone}"
    if week and not fields[_DAY_OF_MONTH].startswith("*"):
        return [f"OnCalendar=*-{month}-{day} {clock}", f"OnCalendar={week} *-{month}-* {clock}"]
    return [f"OnCalendar={f'{week} ' if week else ''}*-{month}-{day} {clock}"]


def _numbers(field: list[int | str]) -> list[int]:
    """The numbers that a field stands for; none for any."""
    return [] if field == ["*"] else sorted({int(number) for number in field})


def _exec(command: list[str]) -> str:
    """A command line as systemd reads it: % and $ mean something to it."""
    return shlex.join(command).replace("%", "%%").replace("$", "$$")
