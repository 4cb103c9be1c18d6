"""Speed of the strata table: 60 groups of 10 measures over a million people.

Run: ``python tests/bench/strata_speed.py [people]``. Prints the seconds of choosing the people and
of the whole table, against the one thing no table can do without: sorting each measure once.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np
import pandas as pd

from cardiometa.records import ETHNICITIES, SEXES, CohortTable
from cardiometa.reference.options import ReferenceOptions
from cardiometa.reference.ranges import reference_ranges

MEASURES = (
    "lv_edv_ml",
    "lv_esv_ml",
    "lv_sv_ml",
    "lv_ef_percent",
    "lv_mass_g",
    "rv_edv_ml",
    "rv_esv_ml",
    "rv_sv_ml",
    "rv_ef_percent",
    "heart_rate_bpm",
)
BANDS = (18.0, 30.0, 40.0, 50.0, 60.0, 70.0)
TRIALS = 6


def people(n: int, seed: int = 1) -> CohortTable:
    """A table of ``n`` healthy people of six trials, sex × 4 ethnicities and all × 6 bands."""
    rng = np.random.default_rng(seed)
    names = np.array(SEXES, dtype=object)
    frame = pd.DataFrame(
        {
            "trial": np.array([f"T{k}" for k in range(TRIALS)], dtype=object)[
                rng.integers(0, TRIALS, n)
            ],
            "participant_id": np.char.mod("%07d", np.arange(n)).astype(object),
            "visit": "baseline",
            "status": "ok",
            "sex": names[rng.integers(0, 2, n)],
            "ethnicity": np.array(ETHNICITIES[:4], dtype=object)[
                rng.choice(4, n, p=[0.8, 0.1, 0.06, 0.04])
            ],
            "age_years": np.round(rng.uniform(18, 85, n), 1),
            "healthy": "true",
        }
    )
    for number, measure in enumerate(MEASURES):
        frame[measure] = np.exp(rng.normal(4 + number / 20, 0.2, n))
    return CohortTable(
        rows=frame, name="bench", sha256="00" * 32, measures=MEASURES, conventions={}
    )


def main() -> None:
    """Time the table."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    table = people(n)
    memory = float(table.rows.memory_usage(deep=True).sum())
    before = time.process_time()
    for measure in MEASURES:
        np.argsort(table.rows[measure].to_numpy())
    sorting = time.process_time() - before
    before, cpu = time.perf_counter(), time.process_time()
    result = reference_ranges(table, ReferenceOptions(method="strata", age_bands=BANDS))
    wall, cpu = time.perf_counter() - before, time.process_time() - cpu
    cells = len({(r.sex, r.ethnicity, r.age_low) for r in result.rows})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{n} people, {len(MEASURES)} measures, {cells} groups, {TRIALS} trials")
    print(f"sorting each measure once  {sorting:8.2f} s of one core")
    print(f"the table                  {wall:8.2f} s wall, {cpu:.2f} s of one core")
    print(f"ratio to sorting           {cpu / sorting:8.1f}")
    print(f"peak memory / the table's  {peak / memory:8.1f}")


if __name__ == "__main__":
    main()
