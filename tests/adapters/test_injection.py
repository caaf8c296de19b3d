import pytest
import torch
from transformers import AutoModelForSequenceClassification, DistilBertConfig, DistilBertForSequenceClassification

from musclelora.adapters.families import family_of
from musclelora.adapters.injection import adapter_tensors, fold, freeze, inject_lora, inject_radial_scaling
from musclelora.errors import ModelError
from tests.tiny import tiny_backbone


def adapted(folder, family="bert"):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_backbone(folder, family).location).eval()
    freeze(model)
    inject_lora(model, 2, 8, 0.0)
    inject_radial_scaling(model, [1, 4], 1, 6.0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.1)
    return model


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_only_adapters_train(tmp_path, family):
    trained = {name for name, p in adapted(tmp_path, family).named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name or name.endswith((".left", ".right")) for name in trained)
    assert sum(".left" in name for name in trained) == 1


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_folded_model_is_plain_and_computes_the_same(tmp_path, family):
    model = adapted(tmp_path, family)
    plain_names = set(AutoModelForSequenceClassification.from_config(model.config).state_dict())
    inputs = {"input_ids": torch.tensor([[2, 5, 9, 14, 3], [2, 7, 11, 3, 0]]), "attention_mask": torch.ones(2, 5)}
    with torch.no_grad():
        before = model(**inputs).logits
        fold(model)
        torch.testing.assert_close(model(**inputs).logits, before, atol=1e-5, rtol=1e-5)
    assert set(model.state_dict()) == plain_names
    assert not adapter_tensors(model)


def test_adapter_evidence_names_every_adapter(tmp_path):
    names = set(adapter_tensors(adapted(tmp_path)))
    assert "bert.pooler.dense.left" in names
    assert sum("lora_A" in name for name in names) == 4  # query and value in two layers


def test_unknown_family_names_the_known_ones():
    config = DistilBertConfig(vocab_size=10, dim=8, n_layers=1, n_heads=2, hidden_dim=8)
    with pytest.raises(ModelError, match=r"distilbert.*bert, roberta.*families\.py"):
        family_of(DistilBertForSequenceClassification(config))
