"""What the texts say about the given label beyond what the trusted model expects: a logistic regression with an offset.

P(label | text) = sigmoid(logit p + w.x + b), p from the trusted model, fixed. Cross-fitted, so that a row's own label
has no part in what is said of it; w.x + b is the row's residual. A trigger, of words, style or syntax, is in x and not
in p; so is what the trusted model does not know of the task.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix, hstack
from scipy.special import expit
from sklearn.feature_extraction.text import TfidfVectorizer

from musclelora.seeding import generator

FORMS = ("{!r}", "pattern {!r}", "{}")  # of the features' names: words, skeleton, shape
RUNS = ((1, 2), (1, 4), (1, 1))
FRAME_WORDS = 150  # the commonest words, which stay in a skeleton: mostly function words and punctuation
MIN_ROWS = 5  # rows that a feature must be in
PENALTY = 2.0  # L2 of the residual
FOLDS = 5
# Residuals within 0.002 of the optimum's (root mean square, SST-2), in half the time of SciPy's own settings.
OPTIMIZER = {"maxiter": 200, "maxcor": 20, "ftol": 1e-7}


@dataclass(frozen=True, eq=False)
class TextFeatures:
    """TF-IDF, shape [rows, features]; what each feature is, in words; and of which kind: words, skeleton, shape."""

    x: csr_matrix
    names: np.ndarray
    kinds: np.ndarray
    of: Callable[[Sequence[str]], csr_matrix]
    """The same features of other texts."""


def text_features(texts: Sequence[str]) -> TextFeatures:
    """In lower case: runs of one to two words, runs of one to four words of the skeleton, and the shape.

    The skeleton is the text with every word but the commonest masked, `*` or, where it is rare, `?`: syntax and style
    without the subject. `^` and `$` are its ends. The shape is its length, its commas, and how it ends.
    """
    views = _Views(texts)
    columns, names, kind_of, vectorizers = [], [], [], []
    for kind, (form, runs, tokens) in enumerate(zip(FORMS, RUNS, views(texts), strict=True)):
        vectorizer = TfidfVectorizer(analyzer=_Runs(*runs), min_df=min(MIN_ROWS, len(texts)), sublinear_tf=True)
        columns.append(vectorizer.fit_transform(tokens))
        names += [form.format(name) for name in vectorizer.get_feature_names_out()]
        kind_of += [kind] * columns[-1].shape[1]
        vectorizers.append(vectorizer)

    def of(others: Sequence[str]) -> csr_matrix:
        return _side_by_side([v.transform(tokens) for v, tokens in zip(vectorizers, views(others), strict=True)])

    return TextFeatures(_side_by_side(columns), np.array(names, dtype=object), np.array(kind_of), of)


def _side_by_side(columns: list[csr_matrix]) -> csr_matrix:
    x = csr_matrix(hstack(columns), dtype=np.float64)
    x.sort_indices()
    return x


class _Views:
    """Texts as lists of tokens, in three views: words, skeleton, shape. `texts` say which words are common and rare."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = Counter(word for text in texts for word in text.lower().split())
        frame = {word for word, _ in counts.most_common(FRAME_WORDS)}
        self._masked = {word: word if word in frame else "*" for word, count in counts.items() if count > MIN_ROWS}
        self._masked |= {word: word for word in frame}

    def __call__(self, texts: Sequence[str]) -> tuple[list[list[str]], list[list[str]], list[list[str]]]:
        words = [text.lower().split() for text in texts]
        skeletons = [["^", *(self._masked.get(word, "?") for word in row), "$"] for row in words]
        return [["^", *row] for row in words], skeletons, [_shape(row) for row in words]


@dataclass(frozen=True)
class _Runs:
    """All runs of `shortest` to `longest` tokens, joined by spaces."""

    shortest: int
    longest: int

    def __call__(self, tokens: list[str]) -> list[str]:
        lengths = range(self.shortest, self.longest + 1)
        return [" ".join(tokens[i : i + n]) for n in lengths for i in range(len(tokens) - n + 1)]


def _shape(words: list[str]) -> list[str]:
    if not words:
        return []
    commas = [i for i, word in enumerate(words) if word == ","]
    shape = [f"{_bucket(len(words), 5, 40)} words", f"{_bucket(len(commas), 1, 4)} commas", f"ends in {words[-1]}"]
    if commas:
        shape.append(f"first comma after {_bucket(commas[0], 3, 24)} words")
        shape.append(f"first comma in quarter {commas[0] * 4 // len(words) + 1}")
    if len(commas) == 1:
        shape.append(f"its only comma in quarter {commas[0] * 4 // len(words) + 1}")
    return shape


def _bucket(count: int, width: int, most: int) -> str:
    low = min(count, most) // width * width
    if low == most:
        return f"{low} or more"
    return str(low) if width == 1 else f"{low} to {low + width - 1}"


def folds_of(rows: int, seed: int) -> np.ndarray:
    """A fold number per row, shape [rows]."""
    return generator(seed, "text residual/folds").permutation(rows) % FOLDS


@dataclass(frozen=True, eq=False)
class Residual:
    """Out-of-fold w.x + b, shape [rows], and the weights that each fold was judged with, [folds, features + 1]."""

    values: np.ndarray
    weights: np.ndarray


def cross_fitted(
    x: csr_matrix,
    y: np.ndarray,
    offset: np.ndarray,
    folds: np.ndarray,
    *,
    without: np.ndarray | None = None,
    start: np.ndarray | None = None,
    penalty: float = PENALTY,
) -> Residual:
    """The residual of rows with `y` 0 or 1 and `offset`, a logit; all of shape [rows].

    Rows `without` are judged, and never learned from. `start`: weights of a former fit, from which this one is near.
    `penalty`: L2.
    """
    values, weights = np.empty(len(y)), np.zeros((FOLDS, x.shape[1] + 1))
    for fold in range(FOLDS):
        learned = (folds != fold) if without is None else (folds != fold) & ~without
        begin = weights[fold] if start is None else start[fold]
        weights[fold] = _fit(x[learned], y[learned].astype(np.float64), offset[learned], begin, penalty)
        values[folds == fold] = x[folds == fold] @ weights[fold, :-1] + weights[fold, -1]
    return Residual(values, weights)


def contributions(x: csr_matrix, weights: np.ndarray, folds: np.ndarray) -> csr_matrix:
    """x_ij w_j with the weights of the row's fold: how each feature moved the row's residual, [rows, features]."""
    moved = x.copy()
    of_row = np.repeat(folds, np.diff(x.indptr))
    moved.data *= weights[of_row, moved.indices]
    return moved


def _fit(x: csr_matrix, y: np.ndarray, offset: np.ndarray, begin: np.ndarray, penalty: float) -> np.ndarray:
    transposed = x.T.tocsr()

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        logit = x @ theta[:-1] + theta[-1] + offset
        error = expit(logit) - y
        value = np.logaddexp(0, logit).sum() - y @ logit + penalty / 2 * theta[:-1] @ theta[:-1]
        return value, np.append(transposed @ error + penalty * theta[:-1], error.sum())

    return np.asarray(minimize(loss, begin, jac=True, method="L-BFGS-B", options=OPTIMIZER).x)
