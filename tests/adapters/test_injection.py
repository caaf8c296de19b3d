import pytest
import torch

from musclelora.adapters.injection import (
    adapter_tensors,
    fold,
    freeze,
    inject_lora,
    inject_radial_scaling,
    save_adapters,
)
from musclelora.errors import ModelError
from musclelora.training.backbone import load_backbone
from tests.tiny import tiny_backbone

QUERY = "bert.encoder.layer.0.attention.self.query"


def model_of(folder):
    return load_backbone(tiny_backbone(folder), ["0", "1"], 32)[0]


def test_adapter_evidence_names_every_adapter(tmp_path):
    model = model_of(tmp_path)
    freeze(model)
    inject_lora(model, 2, 8, 0.0)
    inject_radial_scaling(model, [1, 4], 1, 6.0)
    names = set(adapter_tensors(model))
    assert {f"bert.pooler.dense.{part}" for part in ("left", "right", "scale")} <= names
    assert sum("lora_A" in name for name in names) == 4  # query and value in two layers


def test_a_training_that_diverged_is_refused(tmp_path):
    model = model_of(tmp_path)
    inject_lora(model, 2, 8, 0.0)
    torch.nn.init.constant_(model.get_parameter(f"{QUERY}.lora_B.default.weight"), float("nan"))
    with pytest.raises(ModelError, match="diverged"):
        fold(model)


def test_without_adapters_there_is_no_evidence_to_save(tmp_path):
    save_adapters(model_of(tmp_path / "base"), tmp_path / "adapters")
    assert not (tmp_path / "adapters").exists()
