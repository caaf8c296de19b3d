import numpy as np
import pytest
from scipy.stats import beta

from musclelora.data.records import TextDataset, TrustedSet
from musclelora.errors import DataError
from musclelora.training import contrastive
from musclelora.training.contrastive import ContrastiveModel
from musclelora.training.recipes import Contrastive
from musclelora.validation import trusted_model
from musclelora.validation.config import GroupScanConfig
from musclelora.validation.group_scan import GroupScan
from musclelora.validation.report import TrustedModelRecord
from musclelora.validation.token_scan import EXTREME
from musclelora.validation.trusted_model import TokenScan, TrustedModel, calibrate
from tests.tiny import distinct, rows, tiny_backbone, trusted_rows

TUNED = Contrastive(steps=60, learning_rate=5e-3)
FROZEN = Contrastive(steps=0)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return tiny_backbone(tmp_path_factory.mktemp("base"))


@pytest.fixture
def read(monkeypatch):
    """The texts of each pass of a trusted model."""
    passes = []
    probabilities = ContrastiveModel.probabilities
    monkeypatch.setattr(
        ContrastiveModel,
        "probabilities",
        lambda model, texts: passes.append(list(texts)) or probabilities(model, texts),
    )
    return passes


def test_a_tuned_encoder_is_measured_on_held_out_rows_with_an_exact_bound(backbone):
    model = TrustedModel(backbone, trusted_rows(32), 32, contrastive=TUNED, seed=3)
    record = model.record(rows(41))
    assert record.accuracy == model.accuracy(rows(41)) > 0.9
    hits = round(record.accuracy * 41)
    assert record.lower95 == pytest.approx(beta.ppf(0.05, hits, 41 - hits + 1))
    assert (record.n, record.chance, record.measured_on) == (41, 21 / 41, "held-out rows")
    assert not record.is_weak


def test_without_held_out_rows_each_trusted_row_is_left_out_once(backbone, monkeypatch):
    trained_on = []

    def remember(trusted, **options):
        trained_on.append(set(trusted.data.row_ids))
        return contrastive.train_contrastive(trusted, **options)

    trusted = trusted_rows(18)
    model = TrustedModel(backbone, trusted, 32, contrastive=FROZEN, seed=5)
    monkeypatch.setattr("musclelora.validation.trusted_model.train_contrastive", remember)
    record = model.record()
    assert (record.n, record.trusted_rows, record.contrastive_steps) == (18, 18, 0)
    assert record.measured_on == "trusted rows, cross-validated"
    left_out = [row_id for fold in trained_on for row_id in set(trusted.data.row_ids) - fold]
    assert sorted(left_out) == sorted(trusted.data.row_ids)


def test_a_label_with_one_row_cannot_be_cross_validated(backbone):
    few = rows(12).where([i in (0, 1, 2, 4, 6, 8, 10) for i in range(12)])
    model = TrustedModel(backbone, TrustedSet(few, "the tests"), 32, contrastive=FROZEN)
    with pytest.raises(DataError, match="only one row with label '1'"):
        model.record()


def test_the_same_arguments_train_once_and_a_recipe_gets_the_same_model(backbone, monkeypatch):
    first = TrustedModel(backbone, trusted_rows(), 32, contrastive=Contrastive(steps=1), seed=8)
    states = first.states(rows(4).texts)
    monkeypatch.setattr(contrastive, "train_contrastive", lambda *_, **__: pytest.fail("trained again"))
    again = TrustedModel(backbone, trusted_rows(), 32, contrastive=Contrastive(steps=1), seed=8)
    np.testing.assert_array_equal(again.states(rows(4).texts), states)
    with pytest.raises(pytest.fail.Exception):
        TrustedModel(backbone, trusted_rows(), 32, contrastive=Contrastive(steps=1), seed=9).states(["a"])


def test_frozen_means_that_the_encoder_is_as_delivered(backbone):
    texts = rows(5).texts
    one = TrustedModel(backbone, trusted_rows(8), 32, contrastive=FROZEN, seed=1).states(texts)
    other = TrustedModel(backbone, trusted_rows(16), 32, contrastive=FROZEN, seed=2).states(texts)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("right", "weak"), [(60, True), (70, True), (80, False), (95, False)])
def test_weak_is_surely_less_than_a_third_of_the_way_from_guessing(right, weak):
    bound = beta.ppf(0.05, right, 100 - right + 1)  # of 80: 72 %, of 70: 61 %
    record = TrustedModelRecord(
        encoder="x",
        encoder_sha256="",
        contrastive_steps=0,
        trusted_rows=96,
        accuracy=right / 100,
        lower95=bound,
        n=100,
        chance=0.5,
        measured_on="held-out rows",
    )
    assert record.is_weak is weak


def test_calibration_follows_the_given_labels_and_knows_no_certainty():
    p = np.repeat([0.1, 0.4, 0.9], 100)
    given = np.concatenate([np.arange(100) < 20, np.arange(100) < 70, np.arange(100) < 100]).astype(int)
    expected = calibrate(np.stack([1 - p, p], axis=1), given)
    np.testing.assert_allclose(expected[[0, 100, 200], 1], [0.2, 0.7, 1 - EXTREME])
    np.testing.assert_allclose(expected[[0, 100, 200], 0], [0.8, 0.3, EXTREME])


def test_a_scan_measures_its_model_on_the_held_out_rows(backbone):
    record = TokenScan(backbone, trusted_rows(), 32, FROZEN, held_out=rows(20)).record()
    assert (record.n, record.measured_on) == (20, "held-out rows")


def test_both_scans_read_the_rows_once_and_other_rows_anew(backbone, read):
    data = rows(400)
    tokens = TokenScan(backbone, trusted_rows(), 32, FROZEN, seed=8)
    tokens(data)
    said = tokens.probabilities(data)
    GroupScan(backbone, trusted_rows(), 32, FROZEN, GroupScanConfig(enabled=True, redraws=10, max_groups=1), 8)(data)
    lengths = [len(texts) for texts in read]
    assert lengths[0] == 400
    assert 400 not in lengths[1:]  # besides, only the texts in which a suspect feature is tried out
    np.testing.assert_array_equal(
        said, TrustedModel(backbone, trusted_rows(), 32, contrastive=FROZEN, seed=8).kept(data)
    )
    assert TrustedModel(backbone, trusted_rows(), 32, contrastive=FROZEN, seed=9).kept(data) is None
    assert tokens.model.kept(rows(399)) is None


def test_the_last_token_scan_is_kept_and_other_rows_settings_or_sources_are_scanned_anew(backbone, monkeypatch):
    scanned = []
    monkeypatch.setattr(trusted_model, "scan_tokens", lambda texts, *_, **__: scanned.append(len(texts)) or [])

    def scan(data, seed=8, **options):
        return TokenScan(backbone, trusted_rows(), 32, FROZEN, seed=seed)(data, **options)

    found = scan(rows(40))
    found.append("what a caller adds")
    assert scan(rows(40)) == []
    assert scanned == [40]
    scan(rows(40), without=np.arange(40) < 10)
    scan(rows(40))
    scan(rows(60))
    scan(rows(60), seed=9)
    assert scanned == [40, 30, 60, 60]


def test_of_many_rows_a_sample_is_read_and_its_words_say_the_rest(backbone, read):
    data = distinct(400)

    def model(sample_rows):
        return TrustedModel(backbone, trusted_rows(), 32, contrastive=TUNED, seed=3, sample_rows=sample_rows)

    said = model(200).said_of(data)
    assert (len(read), len(set(read[0]))) == (1, 200)
    assert set(read[0]) < set(data.texts)
    np.testing.assert_allclose(said.sum(1), 1)
    in_full = model(None).said_of(data)
    was_read = np.isin(data.texts, read[0])
    np.testing.assert_allclose(said[was_read], in_full[was_read], atol=1e-4)  # of other batches
    assert (said.argmax(1) == in_full.argmax(1)).mean() > 0.95
    assert model(200).kept(data) is None  # the last model was another
    np.testing.assert_array_equal(model(400).said_of(data), in_full)  # no more than are read


def test_of_changed_rows_only_new_texts_are_read_and_the_rows_before_stay_kept(backbone, read):
    model = TrustedModel(backbone, trusted_rows(), 32, contrastive=FROZEN, seed=8)
    before = distinct(60)
    said = model.said_of(before)
    columns = {name: before.column(name) for name in ("row_id", "text", "label")}
    columns["text"] = ["the good film", "the good film", *before.texts[2:]]
    changed = TextDataset.from_columns(columns)
    of_changed = model.said_of(changed, before=before)
    np.testing.assert_array_equal(of_changed[2:], said[2:])
    np.testing.assert_array_equal(of_changed[:2], model.probabilities(["the good film"]).repeat(2, axis=0))
    np.testing.assert_array_equal(model.kept(before), said)
    model.said_of(changed, before=rows(10))  # not the rows before: all are read
    assert [len(texts) for texts in read] == [60, 1, 1, 60]
