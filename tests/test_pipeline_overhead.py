"""What benchmarks.pipeline_overhead makes of its measurements."""

from pathlib import Path

import numpy as np

from benchmarks import pipeline_overhead


def test_the_import_of_zenml_is_overhead_and_what_the_functions_take_is_not_outside(monkeypatch):
    measured = {
        "plain": (np.array([12.0, 10.0]), {"import_zenml": np.array([2.0, 2.0]), "train": np.array([6.0, 5.0])}),
        "pipeline": (np.array([20.0, 15.0]), {"import_zenml": np.array([2.0, 2.0]), "train": np.array([7.0, 5.0])}),
    }
    monkeypatch.setattr(pipeline_overhead, "child", lambda kind, *_: measured[kind])
    found = pipeline_overhead.said(pipeline_overhead.turn("", Path("config.yaml"), []))
    assert found == {
        "plain": {"wall": 10, "processor": 8},
        "pipeline": {"wall": 20, "processor": 15},
        "overhead": {"wall": 10, "processor": 7},
        "outside": {"wall": 9, "processor": 7},
    }
