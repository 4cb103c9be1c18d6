"""Synthetic tables of plausible cardiac numbers for the tests of reference ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from cardiometa.records import CohortTable

MEASURES = ("lv_edv_ml", "lv_ef_percent", "lv_edvi_ml_m2")
TRIALS = ("ALPHA", "BETA", "GAMMA", "DELTA")


def people_frame(n: int = 1500, seed: int = 3) -> pd.DataFrame:
    """One baseline row a person in the contract's columns; four trials of unequal size."""
    rng = np.random.default_rng(seed)
    trial = rng.choice(len(TRIALS), n, p=[0.4, 0.3, 0.2, 0.1])
    male = rng.random(n) < 0.5
    age = np.round(np.clip(rng.normal(52, 14, n), 18, 90), 1)
    ethnicity = rng.choice(
        np.array(["white", "black", "south-asian", "chinese", None], dtype=object),
        n,
        p=[0.66, 0.16, 0.1, 0.05, 0.03],
    )
    bsa = np.where(male, rng.normal(2.0, 0.15, n), rng.normal(1.75, 0.14, n))
    index = np.exp(np.where(male, 4.4, 4.3) - 0.004 * (age - 50) + rng.normal(0, 0.17, n))
    return pd.DataFrame(
        {
            "trial": np.array(TRIALS, dtype=object)[trial],
            "participant_id": [f"P{i:05d}" for i in range(n)],
            "visit": "baseline",
            "visit_day": 0.0,
            "status": np.where(rng.random(n) < 0.04, "review", "ok"),
            "lv_edv_ml": index * bsa,
            "lv_ef_percent": rng.normal(np.where(male, 61.0, 63.0), 5),
            "lv_edvi_ml_m2": index,
            "sequence": "bssfp",
            "papillary": "blood-pool",
            "bsa_formula": "mosteller",
            "model_id": "m1",
            "model_sha256": "ab" * 32,
            "age_years": age,
            "sex": np.where(male, "male", "female"),
            "ethnicity": ethnicity,
            "healthy": rng.random(n) > 0.1,
        }
    )


def table(frame: pd.DataFrame, **changes: Any) -> CohortTable:
    """The frame as the table that the statistics work on."""
    values: dict[str, Any] = {
        "rows": frame,
        "name": "synthetic",
        "sha256": "00" * 32,
        "measures": tuple(m for m in MEASURES if m in frame),
        "conventions": {},
        **changes,
    }
    return CohortTable(**values)
