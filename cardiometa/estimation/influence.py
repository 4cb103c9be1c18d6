"""What each trial does to the pooled effect: deletion measures of the second stage.

Viechtbauer & Cheung 2010 (Res Synth Meth 1:112), as metafor's ``influence()`` of the model with
Wald tests: they judge the fit, not the interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from .random_effects import RandomEffects, pool_estimates

LEAST_TRIALS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Influence:
    """One trial: how far it is from the others, and how the fit changes without it.

    ``rstudent`` the studentised deleted residual; ``dffits`` and ``dfbetas`` the change of the
    pooled effect in standard errors; ``cook_d`` the same squared by the whole fit's; ``cov_ratio``
    the ratio of variances; ``hat`` the share of weight. ``influential`` by metafor's rules.
    """

    rstudent: float
    dffits: float
    cook_d: float
    cov_ratio: float
    tau2_deleted: float
    q_deleted: float
    hat: float
    dfbetas: float
    influential: bool


def influence(y: np.ndarray, v: np.ndarray, method: str) -> Sequence[Influence]:
    """The measures of each of ``k`` >= 3 trials, tau² estimated anew without it."""
    y, v = np.asarray(y, dtype=float), np.asarray(v, dtype=float)
    whole = pool_estimates(y, v, method)
    return [
        _of_trial(i, y, v, whole, pool_estimates(np.delete(y, i), np.delete(v, i), method))
        for i in range(whole.k)
    ]


def _of_trial(
    i: int, y: np.ndarray, v: np.ndarray, whole: RandomEffects, without: RandomEffects
) -> Influence:
    change = whole.estimate - without.estimate
    hat = float(whole.weights[i])
    own = without.tau2 + float(v[i])
    dffits = change / (hat * own) ** 0.5
    # The variance that all trials together would have with the deleted fit's tau².
    dfbetas = change / float((1.0 / (v + without.tau2)).sum()) ** -0.5
    cook_d = (change / whole.se_wald) ** 2
    k = whole.k
    return Influence(
        rstudent=(float(y[i]) - without.estimate) / (own + without.se_wald**2) ** 0.5,
        dffits=dffits,
        cook_d=cook_d,
        cov_ratio=(without.se_wald / whole.se_wald) ** 2,
        tau2_deleted=without.tau2,
        q_deleted=without.q,
        hat=hat,
        dfbetas=dfbetas,
        influential=bool(
            abs(dffits) > 3.0 * (1.0 / (k - 1)) ** 0.5
            or stats.chi2.cdf(cook_d, 1) > 0.5
            or hat > 3.0 / k
            or abs(dfbetas) > 1.0
        ),
    )
