import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.special import expit, logit

from musclelora.validation.text_residual import FOLDS, contributions, cross_fitted, folds_of, text_features


def test_what_the_offset_explains_leaves_no_residual():
    draw = np.random.default_rng(0)
    offset = draw.normal(0, 1.5, 4000)
    y = draw.random(4000) < expit(offset)
    x = csr_matrix(draw.integers(0, 2, (4000, 5)).astype(float))
    residual = cross_fitted(x, y, offset, folds_of(4000, 0))
    assert np.abs(residual.values).max() < 0.35


def test_a_feature_beyond_the_offset_gets_its_log_odds():
    draw = np.random.default_rng(0)
    carries = draw.random(20000) < 0.5
    offset = draw.normal(0, 1, 20000)
    y = draw.random(20000) < expit(offset + logit(0.8) * carries)
    residual = cross_fitted(csr_matrix(carries[:, None].astype(float)), y, offset, folds_of(20000, 0))
    assert residual.values[carries].mean() == pytest.approx(logit(0.8), abs=0.1)
    assert residual.values[~carries].mean() == pytest.approx(0, abs=0.1)


def test_rows_left_out_are_judged_and_not_learned_from():
    x = csr_matrix(np.eye(2)[np.tile([0, 1], 100)])
    y = np.tile([True, False], 100)
    without = cross_fitted(x, y, np.zeros(200), folds_of(200, 0), without=y)
    assert np.isfinite(without.values).all()
    assert without.values[y].max() < 0  # all that was learned is the other label


def test_contributions_add_up_to_the_residual_less_the_intercept():
    draw = np.random.default_rng(0)
    x = csr_matrix(draw.random((100, 6)))
    y, folds = draw.random(100) < 0.5, folds_of(100, 1)
    residual = cross_fitted(x, y, np.zeros(100), folds)
    moved = contributions(x, residual.weights, folds)
    assert np.asarray(moved.sum(1)).ravel() + residual.weights[folds, -1] == pytest.approx(residual.values)


def test_features_are_named_in_words():
    names = set(text_features(["if the film is good , go", "the film is bad ."] * 5).names)
    assert {"'the film'", "pattern '^ if'", "1 commas", "first comma after 3 to 5 words", "ends in ."} <= names


def test_other_texts_have_the_features_of_the_same_ones():
    texts = ["if the film is good , go", "the film is bad .", "a zebra"] * 4
    features = text_features(texts)
    assert (features.of(texts) != features.x).nnz == 0
    unknown = features.of(["xylophone"])
    assert unknown.shape == (1, features.x.shape[1])
    found = {str(name) for name in features.names[unknown.indices]}
    assert found == {"'^'", "pattern '^'", "pattern '$'", "0 to 4 words", "0 commas"} & set(features.names)
    assert "0 commas" in found


def test_a_text_of_white_space_has_no_feature_but_its_ends():
    x = text_features([" ", " ", "a b", "a b"] * 3).x
    assert x.shape[0] == 12


def test_folds_are_even_and_depend_on_the_seed_alone():
    folds = folds_of(100, 7)
    assert np.bincount(folds).tolist() == [100 // FOLDS] * FOLDS
    assert (folds == folds_of(100, 7)).all()
    assert (folds != folds_of(100, 8)).any()
