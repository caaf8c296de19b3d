import evaluate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musclelora.errors import DataError
from musclelora.evaluation.intervals import rate
from musclelora.evaluation.metrics import ASR, CACC


@pytest.mark.parametrize(
    ("successes", "n", "lower", "upper"),
    [
        (0, 20, 0.0, 1 - 0.05 ** (1 / 20)),  # no success: the bound solves (1 - p)^n = 0.05
        (20, 20, 0.05 ** (1 / 20), 1.0),
        (50, 100, 0.4136, 0.5864),  # Clopper-Pearson, one-sided 95 %, from tables
        (1, 1, 0.05, 1.0),
    ],
)
def test_bounds_have_their_known_values(successes, n, lower, upper):
    got = rate(successes, n)
    assert got.value == successes / n
    assert (got.lower95, got.upper95) == pytest.approx((lower, upper), abs=5e-5)


@given(n=st.integers(1, 500), data=st.data())
def test_bounds_enclose_the_share_and_mirror_each_other(n, data):
    successes = data.draw(st.integers(0, n))
    got, mirrored = rate(successes, n), rate(n - successes, n)
    assert 0 <= got.lower95 <= got.value <= got.upper95 <= 1
    assert got.upper95 == pytest.approx(1 - mirrored.lower95, abs=1e-9)


def test_a_share_of_nothing_is_undefined():
    with pytest.raises(ValueError, match="no rows"):
        rate(0, 0)


def test_cacc_counts_correct_rows():
    computed = CACC().compute(predictions=[0, 1, 1, 0], references=[0, 1, 0, 0])["cacc"]
    assert (computed["value"], computed["n"]) == (0.75, 4)


def test_asr_counts_rows_called_the_target():
    computed = ASR(target=2).compute(predictions=[2, 0, 2, 1, 2], references=[0, 0, 1, 1, 1])["asr"]
    assert (computed["value"], computed["n"]) == (0.6, 5)


def test_asr_refuses_rows_of_the_target_class():
    with pytest.raises(DataError, match="target class"):
        ASR(target=1).compute(predictions=[1, 1], references=[0, 1])


@pytest.mark.parametrize("metric", [CACC(), ASR(target=1)])
def test_no_rows_are_refused(metric):
    with pytest.raises((DataError, ValueError)):
        metric.compute(predictions=[], references=[])


def test_they_are_metrics_of_evaluate_and_combine():
    assert isinstance(CACC(), evaluate.Metric)
    metric = CACC()
    metric.add_batch(predictions=[0, 1], references=[0, 0])
    metric.add(prediction=1, reference=1)
    assert metric.compute()["cacc"]["value"] == pytest.approx(2 / 3)
