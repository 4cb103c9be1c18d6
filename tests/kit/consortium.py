"""People drawn from a known LMS law, in trials and ethnicities of known effect."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import special

from cardiometa.statistics.lms import lms_centile

SHAPE = 0.4


def true_parameters(age, sex, ethnic_effect=0.0):
    """log M, S and L of the law at an age for a trial without an effect."""
    log_m = np.log(np.where(np.asarray(sex) == "male", 160.0, 130.0)) + ethnic_effect
    log_m = log_m - 0.0045 * (age - 50) - 0.00003 * (age - 50) ** 2
    return log_m, 0.165 + 0.0004 * (age - 50), SHAPE


def true_limit(age, sex, centile, ethnic_effect=0.0):
    log_m, s, ell = true_parameters(age, sex, ethnic_effect)
    return lms_centile(special.ndtri(centile / 100), np.exp(log_m), s, ell)


def consortium(
    sizes: Mapping[tuple[str, str], int],
    *,
    trial_effects: Mapping[str, float] | None = None,
    ethnic_effects: Mapping[str, float] | None = None,
    seed: int = 1,
) -> pd.DataFrame:
    """One row a person; ``sizes`` by (trial, ethnicity), effects on log M."""
    rng = np.random.default_rng(seed)
    trial = np.repeat([t for t, _ in sizes], list(sizes.values())).astype(object)
    ethnicity = np.repeat([e for _, e in sizes], list(sizes.values())).astype(object)
    n = len(trial)
    sex = np.where(rng.random(n) < 0.5, "male", "female").astype(object)
    age = np.round(rng.uniform(20, 80, n), 1)
    effect = np.array([(ethnic_effects or {}).get(e, 0.0) for e in ethnicity])
    log_m, s, ell = true_parameters(age, sex, effect)
    log_m = log_m + np.array([(trial_effects or {}).get(t, 0.0) for t in trial])
    return pd.DataFrame(
        {
            "trial": trial,
            "participant_id": [f"P{i:06d}" for i in range(n)],
            "visit": "baseline",
            "status": "ok",
            "lv_edv_ml": lms_centile(rng.standard_normal(n), np.exp(log_m), s, ell),
            "papillary": "blood-pool",
            "age_years": age,
            "sex": sex,
            "ethnicity": ethnicity,
            "healthy": True,
        }
    )
