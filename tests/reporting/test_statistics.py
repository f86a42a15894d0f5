import itertools
from statistics import NormalDist

import numpy as np
import pytest

from uda.reporting.statistics import bootstrap_interval, estimate, paired_differences, t_interval


def test_t_interval_by_hand() -> None:
    # mean 2.5; squared deviations 2.25 + 0.25 + 0.25 + 2.25 = 5, sd = √(5/3) = 1.29099; t(0.975, 3) = 3.18245 (tables);
    # half = 3.18245 · 1.29099 / 2 = 2.05426
    assert t_interval([1.0, 2.0, 3.0, 4.0]) == pytest.approx((0.44574, 4.55426), abs=1e-5)
    # mean 1, sd = √2, t(0.975, 1) = 12.7062: half = 12.7062 · √2 / √2
    assert t_interval([0.0, 2.0]) == pytest.approx((1 - 12.7062, 1 + 12.7062), abs=1e-4)


def test_too_few_values_have_no_interval() -> None:
    assert t_interval([1.0]) is None
    assert bootstrap_interval([1.0, 2.0, 3.0, 4.0]) is None
    none, one = estimate([]), estimate([0.5])
    assert (none.n, none.mean, none.sd, none.t, none.bootstrap) == (0, None, None, None, None)
    assert (one.n, one.mean, one.sd, one.t, one.bootstrap) == (1, 0.5, None, None, None)
    assert estimate([1.0, 2.0, 3.0, 4.0]).sd == pytest.approx(1.290994)


def exact_bca(values: list[float]) -> tuple[float, float]:
    """Efron 1987, over all n^n resamples in place of drawn ones."""
    normal, x = NormalDist(), np.array(values)
    means = np.array([np.mean(resample) for resample in itertools.product(values, repeat=len(values))])
    below = (np.mean(means < x.mean() - 1e-12) + np.mean(means <= x.mean() + 1e-12)) / 2
    bias = normal.inv_cdf(float(below))
    left_out = np.array([np.mean(np.delete(x, index)) for index in range(len(x))])
    away = left_out.mean() - left_out
    acceleration = float((away**3).sum() / (6 * (away**2).sum() ** 1.5))
    ends = []
    for share in (0.025, 0.975):
        shifted = bias + normal.inv_cdf(share)
        ends.append(float(np.quantile(means, normal.cdf(bias + shifted / (1 - acceleration * shifted)))))
    return ends[0], ends[1]


def test_bootstrap_is_that_over_all_resamples() -> None:
    values = [0.70, 0.74, 0.75, 0.79, 0.91]  # skewed, so that a percentile interval lies elsewhere
    found = bootstrap_interval(values)
    assert found == pytest.approx(exact_bca(values), abs=0.004)
    means = [np.mean(resample) for resample in itertools.product(values, repeat=5)]
    assert abs(found[1] - np.quantile(means, 0.975)) > 0.004
    assert found == bootstrap_interval(values)  # the same every time


def test_equal_values_are_their_own_interval() -> None:
    assert bootstrap_interval([0.8] * 5) == (0.8, 0.8)
    assert t_interval([0.5] * 5) == (0.5, 0.5)


def test_pairs_are_what_both_have() -> None:
    assert paired_differences({"a": 3.0, "b": 5.0, "c": 9.0}, {"b": 1.0, "a": 1.5, "d": 0.0}) == [1.5, 4.0]
