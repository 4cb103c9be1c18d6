"""The reference range of a meta-analysis: from each trial's number, mean and SD alone.

Siegel L, Murad MH, Chu H. Res Synth Methods 2021;12:148-60 (frequentist and empirical); Cao W,
Siegel L, Zhou J et al. Res Synth Methods 2021;12:630-40 (mixture of fixed trials).
Notation: y means, s standard deviations, n people of the k trials.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special
from scipy.optimize import brentq

from .meta import between_trial_variance

Weights = Literal["precision", "people"]
_STEPS = 50  # bisections of tau² between 0 and its bound


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialMoments:
    """People, mean and SD (n - 1) of each trial, ``[k]``; n ≥ 2 and SD > 0."""

    n: np.ndarray
    mean: np.ndarray
    sd: np.ndarray

    @property
    def k(self) -> int:
        """Trials."""
        return len(self.n)

    def at(self, trials: np.ndarray) -> TrialMoments:
        """Some of the trials."""
        return TrialMoments(n=self.n[trials], mean=self.mean[trials], sd=self.sd[trials])


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaRange:
    """A normal law for people of trials: ``mean``, SD within (``sigma``) and between (``tau``)."""

    mean: float
    sigma: float
    tau: float

    @property
    def sd(self) -> float:
        """SD of a person of a new trial."""
        return float(np.hypot(self.sigma, self.tau))

    @property
    def tau_share(self) -> float:
        """tau/√(tau² + sigma²): how much of the spread is between trials."""
        return self.tau / self.sd if self.sd > 0 else 0.0

    def limits(self, centiles: np.ndarray, *, marginal: bool) -> np.ndarray:
        """Mean + z·SD of a new trial's person (``marginal``), or of an average trial's."""
        return np.asarray(
            self.mean + special.ndtri(centiles / 100) * (self.sd if marginal else self.sigma)
        )


def pooled_sigma2(trials: TrialMoments) -> float:
    """Σ(n - 1)s²/Σ(n - 1)."""
    return float((trials.n - 1) @ trials.sd**2 / (trials.n - 1).sum())


def frequentist_range(trials: TrialMoments) -> MetaRange:
    """Random effects: mean and tau² by REML with v = s²/n, sigma² pooled over trials."""
    v = trials.sd**2 / trials.n
    tau2 = between_trial_variance(trials.mean, v, "reml")
    w = 1 / (v + tau2)
    return MetaRange(
        mean=float(w @ trials.mean / w.sum()),
        sigma=float(np.sqrt(pooled_sigma2(trials))),
        tau=float(np.sqrt(tau2)),
    )


def empirical_range(trials: TrialMoments) -> MetaRange:
    """Weighted mean; between: Σ(n - 1)(y - mean)²/Σ(n - 1), added to the pooled variance."""
    mean = float(trials.n @ trials.mean / trials.n.sum())
    between = float((trials.n - 1) @ (trials.mean - mean) ** 2 / (trials.n - 1).sum())
    return MetaRange(
        mean=mean, sigma=float(np.sqrt(pooled_sigma2(trials))), tau=float(np.sqrt(between))
    )


def mixture_limits(trials: TrialMoments, centiles: np.ndarray) -> np.ndarray:
    """The centiles of people of just these trials: Σ w·Φ((x - y)/s) = p, w = n/Σn."""
    w = trials.n / trials.n.sum()
    # One step further, for an SD that vanishes beside its mean.
    low = float(np.nextafter((trials.mean - 40 * trials.sd).min(), -np.inf))
    high = float(np.nextafter((trials.mean + 40 * trials.sd).max(), np.inf))

    def excess(x: float, p: float) -> float:
        return float(w @ special.ndtr((x - trials.mean) / trials.sd)) - p

    return np.array([brentq(excess, low, high, args=(c / 100,), xtol=1e-12) for c in centiles])


# ------------------------------------------------------------------ intervals


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaDraws:
    """What the trials leave possible, arrays ``[draws]``: mean, sigma and tau."""

    mean: np.ndarray
    sigma: np.ndarray
    tau: np.ndarray

    def interval(
        self, centiles: np.ndarray, level: float, *, marginal: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Equal-tailed ends ``[centiles]`` of the limits at that level (a fraction)."""
        sd = np.hypot(self.sigma, self.tau) if marginal else self.sigma
        limits = self.mean[:, None] + special.ndtri(centiles / 100) * sd[:, None]
        ends = np.quantile(limits, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return ends[0], ends[1]


def pivotal_draws(
    trials: TrialMoments, draws: int, seed: int, weights: Weights = "precision"
) -> MetaDraws:
    """Draws of the generalised pivots of mean, sigma and tau (Iyer, Wang & Mathew 2004).

    A parametric bootstrap turned round: sigma² = Σ(n - 1)s²/χ²; tau² solves Q(tau²) = χ²(k - 1),
    which is Q-profile's pivot, and is 0 where Q(0) is less; mean = the mean weighted by precision
    at that tau², or by people, minus a normal deviate of its SE. With one trial tau is 0.
    """
    rng = np.random.default_rng(seed)
    df = float((trials.n - 1).sum())
    sigma2 = pooled_sigma2(trials) * df / rng.chisquare(df, draws)
    deviate = rng.standard_normal(draws)
    v = sigma2[:, None] / trials.n[None, :]
    tau2 = np.zeros(draws)
    if trials.k > 1:
        tau2 = _solve_q(trials.mean, v, rng.chisquare(trials.k - 1, draws))
    variance = v + tau2[:, None]
    w = 1 / variance if weights == "precision" else np.tile(trials.n, (draws, 1))
    w /= w.sum(axis=1, keepdims=True)
    mean = w @ trials.mean - deviate * np.sqrt((w**2 * variance).sum(axis=1))
    return MetaDraws(mean=mean, sigma=np.sqrt(sigma2), tau=np.sqrt(tau2))


def _solve_q(y: np.ndarray, v: np.ndarray, target: np.ndarray) -> np.ndarray:
    """For each draw the tau² ≥ 0 with Σ w(y - mean)² = target, 0 where there is none."""

    def q(tau2: np.ndarray) -> np.ndarray:
        w = 1 / (v + tau2[:, None])
        mean = (w @ y) / w.sum(axis=1)
        return np.asarray((w * (y[None, :] - mean[:, None]) ** 2).sum(axis=1))

    low = np.zeros(len(target))
    # Q(tau²) < Σ(y - ȳ)²/tau²: beyond this the target is not reached.
    high = float(((y - y.mean()) ** 2).sum()) / target
    reached = q(low) > target
    for _ in range(_STEPS):
        middle = (low + high) / 2
        above = q(middle) > target
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.where(reached, (low + high) / 2, 0.0)


def moment_draws(trials: TrialMoments, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Means and SDs ``[draws, k]`` of the same trials with other participants (pivots).

    Mean = y - z·s/√n, variance = (n - 1)s²/χ²(n - 1).
    """
    rng = np.random.default_rng(seed)
    size = (draws, trials.k)
    sd = trials.sd * np.sqrt((trials.n - 1) / rng.chisquare(trials.n - 1, size))
    return trials.mean - rng.standard_normal(size) * sd / np.sqrt(trials.n), sd


def fixed_draws(trials: TrialMoments, draws: int, seed: int) -> MetaDraws:
    """Draws for these very trials, kept fixed: mean by people, SD pooled, tau 0."""
    mean, sd = moment_draws(trials, draws, seed)
    df = trials.n - 1
    return MetaDraws(
        mean=mean @ (trials.n / trials.n.sum()),
        sigma=np.sqrt(sd**2 @ df / df.sum()),
        tau=np.zeros(draws),
    )


def mixture_interval(
    trials: TrialMoments, centiles: np.ndarray, level: float, *, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Equal-tailed ends ``[centiles]`` of the mixture's limits, by draws of the trials' moments."""
    mean, sd = moment_draws(trials, draws, seed)
    w = trials.n / trials.n.sum()
    limits = np.empty((draws, len(centiles)))
    for index, centile in enumerate(centiles):
        z = special.ndtri(centile / 100)
        # The mixture's centile lies between the least and the greatest of the trials'.
        low, high = (mean + z * sd).min(axis=1), (mean + z * sd).max(axis=1)
        for _ in range(_STEPS):
            middle = (low + high) / 2
            share = special.ndtr((middle[:, None] - mean) / sd) @ w
            low = np.where(share < centile / 100, middle, low)
            high = np.where(share < centile / 100, high, middle)
        limits[:, index] = (low + high) / 2
    ends = np.quantile(limits, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return ends[0], ends[1]
