"""Whatever is wrong, one paragraph says what, why and what to do; no traceback, and nothing is registered."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import pipelines.memory
from materializers.base import PageMaterializer
from musclelora.config_file import load_config
from musclelora.governance import tracking
from musclelora.training import backbone, fit
from musclelora.training.memory import PROCESS_MB
from pipelines.launch import prepare
from pipelines.memory import HEADINGS
from tests.pipelines.deliveries import distinct_rows, mlflow_of, write_csv

PROGRESS = re.compile(r"^\d\d:\d\d:\d\d .*\n", re.MULTILINE)


def error_of(result) -> str:
    """The paragraph that the command printed; fails where there is more or less than one."""
    paragraph = PROGRESS.sub("", result.stderr)
    assert paragraph.startswith("Error: "), result.stderr
    assert paragraph.endswith((".\n", "?\n", ")\n")), paragraph
    assert paragraph.count("\n") == 1, paragraph
    assert result.stdout == ""
    return paragraph


def registered_versions(delivery) -> int:
    return len(mlflow_of(delivery).search_model_versions())


def statuses_of_runs(delivery) -> list[str]:
    """Of the runs themselves, not of the trainings below them."""
    client = mlflow_of(delivery)
    runs = client.search_runs([client.get_experiment_by_name("musclelora").experiment_id])
    return [run.info.status for run in runs if "mlflow.parentRunId" not in run.data.tags]


def missing_file(delivery):
    (delivery / "train.csv").rename(delivery / "training.csv")


def missing_column(delivery):
    write_csv(delivery / "train.csv", distinct_rows(40), header=("sentence", "label"))


def unknown_label(delivery):
    rows = distinct_rows(640)[360:600]
    write_csv(delivery / "test.csv", [(rows[0][0], "5"), *rows[1:]])


def empty_file(delivery):
    (delivery / "train.csv").write_bytes(b"")


def header_only(delivery):
    write_csv(delivery / "train.csv", [])


def not_utf8(delivery):
    (delivery / "train.csv").write_bytes("text,label\nein schöner Film,1\n".encode("latin-1"))


def one_class(delivery):
    write_csv(delivery / "train.csv", [(text, "1") for text, _ in distinct_rows(320)])


def overlapping_trusted_set(delivery):
    write_csv(delivery / "trusted.csv", distinct_rows(640)[590:640])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (missing_file, r"No such file: .*/train.csv. Did you mean 'training.csv'\?"),
        (missing_column, r"train.csv has no column 'text'; it has 'sentence', 'label'. .*data.columns"),
        (unknown_label, r"\(test, label_known\).* one of the trusted set: 0, 1. 1 of 240 rows: '5'"),
        (empty_file, r"train.csv is empty \(0 bytes\).*produce it again"),
        (header_only, r"train.csv has a header but no rows"),
        (not_utf8, r"train.csv is not UTF-8: byte 0xf6 .* line 2.*iconv"),
        (one_class, r"at least two labels. Found: 1"),
        (overlapping_trusted_set, r"10 of its texts are also in test .*remove them"),
    ],
)
def test_bad_data(musclelora, delivery, spoil, message):
    spoil(delivery)
    result = musclelora("run", delivery / "run.yaml", "--output", delivery / "out")
    assert result.exit_code == 1
    assert re.search(message, error_of(result))
    assert registered_versions(delivery) == 0
    assert not (delivery / "out").exists()


@pytest.mark.parametrize(
    ("override", "code", "message"),
    [
        ("recipe.name=prefix", 2, r"'prefix' is for comparison only"),
        ("recipe.name=musclelra", 2, r"no recipe 'musclelra'. Did you mean 'musclelora'\?"),
        ("gate.max_asrr=0.1", 2, r"run.yaml: unknown key 'gate.max_asrr'. Did you mean 'max_asr'\?"),
        ("evaluation.drills=[badnet]", 2, r"no attack 'badnet'. Did you mean 'badnets'\?"),
        ("evaluation.target=positive", 1, r"target label 'positive' .*none of the labels \['0', '1'\]"),
        ("data.demonstration={attack: addsent, target: pos}", 1, r"target label 'pos' .*data.demonstration.target"),
        ("evaluation={drills: [badnets]}", 2, r"need a target label: set evaluation.target"),
        ("evaluation={}", 2, r"No attack is named.* for example \[addsent, badnets, .*\]"),
        ("evaluation.drill_rate=0.9", 1, r"should poison 288 of 320 rows .*only 160 .*Lower the rate"),
        ("tracking.uri=http://127.0.0.1:9", 1, r"MLflow server at http://127.0.0.1:9 cannot be used. Start it"),
        ("tracking.uri=sqlite:///", 2, r"names no file"),
        ("stack=defalt", 2, r"no ZenML stack 'defalt'. Did you mean 'default'\?"),
        ("model.base=./nowhere", 1, r"backbone '.*/nowhere' is neither a folder here nor"),
        ("model.base=package:nothing_at_all", 1, r"package 'nothing_at_all' .*not installed. .*pip install"),
        ("gate", 2, r"--set 'gate' is not of the form section.key=value"),
    ],
)
def test_bad_configuration(musclelora, delivery, override, code, message):
    result = musclelora("run", delivery / "run.yaml", "--output", delivery / "out", "--set", override)
    assert re.search(message, error_of(result))
    assert result.exit_code == code
    assert registered_versions(delivery) == 0
    assert not (delivery / "out").exists()


def test_a_missing_config_gets_the_nearest_name(musclelora, delivery):
    result = musclelora("run", delivery / "rum.yaml")
    assert re.search(r"no configuration file .*rum.yaml. Did you mean .*run.yaml\?", error_of(result))
    assert result.exit_code == 2


def test_an_output_that_is_a_file_is_refused_before_anything_runs(musclelora, delivery):
    result = musclelora("run", delivery / "run.yaml", "--output", delivery / "test.csv")
    assert re.search(r"test.csv is a file: name a folder", error_of(result))
    assert (result.exit_code, "ingest" in result.stderr) == (2, False)


def test_pickled_weights_are_refused(musclelora, delivery, backbone_folder):
    pickled = shutil.copytree(backbone_folder, delivery / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    result = musclelora("run", delivery / "run.yaml", "--set", f"model.base={pickled}")
    assert re.search(r"pickled has no model.safetensors. Pickled weights are refused", error_of(result))
    assert (result.exit_code, registered_versions(delivery)) == (1, 0)


@pytest.mark.parametrize("content", [None, "{", '{"model_type": "no-such-model"}'])
def test_a_backbone_without_a_readable_config_is_refused(musclelora, delivery, backbone_folder, content):
    broken = shutil.copytree(backbone_folder, delivery / "broken")
    (broken / "config.json").unlink()
    if content is not None:
        (broken / "config.json").write_text(content, encoding="utf-8")
    result = musclelora("run", delivery / "run.yaml", "--set", f"model.base={broken}")
    assert re.search(r"configuration of the backbone .*broken.* cannot be read: .*config.json", error_of(result))
    assert (result.exit_code, registered_versions(delivery)) == (1, 0)


def test_weights_that_are_not_as_pinned_are_refused(musclelora, delivery, backbone_folder, monkeypatch):
    monkeypatch.setitem(backbone.PINNED_SHA256, str(backbone_folder), "0" * 64)
    result = musclelora("run", delivery / "run.yaml")
    assert re.search(r"not the pinned 0000.*Do not use it", error_of(result))
    assert (result.exit_code, registered_versions(delivery)) == (1, 0)


def test_a_dry_run_checks_and_starts_nothing(musclelora, delivery):
    before = sorted(delivery.iterdir())
    result = musclelora("run", delivery / "run.yaml", "--output", delivery / "out", "--dry-run")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "320 training, 40 dev, 240 test and 40 trusted rows" in result.stdout
    assert "candidate, undefended, trusted_only, drill_badnets, control_badnets" in result.stdout
    assert sorted(delivery.iterdir()) == before


def test_a_dry_run_estimates_the_memory_of_each_way_of_training(musclelora, delivery):
    stdout = musclelora("run", delivery / "run.yaml", "--dry-run").stdout
    planned = {line.split()[0]: line.split()[1:] for line in stdout.splitlines()}
    assert {"candidate", "undefended", "trusted_only"} <= set(planned)
    assert len(planned["candidate"]) == len(HEADINGS)
    assert int(planned["candidate"][-1].replace(",", "")) >= PROCESS_MB
    assert "Free on " in stdout
    assert "WARNING" not in stdout


def test_a_dry_run_warns_of_what_does_not_fit(musclelora, delivery, monkeypatch):
    monkeypatch.setattr(pipelines.memory, "memory_of_this_machine", lambda: (100.0, "this machine"))
    result = musclelora("run", delivery / "run.yaml", "--dry-run")
    assert result.exit_code == 0  # an estimate is no reason to refuse
    for part in ("candidate", "undefended", "trusted_only"):
        assert f"WARNING: {part} may need" in result.stdout


def test_in_four_bits_the_rivals_are_trained_by_lora(delivery):
    prepared = prepare(load_config(delivery / "run.yaml", ("model.quantization=4bit", "recipe.name=musclelora")))
    assert prepared.backbone.quantization == "4bit"
    assert all(training.recipe.lora is not None for training in prepared.trainings)
    assert not any(
        training.recipe.lora
        for training in prepare(load_config(delivery / "run.yaml")).trainings
        if training.part != "candidate"
    )


def test_a_dry_run_refuses_bad_data_too(musclelora, delivery):
    overlapping_trusted_set(delivery)
    result = musclelora("run", delivery / "run.yaml", "--dry-run")
    assert (result.exit_code, "also in test" in error_of(result)) == (1, True)


def disk_full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("owner", "name"), [(fit, "save_adapters"), (PageMaterializer, "write"), (PageMaterializer, "upload")]
)
def test_a_full_disk_deep_in_the_run(musclelora, delivery, monkeypatch, owner, name, temporary):
    monkeypatch.setattr(owner, name, disk_full)
    result = musclelora("run", delivery / "run.yaml", "--set", f"seed={len(name)}")
    message = error_of(result)
    assert re.search(r"disk is full\. .*Free some space\. Nothing was registered\. Run the same command again", message)
    assert (result.exit_code, registered_versions(delivery)) == (1, 0)
    assert list(temporary.glob("musclelora*")) == []


def test_a_full_disk_while_registering_leaves_no_alias_and_no_run_running(musclelora, delivery, monkeypatch):
    monkeypatch.setattr("musclelora.governance.model_store.mlflow.transformers.save_model", disk_full)
    result = musclelora("run", delivery / "run.yaml", "--set", "seed=1")
    assert re.search(r"disk is full\. .*a version that is not tagged status=ready", error_of(result))
    assert (result.exit_code, registered_versions(delivery)) == (1, 0)
    assert statuses_of_runs(delivery) == ["FAILED"]


def test_a_full_disk_after_registering_does_not_say_that_nothing_was_registered(musclelora, delivery, monkeypatch):
    real = Path.write_text

    def write_text(self, *args, **kwargs):
        return disk_full() if self.name == "summary.json" else real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", write_text)
    result = musclelora("run", delivery / "run.yaml", "--set", "seed=1", "--output", delivery / "out")
    message = error_of(result)
    assert re.search(r"decision is 'accepted', recorded as tiny-classifier version 1.* could not be written", message)
    assert "othing was registered" not in message
    assert (result.exit_code, registered_versions(delivery)) == (1, 1)


def test_ctrl_c_in_a_training_step(musclelora, delivery, monkeypatch, temporary):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "save_adapters", interrupted)
    result = musclelora("run", delivery / "run.yaml", "--set", "seed=2")
    assert re.search(r"Interrupted\. Nothing was registered\. Run the same command again", error_of(result))
    assert (result.exit_code, registered_versions(delivery)) == (1, 0)
    assert list(temporary.glob("musclelora*")) == []


def test_ctrl_c_while_registering_ends_the_mlflow_run(musclelora, delivery, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(tracking, "log_report", interrupted)
    result = musclelora("run", delivery / "run.yaml", "--set", "seed=1")
    assert "Interrupted. It was registering" in error_of(result)
    assert statuses_of_runs(delivery) == ["KILLED"]


def command(delivery, *arguments):
    """The command in a process of its own, where ZenML is as quiet as the command makes it."""
    environment = {key: value for key, value in os.environ.items() if key != "ZENML_LOGGING_VERBOSITY"}
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=delivery,
        env=environment,
        # A background job inherits an ignored SIGINT, which Python then never turns into KeyboardInterrupt.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize("debug", [False, True])
def test_tracebacks_are_for_debug_only(delivery, debug):
    missing_column(delivery)
    out, err = command(delivery, *["--debug"][: int(debug)], "run", "run.yaml").communicate(timeout=300)
    assert ("Traceback" in out + err) is debug
    assert ("Failed to run step" in out + err) is debug
    if not debug:
        assert out == ""
        assert PROGRESS.sub("", err).startswith("Error: ")
        assert PROGRESS.sub("", err).count("\n") == 1


def test_a_real_interrupt_ends_the_process(delivery):
    process = command(delivery, "run", "run.yaml", "--set", "recipe.epochs=100000")
    try:
        seen = ""
        while "epoch 2" not in seen:
            line = process.stderr.readline()
            assert line, f"ended before it could be interrupted: {seen}"
            seen += line
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()  # a run that ignored the interrupt must not outlive the test that says so
    assert "Error: Interrupted. Nothing was registered." in err
    assert process.returncode == 1
    assert "Traceback" not in out + err
    assert not (delivery / "runs").exists()
