"""Every family of the table on a tiny random model: train, fold, save, reload in plain transformers."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification

from musclelora.adapters.families import FAMILIES, Family, family_of, scaled_layer_of
from musclelora.adapters.injection import adapter_tensors, fold, inject_lora, inject_radial_scaling
from musclelora.adapters.radial_scaling import RadialScalingLinear
from musclelora.errors import ModelError
from musclelora.training import fit
from musclelora.training.predict import logits_of
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import RecipeChoice
from tests.tiny import CONFIGS, DECODERS, ENCODERS, rows, tiny_backbone, trusted_rows

# A small branch: with the published one a tiny model's tanh is at its ends, and any change in it goes unseen.
RECIPE = resolve_recipe(
    RecipeChoice(
        name="musclelora",
        radial_scaling={"scales": (1, 4), "alpha": 0.25},
        alignment={"min_ref_loss": 0},
        learning_rate=5e-3,
        epochs=1,
        batch_size=16,
        precision="fp32",
    ),
    "bert-base",
)


def untrained(family):
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(AutoConfig.for_model(family, **CONFIGS[family])).eval()


def train(folder, family, monkeypatch):
    """A model trained for two steps, its backbone, and the adapters as they were before the first."""
    start, prepare = {}, fit.prepare

    def spy(model, recipe):
        prepare(model, recipe)
        start.update({name: tensor.clone() for name, tensor in adapter_tensors(model).items()})

    monkeypatch.setattr(fit, "prepare", spy)
    backbone = tiny_backbone(folder / "base", family)
    settings = {"recipe": RECIPE, "backbone": backbone, "max_length": 32, "seed": 7, "folder": folder / "out"}
    return fit.train(rows(32), trusted_rows(), None, **settings), backbone, start


def test_there_is_a_tiny_model_of_every_family():
    assert set(CONFIGS) == set(FAMILIES)
    assert {family for family in FAMILIES if FAMILIES[family].is_decoder} == set(DECODERS)


@pytest.mark.parametrize("family", CONFIGS)
def test_two_steps_move_every_adapter_and_nothing_else(tmp_path, monkeypatch, family):
    model, backbone, start = train(tmp_path, family, monkeypatch)
    assert (model.record.curve[0].aligned, model.record.logit_difference < 1e-4) == (1, True)

    trained = load_file(model.folder / "adapters/adapters.safetensors")
    unmoved = {name for name in trained if torch.equal(trained[name], start[name])}
    assert unmoved == {f"{FAMILIES[family].scaled_layer}.scale"}
    assert sum("lora_B" in name for name in trained) == 2 * len(FAMILIES[family].lora_targets)  # in two layers

    before, after = (load_file(f"{folder}/model.safetensors") for folder in (backbone.location, model.model_folder))
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    last = "score" if family in DECODERS else FAMILIES[family].scaled_layer
    assert {name for name in changed if name.rpartition(".")[0].rpartition(".")[2] in FAMILIES[family].lora_targets}
    folded = {last, *FAMILIES[family].lora_targets}
    assert all(name.endswith(tuple(f"{layer}.weight" for layer in folded)) for name in changed)
    assert set(after) == set(before)


@pytest.mark.parametrize("family", CONFIGS)
def test_folded_model_is_plain_and_computes_the_same(family):
    model = untrained(family)
    plain_names = set(model.state_dict())
    fit.prepare(model, RECIPE)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.1)
    inputs = torch.tensor([[2, 5, 9, 14, 7]])
    with torch.no_grad():
        before = model(inputs).logits
        fold(model)
        torch.testing.assert_close(model(inputs).logits, before, atol=1e-5, rtol=1e-5)
    assert set(model.state_dict()) == plain_names
    assert not adapter_tensors(model)
    assert not hasattr(model, "peft_config")


@pytest.mark.parametrize("family", CONFIGS)
def test_the_scaling_branch_reaches_the_logits(family):
    model, inputs = untrained(family), torch.tensor([[2, 5, 9, 14, 7]])
    inject_radial_scaling(model, (1, 4), 1, 0.25)
    [branch] = [module for module in model.modules() if isinstance(module, RadialScalingLinear)]
    with torch.no_grad():
        logits = model(inputs).logits
        branch.scale.zero_()
        assert (model(inputs).logits - logits).abs().max() > 1e-4


@pytest.mark.parametrize("family", CONFIGS)
def test_only_adapters_train(family):
    model = untrained(family)
    fit.prepare(model, RECIPE)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in name or name.endswith((".left", ".right")) for name in trained)
    assert sum(name.endswith(".left") for name in trained) == sum(name.endswith(".right") for name in trained) == 1


def test_an_encoder_and_a_decoder_load_with_nothing_of_ours(tmp_path, monkeypatch):
    texts, expected, folders = rows(8).texts, [], []
    for family in ("modernbert", "gpt2"):
        model = train(tmp_path / family, family, monkeypatch)[0]
        expected.append(logits_of(*model.load(), texts, 32).tolist())
        folders.append(str(model.model_folder))
    script = (
        "import json, sys, torch\n"
        "from transformers import AutoModelForSequenceClassification as M, AutoTokenizer as T\n"
        "def logits(folder):\n"
        "    model, tokenizer = M.from_pretrained(folder).eval(), T.from_pretrained(folder)\n"
        "    return model(**tokenizer(json.loads(sys.argv[1]), padding=True, return_tensors='pt')).logits.tolist()\n"
        "print(json.dumps([logits(folder) for folder in sys.argv[2:]]))\n"
        "assert not [name for name in sys.modules if name.startswith(('musclelora', 'peft'))]\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, json.dumps(texts), *folders],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), torch.tensor(expected), atol=1e-4, rtol=0)


def test_the_folded_head_of_a_decoder_is_the_product_of_its_two_layers():
    model = untrained("llama")
    inject_radial_scaling(model, (1.0,), 1, 2.0)
    head, eye = model.score, torch.eye(32)
    with torch.no_grad():
        head.inner.base.weight.copy_(3 * eye)
        head.inner.left.copy_(eye[:1])
        head.inner.right.copy_(eye[:, 1:2])
        head.outer.weight.copy_(torch.stack([eye[0], eye[1]]))
    fold(model)
    expected = torch.stack([3 * eye[0], 3 * eye[1] + 2 * eye[0]])  # W_out (3 I + 2 e1 e0')
    torch.testing.assert_close(model.score.weight.detach(), expected)
    assert model.score.bias is None


def test_a_family_that_is_not_in_the_table_is_refused_by_name():
    config = AutoConfig.for_model("albert", vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    model = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(ModelError, match=r"'albert'.*bert, deberta-v2, .*roberta\..*docs/backbones\.md") as raised:
        family_of(model)
    for family in FAMILIES:
        assert family in str(raised.value)


def test_a_family_is_added_by_one_line(monkeypatch):
    """What docs/backbones.md says under 'Adding a family', with a family that is not in the table."""
    monkeypatch.setitem(FAMILIES, "xlm-roberta", Family("classifier.dense", ("query", "value")))
    config = AutoConfig.for_model("xlm-roberta", **CONFIGS["roberta"])
    model = AutoModelForSequenceClassification.from_config(config).eval()
    fit.prepare(model, RECIPE)
    assert isinstance(model.classifier.dense, RadialScalingLinear)
    inputs = torch.tensor([[2, 5, 9, 14, 7]])
    with torch.no_grad():
        before = model(inputs).logits
        fold(model)
        torch.testing.assert_close(model(inputs).logits, before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["mpnet", "distilbert"])
def test_a_model_without_its_familys_head_is_refused(family):
    model = AutoModelForTokenClassification.from_config(AutoConfig.for_model(family, **CONFIGS[family]))
    with pytest.raises(ModelError, match=r"TokenClassification has no layer.*AutoModelForSequenceClassification"):
        inject_radial_scaling(model, (1.0,), 1, 1.0)


@pytest.mark.parametrize("head", [nn.Linear(32, 2), nn.Identity()])
def test_a_decoder_whose_output_layer_could_not_hold_the_fold_is_refused(head):
    model = untrained("gpt2")
    model.score = head
    with pytest.raises(ModelError, match="linear layer without bias"):
        inject_radial_scaling(model, (1.0,), 1, 1.0)


def test_a_scaled_layer_that_is_not_linear_is_refused(monkeypatch):
    monkeypatch.setitem(FAMILIES, "bert", Family("bert.pooler.activation", ("query", "value")))
    with pytest.raises(ModelError, match=r"is a Tanh, not a torch\.nn\.Linear"):
        scaled_layer_of(untrained("bert"))


def test_a_family_with_wrong_projections_is_refused(monkeypatch):
    monkeypatch.setitem(FAMILIES, "bert", Family("bert.pooler.dense", ("q_proj", "v_proj")))
    with pytest.raises(ModelError, match="no layer named q_proj or v_proj"):
        inject_lora(untrained("bert"), 2, 4, 0.0)


def test_encoders_keep_their_output_layer():
    for family in ENCODERS:
        model = untrained(family)
        names = {name for name, _ in model.named_modules()}
        fit.prepare(model, RECIPE)
        assert names <= {name.replace(".base_layer", "").replace(".base", "") for name, _ in model.named_modules()}
