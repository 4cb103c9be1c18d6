"""What is true in the demo, and the large table of measurements that is drawn from it.

The sizes are in the range of published ones (healthy hearts: Petersen 2017,
doi:10.1186/s12968-017-0327-9; trials: invented). Nothing here describes a real person or drug. The
table has no images behind it and is labelled synthetic in its file name and in every report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..measurement.indexing import body_surface_area_m2
from ..records import ETHNICITIES
from ..statistics.measurement_error import ErrorLine, line_of


@dataclass(frozen=True, slots=True)
class TrialTruth:
    """One randomised trial: size, its own true effect, and what its core lab does to volumes.

    ``effect_ef_points`` is the trial's true treatment effect on LVEF; ``edv_factor`` and
    ``esv_factor`` multiply the true volumes in the trial's reported values.
    """

    name: str
    n: int
    effect_ef_points: float
    edv_factor: float
    esv_factor: float


MEAN_EFFECT_EF_POINTS = 3.0
# Of the follow-up EF given the true EF at baseline.
RESIDUAL_SD_EF_POINTS = 4.0
# The first three have images too; all six are in the large table. Mean effect: 3 points.
TRIALS: tuple[TrialTruth, ...] = (
    TrialTruth("ALPHA", 260, 2.4, 1.09, 1.04),
    TrialTruth("BETA", 180, 3.9, 0.93, 1.00),
    TrialTruth("GAMMA", 320, 2.7, 1.02, 0.90),
    TrialTruth("EPSILON", 220, 3.4, 0.97, 1.05),
    TrialTruth("ZETA", 140, 2.5, 1.06, 1.10),
    TrialTruth("ETA", 400, 3.1, 1.00, 0.95),
)
IMAGED_TRIALS = TRIALS[:3]
HEALTHY = "DELTA"
# Healthy cohorts of the large table and their sizes.
HEALTHY_COHORTS: Mapping[str, int] = {HEALTHY: 4000, "THETA": 2500}
FOLLOW_UP = "followup_12m"
FOLLOW_UP_DAY = 365

# Healthy hearts: mean at age 45 and change per decade (indexed to body surface area), SD.
HEALTHY_MEANS: Mapping[str, Mapping[str, tuple[float, float, float]]] = {
    "male": {"edvi": (85.0, -2.2, 14.0), "ef": (60.0, 0.4, 5.0), "massi": (60.0, 0.3, 8.5)},
    "female": {"edvi": (76.0, -2.6, 12.0), "ef": (62.5, 0.5, 4.8), "massi": (47.0, 0.4, 7.0)},
}
ETHNICITY_SHARES: Mapping[str, float] = dict(
    zip(ETHNICITIES, (0.48, 0.16, 0.16, 0.14, 0.06, 0.0), strict=True)
)
ETHNICITY_EDVI: Mapping[str, float] = {"south-asian": -7.0, "chinese": -5.0, "black": 1.0}


def effect_sd() -> float:
    """The standard deviation of the trials' true effects, in EF points."""
    return float(np.std([trial.effect_ef_points for trial in TRIALS], ddof=1))


MODEL_ID = "synthetic-table"
_MEASURED_SD_ML = 4.0
# The model that measures the table anew: EF = intercept + slope x true EF + error, in EF points.
MODEL_SLOPE, MODEL_INTERCEPT, MODEL_SD = 0.90, 5.0, 1.5
EVALUATED_HEARTS = 200  # that a reader read too, to learn that line


def _people(n: int, age: tuple[float, float], rng: np.random.Generator) -> dict[str, np.ndarray]:
    sex = rng.choice(["male", "female"], n)
    male = sex == "male"
    names = list(ETHNICITY_SHARES)
    height = np.where(male, rng.normal(176.5, 7, n), rng.normal(163.0, 6.5, n))
    index = np.clip(rng.normal(25.8, 3.4, n), 17.5, 42)
    return {
        "age_years": rng.uniform(*age, n),
        "sex": sex,
        "ethnicity": rng.choice(names, n, p=list(ETHNICITY_SHARES.values())),
        "height_cm": height,
        "weight_kg": index * (height / 100) ** 2,
    }


def _bsa(people: dict[str, np.ndarray]) -> np.ndarray:
    pairs = zip(people["height_cm"], people["weight_kg"], strict=True)
    return np.array([body_surface_area_m2(float(h), float(w), "mosteller") for h, w in pairs])


def _measures(
    edv: np.ndarray, ef: np.ndarray, mass: np.ndarray, bsa: np.ndarray
) -> dict[str, np.ndarray]:
    """Volumes, EF and mass, then the same indexed to body surface area."""
    esv = edv * (1 - ef / 100)
    sv = edv - esv
    return {
        "lv_edv_ml": edv,
        "lv_esv_ml": esv,
        "lv_sv_ml": sv,
        "lv_ef_percent": 100 * (edv - esv) / edv,
        "lv_mass_g": mass,
        "lv_edvi_ml_m2": edv / bsa,
        "lv_esvi_ml_m2": esv / bsa,
        "lv_svi_ml_m2": sv / bsa,
        "lv_massi_g_m2": mass / bsa,
    }


def healthy_people(n: int, rng: np.random.Generator) -> dict[str, Any]:
    """Columns of ``n`` healthy participants drawn from the demo's truth."""
    people = _people(n, (18.0, 80.0), rng)
    bsa = _bsa(people)
    decades = (people["age_years"] - 45) / 10
    male = people["sex"] == "male"

    def draw(key: str) -> np.ndarray:
        pairs = [HEALTHY_MEANS[sex][key] for sex in ("male", "female")]
        mean, slope, spread = (np.where(male, a, b) for a, b in zip(*pairs, strict=True))
        drawn: np.ndarray = mean + slope * decades + spread * rng.normal(size=n)
        return drawn

    shift = np.array([ETHNICITY_EDVI.get(str(name), 0.0) for name in people["ethnicity"]])
    edv = np.maximum(draw("edvi") + shift, 35) * bsa
    ef = np.clip(draw("ef"), 35, 85)
    mass = np.maximum(draw("massi"), 25) * bsa
    return {**people, "bsa_m2": bsa, **_measures(edv, ef, mass, bsa)}


def model_ef(ef: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What the model measures of true ejection fractions ``[n]``, in percent."""
    error = rng.normal(0, MODEL_SD, len(ef))
    measured: np.ndarray = np.clip(MODEL_INTERCEPT + MODEL_SLOPE * ef + error, 5, 80)
    return measured


def evaluated_hearts(seed: int) -> ErrorLine:
    """The model's line on a reader without error, from hearts like those of the trials."""
    rng = np.random.default_rng([seed, 55])
    ef = rng.normal(38, 8, EVALUATED_HEARTS)
    line = line_of(model_ef(ef, rng), ef, np.arange(EVALUATED_HEARTS))
    assert line is not None
    return line


def _trial_rows(trial: TrialTruth, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Baseline and follow-up of one trial's participants; some have no follow-up scan."""
    n = trial.n
    people = _people(n, (42.0, 80.0), rng)
    bsa = _bsa(people)
    active = rng.permutation(n) % 2 == 1
    true_ef = rng.normal(38, 8, n)
    edv = np.maximum(rng.normal(112, 22, n), 60) * bsa
    mass = np.maximum(rng.normal(72, 12, n), 35) * bsa
    later_ef = 0.85 * true_ef + 0.15 * 38 + rng.normal(0, RESIDUAL_SD_EF_POINTS, n)
    later_ef += np.where(active, trial.effect_ef_points, 0) + 0.8
    later_edv = edv * rng.normal(0.98, 0.06, n) * np.where(active, 0.97, 1.0)
    came = rng.random(n) < 0.91
    both = {
        "trial": np.full(n, trial.name),
        "participant_id": np.array([f"{trial.name[0]}{i:04d}" for i in range(1, n + 1)]),
        **people,
        "arm": np.where(active, "active", "control"),
        "bsa_m2": bsa,
    }
    visits = (
        ("baseline", 0, edv, true_ef, np.ones(n, dtype=bool)),
        (FOLLOW_UP, FOLLOW_UP_DAY, later_edv, later_ef, came),
    )
    rows = []
    for visit, day, volume, ef, scanned in visits:
        measured = volume + rng.normal(0, _MEASURED_SD_ML, n)
        columns: dict[str, Any] = {
            **both,
            "visit": np.full(n, visit),
            "visit_day": day + (rng.integers(-14, 15, n) if day else np.zeros(n, dtype=int)),
            **_measures(measured, model_ef(ef, rng), mass, bsa),
        }
        reader = rng.normal(1, 0.03, (2, n))
        columns["reported_lv_edv_ml"] = volume * trial.edv_factor * reader[0]
        # No reader draws more at the end of systole than of diastole.
        columns["reported_lv_esv_ml"] = np.minimum(
            volume * (1 - np.clip(ef, 5, 80) / 100) * trial.esv_factor * reader[1],
            0.97 * columns["reported_lv_edv_ml"],
        )
        columns["reported_lv_ef_percent"] = 100 * (
            1 - columns["reported_lv_esv_ml"] / columns["reported_lv_edv_ml"]
        )
        rows.append({name: np.asarray(values)[scanned] for name, values in columns.items()})
    return rows


def synthetic_measurements(seed: int = 1) -> pd.DataFrame:
    """The large table: six randomised trials and two healthy cohorts, no images behind it."""
    parts: list[pd.DataFrame] = []
    for number, trial in enumerate(TRIALS):
        rng = np.random.default_rng([seed, number])
        parts.extend(
            pd.DataFrame(rows).assign(randomised=True, healthy=False)
            for rows in _trial_rows(trial, rng)
        )
    for number, (name, n) in enumerate(HEALTHY_COHORTS.items()):
        healthy = healthy_people(n, np.random.default_rng([seed, 99, number]))
        parts.append(
            pd.DataFrame(healthy).assign(
                trial=name,
                participant_id=[f"{name[0]}{i:04d}" for i in range(1, n + 1)],
                visit="baseline",
                visit_day=0,
                randomised=False,
                healthy=True,
            )
        )
    table = pd.concat(parts, ignore_index=True)
    table["status"] = "ok"
    table["papillary"] = "blood-pool"
    table["bsa_formula"] = "mosteller"
    table["sequence"] = "bssfp"
    table["model_id"] = MODEL_ID
    first = ["trial", "participant_id", "visit", "visit_day", "status"]
    table["arm"] = table["arm"].astype(object).where(table["arm"].notna(), None)
    return table[[*first, *[name for name in table.columns if name not in first]]]


def large_draw(n: int = 400_000) -> dict[str, np.ndarray]:
    """A population large enough to read true limits from."""
    people = healthy_people(n, np.random.default_rng(12345))
    return {name: np.asarray(values) for name, values in people.items()}


def true_limits(
    people: dict[str, np.ndarray], measure: str, sex: str, age: tuple[float, float]
) -> tuple[float, float]:
    """The 2.5 % and 97.5 % limits of a `large_draw` in one sex and age band ``[low, high)``."""
    own = (people["sex"] == sex) & (people["age_years"] >= age[0])
    if np.isfinite(age[1]):
        own &= people["age_years"] < age[1]
    low, high = (float(v) for v in np.quantile(people[measure][own], (0.025, 0.975)))
    return low, high
