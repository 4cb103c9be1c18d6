"""Coverage of the 90 % intervals of meta-analytic limits: generalised pivots and delta method.

Run: ``python tests/bench/meta_coverage.py [runs]`` (500 runs take about a minute of one core).
Trials of 40 to 800 people, SD 25 within, several tau; prints the share of runs whose interval
holds the true 2.5 and 97.5 limits of a person of a new trial.
"""

from __future__ import annotations

import sys

import numpy as np
from scipy import special

from cardiometa.statistics.meta_range import (
    TrialMoments,
    frequentist_range,
    pivotal_draws,
)
from tests.kit.delta_method import delta_se

OUTER = np.array([2.5, 97.5])
SIGMA, LEVEL = 25.0, 0.9


def main() -> None:
    """Print a row for each number of trials and tau."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    rng = np.random.default_rng(5)
    z = float(special.ndtri((1 + LEVEL) / 2))
    print("trials  tau   delta 2.5  97.5   pivots 2.5  97.5   by people 2.5  97.5")
    for trials in (5, 6, 10, 20):
        for tau in (1.5, 5.0, 12.0):
            truth = 150 + special.ndtri(OUTER / 100) * np.hypot(SIGMA, tau)
            hits = np.zeros((3, 2))
            for run in range(runs):
                n = rng.integers(40, 800, trials).astype(float)
                found = TrialMoments(
                    n=n,
                    mean=rng.normal(150, np.sqrt(tau**2 + SIGMA**2 / n)),
                    sd=SIGMA * np.sqrt(rng.chisquare(n - 1) / (n - 1)),
                )
                fit = frequentist_range(found)
                off = np.abs(fit.limits(OUTER, marginal=True) - truth)
                hits[0] += off < z * delta_se(found, fit, OUTER)
                for row, weights in ((1, "precision"), (2, "people")):
                    draws = pivotal_draws(found, 600, run, weights)
                    low, high = draws.interval(OUTER, LEVEL, marginal=True)
                    hits[row] += (low < truth) & (truth < high)
            shares = "   ".join(f"{a:9.3f} {b:5.3f}" for a, b in hits / runs)
            print(f"{trials:6d} {tau:4.1f}   {shares}", flush=True)


if __name__ == "__main__":
    main()
