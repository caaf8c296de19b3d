"""When a retraining runs: a cron expression or an interval, in a named time zone, checked by its next run times."""

import difflib
import re
from datetime import datetime, timedelta, timezone
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import croniter
from pydantic import Field, field_validator, model_validator

from musclelora.frozen import Frozen

RUNS_SHOWN = 5
ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
# Lowest and highest number of each field and the names that it knows, as in crontab(5); Sunday is 0 or 7. In order:
# minute, hour, day of the month, month, day of the week.
FIELDS: tuple[tuple[int, int, tuple[str, ...]], ...] = (
    (0, 59, ()),
    (0, 23, ()),
    (1, 31, ()),
    (1, 12, MONTHS),
    (0, 7, DAYS),
)
NIGHTLY = "0 2 * * *"


class ScheduleConfig(Frozen):
    """Either `cron` (five fields) or `every_minutes`. `name` is what the schedule is called: one name, one schedule."""

    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="none = the config's name")
    cron: str | None = None
    every_minutes: Annotated[int, Field(ge=1)] | None = None
    timezone: str = "UTC"

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"there is no time zone {name!r}: write a name such as Europe/Vienna or UTC.") from error
        return name

    @model_validator(mode="after")
    def _runs(self) -> "ScheduleConfig":
        if (self.cron is None) == (self.every_minutes is None):
            raise ValueError("give either `cron` or `every_minutes`.")
        if self.cron is not None and not is_cron(self.cron):
            near = nearby_cron(self.cron)
            corrected = ScheduleConfig(cron=near, timezone=self.timezone)
            times = ", ".join(said(run) for run in corrected.next_runs(datetime.now(timezone.utc)))
            raise ValueError(
                f"{self.cron!r} is no cron expression (minute, hour, day of the month, month, day of the week). "
                f"Did you mean {near!r}? That would run at: {times}."
            )
        return self

    @property
    def five_fields(self) -> str | None:
        """The cron expression with an alias such as @daily written out."""
        return None if self.cron is None else _written_out(self.cron)

    def next_runs(self, now: datetime, count: int = RUNS_SHOWN) -> list[datetime]:
        """The next run times after `now`, in the schedule's time zone; an interval is counted from `now`."""
        here = now.astimezone(ZoneInfo(self.timezone))
        if self.every_minutes is not None:
            interval = timedelta(minutes=self.every_minutes)
            start = now.astimezone(timezone.utc)  # an interval is the same length on the day when clocks change
            return [(start + n * interval).astimezone(here.tzinfo) for n in range(1, count + 1)]
        times = croniter(self.five_fields, here, ret_type=datetime)
        return [times.get_next() for _ in range(count)]

    def __str__(self) -> str:
        return f"cron {self.five_fields!r} ({self.timezone})" if self.cron else f"every {self.every_minutes} minutes"


def said(run: datetime) -> str:
    """A run time with its day, zone and offset."""
    return run.strftime("%a %Y-%m-%d %H:%M %Z (UTC%z)")


def is_cron(expression: str) -> bool:
    """Five standard fields (or an alias such as @daily) that come true some day; nothing that only some crons know."""
    fields = _written_out(expression).split()
    if len(fields) != len(FIELDS) or any(re.search(r"[^0-9a-zA-Z*,/-]", field) for field in fields):
        return False
    for field, (_, _, names) in zip(fields, FIELDS, strict=True):
        if not set(re.findall(r"[a-z]+", field.lower())) <= set(names):  # some crons know L or R too
            return False
    try:
        croniter(" ".join(fields), datetime(2000, 1, 1, tzinfo=timezone.utc)).get_next()
    except ValueError:  # its own errors are of this kind
        return False
    return True


def nearby_cron(wrong: str) -> str:
    """The expression that was perhaps meant: one with each wrong field put right, else one with it left open."""
    if near := difflib.get_close_matches(wrong.strip().lower(), ALIASES, n=1, cutoff=0.6):
        return ALIASES[near[0]]
    if clock := re.fullmatch(r"\s*(\d{1,2}):(\d{2})\s*", wrong):
        wrong = f"{clock[2]} {clock[1]} * * *"
    if not re.search(r"\d", wrong):
        return NIGHTLY
    fields = wrong.replace("?", "*").split()
    if len(fields) in {6, 7}:  # with seconds, as Quartz writes it, and perhaps a year
        fields = fields[1:6]
    fields = [*fields, *["*"] * len(FIELDS)][: len(FIELDS)]
    mended = [_mended(field, number) for number, field in enumerate(fields)]
    candidates = [mended, [*mended[:2], "*", *mended[3:]]]  # 30 February never comes
    return next((" ".join(found) for found in candidates if is_cron(" ".join(found))), NIGHTLY)


def _mended(field: str, number: int) -> str:
    """Numbers brought into the range, misspelt names put right; `*` for what cannot be read."""
    low, high, names = FIELDS[number]

    def mend(part: re.Match[str]) -> str:
        if part[0].isdigit():
            return str(min(max(int(part[0]), low), high))
        near = difflib.get_close_matches(part[0].lower()[:3], names, n=1, cutoff=0.5)
        return near[0] if near else "?"

    value, slash, step = field.partition("/")
    mended = re.sub(r"[0-9]+|[A-Za-z]+", mend, value)
    if slash and step.isdecimal() and step.isascii():
        mended += f"/{min(max(int(step), 1), high)}"
    alone = ["*"] * len(FIELDS)
    alone[number] = mended
    return mended if is_cron(" ".join(alone)) else "*"


def _written_out(expression: str) -> str:
    return ALIASES.get(expression.strip().lower(), expression.strip())
