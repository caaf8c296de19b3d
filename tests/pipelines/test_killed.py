"""A run killed with SIGKILL at each of its stages: what it leaves is told, and the next one works."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow.exceptions import MlflowException

from musclelora.errors import RegistryError
from musclelora.governance.promotion import promote
from musclelora.governance.verification import verify_ledger, verify_version
from tests.pipelines.deliveries import MODEL, mlflow_of

ROOT = Path(__file__).parents[2]
SIGKILL = -9


def look(folder: Path, place: str) -> None:
    """What must hold whatever was cut: no alias without an accepted decision, nothing half done called ready."""
    client, address = mlflow_of(folder), f"sqlite:///{folder / 'mlflow.db'}"
    try:
        aliases = {alias: str(of) for alias, of in client.get_registered_model(MODEL).aliases.items()}
    except MlflowException:
        assert not client.search_model_versions(), place
        return
    for version in client.search_model_versions(f"name = '{MODEL}'"):
        number = str(version.version)
        if version.tags["status"] == "ready":
            assert verify_version(MODEL, number, address).decision.decision == "accepted", place
        else:
            assert number not in aliases.values(), place
            with pytest.raises(RegistryError, match="not complete"):
                promote(MODEL, number, address)
    told = ""
    try:
        verify_ledger(MODEL, address)
    except RegistryError as error:
        told = str(error)
    # Between a line of the ledger and its aliases that is told; everywhere else there is nothing to tell.
    assert ("interrupted" in told) is (place == "register, when a line of the ledger is written"), (place, told)


@pytest.mark.slow
def test_a_run_killed_at_every_stage(delivery: Path) -> None:
    config = yaml.safe_load((delivery / "run.yaml").read_text(encoding="utf-8"))
    config["gate"]["max_asr_over_champion"] = 1.0  # so that the champion is fetched
    config["recipe"]["epochs"] = 1  # a model that learned nothing passes this gate too
    (delivery / "run.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    train = (delivery / "train.csv").read_text(encoding="utf-8").splitlines()
    # Rows that no other test has: nothing of this run is in the cache before it.
    (delivery / "train.csv").write_text("\n".join(train[:-2]), encoding="utf-8")
    with (delivery / "log").open("wb") as log:
        driver = subprocess.Popen(
            [sys.executable, "-m", "tests.pipelines.killed_driver", str(delivery / "run.yaml"), str(delivery / "out")],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert driver.stdin is not None
        assert driver.stdout is not None
        reports = []
        try:
            for line in driver.stdout:
                if not line.startswith("{"):
                    continue  # of a library
                reports.append(json.loads(line))
                if reports[-1]["place"] is not None:
                    look(delivery, reports[-1]["place"])
                driver.stdin.write("\n")
                driver.stdin.flush()
            driver.wait(timeout=60)
        finally:
            driver.kill()

    *killed, last = reports
    assert len(killed) == 9, (delivery / "log").read_text()[-3000:]
    assert {report["place"]: report["status"] for report in killed} == {r["place"]: SIGKILL for r in killed}
    assert last == {"place": None, "status": 0}, (delivery / "log").read_text()[-3000:]
    registered = mlflow_of(delivery).get_registered_model(MODEL)
    newest = max(int(version.version) for version in mlflow_of(delivery).search_model_versions(f"name = '{MODEL}'"))
    assert str(registered.aliases["champion"]) == str(newest)
    assert verify_ledger(MODEL, f"sqlite:///{delivery / 'mlflow.db'}") > 0
    assert (delivery / "out" / "9" / "summary.json").is_file()
