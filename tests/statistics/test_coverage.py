"""How often the intervals hold the truth: the pattern of ``pooling.md`` 2.2 by our own trials.

That table has effect 2, trials of 60 to 400 people, SD 5 to 9, and 2,000 simulations.
"""

import numpy as np
import pytest

from cardiometa.statistics.meta import pool_estimates, pooled_interval, prediction_interval
from tests.bench.pooling_coverage import one_run

EFFECT = 2.0
RUNS = 500


def simulated(k, tau, draw):
    """Estimates, variances as each trial estimates them, and a new trial's true effect."""
    n = draw.integers(60, 401, k)
    sd = draw.uniform(5, 9, k)
    control = np.where(draw.random(k) < 0.5, n / 2, n / 3)
    unit = 1 / control + 1 / (n - control)
    y = EFFECT + draw.normal(0, tau, k) + draw.normal(0, 1, k) * sd * np.sqrt(unit)
    return y, sd**2 * draw.chisquare(n - 3) / (n - 3) * unit, EFFECT + draw.normal(0, tau)


def coverage(k, tau):
    """Percent of runs whose interval holds the truth, by method."""
    draw = np.random.default_rng([20260, k, int(10 * tau)])
    held = dict.fromkeys(("dl-wald", "hksj", "hksj-truncated", "prediction"), 0)
    for _ in range(RUNS):
        y, v, new = simulated(k, tau, draw)
        reml = pool_estimates(y, v, "reml")
        truncated = pooled_interval(reml, "hksj-truncated")
        intervals = {
            "dl-wald": pooled_interval(pool_estimates(y, v, "dl"), "wald"),
            "hksj": pooled_interval(reml, "hksj"),
            "hksj-truncated": truncated,
        }
        for name, interval in intervals.items():
            held[name] += interval.low <= EFFECT <= interval.high
        limits = prediction_interval(reml, truncated.se, "k-1")
        held["prediction"] += limits[0] <= new <= limits[1]
    return {name: 100 * count / RUNS for name, count in held.items()}


@pytest.mark.parametrize(
    ("k", "tau", "published"),
    [
        (3, 2, {"dl-wald": 84.9, "hksj": 93.7, "hksj-truncated": 99.0, "prediction": 92.5}),
        (5, 2, {"dl-wald": 87.3, "hksj": 92.8, "hksj-truncated": 94.8, "prediction": 89.0}),
        (10, 0, {"dl-wald": 96.3, "hksj": 95.2, "hksj-truncated": 98.2, "prediction": 98.4}),
        (10, 2, {"dl-wald": 91.0, "hksj": 93.4, "hksj-truncated": 93.9, "prediction": 91.4}),
    ],
)
def test_coverage_is_that_of_the_design(k, tau, published):
    found = coverage(k, tau)
    for name, wanted in published.items():
        # Three Monte-Carlo errors of both tables together.
        error = np.sqrt(wanted * (100 - wanted) * (1 / RUNS + 1 / 2000))
        assert found[name] == pytest.approx(wanted, abs=3 * error), name
    if tau:
        assert found["hksj-truncated"] > found["dl-wald"]


# Of 2,000 runs of tests/bench/pooling_coverage.py, which simulates people; percent.
ONE_STAGE = {
    (5, 2.0): {"one-stage kenward-roger": 97.2, "one-stage wald": 88.3, "hksj-truncated": 95.4},
    (10, 0.0): {"one-stage kenward-roger": 99.6, "one-stage wald": 96.5, "hksj-truncated": 98.7},
}


@pytest.mark.parametrize(("k", "tau"), ONE_STAGE)
def test_one_stage_intervals_cover_as_the_bench_found(k, tau):
    runs = 40
    draw = np.random.default_rng([20262, k, int(tau)])
    found = [one_run(k, tau, draw) for _ in range(runs)]
    for name, wanted in ONE_STAGE[k, tau].items():
        share = 100 * np.mean([run[name][0] for run in found])
        # Three Monte-Carlo errors of both together; the share is never quite sure of 100.
        error = np.sqrt(max(wanted * (100 - wanted), 100.0) * (1 / runs + 1 / 2000))
        assert share == pytest.approx(wanted, abs=3 * error), name
    widths = {name: np.median([run[name][1] for run in found]) for name in ONE_STAGE[k, tau]}
    assert widths["one-stage wald"] < widths["hksj-truncated"]
    assert widths["hksj-truncated"] < 1.2 * widths["one-stage kenward-roger"]
    assert all(run["converged"][0] for run in found)
