"""The limit of honest excesses: known quantiles and errors, and how many draws it takes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musclelora.validation.honest_limit import FIRST_DRAWS, MOST_DRAWS, limits_of, quantiles_of_greatest

RATES = np.array([0.01, 0.1])
DRAWN = np.random.default_rng(0).gumbel(0.3, 0.05, 1000)


def limits(excess, values=DRAWN, draws=20):
    """What `limits_of` says, and how many draws it asked for."""
    asked = []

    def greatest_of(numbers):
        asked.extend(numbers)
        return [values[number] for number in numbers]

    return *limits_of(excess, greatest_of, draws, RATES), asked


def test_the_quantiles_are_those_of_a_gumbel_distribution_with_this_mean_and_spread():
    found, _ = quantiles_of_greatest(DRAWN, RATES)
    # location 0.3, scale 0.05: 0.3 - 0.05 * log(-log(1 - rate))
    assert found == pytest.approx([0.5300, 0.4125], abs=0.01)


def test_the_errors_are_what_the_quantiles_of_many_samples_differ_by():
    samples = np.random.default_rng(1).gumbel(0.3, 0.05, (4000, 50))
    found = np.array([quantiles_of_greatest(sample, RATES) for sample in samples])
    assert found[:, 1].mean(0) == pytest.approx(found[:, 0].std(0), rel=0.05)


def test_an_excess_far_from_both_limits_takes_the_draws_that_were_asked_for():
    median, found, asked = limits(1.0)
    assert asked == list(range(20))
    assert (median, found.tolist()) == (np.median(DRAWN[:20]), quantiles_of_greatest(DRAWN[:20], RATES)[0].tolist())


@pytest.mark.parametrize("which", [0, 1])
def test_an_excess_near_a_limit_takes_more_draws(which):
    near = float(quantiles_of_greatest(DRAWN[:100], RATES)[0][which])
    _, found, asked = limits(near)
    assert asked == list(range(20 * MOST_DRAWS))
    assert found.tolist() == quantiles_of_greatest(DRAWN[:100], RATES)[0].tolist()


def test_more_draws_end_once_the_excess_is_surely_on_one_side():
    errors = quantiles_of_greatest(DRAWN[:20], RATES)[1]
    _, _, asked = limits(float(quantiles_of_greatest(DRAWN[:20], RATES)[0][0] + 1.9 * errors[0]))
    assert 20 < len(asked) < 20 * MOST_DRAWS


def test_what_half_of_the_first_draws_reach_takes_no_more_and_is_under_the_limit():
    median, found, asked = limits(float(np.median(DRAWN[:FIRST_DRAWS])))
    assert (asked, median) == (list(range(FIRST_DRAWS)), np.median(DRAWN[:FIRST_DRAWS]))
    assert found.tolist() == [np.inf, np.inf]


@pytest.mark.parametrize("missing", [0, 10, 19])
def test_a_label_too_rare_in_one_draw_has_no_limit(missing):
    values = list(DRAWN)
    values[missing] = None
    median, found, _ = limits(1.0, values)
    assert [median, *found] == [np.inf, np.inf, np.inf]


@given(st.lists(st.floats(0.0, 5.0), min_size=10, max_size=40).filter(lambda some: np.std(some) > 1e-6))
def test_a_smaller_chance_has_a_higher_limit_and_a_larger_error(values):
    found, errors = quantiles_of_greatest(np.array(values), RATES)
    assert found[0] > found[1] > np.mean(values)
    assert errors[0] > errors[1] > 0
