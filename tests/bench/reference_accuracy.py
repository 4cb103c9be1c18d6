"""How far curve limits of 20,000 people lie from the law they were drawn from, for several seeds.

Run: ``python tests/bench/reference_accuracy.py [seeds] [people]``. The law is LMS (BCCG) with age
(tests/kit/consortium.py). Printed is the largest error of a limit over the central 95 % of ages,
in per cent of the true limit; wanted are 1.2 (LMS) and 2 (quantile) at 2.5 and 97.5.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from cardiometa.reference.curves.fit import CurveData
from cardiometa.reference.curves.measure import estimate_groups
from cardiometa.reference.options import Method, ReferenceOptions
from cardiometa.statistics.lms import lms_centile
from tests.kit.consortium import true_limit, true_parameters

CENTILES = (2.5, 50.0, 97.5)
AGES = np.arange(21.5, 79, 0.5)  # the central 95 % of 20 to 80
WANTED: dict[Method, float] = {"lms": 1.2, "quantile": 2.0}


def people(n: int, seed: int) -> CurveData:
    """Men of one trial, ages uniform from 20 to 80."""
    rng = np.random.default_rng(seed)
    age = np.round(rng.uniform(20, 80, n), 1)
    log_m, s, ell = true_parameters(age, "male")
    y = lms_centile(rng.standard_normal(n), np.exp(log_m), s, ell)
    nobody = np.full(n, -1)
    return CurveData(y=y, age=age, ethnicity=nobody, trial=np.zeros(n, dtype=int))


def errors(method: Method, n: int, seed: int) -> np.ndarray:
    """The largest error of each centile, in per cent of the truth."""
    options = ReferenceOptions(method=method, quick=method == "quantile")
    curve = estimate_groups(people(n, seed), (), options)[0].curves[0].curve
    limits = curve.limits(AGES, CENTILES)
    truth = np.column_stack([true_limit(AGES, "male", c) for c in CENTILES])
    return np.asarray(100 * np.abs(limits / truth - 1).max(axis=0))


def main(seeds: int, n: int) -> None:
    """Print a line a seed, and for each method the seeds that met what is wanted."""
    for method, wanted in WANTED.items():
        found = np.array([errors(method, n, seed) for seed in range(1, seeds + 1)])
        for seed, row in enumerate(found, start=1):
            shown = ", ".join(f"{c:g}: {e:.2f} %" for c, e in zip(CENTILES, row, strict=True))
            print(f"{method:9s} n {n}, seed {seed}: {shown}")
        worst = found[:, [0, 2]].max(axis=1)
        print(
            f"{method:9s} median of the worst limit {np.median(worst):.2f} %, "
            f"{int(np.sum(worst <= wanted))} of {seeds} seeds within {wanted:g} %",
            flush=True,
        )


if __name__ == "__main__":
    given = [int(a) for a in sys.argv[1:]]
    main(given[0] if given else 10, given[1] if len(given) > 1 else 20_000)
