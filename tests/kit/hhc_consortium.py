"""A consortium of six trials with the Healthy Hearts Consortium's mix of people, the truth known.

Raisi-Estabragh et al. 2024: 7,425 White, 510 South Asian, 478 mixed or other, 340 Black and 335
Chinese people. Every measure follows an LMS law by age and sex; trials and ethnicities move log M.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from cardiometa.reference.curves.curve import AgeFunction, Curve
from cardiometa.statistics.lms import lms_centile

MIX = {"white": 7425, "south-asian": 510, "mixed-other": 478, "black": 340, "chinese": 335}
TRIALS = ("COHORT-A", "COHORT-B", "COHORT-C", "COHORT-D", "COHORT-E", "COHORT-F")
TAU = 0.03  # SD of the trials' effects on log M of a volume or mass
# By ethnicity: the share of each trial. No ethnicity comes from one trial alone.
SHARES = {
    "white": (0.50, 0.15, 0.10, 0.02, 0.13, 0.10),
    "south-asian": (0.40, 0.0, 0.35, 0.25, 0.0, 0.0),
    "mixed-other": (0.40, 0.20, 0.20, 0.10, 0.10, 0.0),
    "black": (0.30, 0.35, 0.10, 0.0, 0.25, 0.0),
    "chinese": (0.15, 0.35, 0.05, 0.45, 0.0, 0.0),
}
AGE = ((57, 7.5), (60, 9), (45, 12), (48, 12), (40, 6), (52, 13))  # mean and SD by trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """An LMS law: M at 50 of men and women, its change and bend a year, S and its change, L.

    ``ethnic`` and ``trial`` scale the effects (an ejection fraction hardly has them); ``old`` is a
    further fall of women's log M a year after 50.
    """

    male: float
    female: float
    slope: float
    bend: float
    s: float
    s_slope: float
    ell: float
    ethnic: float = 1.0
    trial: float = 1.0
    old: float = 0.0


DISTRIBUTIONS = {
    "lv_edv_ml": Law(
        male=165, female=132, slope=-0.0045, bend=-3e-5, s=0.17, s_slope=4e-4, ell=0.4
    ),
    "lv_esv_ml": Law(
        male=66, female=50, slope=-0.006, bend=-2e-5, s=0.23, s_slope=3e-4, ell=0.2, old=-0.002
    ),
    "lv_ef_percent": Law(
        male=60, female=62.5, slope=0.0008, bend=0.0, s=0.09, s_slope=2e-4, ell=1.6,
        ethnic=0.1, trial=0.3,
    ),
    "lv_mass_g": Law(
        male=110, female=78, slope=-0.001, bend=-2e-5, s=0.19, s_slope=5e-4, ell=0.0, old=0.002
    ),
    "rv_edv_ml": Law(
        male=178, female=138, slope=-0.005, bend=-4e-5, s=0.18, s_slope=2e-4, ell=0.5
    ),
    "lv_edvi_ml_m2": Law(
        male=84, female=77, slope=-0.004, bend=-3e-5, s=0.15, s_slope=3e-4, ell=0.4, ethnic=0.5
    ),
}  # fmt: skip
ETHNIC = {
    "white": 0.0,
    "south-asian": -0.08,
    "mixed-other": -0.03,
    "black": 0.02,
    "chinese": -0.06,
}


def parameters(
    law: Law, age: np.ndarray, male: np.ndarray, ethnic: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Log M, S and L of an average trial."""
    years = age - 50
    log_m = np.log(np.where(male, law.male, law.female)) + law.slope * years + law.bend * years**2
    log_m = log_m + law.old * np.where(male, 0.0, np.maximum(years, 0.0)) + law.ethnic * ethnic
    return log_m, law.s + law.s_slope * years, law.ell


def true_limits(
    measure: str, sex: str, ethnicity: str, ages: np.ndarray, centile: float, *, tau: float = 0.0
) -> np.ndarray:
    """The limit of an average trial, or (tau) of a new one, at ages."""
    law = DISTRIBUTIONS[measure]
    male = np.full(len(ages), sex == "male")
    log_m, s, ell = parameters(law, ages, male, np.full(len(ages), ETHNIC[ethnicity]))
    if tau == 0:
        return lms_centile(special.ndtri(centile / 100), np.exp(log_m), s, ell)
    found = []
    for m, spread in zip(log_m, s, strict=True):
        values = {"log_m": m, "log_s": np.log(spread), "l": ell}
        functions = {
            name: AgeFunction(basis="polynomial", coefficients=(float(v),))
            for name, v in values.items()
        }
        curve = Curve(
            family="lms", functions=functions, age_low=0, age_high=99, tau=tau * law.trial
        )
        found.append(curve.limits(np.array([50.0]), (centile,))[0, 0])
    return np.array(found)


def hhc_consortium(seed: int = 1, *, scale: float = 1.0) -> pd.DataFrame:
    """One row a person in the contract's columns, in no order; trial effects drawn anew."""
    rng = np.random.default_rng(seed)
    ethnicity = np.repeat(list(MIX), [round(n * scale) for n in MIX.values()]).astype(object)
    n = len(ethnicity)
    trial = np.array([rng.choice(len(TRIALS), p=SHARES[e]) for e in ethnicity])
    male = rng.random(n) < 0.46
    centre, spread = np.array(AGE).T
    age = np.clip(rng.normal(centre[trial], spread[trial]), 18, 85).round(1)
    ethnic = np.array([ETHNIC[e] for e in ethnicity])
    effects = TAU * rng.standard_normal(len(TRIALS))
    body = rng.standard_normal(n)  # a large heart is large in every measure
    columns = {}
    for name, law in DISTRIBUTIONS.items():
        log_m, s, ell = parameters(law, age, male, ethnic)
        z = np.sqrt(0.5) * (body + rng.standard_normal(n))
        columns[name] = lms_centile(z, np.exp(log_m + law.trial * effects[trial]), s, ell)
    frame = pd.DataFrame(
        {
            "trial": np.array(TRIALS, dtype=object)[trial],
            "participant_id": [f"P{i:05d}" for i in range(n)],
            "visit": "baseline",
            "status": "ok",
            **columns,
            "papillary": "blood-pool",
            "sequence": "bssfp",
            "bsa_formula": "mosteller",
            "model_id": "simulated",
            "age_years": age,
            "sex": np.where(male, "male", "female"),
            "ethnicity": ethnicity,
            "healthy": "true",
        }
    )
    return frame.sample(frac=1, random_state=seed).reset_index(drop=True)
