"""The second stage: pooled estimate, its intervals, heterogeneity, prediction interval.

Formulae of ``pooling.md`` 2.1; graded against R's metafor in ``tests/golden/pooling``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from .tau2 import between_trial_variance, generalised_q, likelihood_se, products_of_pairs, solve_q

CI_METHODS = ("wald", "hksj", "hksj-truncated")


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomEffects:
    """Inverse-variance pooling of ``k`` estimates with one tau².

    ``weights`` ``[k]`` sum to 1; ``se_wald`` = W1^-1/2; ``q_ratio`` is Hartung and Knapp's
    q = sum w (y - mu)² / (k - 1), None for one trial; ``q`` is Cochran's.
    """

    estimate: float
    se_wald: float
    q_ratio: float | None
    tau2: float
    tau2_method: str
    weights: np.ndarray
    q: float
    q_df: int
    q_p: float | None
    i2_percent: float | None
    h2: float | None
    k: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """One interval and test of a pooled estimate; ``df`` is infinite for the normal law."""

    method: str
    se: float
    df: float
    low: float
    high: float
    p: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeterogeneityInterval:
    """Q-profile limits of tau² and what follows for I² (percent) and H²; None without any.

    ``empty`` where the data are so much alike that no tau² >= 0 is compatible with them.
    """

    tau2: tuple[float, float] | None
    i2_percent: tuple[float, float] | None
    h2: tuple[float, float] | None
    empty: bool = False


def typical_variance(v: np.ndarray) -> float:
    """The typical within-trial variance of Higgins & Thompson 2002, eq. 9; needs k >= 2."""
    u = 1.0 / v
    return float((len(v) - 1) * u.sum() / products_of_pairs(u))


def pool_estimates(y: np.ndarray, v: np.ndarray, method: str) -> RandomEffects:
    """Pool estimates ``y`` ``[k]`` with variances ``v`` ``[k]``; tau² by ``method``."""
    y, v = np.asarray(y, dtype=float), np.asarray(v, dtype=float)
    k = len(y)
    tau2 = between_trial_variance(y, v, method)
    w = 1.0 / (v + tau2)
    total = float(w.sum())
    mu = float((w @ y) / total)
    q = generalised_q(y, v, 0.0)
    i2: float | None = None
    h2: float | None = None
    if k > 1:
        if method == "fe":  # no tau² to speak of: Q itself (Higgins & Thompson 2002)
            h2 = q / (k - 1)
            i2 = 100.0 * max(0.0, 1.0 - 1.0 / h2) if h2 > 0 else 0.0
        else:
            s2 = typical_variance(v)
            i2, h2 = 100.0 * tau2 / (tau2 + s2), (tau2 + s2) / s2
    return RandomEffects(
        estimate=mu,
        se_wald=total**-0.5,
        q_ratio=float(w @ (y - mu) ** 2) / (k - 1) if k > 1 else None,
        tau2=tau2,
        tau2_method=method,
        weights=w / total,
        q=q,
        q_df=k - 1,
        q_p=float(stats.chi2.sf(q, k - 1)) if k > 1 else None,
        i2_percent=i2,
        h2=h2,
        k=k,
    )


def t_interval(
    estimate: float, se: float, df: float, level_percent: float, method: str = "wald"
) -> Interval:
    """Estimate and SE to interval and two-sided p; ``df`` infinite gives the normal law.

    An SE of 0 (all estimates equal, plain HKSJ) has an interval without width and no p.
    """
    # Student's t with infinite df is the normal law in scipy, to the last digit.
    half = float(stats.t.ppf(0.5 + level_percent / 200.0, df)) * se
    p = float(2.0 * stats.t.sf(abs(estimate) / se, df)) if se > 0 else None
    return Interval(method=method, se=se, df=df, low=estimate - half, high=estimate + half, p=p)


def pooled_interval(fit: RandomEffects, method: str, level_percent: float = 95.0) -> Interval:
    """The interval of a pooled estimate by one of `CI_METHODS`.

    ``hksj`` (Hartung & Knapp 2001; Sidik & Jonkman 2002): SE sqrt(q / W1), t with k - 1 df;
    ``hksj-truncated``: q never below 1 (Knapp & Hartung 2003). Both need k >= 2.
    """
    if method == "wald":
        return t_interval(fit.estimate, fit.se_wald, float("inf"), level_percent, method)
    if fit.q_ratio is None:
        raise ValueError("HKSJ needs two trials")
    ratio = fit.q_ratio if method == "hksj" else max(1.0, fit.q_ratio)
    se = fit.se_wald * ratio**0.5
    return t_interval(fit.estimate, se, fit.k - 1, level_percent, method)


def prediction_interval(
    fit: RandomEffects, se: float, pi_df: str, level_percent: float = 95.0
) -> tuple[float, float] | None:
    """Where the true effect of a new trial may lie; None for fewer than three trials.

    mu ± t(df) sqrt(tau² + SE²); ``pi_df`` ``k-1`` (as metafor does beside HKSJ) or ``k-2``
    (Higgins, Thompson & Spiegelhalter 2009). A common-effect model has none.
    """
    if fit.k < 3 or fit.tau2_method == "fe":
        return None
    df = {"k-1": fit.k - 1, "k-2": fit.k - 2}[pi_df]
    half = float(stats.t.ppf(0.5 + level_percent / 200.0, df)) * (fit.tau2 + se**2) ** 0.5
    return fit.estimate - half, fit.estimate + half


def q_profile(y: np.ndarray, v: np.ndarray, level_percent: float = 95.0) -> HeterogeneityInterval:
    """Q-profile limits of tau² (Viechtbauer 2007) and of I² and H² at those limits."""
    y, v = np.asarray(y, dtype=float), np.asarray(v, dtype=float)
    k = len(y)
    if k < 2:
        return HeterogeneityInterval(tau2=None, i2_percent=None, h2=None)
    tail = 0.5 - level_percent / 200.0
    high = solve_q(y, v, float(stats.chi2.ppf(tail, k - 1)))
    if high is None:
        return HeterogeneityInterval(tau2=None, i2_percent=None, h2=None, empty=True)
    low = solve_q(y, v, float(stats.chi2.isf(tail, k - 1))) or 0.0
    s2 = typical_variance(v)
    return HeterogeneityInterval(
        tau2=(low, high),
        i2_percent=(100.0 * low / (low + s2), 100.0 * high / (high + s2)),
        h2=((low + s2) / s2, (high + s2) / s2),
    )


def tau2_standard_error(fit: RandomEffects, v: np.ndarray) -> float | None:
    """Standard error of tau² where the likelihood gives one; None for moment estimators."""
    return (
        likelihood_se(np.asarray(v, dtype=float), fit.tau2, fit.tau2_method) if fit.k > 1 else None
    )
