"""How often the 90 % intervals of curve limits hold the truth; prints a table, takes minutes.

Run: ``python tests/bench/reference_coverage.py [simulations]``. People are drawn from a known LMS
law (tests/kit/consortium.py), 600 a sex in one trial, or six trials with a between-trial SD of 4 %.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from cardiometa.estimation.lms import lms_centile
from cardiometa.reference.curve import AgeFunction, Curve
from cardiometa.reference.curve_data import CurveData
from cardiometa.reference.curve_limits import curve_limits
from cardiometa.reference.curves import estimate_groups
from cardiometa.reference.options import ReferenceOptions
from tests.kit.consortium import SHAPE, true_parameters

TAU = 0.04
AGES = np.array([25.0, 35, 45, 55, 65, 75])
CENTILES = (2.5, 50.0, 97.5)


def people(rng: np.random.Generator, n: int, trials: int) -> CurveData:
    """Men of ``trials`` trials of unequal size."""
    trial = rng.choice(trials, n, p=np.arange(1, trials + 1) / np.arange(1, trials + 1).sum())
    effect = TAU * rng.standard_normal(trials) if trials > 1 else np.zeros(1)
    age = np.round(rng.uniform(20, 80, n), 1)
    log_m, s, ell = true_parameters(age, "male")
    y = lms_centile(rng.standard_normal(n), np.exp(log_m + effect[trial]), s, ell)
    return CurveData(y=y, age=age, ethnicity=np.full(n, -1), trial=trial)


def truth(tau: float) -> np.ndarray:
    """The law's limits, of an average or (tau) a new trial."""
    log_m, s, ell = true_parameters(AGES, "male")
    found = []
    for m, sd in zip(log_m, s, strict=True):
        constant = {"log_m": m, "log_s": np.log(sd), "l": ell}
        functions = {
            name: AgeFunction(basis="polynomial", coefficients=(float(value),))
            for name, value in constant.items()
        }
        curve = Curve(family="lms", functions=functions, age_low=0, age_high=99, tau=tau)
        found.append(curve.limits(np.array([50.0]), CENTILES)[0])
    return np.array(found)


def main(simulations: int) -> None:
    """Print the share of intervals that hold the truth, by method, kind and centile."""
    rng = np.random.default_rng(20)
    print(f"{simulations} simulations, shape {SHAPE}, between-trial SD {TAU}; wanted 0.87 to 0.93")
    for method, trials, n in (("lms", 1, 600), ("quantile", 1, 2000), ("lms", 6, 1200)):
        options = ReferenceOptions(method=method)
        held: dict[str, list[np.ndarray]] = {}
        for _ in range(simulations):
            fits = estimate_groups(people(rng, n, trials), (), options)[0].curves
            for fitted in fits:
                wanted = truth(TAU if fitted.kind == "marginal" else 0.0)
                found = curve_limits(fitted, AGES, CENTILES, 0.9)
                inside = (found.low <= wanted) & (wanted <= found.high)
                held.setdefault(fitted.kind, []).append(inside)
        for kind, parts in held.items():
            shares = np.mean(parts, axis=0)
            by_centile = ", ".join(
                f"{c:g}: {share:.3f}"
                for c, share in zip(CENTILES, shares.mean(axis=0), strict=True)
            )
            print(f"{method:9s} {trials} trials, n {n}, {kind:12s} {by_centile}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
