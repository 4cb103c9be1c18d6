"""Limits of a simulated consortium of 9,088 people beside their truth and the linear model's.

Run: ``python tests/bench/reference_consortium.py [seed] [table.csv]``. The people are those of
tests/kit/hhc_consortium.py; with a second argument they are written as a table for the command.
For each measure, sex and ethnicity: the largest error of the 2.5th and 97.5th centile from 35 to 75
years in per cent of the truth of an average trial, for LMS curves with random trials and for the
consortium's model (linear in age, one SD, each ethnicity alone, no trials), and the share of the
LMS intervals (conditional, marginal) that hold the truth.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from cardiometa.records import SEXES, CohortTable
from cardiometa.reference.options import Method, ReferenceOptions
from cardiometa.reference.ranges import reference_ranges
from cardiometa.reference.results import ReferenceLimit
from tests.kit.hhc_consortium import DISTRIBUTIONS, MIX, TAU, hhc_consortium, true_limits

AGES = tuple(float(a) for a in range(35, 76, 5))
OUTER = (2.5, 97.5)


def limits(table: CohortTable, method: Method) -> tuple[ReferenceLimit, ...]:
    """The curve's rows by one method; the linear one ignores trials, as the consortium's did."""
    options = ReferenceOptions(
        method=method, at_ages=AGES, trial_effect="none" if method == "linear" else "auto"
    )
    return reference_ranges(table, options).rows


def errors(
    rows: tuple[ReferenceLimit, ...], measure: str, sex: str, ethnicity: str, kind: str
) -> tuple[float, float, float]:
    """Largest error in per cent at 2.5 and 97.5, and the share of intervals with the truth."""
    worst, held = [], []
    for centile in OUTER:
        mine = [
            r
            for r in rows
            if (r.measure, r.sex, r.ethnicity, r.kind, r.centile)
            == (measure, sex, ethnicity, kind, centile)
            and r.limit is not None
        ]
        ages = np.array([r.age for r in mine], dtype=float)
        tau = TAU if kind == "marginal" else 0.0
        truth = true_limits(measure, sex, ethnicity, ages, centile, tau=tau)
        found = np.array([(r.limit, r.ci_low, r.ci_high) for r in mine], dtype=float)
        worst.append(100 * float(np.abs(found[:, 0] / truth - 1).max()))
        held.append((found[:, 1] <= truth) & (truth <= found[:, 2]))
    return worst[0], worst[1], float(np.mean(held))


def main(seed: int, path: str | None) -> None:
    """Print a line a measure, sex and ethnicity."""
    frame = hhc_consortium(seed)
    if path is not None:
        frame.to_csv(path, index=False)
    table = CohortTable(
        rows=frame,
        name="simulated",
        sha256="00" * 32,
        measures=tuple(DISTRIBUTIONS),
        conventions={},
    )
    lms, linear = limits(table, "lms"), limits(table, "linear")
    held = []
    print("measure, sex, ethnicity: LMS 2.5 / 97.5 %, linear 2.5 / 97.5 %, held cond. / marg.")
    for measure in DISTRIBUTIONS:
        for sex in SEXES:
            for ethnicity in MIX:
                ours = errors(lms, measure, sex, ethnicity, "conditional")
                marginal = errors(lms, measure, sex, ethnicity, "marginal")
                theirs = errors(linear, measure, sex, ethnicity, "population")
                held.append((ours[2], marginal[2], theirs[2]))
                print(
                    f"{measure:14s} {sex:7s}{ethnicity:12s} {ours[0]:5.1f} {ours[1]:5.1f}   "
                    f"{theirs[0]:5.1f} {theirs[1]:5.1f}   {ours[2]:.2f} {marginal[2]:.2f}"
                )
    shares = np.mean(held, axis=0)
    print(f"held: conditional {shares[0]:.2f}, marginal {shares[1]:.2f}, linear {shares[2]:.2f}")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(given[0]) if given else 1, given[1] if len(given) > 1 else None)
