"""Tables of simulated trials for the tests of pooling."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cardiometa.records import CohortTable

# The options of an interval and the method that every effect of the run then has.
INTERVAL_METHODS = (
    ({}, "hksj-truncated"),
    ({"hksj_adhoc": False}, "hksj"),
    ({"ci": "wald"}, "wald"),
    ({"tau2": "fe"}, "wald"),
    ({"tau2": "fe", "ci": "hksj"}, "hksj-truncated"),
)


def cohort_table(rows: pd.DataFrame, **changes) -> CohortTable:
    """A `CohortTable` around rows, as reading a user's table gives it."""
    values = {
        "rows": rows,
        "name": "simulated",
        "sha256": "0" * 64,
        "measures": tuple(c for c in rows if c.startswith(("lv_", "rv_"))),
        "conventions": {},
    }
    return CohortTable(**{**values, **changes})


def simulate_wide(
    trials: int = 6, seed: int = 1, people: int = 60, effect: float = 3.0, tau: float = 1.0
) -> pd.DataFrame:
    """One row a participant: baseline and follow-up LVEF of two randomised arms."""
    draw = np.random.default_rng(seed)
    parts = []
    for number in range(trials):
        n = people + 10 * number
        arm = draw.permutation(np.arange(n) % 2)
        before = 50 + number + draw.normal(0, 8, n)
        gain = effect + draw.normal(0, tau)
        after = 10 + 0.75 * before + gain * arm + draw.normal(0, 5 + number % 3, n)
        parts.append(
            pd.DataFrame(
                {
                    "trial": f"T{number + 1}",
                    "participant_id": [f"{number + 1:02d}-{i:03d}" for i in range(n)],
                    "arm": np.where(arm == 1, "active", "control"),
                    "age_years": draw.normal(60, 9, n).round(1),
                    "sex": np.where(draw.random(n) < 0.6, "male", "female"),
                    "lv_ef_baseline": before,
                    "lv_ef_percent": after,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def to_long(wide: pd.DataFrame, followup: str = "followup_12m") -> pd.DataFrame:
    """The same table with one row a scan; missing values are rows that are not there."""
    person = [name for name in wide if not name.startswith("lv_ef_")]
    before = wide[person].assign(
        visit="baseline", visit_day=0.0, lv_ef_percent=wide["lv_ef_baseline"]
    )
    after = wide[person].assign(
        visit=followup, visit_day=365.0, lv_ef_percent=wide["lv_ef_percent"]
    )
    long = pd.concat([before, after]).dropna(subset=["lv_ef_percent"])
    return long.sort_values(["trial", "participant_id", "visit_day"]).reset_index(drop=True)
