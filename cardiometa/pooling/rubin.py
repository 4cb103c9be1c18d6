"""Rubin's rules: estimates of imputed data sets combined within a trial, before any pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .records import Study

# Below this share of missing information the degrees of freedom are as good as complete (mice).
_LEAST_LAMBDA = 1e-4


def barnard_rubin(lam: float, imputations: int, complete_df: float) -> float:
    """Degrees of freedom of a combined estimate (Barnard & Rubin 1999, Biometrika 86:948).

    ``lam`` is (1 + 1/m) B / T; ``complete_df`` those of complete data, infinite for large samples.
    """
    lam = max(lam, _LEAST_LAMBDA)
    old = (imputations - 1) / lam**2
    if math.isinf(complete_df):
        return old
    observed = (complete_df + 1) / (complete_df + 3) * complete_df * (1 - lam)
    return old * observed / (old + observed)


def combine(studies: Sequence[Study], note: str) -> Study:
    """One trial's estimates from each imputed data set, as one (Rubin 1987, ch. 3).

    A data set that gives no estimate leaves the trial without one: what the others say is then
    of chosen imputations.
    """
    first = studies[0]
    lost = next((study for study in studies if not study.estimable), None)
    if lost is not None:
        return replace(first, estimate=None, se=None, note=lost.note)
    m = len(studies)
    estimates = np.array([study.estimate for study in studies], dtype=float)
    within = float(np.mean([study.se**2 for study in studies if study.se is not None]))
    between = float(estimates.var(ddof=1))
    total = within + (1 + 1 / m) * between
    if between == 0:  # nothing was imputed in this trial
        return first
    spreads = [study.residual_sd for study in studies if study.residual_sd is not None]
    lam = (1 + 1 / m) * between / total
    return replace(
        first,
        estimate=float(estimates.mean()),
        se=math.sqrt(total),
        df=barnard_rubin(lam, m, first.df),
        residual_sd=float(np.mean(spreads)) if spreads else None,
        note="; ".join(part for part in (note, first.note) if part),
    )
