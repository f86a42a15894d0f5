"""Means of a few runs and how sure they are."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
MIN_BOOTSTRAP = 5  # values; fewer have too few resamples for an interval
_NUM_RESAMPLES = 9_999
_SEED = 0

Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """The mean of n values, their standard deviation (n - 1 in its denominator), and 95 % intervals of the mean.

    None: too few values for it.
    """

    n: int
    mean: float | None
    sd: float | None
    t: Interval | None
    bootstrap: Interval | None


def estimate(values: Sequence[float]) -> Estimate:
    """The mean with both intervals, as far as there are values enough."""
    n = len(values)
    mean = float(np.mean(values)) if n else None
    sd = float(np.std(values, ddof=1)) if n > 1 else None
    return Estimate(n, mean, sd, t_interval(values), bootstrap_interval(values))


def t_interval(values: Sequence[float]) -> Interval | None:
    """Student's t: mean ± t(0.975, n - 1) · sd / √n, for independent, normal values; None below two."""
    from scipy.special import stdtrit

    n = len(values)
    if n < 2:
        return None
    mean = float(np.mean(values))
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2) * np.std(values, ddof=1) / np.sqrt(n))
    return mean - half, mean + half


def bootstrap_interval(values: Sequence[float]) -> Interval | None:
    """Bias-corrected and accelerated (BCa), of 9,999 resamples from a fixed seed; None below five values.

    Source: Efron 1987, "Better Bootstrap Confidence Intervals".
    """
    if len(values) < MIN_BOOTSTRAP:
        return None
    if min(values) == max(values):  # BCa is undefined
        return values[0], values[0]
    from scipy.stats import bootstrap

    found = bootstrap(
        (np.asarray(values, dtype=float),),
        np.mean,
        n_resamples=_NUM_RESAMPLES,
        confidence_level=LEVEL,
        method="BCa",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(found.low), float(found.high)


def paired_differences(ours: Mapping[Hashable, float], baseline: Mapping[Hashable, float]) -> list[float]:
    """Ours minus the baseline's where both have a value, in the order of ours."""
    return [value - baseline[key] for key, value in ours.items() if key in baseline]
