"""``reference_ranges.json``: the limits as a portable model that can score new people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..estimation.box_cox import box_cox, box_cox_power
from .fitted import FittedCell
from .options import NOT_A_REFERENCE, ReferenceOptions
from .order import interpolated_quantile
from .robust import robust_fit

FORMAT = "cardiometa-reference-ranges"
FORMAT_VERSION = 1
SAMPLING_ERROR = "sampling error within these trials"

# Centiles of a nonparametric stratum that a score interpolates between; none is near an extreme.
_GRID = (2.5, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.5)


def stratum_model(
    measure: str, unit: str, fitted: FittedCell, *, n: int | None
) -> dict[str, Any] | None:
    """One measure in one stratum, None where it has no limits that may be printed.

    ``n`` None: the number of people is withheld.
    """
    if fitted.rule is None or any(found.limit is None for found in fitted.printed):
        return None
    key = fitted.cell.key
    return {
        "measure": measure,
        "unit": unit,
        "sex": key.sex,
        "ethnicity": key.ethnicity,
        "age_low": key.age_low,
        "age_high": key.age_high,
        "n": n,
        "n_trials": fitted.cell.n_trials,
        "limits": fitted.rule,
        "centiles": [
            {
                "centile": found.centile,
                "limit": found.limit,
                "ci_low": found.ci_low,
                "ci_high": found.ci_high,
            }
            for found in fitted.printed
        ],
        "score": _score(fitted),
        "provisional": key.ethnicity != "all",
    }


def _score(fitted: FittedCell) -> dict[str, Any]:
    """How a new value gets its z and centile, by the family of the stratum's rule.

    ``normal``: z = (y - mean)/sd; ``log-normal``: the same of ln y; ``box-cox``: the same of
    (y^power - 1)/power; ``t``: (y - centre)/spread on
    df degrees of freedom; ``grid``: linear between the centiles, beyond them only "below" or
    "above".
    """
    ordered = fitted.cell.ordered
    n = len(ordered)
    if fitted.rule in ("parametric", "log"):
        values = np.log(ordered) if fitted.rule == "log" else ordered
        family = "log-normal" if fitted.rule == "log" else "normal"
        return {"family": family, "mean": float(values.mean()), "sd": float(values.std(ddof=1))}
    if fitted.rule == "boxcox":
        power = box_cox_power(ordered)
        moved = box_cox(ordered, power)
        mean, sd = float(moved.mean()), float(moved.std(ddof=1))
        return {"family": "box-cox", "power": power, "mean": mean, "sd": sd}
    if fitted.rule == "prediction":
        spread = float(ordered.std(ddof=1)) * float(np.sqrt(1 + 1 / n))
        return {"family": "t", "centre": float(ordered.mean()), "spread": spread, "df": n - 1}
    if fitted.rule == "robust":
        fit = robust_fit(ordered[None, :])
        return {
            "family": "t",
            "centre": float(fit.centre[0]),
            "spread": float(fit.spread[0]),
            "df": n - 1,
        }
    # Only centiles that at least two people lie beyond.
    grid = [c for c in _GRID if min(c, 100 - c) / 100 * (n + 1) >= 2]
    return {
        "family": "grid",
        "centiles": grid,
        "values": [interpolated_quantile(ordered, c / 100) for c in grid],
    }


def model_document(
    strata: Sequence[Mapping[str, Any]],
    curves: Sequence[Mapping[str, Any]],
    options: ReferenceOptions,
    *,
    methods: Sequence[str],
    title: str,
    name: str,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """The whole document; ``facts`` are conventions, people, trials and the input's hash."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "title": title,
        "name": name,
        "notice": "" if options.healthy_only else NOT_A_REFERENCE,
        "methods": list(methods),
        "level": options.level,
        "sided": options.sided,
        "ci_level": options.ci_level,
        "ci_is": SAMPLING_ERROR,
        "age_bands": list(options.age_bands),
        "strata": list(strata),
        "curves": list(curves),
        **facts,
    }
