"""`musclelora run` from end to end, on a tiny backbone, with ZenML and MLflow as they are."""

import json
import re
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from zenml.client import Client

from musclelora.summary import Summary
from tests.pipelines.deliveries import MODEL, aliases_of, mlflow_of, write_config, write_delivery

CACHED = ["evaluate", "train_candidate", "train_candidate_floor", "train_trusted_only", "train_undefended"]
PAGES = {"robustness.html", "validation.html", "training.html", "decision.html", "registered.html"}
EVIDENCE = (PAGES - {"registered.html"}) | {
    "MODEL_CARD.md",
    "bom.cdx.json",
    "gate_decision.json",
    "manifest.json",
    "robustness_report.json",
    "training.json",
    "trusted.json",
    "validation_report.json",
}
CHAMPION_LIMITS = ("max_asr_over_champion", "max_cacc_drop_from_champion")
VARYING = {"seconds", "peak_memory_mb", "registry", "mlflow"}


@dataclass
class Run:
    """What one call of the command left."""

    exit_code: int
    stdout: str
    stderr: str
    output: Path
    aliases: dict[str, str]
    left_behind: list[str]

    @property
    def summary(self):
        return json.loads((self.output / "summary.json").read_text(encoding="utf-8"))

    def without_what_varies(self):
        return {key: value for key, value in self.summary.items() if key not in VARYING}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, backbone_folder):
    """A delivery whose training rows are poisoned by the configuration."""
    folder = tmp_path_factory.mktemp("runs")
    shown = {"attack": "addsent", "rate": 0.25, "target": "1"}
    write_config(folder, backbone_folder, data=write_delivery(folder) | {"demonstration": shown}, evaluation={})
    return folder


@pytest.fixture(scope="module")
def runs(folder, musclelora, temporary):
    """In this order: accepted, the same again, refused by `--set`, a weak control, drills on files of one's own."""

    def run(name, *overrides):
        arguments = [argument for override in overrides for argument in ("--set", override)]
        result = musclelora("run", folder / "run.yaml", "--output", folder / name, *arguments)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        left = sorted(path.name for path in temporary.iterdir() if path.name.startswith(("musclelora", "zenml", "tmp")))
        return Run(result.exit_code, result.stdout, result.stderr, folder / name, aliases_of(folder), left)

    for model in Client().list_models(name=MODEL).items:
        Client().delete_model(model.id)  # another module's, in the same ZenML: its versions have the same names
    own = (
        "data.demonstration=null",
        "evaluation.drill_rate=0.4",
        "evaluation.drills=[badnets]",
        "evaluation.target='1'",
        "registry.name=other",
    )
    return {
        "accepted": run("accepted"),
        "again": run("again"),
        "refused": run("refused", "gate.max_asr=0.0"),
        "weak": run("weak", "gate.min_control_asr=0.8"),
        "own": run("own", *own),
        "compared": run("compared", *(f"gate.{limit}=1.0" for limit in CHAMPION_LIMITS)),
        "aged": run("aged", "gate.max_trusted_age_days=30"),
    }


def test_an_accepted_run_leaves_its_summary_its_pages_and_a_champion(runs, folder):
    accepted = runs["accepted"]
    assert (accepted.exit_code, accepted.aliases) == (0, {"challenger": "1", "champion": "1"})
    assert {path.name for path in accepted.output.iterdir()} == PAGES | {"summary.json", "quarantined.csv"}
    summary = Summary.model_validate_json((accepted.output / "summary.json").read_text(encoding="utf-8"))
    assert (summary.status, summary.name, summary.seed) == ("accepted", "tiny", 7)
    assert (summary.data.rows, summary.data.quarantined, summary.trusted.rows) == (320, 0, 40)
    assert summary.cacc.value > 0.9  # the task is learnable
    assert set(summary.attacks) == {"addsent"}
    assert summary.attacks["addsent"].asr > 0.9  # the recipe `none` learns the trigger,
    assert summary.attacks["addsent"].floor < 0.5  # and without the poison there is none
    assert set(summary.comparisons) == {"undefended", "undefended_floor", "trusted_only"}
    assert summary.drills == {}
    assert summary.registry.aliases == ["challenger", "champion"]
    run = mlflow_of(folder).get_run(summary.mlflow.run_id)
    assert (run.info.status, run.data.tags["decision"]) == ("FINISHED", "accepted")
    assert run.data.params["recipe.name"] == summary.model.recipe
    assert len(mlflow_of(folder).get_metric_history(run.info.run_id, "loss")) > 1  # one value per epoch
    assert len(run.data.tags["musclelora.sha256.train"]) == 64


@pytest.mark.usefixtures("runs")
def test_all_evidence_travels_in_the_version_and_is_verified_elsewhere_without_a_network(
    folder, musclelora, tmp_path, monkeypatch
):
    copied = tmp_path / "copied"
    shutil.copytree(mlflow_of(folder).get_model_version(MODEL, "1").source, copied)
    assert {path.name for path in (copied / "evidence").iterdir()} == EVIDENCE
    [result] = ModelCard.load(copied / "evidence" / "MODEL_CARD.md").data.eval_results[:1]
    assert result.metric_name == "Clean accuracy"
    called = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: called.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: called.append(address))

    assert musclelora("verify", copied).exit_code == 0
    weights = next(copied.rglob("model.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    changed = musclelora("verify", copied)

    assert changed.exit_code == 1
    assert f"{weights.relative_to(copied)} was altered" in changed.stderr
    assert called == []


def test_the_last_line_says_where_the_summary_is(runs):
    last = runs["accepted"].stdout.strip().splitlines()[-1]
    assert "summary.json" in last
    assert str(runs["accepted"].output) in last


def test_progress_goes_to_stderr_and_results_to_stdout(runs):
    accepted = runs["accepted"]
    steps = re.findall(r"^\d\d:\d\d:\d\d (\w+): ", accepted.stderr, re.MULTILINE)
    assert list(dict.fromkeys(steps)) == ["ingest", "validate", "train", "evaluate", "decide", "register"]
    assert steps.count("train") == 5
    for noise in ("Created temporary directory", "INFO mlflow", "Writing model shards"):
        assert noise not in accepted.stdout + accepted.stderr
    assert accepted.stdout.startswith("model ")
    assert "(candidate)" in accepted.stdout


def test_the_same_again_says_the_same_and_computes_nothing_twice(runs):
    accepted, again = runs["accepted"], runs["again"]
    assert again.exit_code == 0
    assert again.without_what_varies() == accepted.without_what_varies()
    assert again.summary["registry"]["version"] == "2"
    served = re.search(r"Served from the cache: (.*)\.\n", again.stdout)[1].split(", ")
    assert set(served) == {"validate", "train_undefended_floor", *CACHED}
    assert "Served from the cache" not in accepted.stdout
    # The steps that read the outside world or write to it never are.
    assert all(again.summary["seconds"][step] > 0 for step in ("ingest", "decide", "register"))
    assert all(again.summary["seconds"][step] == 0 for step in CACHED)


@pytest.mark.usefixtures("runs")
def test_evidence_served_from_the_cache_has_the_same_hash(folder):
    tags = [mlflow_of(folder).get_model_version(MODEL, version).tags for version in "12"]
    assert tags[0]["report_sha256"] == tags[1]["report_sha256"]
    assert tags[0]["model_sha256"] == tags[1]["model_sha256"]


def test_the_former_champion_is_kept_by_name(runs):
    assert runs["again"].aliases == {"challenger": "2", "champion": "2", "previous_champion": "1"}


def test_a_refused_run_is_recorded_without_alias_and_leaves_the_champion(runs, folder):
    refused = runs["refused"]
    assert refused.exit_code == 3
    assert refused.aliases == runs["again"].aliases
    assert refused.summary["status"] == "refused"
    assert refused.summary["registry"] == {"name": MODEL, "version": "3", "aliases": []}
    version = mlflow_of(folder).get_model_version(MODEL, "3")
    assert (version.tags["decision"], list(version.aliases)) == ("refused", [])
    [reason] = refused.summary["gate"]["reasons"]
    assert f"- {reason}" in refused.stdout
    assert "the policy allows 0.0%" in reason
    assert "Traceback" not in refused.stdout + refused.stderr


def test_a_weak_control_is_inconclusive(runs):
    weak = runs["weak"]
    assert (weak.exit_code, weak.summary["status"]) == (4, "inconclusive")
    assert weak.aliases == runs["again"].aliases
    assert weak.summary["attacks"]["addsent"]["conclusive"] is False
    assert "proves nothing" in weak.summary["gate"]["reasons"][0]


def test_a_policy_may_ask_for_a_comparison_with_the_champion(runs, folder):
    compared = runs["compared"]
    assert (compared.exit_code, compared.aliases["champion"]) == (0, compared.summary["registry"]["version"])
    assert "compare: the champion of tiny-classifier, version 2, on the same rows and triggers" in compared.stderr
    version = mlflow_of(folder).get_model_version(MODEL, compared.aliases["champion"])
    evidence = Path(version.source) / "evidence"
    champion = json.loads((evidence / "champion.json").read_text(encoding="utf-8"))
    assert champion["version"] == runs["again"].aliases["champion"] == "2"
    assert champion["cacc"]["value"] == compared.summary["cacc"]["value"]  # the same model, trained again
    assert champion["asr"]["addsent"]["value"] == compared.summary["attacks"]["addsent"]["asr"]
    rules = json.loads((evidence / "gate_decision.json").read_text(encoding="utf-8"))["rules"]
    assert {rule["rule"] for rule in rules} > set(CHAMPION_LIMITS)
    vouched = json.loads((evidence / "trusted.json").read_text(encoding="utf-8"))
    assert (vouched["owner"], vouched["rows"], vouched["checked"]) == ("the tests", 40, None)


def stages(model):
    return {v.name: v.stage for v in Client().list_model_versions(model=Client().get_model(model).id, size=100).items}


def test_zenmls_model_control_plane_says_what_the_aliases_say(runs, folder, musclelora):
    assert runs["compared"].aliases == {"challenger": "5", "champion": "5", "previous_champion": "2"}
    archived = dict.fromkeys(["mlflow-1", "mlflow-2"], "archived")
    assert stages(MODEL) == {**archived, "mlflow-3": None, "mlflow-4": None, "mlflow-5": "production", "mlflow-6": None}
    assert stages("other") == {"mlflow-1": "production"}
    [refused] = Client().list_model_versions(model=Client().get_model(MODEL).id, name="mlflow-3", hydrate=True).items
    assert refused.run_metadata["decision"] == "refused"

    back = musclelora("rollback", MODEL, "--tracking-uri", f"sqlite:///{folder / 'mlflow.db'}")

    assert back.stdout == f"{MODEL}: challenger is version 5, champion is version 2, previous_champion is version 5\n"
    assert {name: stage for name, stage in stages(MODEL).items() if stage} == {
        "mlflow-1": "archived",
        "mlflow-2": "production",
        "mlflow-5": "staging",
    }


def test_trusted_rows_of_which_nobody_says_when_they_were_checked_are_inconclusive(runs):
    aged = runs["aged"]
    assert aged.exit_code == 4
    assert "nobody knows when" in aged.summary["gate"]["reasons"][0]


def test_drills_on_files_of_ones_own(runs):
    own = runs["own"]
    assert own.exit_code == 0
    summary = own.summary
    assert summary["attacks"] == {}
    drill = summary["drills"]["badnets"]
    assert drill["asr"] > 0.9  # the recipe `none` resists nothing
    assert drill["floor"] < drill["asr"]  # the candidate never saw the drill's poison
    assert drill["control_asr"] is not None
    assert set(summary["comparisons"]) == {"undefended", "trusted_only"}
    assert summary["registry"]["name"] == "other"


def test_no_run_leaves_models_in_the_temporary_folder(runs):
    assert {name: run.left_behind for name, run in runs.items()} == {name: [] for name in runs}
