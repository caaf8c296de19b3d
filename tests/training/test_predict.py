import pytest
import torch
from torch import nn

from musclelora.training.predict import on_accelerator


@pytest.mark.parametrize("has_driver", [False, True])
def test_a_build_for_a_gpu_computes_on_the_processor_where_there_is_none(has_driver, monkeypatch):
    def current(check_available=False):  # torch 2.13 built for CUDA names it unless told to look
        return torch.device("meta") if has_driver or not check_available else None

    monkeypatch.setattr(torch.accelerator, "current_accelerator", current)
    assert on_accelerator(nn.Linear(2, 2)).weight.device.type == ("meta" if has_driver else "cpu")
