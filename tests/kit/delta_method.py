"""The delta method for meta-analytic reference limits: what the generalised pivots are held to."""

import numpy as np
from scipy import special

from cardiometa.statistics.meta import likelihood_se


def delta_se(trials, fit, centiles):
    """SE of each marginal frequentist limit: √(Var(mean) + z²Var(T)/(4T)), T = tau² + sigma².

    Var(tau²) from the REML information, Var(sigma²) = 2sigma⁴/Σ(n - 1).
    """
    v = trials.sd**2 / trials.n
    var_mean = 1 / float((1 / (v + fit.tau**2)).sum())
    se_tau2 = likelihood_se(v, fit.tau**2, "reml") or 0.0
    var_total = se_tau2**2 + 2 * fit.sigma**4 / float((trials.n - 1).sum())
    z = special.ndtri(centiles / 100)
    return np.sqrt(var_mean + z**2 * var_total / (4 * fit.sd**2))
