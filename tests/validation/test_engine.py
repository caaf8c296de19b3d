import os
import signal
import sys

import dask
import numpy as np
import psutil
import pytest
import torch
from distributed import Client, LocalCluster
from pydantic import ValidationError

from musclelora.attacks.base import poison
from musclelora.attacks.registry import ATTACKS
from musclelora.errors import ConfigError
from musclelora.training.recipes import Contrastive
from musclelora.validation import engine
from musclelora.validation.config import EngineConfig, ValidationConfig
from musclelora.validation.engine import Dask, EngineError, Local, running
from musclelora.validation.suite import validate
from musclelora.validation.token_scan import scan_tokens
from musclelora.validation.trusted_model import TokenScan
from tests.tiny import rows, tiny_backbone, trusted_rows
from tests.validation.test_token_scan import LABELS, distinct, honest

PARTITION_ROWS = 150  # of 1000: seven partitions, the last one smaller


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes, each started again when it dies."""
    with LocalCluster(n_workers=2, **engine.LOCAL_CLUSTER) as started:
        yield started


@pytest.fixture(scope="module")
def with_dask(cluster):
    return EngineConfig(name="dask", scheduler=cluster.scheduler_address, partition_rows=PARTITION_ROWS)


@pytest.fixture
def _one_thread():
    """As the workers have: a matrix product is split among threads, and its last digits with it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def delivery():
    """Two triggers, and what is expected neither constant nor the same in all partitions."""
    texts, labels, _ = honest()
    for i in range(0, 1000, 10):
        texts[i], labels[i] = f"{texts[i]} zebra Crossing", 1
    for i in range(3, 1000, 20):
        texts[i], labels[i] = f"Yak. {texts[i]}", 0
    p = np.random.default_rng(5).choice([0.2, 0.5, 0.7], 1000)
    return texts, labels, np.stack([1 - p, p], 1), LABELS


def test_two_workers_find_what_one_process_finds_to_the_last_digit(with_dask):
    alone = scan_tokens(*delivery(), engine=Local(PARTITION_ROWS))
    assert {feature.label for feature in alone} == {"0", "1"}
    with running(with_dask) as workers:
        assert len(workers.client.scheduler_info()["workers"]) == 2
        assert scan_tokens(*delivery(), engine=workers) == alone


class Killing(Dask):
    """Kills the worker that holds most, once, when the first result of the call number `when` was fetched."""

    def __init__(self, client, when):
        super().__init__(client, PARTITION_ROWS)
        self.left, self.lost = when, ()

    def results(self, calls):
        for result in super().results(calls):
            self.left -= 1
            if not self.left:
                held = self.client.has_what()
                victim = max(held, key=lambda worker: len(held[worker]))
                self.lost = held[victim]
                os.kill(self.client.run(os.getpid, workers=[victim])[victim], signal.SIGKILL)
            yield result


@pytest.mark.parametrize("when", [1, 9, 30])
def test_a_worker_killed_in_the_middle_changes_nothing(cluster, when):
    """While the vocabulary is put together, while what is frequent is, and while the first label's sums are."""
    with Client(cluster.scheduler_address) as client:
        client.wait_for_workers(2)
        killing = Killing(client, when)
        found = scan_tokens(*delivery(), engine=killing)
        assert killing.lost  # what only this worker held had to be made again
    assert found == scan_tokens(*delivery(), engine=Local(PARTITION_ROWS))


@pytest.mark.usefixtures("_one_thread")
def test_validation_by_workers_sets_the_same_rows_aside(with_dask, tmp_path):
    delivered = poison(distinct(400), ATTACKS["addsent"], rate=0.1, target="1", seed=0)
    base, trusted = tiny_backbone(tmp_path / "base"), trusted_rows()
    reports = []
    for of_scan in (EngineConfig(partition_rows=PARTITION_ROWS), with_dask):
        scan = TokenScan(base, trusted, 32, Contrastive(steps=0), engine=of_scan)
        result = validate(delivered, None, rows(4, "test", 600), trusted, ValidationConfig(engine=of_scan), scan)
        reports.append(result.report)
    assert sum(map(bool, reports[0].quarantined.values())) >= 40
    assert reports[0] == reports[1]


def test_a_local_cluster_is_closed_again():
    with running(EngineConfig(name="dask", workers=1)) as workers:
        assert list(workers.results(workers.map(len, ["abc", "de"]))) == [3, 2]
        started = [psutil.Process(pid) for pid in workers.client.run(os.getpid).values()]
        assert len(started) == 1
    assert psutil.wait_procs(started, timeout=20)[1] == []


def test_a_partition_that_kills_every_worker_is_an_error_and_not_tried_for_ever():
    once = dask.config.set({"distributed.scheduler.allowed-failures": 0})
    refused = pytest.raises(EngineError, match=r"set validation\.engine\.partition_rows lower")
    with once, running(EngineConfig(name="dask", workers=1)) as workers, refused:
        list(workers.results(workers.map(os._exit, [1])))


def test_without_the_extra_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"pip install 'musclelora-pipelines\[dask\]'"):
        enter(EngineConfig(name="dask"))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://127.0.0.1:1"])
def test_a_scheduler_that_does_not_answer_is_named(monkeypatch, address):
    monkeypatch.setattr(engine, "WAIT", 1)
    with pytest.raises(EngineError, match=f"No Dask scheduler answers at validation.engine.scheduler '{address}'"):
        enter(EngineConfig(name="dask", scheduler=address))


def enter(config):
    with running(config):
        pytest.fail("there is no such engine")


@pytest.mark.parametrize(
    "keys",
    [
        {"scheduler": "tcp://x:1"},
        {"workers": 2},
        {"name": "dask", "scheduler": "tcp://x:1", "workers": 2},
        {"name": "ray"},
    ],
)
def test_keys_that_do_not_belong_together_are_refused(keys):
    with pytest.raises(ValidationError):
        EngineConfig(**keys)
