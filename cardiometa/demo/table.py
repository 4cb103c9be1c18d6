"""The demo's large table: synthetic measurements of people who have no images.

It is made from the numbers in `truth` by a seeded generator and is labelled synthetic in its
file name and in every report that is made from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..measurement.indexing import body_surface_area_m2
from . import truth

if TYPE_CHECKING:
    import pandas as pd


MODEL_ID = "synthetic-table"
_MEASURED_SD_ML = 4.0


def _people(n: int, age: tuple[float, float], rng: np.random.Generator) -> dict[str, np.ndarray]:
    sex = rng.choice(["male", "female"], n)
    male = sex == "male"
    names = list(truth.ETHNICITY_SHARES)
    height = np.where(male, rng.normal(176.5, 7, n), rng.normal(163.0, 6.5, n))
    index = np.clip(rng.normal(25.8, 3.4, n), 17.5, 42)
    return {
        "age_years": rng.uniform(*age, n),
        "sex": sex,
        "ethnicity": rng.choice(names, n, p=list(truth.ETHNICITY_SHARES.values())),
        "height_cm": height,
        "weight_kg": index * (height / 100) ** 2,
    }


def _bsa(people: dict[str, np.ndarray]) -> np.ndarray:
    pairs = zip(people["height_cm"], people["weight_kg"], strict=True)
    return np.array([body_surface_area_m2(float(h), float(w), "mosteller") for h, w in pairs])


def _volumes(edv: np.ndarray, ef: np.ndarray, mass: np.ndarray) -> dict[str, np.ndarray]:
    esv = edv * (1 - ef / 100)
    return {
        "lv_edv_ml": edv,
        "lv_esv_ml": esv,
        "lv_sv_ml": edv - esv,
        "lv_ef_percent": 100 * (edv - esv) / edv,
        "lv_mass_g": mass,
    }


def _indexed(columns: dict[str, Any]) -> None:
    bsa = columns["bsa_m2"]
    for name, of in (
        ("lv_edvi_ml_m2", "lv_edv_ml"),
        ("lv_esvi_ml_m2", "lv_esv_ml"),
        ("lv_svi_ml_m2", "lv_sv_ml"),
        ("lv_massi_g_m2", "lv_mass_g"),
    ):
        columns[name] = columns[of] / bsa


def healthy_people(n: int, rng: np.random.Generator) -> dict[str, Any]:
    """Columns of ``n`` healthy people drawn from the demo's truth."""
    people = _people(n, (18.0, 80.0), rng)
    bsa = _bsa(people)
    decades = (people["age_years"] - 45) / 10
    male = people["sex"] == "male"

    def draw(key: str) -> np.ndarray:
        pairs = [truth.HEALTHY_MEANS[sex][key] for sex in ("male", "female")]
        mean, slope, spread = (np.where(male, a, b) for a, b in zip(*pairs, strict=True))
        drawn: np.ndarray = mean + slope * decades + spread * rng.normal(size=n)
        return drawn

    shift = np.array([truth.ETHNICITY_EDVI.get(str(name), 0.0) for name in people["ethnicity"]])
    edv = np.maximum(draw("edvi") + shift, 35) * bsa
    columns: dict[str, Any] = {
        **people,
        "bsa_m2": bsa,
        **_volumes(edv, np.clip(draw("ef"), 35, 85), np.maximum(draw("massi"), 25) * bsa),
    }
    _indexed(columns)
    return columns


def _trial_rows(trial: truth.TrialTruth, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Baseline and follow-up of one trial's participants; some have no follow-up scan."""
    n = trial.n
    people = _people(n, (42.0, 80.0), rng)
    bsa = _bsa(people)
    active = rng.permutation(n) % 2 == 1
    true_ef = rng.normal(38, 8, n)
    edv = np.maximum(rng.normal(112, 22, n), 60) * bsa
    mass = np.maximum(rng.normal(72, 12, n), 35) * bsa
    later_ef = 0.85 * true_ef + 0.15 * 38 + rng.normal(0, 4, n)
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
        (truth.FOLLOW_UP, truth.FOLLOW_UP_DAY, later_edv, later_ef, came),
    )
    rows = []
    for visit, day, volume, ef, scanned in visits:
        measured = volume + rng.normal(0, _MEASURED_SD_ML, n)
        columns: dict[str, Any] = {
            **both,
            "visit": np.full(n, visit),
            "visit_day": day + (rng.integers(-14, 15, n) if day else np.zeros(n, dtype=int)),
            **_volumes(measured, np.clip(ef + rng.normal(0, 1.5, n), 5, 80), mass),
        }
        _indexed(columns)
        reader = rng.normal(1, 0.03, (2, n))
        columns["reported_lv_edv_ml"] = columns["lv_edv_ml"] * trial.edv_factor * reader[0]
        columns["reported_lv_esv_ml"] = columns["lv_esv_ml"] * trial.esv_factor * reader[1]
        columns["reported_lv_ef_percent"] = 100 * (
            1 - columns["reported_lv_esv_ml"] / columns["reported_lv_edv_ml"]
        )
        rows.append({name: np.asarray(values)[scanned] for name, values in columns.items()})
    return rows


def synthetic_measurements(seed: int = 1) -> pd.DataFrame:
    """The large table: six randomised trials and two healthy cohorts, no images behind it."""
    import pandas as pd

    parts: list[pd.DataFrame] = []
    for number, trial in enumerate(truth.TRIALS):
        rng = np.random.default_rng([seed, number])
        parts.extend(
            pd.DataFrame(rows).assign(randomised=True, healthy=False)
            for rows in _trial_rows(trial, rng)
        )
    for number, (name, n) in enumerate(truth.HEALTHY_COHORTS.items()):
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
