import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from musclelora.validation.word_model import word_model


def test_the_mean_over_the_rows_with_a_word_is_what_was_said_of_them():
    draw = np.random.default_rng(0)
    words = [f"word{i}" for i in range(12)]
    texts = [" ".join(draw.choice(words, 8)) for _ in range(2000)]
    logits = np.array([sum({"word0": 2.0, "word1": -2.0}.get(word, 0.0) for word in text.split()) for text in texts])
    p = 1 / (1 + np.exp(-logits - draw.normal(0, 1, len(texts))))  # and something that no word tells
    said = np.stack([1 - p, p], 1)
    of = word_model(texts[:1000], said[:1000])(texts[1000:])
    for word in words:
        has = np.array([word in text.split() for text in texts[1000:]])
        assert abs(of[has, 1].mean() - p[1000:][has].mean()) < 0.06
    assert np.corrcoef(of[:, 1], p[1000:])[0, 1] > 0.6


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5), st.integers(2, 4))
def test_any_text_gets_probabilities(texts, classes):
    said = np.random.default_rng(0).dirichlet(np.ones(classes), size=3)
    of = word_model(["a b", "", "b c"], said)(texts)
    assert of.shape == (len(texts), classes)
    np.testing.assert_allclose(of.sum(1), 1)
    assert (of > 0).all()
