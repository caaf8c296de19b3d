import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers.modeling_outputs import SequenceClassifierOutput

from musclelora.data.records import TrustedSet
from musclelora.errors import DataError, ModelError
from musclelora.training.backbone import Backbone
from musclelora.training.contrastive import loss_to_targets, train_contrastive
from musclelora.training.recipes import Contrastive
from tests.tiny import rows, tiny_backbone, trusted_rows

SETTINGS = Contrastive(steps=60, batch_size=16, learning_rate=5e-3)


def trained(tmp_path, settings=SETTINGS, trusted=None, family="bert", seed=3, **changes):
    backbone = changes.pop("backbone", None) or tiny_backbone(tmp_path / family, family)
    trusted = trusted or trusted_rows(32)
    return train_contrastive(trusted, settings=settings, backbone=backbone, max_length=32, seed=seed, **changes)


def cosine_gap(model, data):
    """Mean cosine of pairs of one label, less that of pairs of two."""
    states, labels = model.embeddings(data.texts), data.label_ids(model.label_names)
    cosines, same = states @ states.T, labels[:, None] == labels
    return cosines[same].mean() - cosines[~same].mean()


def test_rows_of_one_label_come_together_and_unseen_rows_are_classified(tmp_path):
    before, after = trained(tmp_path, Contrastive(steps=1, learning_rate=1e-9)), trained(tmp_path)
    assert cosine_gap(after, rows(40)) > cosine_gap(before, rows(40)) + 0.5
    assert after.accuracy(rows(40)) > 0.9


def test_embeddings_have_length_one_and_do_not_depend_on_the_other_rows(tmp_path):
    model, texts = trained(tmp_path), rows(9).texts
    together = model.embeddings(texts)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(together, np.concatenate([model.embeddings([text]) for text in texts]), atol=1e-5)


def test_probabilities_are_in_the_order_of_the_label_names(tmp_path):
    model = trained(tmp_path)
    probabilities = model.probabilities(rows(2, first=100).texts)  # labels 0, 1
    assert probabilities.shape == (2, 2)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert model.label_names == ("0", "1")
    assert probabilities[1, 1] > 0.5 > probabilities[0, 1]


def test_the_same_seed_gives_the_same_model_and_torchs_generator_is_left_alone(tmp_path):
    backbone, texts = tiny_backbone(tmp_path / "base"), rows(8).texts
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = trained(tmp_path, backbone=backbone).probabilities(texts)
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(trained(tmp_path, backbone=backbone).probabilities(texts), first)
    assert not np.array_equal(trained(tmp_path, backbone=backbone, seed=4).probabilities(texts), first)


@pytest.mark.parametrize("family", ["distilbert", "llama"])
def test_other_families_too_a_decoder_without_pad_token_among_them(tmp_path, family):
    assert trained(tmp_path, Contrastive(steps=2), family=family).probabilities(rows(3).texts).shape == (3, 2)


def test_one_label_is_refused(tmp_path):
    ones = rows(8).where([label == "1" for label in rows(8).labels])
    with pytest.raises(DataError, match="nothing to contrast"):
        trained(tmp_path, trusted=TrustedSet(ones, owner="the tests"))


def test_a_backbone_that_is_not_there_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="cannot be loaded as an encoder"):
        trained(tmp_path, backbone=Backbone(name="x", location=str(tmp_path / "empty"), sha256=""))


@pytest.mark.parametrize(
    ("targets", "entries"), [(torch.tensor([0, 1, 1]), 6), (torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]]), 12)]
)
def test_loss_to_targets_is_the_mean_over_the_rows_of_the_whole_step(targets, entries):
    logits = torch.tensor([[1.0, -1.0], [0.2, 0.3], [-2.0, 0.5]])
    outputs = SequenceClassifierOutput(logits=logits)
    assert loss_to_targets(outputs, targets) == pytest.approx(float(cross_entropy(logits, targets)))
    # Two batches of three rows are accumulated: each gives half of the mean over six rows.
    half = float(cross_entropy(logits, targets)) / 2
    assert loss_to_targets(outputs, targets, entries) == pytest.approx(half)
