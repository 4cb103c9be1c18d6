"""Standardised mean differences: each trial's effect in its own within-arm SDs (Hedges' g).

g = J b / s with b the trial's (ANCOVA) difference, s the SD of the outcome within the two arms and
J Hedges' exact correction; variance (SE of b / s)² + g² / 2N. Without a baseline this is metafor's
``SMD`` to the last digit (Hedges & Olkin 1985, p. 86). Trials that measure in another unit become
comparable, and trials whose people differ more from each other get smaller effects: a sensitivity
analysis, not a rescue.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import gammaln

from ..endpoint.analysis_set import Analysed
from ..results import Study

NO_SPREAD = "too few participants for a standard deviation within the arms"


def standardised(trials: Sequence[Analysed], studies: Sequence[Study]) -> list[Study]:
    """The studies with estimate and SE in SDs of the outcome within their two arms."""
    rows = {trial.trial: trial.rows for trial in trials}
    found = []
    for study in studies:
        if study.estimate is None or study.se is None:
            found.append(study)
            continue
        part = rows[study.trial]
        arms = [part.loc[part["arm"] == arm, "outcome"] for arm in (study.control, study.arm)]
        n = sum(map(len, arms))
        if n < 4:
            found.append(replace(study, estimate=None, se=None, note=NO_SPREAD))
            continue
        squares = sum(float(((one - one.mean()) ** 2).sum()) for one in arms)
        spread = math.sqrt(squares / (n - 2))
        g = hedges_correction(n - 2) * study.estimate / spread
        variance = (study.se / spread) ** 2 + g**2 / (2 * n)
        found.append(replace(study, estimate=g, se=math.sqrt(variance), df=float("inf")))
    return found


def hedges_correction(df: int) -> float:
    """Hedges' J(m) = Γ(m/2) / (√(m/2) Γ((m - 1)/2)), exact."""
    half = df / 2
    return float(np.exp(gammaln(half) - gammaln(half - 0.5)) / math.sqrt(half))
