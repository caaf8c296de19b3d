"""`musclelora schedule` on orchestrators with and without schedules; no orchestrator runs."""

import json
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from zenml.client import Client
from zenml.config.docker_settings import DockerSettings
from zenml.config.resource_settings import ResourceSettings
from zenml.enums import StackComponentType
from zenml.integrations.airflow.flavors.airflow_orchestrator_flavor import AirflowOrchestratorSettings
from zenml.integrations.kubeflow.flavors.kubeflow_orchestrator_flavor import KubeflowOrchestratorSettings
from zenml.integrations.kubernetes.flavors.kubernetes_orchestrator_flavor import KubernetesOrchestratorSettings
from zenml.integrations.kubernetes.pod_settings import KubernetesPodSettings

from musclelora.errors import ConfigError
from musclelora.schedule import ScheduleConfig
from pipelines import schedule as scheduling
from pipelines.airflow_dag import DagConfiguration
from pipelines.stack import _stack_settings
from tests.pipelines.deliveries import write_config

STACKS = Path(__file__).parents[2] / "configs" / "stacks"
SETTINGS = {
    "docker": DockerSettings,
    "resources": ResourceSettings,
    "orchestrator.airflow": AirflowOrchestratorSettings,
    "orchestrator.kubernetes": KubernetesOrchestratorSettings,
    "orchestrator.kubeflow": KubeflowOrchestratorSettings,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, backbone_folder):
    """A delivery, and the folder where Airflow would look for DAGs."""
    folder = tmp_path_factory.mktemp("scheduled")
    (folder / "dags").mkdir()
    gate = {"max_cacc_drop_from_champion": 0.02}
    write_config(folder, backbone_folder, gate=gate, schedule={"cron": "30 2 * * *"})
    return folder


@pytest.fixture(scope="module")
def airflow(folder):
    """The name of a ZenML stack whose orchestrator is Airflow."""
    client = Client()
    configuration = {"local": True, "dag_output_dir": str(folder / "dags")}
    client.create_stack_component("airflow", "airflow", StackComponentType.ORCHESTRATOR, configuration)
    components = {StackComponentType.ORCHESTRATOR: "airflow", StackComponentType.ARTIFACT_STORE: "default"}
    client.create_stack("airflow", components)
    return "airflow"


@pytest.fixture
def schedule(musclelora, folder, monkeypatch):
    """The command on the delivery, with `--set` for each override, from a working folder of its own."""
    monkeypatch.chdir(folder)

    def call(action, *overrides):
        options = [part for override in overrides for part in ("--set", override)]
        return musclelora("schedule", folder / "run.yaml", action, "--output", folder / "files", *options)

    return call


@contextmanager
def nothing_changes(folder):
    """The same files, byte for byte, and the same schedules of ZenML."""

    def all_there():
        files = {path: path.read_bytes() for part in ("dags", "files") for path in (folder / part).rglob("*")}
        return files, {found.id for found in Client().list_schedules().items}

    before = all_there()
    yield
    assert all_there() == before


def test_a_plan_changes_nothing_and_shows_the_next_five_runs(schedule, folder):
    with nothing_changes(folder):
        result = schedule("--plan")
    assert result.exit_code == 0
    assert result.stdout.startswith("tiny: cron '30 2 * * *' (UTC). The orchestrator local runs nothing on a schedule.")
    assert "nothing was changed" in result.stdout
    assert result.stdout.count(" 02:30 UTC (UTC+0000)") == 5


def test_without_schedules_files_are_written_the_same_each_time(schedule, folder):
    first = schedule("--apply")
    assert first.exit_code == 0
    assert {path.name for path in (folder / "files").iterdir()} == {"tiny.crontab", "tiny.service", "tiny.timer"}
    assert "Nothing is scheduled until one of these is installed" in first.stdout
    line = (folder / "files" / "tiny.crontab").read_text(encoding="utf-8")
    assert line.startswith(f"30 2 * * * cd {folder} && ")
    assert f"retrain {folder / 'run.yaml'}" in line
    assert line.strip() in first.stdout
    with nothing_changes(folder):
        assert schedule("--apply").stdout == first.stdout
    assert "tiny.timer: a file in" in schedule("--list").stdout
    assert schedule("--remove").exit_code == 0
    assert list((folder / "files").iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["schedule.cron=30 26 * * *"], "Did you mean '30 23 * * *'? That would run at:"),
        (["schedule=null"], "has no section `schedule`"),
        (["schedule.every_minutes=5"], "either `cron` or `every_minutes`"),
        (["schedule.timezon=UTC"], "unknown key 'schedule.timezon'. Did you mean 'timezone'?"),
        (["gate.max_cacc_drop_from_champion=null"], "how much clean accuracy that may cost"),
    ],
)
def test_a_wrong_schedule_is_refused(schedule, folder, overrides, said):
    with nothing_changes(folder):
        result = schedule("--apply", *overrides)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def on_airflow(airflow):
    return f"stack={airflow}", f"stack_settings={STACKS / 'airflow.yaml'}"


def test_one_name_is_one_schedule_on_airflow(schedule, folder, airflow):
    stack = on_airflow(airflow)
    with nothing_changes(folder):
        planned = schedule("--plan", *stack)
    assert "--apply would create it" in planned.stdout
    applied = schedule("--apply", *stack)
    assert applied.exit_code == 0, applied.stderr
    [made] = Client().list_schedules().items
    assert (made.name, made.cron_expression, made.active) == ("tiny", "30 2 * * *", True)
    assert [path.name for path in (folder / "dags").iterdir()] == ["tiny.zip"]
    with nothing_changes(folder):
        again = schedule("--apply", *stack)
        assert "It is there already, unchanged." in again.stdout
        assert "tiny: cron '30 2 * * *' (UTC)" in schedule("--list", *stack).stdout
    changed = schedule("--apply", *stack, "schedule.cron=45 3 * * *")
    assert "Replaced." in changed.stdout
    [found] = Client().list_schedules().items
    assert (found.name, found.cron_expression) == ("tiny", "45 3 * * *")
    assert [path.name for path in (folder / "dags").iterdir()] == ["tiny.zip"]
    _check_dag(folder / "dags" / "tiny.zip")
    assert "tiny: removed." in schedule("--remove", *stack).stdout
    assert Client().list_schedules().total == 0
    assert list((folder / "dags").iterdir()) == []
    missing = schedule("--remove", *stack)
    assert missing.exit_code == 2
    assert "There is no schedule 'tiny'." in missing.stderr


def _check_dag(path):
    """One task per step, each a command line of its own; the gate's last word comes last."""
    with zipfile.ZipFile(path) as archive:
        assert set(archive.namelist()) == {"dag.py", "config.json"}
        dag = DagConfiguration.model_validate(json.loads(archive.read("config.json")))
    assert (dag.id, dag.schedule) == ("tiny", "45 3 * * *")
    tasks = {task.zenml_step_name: task for task in dag.tasks}
    assert {"look", "screen", "validate", "train_candidate", "compare", "alert", "enforce"} < set(tasks)
    assert tasks["look"].upstream_steps == []
    assert "alert" in tasks["enforce"].upstream_steps
    assert "zenml.entrypoints.entrypoint" in dag.bash(tasks["look"])
    assert dag.bash(tasks["look"]).startswith(dag.python)
    assert dag.variables(tasks["look"])["ZENML_AIRFLOW_RUN_ID"] == "{{ run_id }}"


def test_a_zone_that_airflow_would_not_read_is_refused(schedule, folder, airflow):
    with nothing_changes(folder):
        result = schedule("--apply", *on_airflow(airflow), "schedule.timezone=Europe/Vienna")
    assert result.exit_code == 2
    assert "reads cron in UTC" in result.stderr


@pytest.mark.parametrize(
    ("flavor", "when", "said"),
    [
        ("kubernetes", {"every_minutes": 60}, "by cron only"),
        ("kubeflow", {"every_minutes": 1440}, "without its days"),
        ("kubeflow", {"cron": "0 2 * * *", "timezone": "Asia/Tokyo"}, "reads cron in UTC"),
    ],
)
def test_what_an_orchestrator_cannot_do_is_refused(flavor, when, said):
    wanted = scheduling.Wanted("nightly", ScheduleConfig(**when), None, flavor)
    with pytest.raises(ConfigError, match=said):
        scheduling._check_possible(wanted)


@pytest.mark.parametrize(
    ("flavor", "expression"), [("kubeflow", "0 0 2 * * *"), ("kubernetes", "0 2 * * *"), ("airflow", "0 2 * * *")]
)
def test_each_orchestrator_gets_cron_as_it_reads_it(flavor, expression):
    wanted = scheduling.Wanted("nightly", ScheduleConfig(cron="0 2 * * *"), None, flavor)
    scheduling._check_possible(wanted)
    assert scheduling._for_zenml(wanted).cron_expression == expression


@pytest.mark.parametrize("path", sorted(STACKS.glob("*.yaml")), ids=lambda path: path.name)
def test_zenml_accepts_the_shipped_settings(path):
    assert _stack_settings(str(path)) == str(path)
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    parts = [found["settings"], *(step["settings"] for step in found.get("steps", {}).values())]
    for part in parts:
        for key, values in part.items():
            known = SETTINGS[key].model_fields
            assert set(values) <= set(known), f"{key} has no {set(values) - set(known)}"
            for pod in (values[name] for name in ("pod_settings", "orchestrator_pod_settings") if name in values):
                assert set(pod) <= set(KubernetesPodSettings.model_fields)
            # It would be the folder where the schedule was applied: refused if empty, on every pod if not.
            assert key != "docker" or values["allow_download_from_artifact_store"] is False
            if "kube" not in key:  # their values are read by the kubernetes package, which is not here
                SETTINGS[key].model_validate(values)


@pytest.mark.parametrize(
    "settings", [{"enable_cache": True}, {"steps": {"register": {"enable_cache": True}}}, ["settings"], "settings: ["]
)
def test_settings_that_would_overrule_our_steps_are_refused(tmp_path, settings):
    path = tmp_path / "settings.yaml"
    path.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings), encoding="utf-8")
    with pytest.raises(ConfigError, match="stack_settings"):
        _stack_settings(str(path))
