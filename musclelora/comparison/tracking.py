"""A comparison in MLflow: one run, below it a run per method, below that a run per cell; the same names everywhere.

Metrics: `cacc`, `asr`, `asr_upper95`, `asr_floor`, `asr_worst`, `asr_above_floor`, `untriggered`, `seconds`,
`peak_memory_mb`. Of a method they are means over its cells, `asr_worst` and `asr_upper95` the largest. Params are flat;
the tag `kind` is comparison, method or cell. A cell that failed is a run that failed, with the reason as a tag.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from mlflow.entities import Metric, Param, RunTag

from musclelora.comparison.record import CLEAN, Cell, CellResult
from musclelora.comparison.results import Comparison
from musclelora.comparison.tables import BROKEN_FLOOR, Row, grouped
from musclelora.governance.tracking import (
    connect,
    ensure_experiment,
    environment,
    flat,
    log_dataset,
    mlflow_errors,
)

LONGEST_TAG = 5000


def log_comparison(
    comparison: Comparison, results: list[CellResult], files: Path, *, tracking_uri: str, experiment: str
) -> str:
    """Write all runs; the files of the folder become artifacts of the first. Returns its id."""
    experiment_id = ensure_experiment(tracking_uri, experiment)
    log = _Log(tracking_uri, experiment_id)
    with mlflow_errors(tracking_uri, f"log the comparison {comparison.name!r}"):
        parent = log.start(comparison.name, None, {"kind": "comparison"})
        by_cell = {(_of_method(result.cell), result.cell.attack, result.cell.seed): result for result in results}
        methods: dict[tuple[str, str, str], str] = {}
        by_method = grouped(comparison.rows, lambda row: (row.method, row.dataset, row.backbone))
        for of_method, rows in by_method.items():
            method, dataset, backbone = of_method
            tags = {"kind": "method", "method": method, "dataset": dataset, "backbone": backbone}
            run_id = methods[of_method] = log.start(f"{dataset} {backbone} {method}", parent, tags)
            log.values(run_id, tags, _means(rows))
            for row in rows:
                own = by_cell.get((of_method, row.attack, row.seed))
                _cell_run(log, run_id, row, own or by_cell[of_method, CLEAN, row.seed])
            log.end(run_id, "FINISHED")
        for failure in comparison.failures:
            cell = failure.cell
            above = methods.get(_of_method(cell), parent)
            run_id = log.start(cell.id, above, {**_tags(cell), "reason": failure.reason[:LONGEST_TAG]})
            log.end(run_id, "FAILED")
        client = connect(tracking_uri)
        for file in sorted(files.iterdir()):
            client.log_artifact(parent, str(file))
        log.end(parent, "FAILED" if comparison.failures else "FINISHED")
    return parent


def _of_method(cell: Cell) -> tuple[str, str, str]:
    return cell.method, cell.dataset, cell.backbone_name


def _cell_run(log: "_Log", parent: str, row: Row, result: CellResult) -> None:
    tags = {**_tags(result.cell), "attack": row.attack}
    run_id = log.start(f"{row.method} {row.attack} seed {row.seed}", parent, tags)
    params = {**tags, **dict(flat(result.cell.model_dump(mode="json", include={"recipe", "settings", "backbone"})))}
    log.values(run_id, params, {**_means([row]), "peak_memory_mb": result.peak_memory_mb})
    name = f"{row.dataset}/{result.cell.attack}"
    log_dataset(log.tracking_uri, run_id, f"{name}/train", result.train_sha256, result.train_rows, "train")
    log_dataset(log.tracking_uri, run_id, f"{row.dataset}/test", result.test_sha256, result.cacc.n, "test")
    log.end(run_id, "FINISHED")


def _tags(cell: Cell) -> dict[str, str]:
    return {
        "kind": "cell",
        "method": cell.method,
        "attack": cell.attack,
        "dataset": cell.dataset,
        "backbone": cell.backbone_name,
        "seed": str(cell.seed),
    }


def _means(rows: list[Row]) -> dict[str, float]:
    floors = [row.floor for row in rows if row.floor is not None]
    values = {
        "cacc": fmean(row.cacc for row in rows),
        "asr": fmean(row.asr for row in rows),
        "asr_upper95": max(row.asr_upper95 for row in rows),
        "asr_worst": max(row.asr for row in rows),
        "untriggered": fmean(row.untriggered for row in rows),
        "seconds": fmean(row.seconds for row in rows),
    }
    if len(floors) == len(rows):
        values["asr_floor"] = fmean(floors)
        if max(floors) <= BROKEN_FLOOR:  # from a broken model's floor nothing is measured
            values["asr_above_floor"] = values["asr"] - values["asr_floor"]
    return values


class _Log:
    """Runs of one experiment, by explicit address."""

    def __init__(self, tracking_uri: str, experiment_id: str) -> None:
        self.tracking_uri, self._experiment_id = tracking_uri, experiment_id
        self._client = connect(tracking_uri)

    def start(self, name: str, parent: str | None, tags: Mapping[str, str]) -> str:
        above = {} if parent is None else {"mlflow.parentRunId": parent}
        created = self._client.create_run(self._experiment_id, tags={**tags, **above}, run_name=name)
        return str(created.info.run_id)

    def values(self, run_id: str, params: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        self._client.log_batch(
            run_id,
            params=[Param(key, str(value)[:LONGEST_TAG]) for key, value in params.items()],
            metrics=[Metric(key, value, now, 0) for key, value in metrics.items()],
            tags=[RunTag("musclelora", "compare")],
        )

    def end(self, run_id: str, status: str) -> None:
        with environment(MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true"):
            self._client.set_terminated(run_id, status)
