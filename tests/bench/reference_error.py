"""How near ``reference-ranges --error-model`` comes to the limits of the true values.

    python tests/bench/reference_error.py [runs] [curve runs]     default 200, 12

1,000 participants of one trial, values of mean 150 and SD 30: normal, log-normal, gamma and with
heavy tails (Student's t on 6 degrees of freedom). The model measures 5 + 0.9·Y + e, e of SD 5, 10
and 20 % of the population SD, once alike for all and once in proportion to the value (known by each
scan's SD, without line). An evaluation of 20, 50 or 200 hearts estimates the line. Printed: mean
error of the outer limits in percent of the limit, as measured and corrected, and the coverage
(percent) of the corrected 90 % interval; then the same for LMS curves whose mean grows with age.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from scipy import stats

from cardiometa.records import CohortTable
from cardiometa.reference.options import ReferenceOptions
from cardiometa.reference.ranges import reference_ranges
from cardiometa.statistics.measurement_error import (
    ErrorInput,
    MeasureError,
    line_of,
)
from tests.kit.evaluations import evaluation_of

MEASURE, MEAN, SD, N = "lv_edv_ml", 150.0, 30.0, 1000
LAWS = {
    "normal": stats.norm(),
    "log-normal": stats.lognorm(0.2),
    "gamma": stats.gamma(9.0),
    "heavy tails": stats.t(6.0),
}


def standard(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """The quantile function with mean 0 and SD 1."""
    law = LAWS[name]
    return lambda p: np.asarray((law.ppf(p) - law.mean()) / law.std())


def evaluation(rng: np.random.Generator, hearts: int, noise: float) -> ErrorInput:
    """The line of so many hearts."""
    reader = rng.normal(MEAN, SD, hearts)
    model = 5 + 0.9 * reader + rng.normal(0, noise, hearts)
    line = line_of(model, reader, np.arange(hearts))
    assert line is not None
    measure = MeasureError(measure=MEASURE, unit="mL", scope="", lines=(line,))
    return ErrorInput(evaluated=evaluation_of(measure))


def table(y: np.ndarray, **columns: np.ndarray) -> CohortTable:
    """The values as healthy participants of one trial."""
    frame = pd.DataFrame({MEASURE: y, "trial": "A", "healthy": True, **columns})
    frame["participant_id"] = [f"P{i}" for i in range(len(y))]
    return CohortTable(rows=frame, name="", sha256="", measures=(MEASURE,), conventions={})


def runs(
    law: str, share: float, hearts: int | None, count: int, *, age: bool
) -> Iterator[np.ndarray]:
    """Of each run the limits ``[4, outer]``: truth, measured, corrected; and covered or not."""
    quantile, rng = standard(law), np.random.default_rng(7)
    options = ReferenceOptions(by=(), method="strata")
    if age:
        options = ReferenceOptions(by=("age",), method="lms", at_ages=(50.0,), measures=(MEASURE,))
    for _ in range(count):
        years = rng.uniform(20, 80, N)
        grow = (years - 50) * 0.3 * age
        true = MEAN + grow + SD * quantile(rng.random(N))
        noise = share * SD
        if hearts is None:
            sd = noise * np.maximum(true, 1.0) / MEAN
            found = table(true + rng.normal(0, sd), **{f"{MEASURE}_sd": sd}, age_years=years)
            error = ErrorInput(scan_sd={"A": noise})
        else:
            found = table(5 + 0.9 * true + rng.normal(0, noise, N), age_years=years)
            error = evaluation(rng, hearts, noise)
        rows = [
            r for r in reference_ranges(found, options, error).error_adjusted if r.centile != 50
        ]
        truth = MEAN + SD * quantile(np.array([0.025, 0.975]))
        inside = [
            (r.true_ci_low or 0) <= t <= (r.true_ci_high or 0)
            for r, t in zip(rows, truth, strict=True)
        ]
        yield np.array([truth, [r.limit for r in rows], [r.true_limit for r in rows], inside])


def main() -> None:
    count, of_curves = (int(a) for a in (*sys.argv[1:], "200", "12")[:2])
    if len(sys.argv) == 2:
        of_curves = 12
    print("method  distribution  error %  hearts   measured off %  corrected off %  coverage %")
    settings = [
        (age, law, share, hearts)
        for age in (False, True)
        for law in list(LAWS)[: 3 if age else 4]
        for share in (0.05, 0.1, 0.2)
        for hearts in (20, 50, 200, None)
        if (law == "log-normal" and not age) or hearts in (200, None)
    ]
    for age, law, share, hearts in settings:
        found = np.array(list(runs(law, share, hearts, of_curves if age else count, age=age)))
        off = 100 * (found[:, 1:3].mean(axis=0) / found[0, 0] - 1)
        texts = [" ".join(f"{v:+5.1f}" for v in row) for row in off]
        cover = " ".join(f"{100 * c:3.0f}" for c in found[:, 3].mean(axis=0))
        print(
            f"{'lms' if age else 'strata':7} {law:13} {100 * share:5.0f}  "
            f"{hearts or 'scans':>7}   {texts[0]:>15}  {texts[1]:>15}  {cover}",
            flush=True,
        )


if __name__ == "__main__":
    main()
