"""`musclelora schedule`: retrainings on the active orchestrator, one per name, or files for cron and systemd."""

import hashlib
import shlex
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal, NamedTuple

from zenml.client import Client
from zenml.config.schedule import Schedule
from zenml.models import ScheduleResponse

from musclelora.config import RunConfig
from musclelora.errors import ConfigError, did_you_mean
from musclelora.schedule import ScheduleConfig, said
from musclelora.timers import crontab_line, systemd_units
from pipelines.first_look import check_compares
from pipelines.launch import arguments, prepare
from pipelines.retraining import retraining_pipeline
from pipelines.stack import configured, use_stack

Action = Literal["plan", "apply", "list", "remove"]
FINGERPRINT = "schedule_sha256"


class Orchestrator(NamedTuple):
    """What an orchestrator can do with a schedule. `deletes`: whether ZenML removes it there too."""

    cron: bool
    interval: bool
    deletes: bool


# As their ZenML 0.98 integrations read `Schedule`; all of them read cron in UTC, since ZenML stores times without zone.
CAN = {
    "airflow": Orchestrator(cron=True, interval=True, deletes=False),  # its file is ours to remove
    "kubeflow": Orchestrator(cron=True, interval=True, deletes=False),
    "kubernetes": Orchestrator(cron=True, interval=False, deletes=True),
}


class Wanted(NamedTuple):
    """A schedule as the configuration wants it, on the active orchestrator."""

    name: str
    when: ScheduleConfig
    config: RunConfig
    flavor: str

    @property
    def sha256(self) -> str:
        """Of all that decides what runs when; two applications of the same configuration are one schedule."""
        return hashlib.sha256(f"{self.name} {self.config.model_dump_json()}".encode()).hexdigest()


def schedule(config: RunConfig, action: Action, command: list[str], folder: Path) -> str:
    """Plan, apply, list or remove; returns what to print. `command` is what a timer would run, `folder` is for files.

    Raises `ConfigError` for a schedule that the active orchestrator cannot run; nothing is changed then.
    """
    use_stack(config.stack)
    if action == "list":
        return _listed(folder)
    if config.schedule is None:
        raise ConfigError("The configuration has no section `schedule`: give it `cron` or `every_minutes`.")
    check_compares(config)
    flavor = str(Client().active_stack.orchestrator.flavor)
    wanted = Wanted(config.schedule.name or config.name, config.schedule, config, flavor)
    if flavor not in CAN:
        return _with_files(wanted, action, command, folder)
    _check_possible(wanted)
    existing = _existing(wanted.name)
    if action == "remove":
        return _remove(wanted.name, existing)
    runs = "\n".join(f"  {said(run)}" for run in wanted.when.next_runs(datetime.now(timezone.utc)))
    verb = "create" if existing is None else "keep" if _fingerprint(existing) == wanted.sha256 else "replace"
    head = f"{wanted.name}: {wanted.when} on the orchestrator {flavor}"
    if action == "plan":
        return f"{head}\n--apply would {verb} it; nothing was changed. The next runs:\n{runs}"
    if verb == "keep":
        return f"{head}\nIt is there already, unchanged. The next runs:\n{runs}"
    prepared = prepare(config)  # raises before anything is removed
    if existing is not None:
        _remove(wanted.name, existing)
    options = {"schedule": _for_zenml(wanted), "run_name": f"{config.name}-{{date}}-{{time}}"}
    if flavor == "airflow":
        options["settings"] = {"orchestrator.airflow": {"dag_id": wanted.name}}  # one name, one file of Airflow's
    configured(retraining_pipeline, prepared.config, extra={FINGERPRINT: wanted.sha256}, **options)(
        **arguments(prepared)
    )
    return f"{head}\n{'Replaced' if existing else 'Created'}. The next runs:\n{runs}"


def _check_possible(wanted: Wanted) -> None:
    can, when = CAN[wanted.flavor], wanted.when
    if when.cron and when.timezone != "UTC":
        raise ConfigError(
            f"The orchestrator {wanted.flavor} reads cron in UTC, and the schedule says {when.timezone}, whose offset "
            "changes within the year: write the hours in UTC, and schedule.timezone: UTC."
        )
    if when.every_minutes and not can.interval:
        raise ConfigError(f"The orchestrator {wanted.flavor} runs by cron only: give schedule.cron, no interval.")
    if wanted.flavor == "kubeflow" and when.every_minutes and when.every_minutes >= 24 * 60:
        raise ConfigError(
            "ZenML hands Kubeflow the seconds of an interval without its days: give an interval of less than a day, "
            "or schedule.cron."
        )


def _for_zenml(wanted: Wanted) -> Schedule:
    if wanted.when.every_minutes:
        interval = timedelta(minutes=wanted.when.every_minutes)
        return Schedule(name=wanted.name, start_time=datetime.now(timezone.utc), interval_second=interval)
    # Kubeflow Pipelines reads six fields, of which the first is the second.
    seconds = "0 " if wanted.flavor == "kubeflow" else ""
    return Schedule(name=wanted.name, cron_expression=f"{seconds}{wanted.when.five_fields}")


def _existing(name: str) -> ScheduleResponse | None:
    return next(iter(Client().list_schedules(name=name, hydrate=True).items), None)


def _fingerprint(existing: ScheduleResponse) -> str | None:
    """What it was made from; None for a schedule that another program made."""
    found = Client().list_snapshots(schedule_id=existing.id, named_only=False, hydrate=True).items
    return next((snapshot.pipeline_configuration.extra.get(FINGERPRINT) for snapshot in found), None)


def _remove(name: str, existing: ScheduleResponse | None) -> str:
    if existing is None:
        known = [found.name for found in Client().list_schedules(size=1000).items]
        raise ConfigError(f"There is no schedule {name!r}. {did_you_mean(name, known) if known else 'There is none.'}")
    orchestrator: Any = Client().active_stack.orchestrator
    if orchestrator.flavor == "kubeflow":
        raise ConfigError(
            f"ZenML cannot remove a recurring run from Kubeflow: remove {name!r} there, then "
            f"`zenml pipeline schedule delete {existing.id}`, which only forgets it."
        )
    if orchestrator.flavor == "airflow":
        folder = orchestrator.config.dag_output_dir or orchestrator.dags_directory
        (Path(folder) / f"{name}.zip").unlink(missing_ok=True)
    # Not archived: an archived schedule would keep its name from the next of that name.
    Client().delete_schedule(existing.id, soft=False)
    return f"{name}: removed. Runs that have begun go on."


def _listed(folder: Path) -> str:
    lines = [
        f"{found.name}: {f'cron {found.cron_expression!r} (UTC)' if found.cron_expression else found.interval_second}"
        f"{'' if found.active else ', paused'}"
        for found in Client().list_schedules(size=1000).items
    ]
    files = sorted(path.name for path in folder.glob("*.timer"))
    lines += [
        f"{name}: a file in {folder}; whether it is installed, `systemctl --user list-timers` says" for name in files
    ]
    return "\n".join(lines) or "There is no schedule."


def _with_files(wanted: Wanted, action: Action, command: list[str], folder: Path) -> str:
    """For an orchestrator without schedules: what to paste, written beside each other."""
    here = Path.cwd()
    units = systemd_units(wanted.when, wanted.name, command, here)
    line = crontab_line(wanted.when, command, here)
    files = units | ({f"{wanted.name}.crontab": f"{line}\n"} if line else {})
    paths = {folder / name: content for name, content in files.items()}
    if action == "remove":
        for path in paths:
            path.unlink(missing_ok=True)
        return f"{wanted.name}: the files in {folder} are removed. What was pasted from them must be removed by hand."
    runs = "\n".join(f"  {said(run)}" for run in wanted.when.next_runs(datetime.now(timezone.utc)))
    head = f"{wanted.name}: {wanted.when}. The orchestrator {wanted.flavor} runs nothing on a schedule."
    if action == "plan":
        names = ", ".join(files)
        return f"{head}\n--apply would write {names} into {folder}; nothing was changed. The runs would be:\n{runs}"
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in paths.items():
        path.write_text(content, encoding="utf-8")
    paste = [f"{head}\nNothing is scheduled until one of these is installed (next runs below):"]
    if line:
        paste.append(f"- crontab -e, then paste (cron reads it in the time zone of the machine):\n{line}")
    target = "~/.config/systemd/user"
    copied = shlex.join(str(folder / name) for name in units)
    paste.append(
        f"- or: cp {copied} {target}/ && systemctl --user daemon-reload && systemctl --user enable --now "
        f"{wanted.name}.timer"
    )
    return "\n".join([*paste, runs])


def retrain_command(path: Path, overrides: tuple[str, ...]) -> list[str]:
    """The command line that a timer runs: this installation's `musclelora`, with absolute paths."""
    script = Path(sys.executable).with_name("musclelora")
    start = [str(script)] if script.exists() else [sys.executable, "-m", "pipelines.cli"]
    return [*start, "retrain", str(path.resolve()), *(part for item in overrides for part in ("--set", item))]
