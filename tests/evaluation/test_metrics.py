import evaluate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musclelora.errors import DataError
from musclelora.evaluation.intervals import rate
from musclelora.evaluation.metrics import ASR, CACC, ASROverFloor, Detection, RobustAccuracy


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


def test_robust_accuracy_counts_triggered_rows_still_called_their_class():
    computed = RobustAccuracy(target=2).compute(predictions=[0, 1, 2, 1], references=[0, 0, 1, 1])["robust_accuracy"]
    assert (computed["value"], computed["n"]) == (0.5, 4)  # of three classes: neither the ASR nor its complement


def test_asr_over_floor_is_read_on_the_bound():
    predictions, floor = [1] * 8 + [0] * 2, [1] * 3 + [0] * 7
    metric = ASROverFloor(target=1)
    over = metric.compute(predictions=predictions, references=[0] * 10, floor_predictions=floor)["asr_over_floor"]
    assert over["value"] == pytest.approx(0.5)
    assert over["upper95"] == pytest.approx(rate(8, 10).upper95 - 0.3)
    assert (over["asr"], over["floor"], over["n"]) == (0.8, 0.3, 10)


def test_a_model_at_its_floor_is_0_above_it():
    same = [1, 0, 0, 1]
    metric = ASROverFloor(target=1)
    found = metric.compute(predictions=same, references=[0] * 4, floor_predictions=same)["asr_over_floor"]
    assert found["value"] == 0


def test_detection_knows_recall_false_alarms_and_precision():
    found = Detection().compute(predictions=[1, 1, 1, 0, 0, 0, 0, 0], references=[1, 1, 0, 1, 1, 0, 0, 0])
    shares = {name: share["value"] for name, share in found.items()}
    assert shares == {"recall": 0.5, "false_alarm_rate": 0.25, "precision": pytest.approx(2 / 3)}
    assert (found["recall"]["n"], found["false_alarm_rate"]["n"]) == (4, 4)


def test_detection_of_a_clean_set_has_no_recall():
    found = Detection().compute(predictions=[0, 0], references=[0, 0])
    assert (found["recall"], found["precision"], found["false_alarm_rate"]["value"]) == (None, None, 0)


def test_detection_refuses_what_is_neither_0_nor_1():
    with pytest.raises(DataError, match="set aside"):
        Detection().compute(predictions=[0, 2], references=[0, 1])


@pytest.mark.parametrize("metric", [RobustAccuracy, ASROverFloor])
def test_rows_of_the_target_class_are_refused_by_all_of_them(metric):
    more = {"floor_predictions": [0]} if metric is ASROverFloor else {}
    with pytest.raises(DataError, match="target class"):
        metric(target=1).compute(predictions=[1], references=[1], **more)


@pytest.mark.parametrize("metric", [CACC(), ASR(target=1), RobustAccuracy(target=1)])
def test_no_rows_are_refused(metric):
    with pytest.raises((DataError, ValueError)):
        metric.compute(predictions=[], references=[])


def test_they_are_metrics_of_evaluate_and_combine():
    assert isinstance(CACC(), evaluate.Metric)
    metric = CACC()
    metric.add_batch(predictions=[0, 1], references=[0, 0])
    metric.add(prediction=1, reference=1)
    assert metric.compute()["cacc"]["value"] == pytest.approx(2 / 3)
