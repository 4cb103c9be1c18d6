"""A reference of six trials adapted to a site's controls, against curves of the site's own.

Run: ``python tests/bench/reference_adapt.py [simulations]``. Each simulation draws six trials of
300 and a site, whose level (log M) and log spread differ by normal effects of SD 0.04 and 0.06,
from the LMS distribution of tests/kit/consortium.py. The error of both outer limits is in percent
of the true limit of the site, root mean square over ages 30 to 70 and both sexes; ``held``: the
share of 90 % intervals of the shifts that contain the true ones.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from scipy import special

sys.path.insert(0, str(Path(__file__).parents[2]))

from cardiometa.errors import EstimationError
from cardiometa.reference.adapt import adapt_reference
from cardiometa.reference.model import NewParticipants, reference_model
from cardiometa.reference.options import ReferenceOptions
from cardiometa.reference.ranges import reference_ranges
from cardiometa.statistics.lms import lms_centile
from tests.kit.consortium import consortium, true_parameters
from tests.kit.reference_tables import table

LEVEL, SPREAD = 0.04, 0.06
AGES = np.array([30.0, 40, 50, 60, 70])
CENTILES = np.array([2.5, 97.5])
OPTIONS = ReferenceOptions(method="lms", by=("sex",), measures=("lv_edv_ml",))
DIRECT = (50, 100, 200, 400)
CONTROLS = (25, 50, 100)


def people(trial, n, effect, rng):
    """Participants of a trial with its effects on log M and log S."""
    frame = consortium({(trial, "white"): n}, seed=int(rng.integers(1 << 30)))
    log_m, s, ell = true_parameters(frame["age_years"].to_numpy(), frame["sex"].to_numpy())
    z = rng.standard_normal(n)
    frame["lv_edv_ml"] = lms_centile(z, np.exp(log_m + effect[0]), s * np.exp(effect[1]), ell)
    return frame


def true_limits(effect):
    """``[sexes, ages, limits]``."""
    found = []
    for sex in ("male", "female"):
        log_m, s, ell = true_parameters(AGES, sex)
        m = np.exp(log_m + effect[0])[:, None]
        z = special.ndtri(CENTILES / 100)
        found.append(lms_centile(z, m, (s * np.exp(effect[1]))[:, None], np.array(ell)))
    return np.array(found)


def limits_of(document):
    """The same of a document; NaN where it has none."""
    model = reference_model(document, "reference")
    found = []
    for sex in ("male", "female"):
        groups = model.distributions("lv_edv_ml", sex, "all", "conditional")
        found.append(groups[0].distribution.limits(AGES, CENTILES))
    return np.array(found)


def main(simulations: int) -> None:
    """Print the table."""
    import pandas as pd

    errors: dict[str, list[float]] = {}
    held: dict[int, list[np.ndarray]] = {}
    expected: dict[int, list[float]] = {}
    start = time.process_time()
    for number in range(simulations):
        rng = np.random.default_rng(number)
        effects = rng.standard_normal((7, 2)) * (LEVEL, SPREAD)
        frames = [people(t, 300, e, rng) for t, e in zip("ABCDEF", effects[:6], strict=True)]
        document = reference_ranges(table(pd.concat(frames)), OPTIONS).model
        truth = true_limits(effects[6])

        def note(name, found, truth=truth):
            error = 100 * np.sqrt(np.nanmean((found / truth - 1) ** 2))
            errors.setdefault(name, []).append(float(error))

        note("reference as it is", limits_of(document))
        for n in CONTROLS:
            site = people("SITE", 2 * n, effects[6], rng)
            site = site[site["age_years"].between(22, 78)].iloc[:n]  # ages of the reference
            who = NewParticipants.of(site)
            values = {"lv_edv_ml": site["lv_edv_ml"].to_numpy()}
            new, found, _ = adapt_reference(
                document, "r", who, values, same_conventions=True, by_name=True, site="SITE"
            )
            note(f"adapted, {n} controls", limits_of(new))
            one = found[0]
            # The reference is that of the six trials' average.
            level, spread = np.exp(effects[6] - effects[:6].mean(axis=0))
            level = 100 * (level - 1)
            inside = (
                one.location_low <= level <= one.location_high,
                one.spread_ratio_low <= spread <= one.spread_ratio_high,
            )
            held.setdefault(n, []).append(np.array(inside))
            expected.setdefault(n, []).append(one.miscalibration)
        for n in DIRECT:
            site = people("SITE", n, effects[6], rng)
            try:
                direct = reference_ranges(table(site), OPTIONS).model
                if not direct["curves"]:
                    continue
                note(f"direct curves, {n} participants", limits_of(direct))
            except (EstimationError, IndexError):
                continue  # no curve of one of the sexes
    for name, values in errors.items():
        usable = np.array(values)[np.isfinite(values)]
        print(f"{name}: error {np.sqrt(np.mean(usable**2)):.2f} % ({len(usable)} of {simulations})")
    for n in CONTROLS:
        shares = np.mean(held[n], axis=0)
        print(
            f"{n} controls: level held {shares[0]:.2f}, spread held {shares[1]:.2f}, "
            f"miscalibration left {np.mean(expected[n]):.2f} points"
        )
    print(f"{time.process_time() - start:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
