"""A curve as it is fitted, stored, drawn and scored: one path from its parameters to every number.

A curve is a distribution whose parameters are functions of age: LMS (log M, log S, L), the same
with heavier or lighter tails (BCT, BCPE: ln τ too), normal (mean, and SD or log SD), or a function
for each centile. With ``tau`` it is that of a new trial,
whose location differs by a normal effect with that SD (in log M, or in the mean).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from scipy import special

from ...statistics.basis_functions import SplineBasis, fractional_columns
from ...statistics.box_cox_tails import TAILS, tail_centile, tail_shares
from ...statistics.lms import lms_centile, scaled_power
from ...statistics.location_scale import LocationScaleFit
from ..options import Kind

FamilyName = Literal["lms", "bct", "bcpe", "normal", "quantile"]
# Of positive values; their location is log M.
POWER_FAMILIES = ("lms", "bct", "bcpe")
# Nodes of the standard normal distribution.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(21)
_WEIGHTS /= _WEIGHTS.sum()
_Tail = tuple[str, float] | None  # the family and its ln τ
_STEPS = 60
_SLOPE = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class AgeFunction:
    """A function of age: basis columns times ``coefficients``, plus ``offset``.

    ``spline``: cubic B-splines on ``segments`` equal pieces from ``low`` to ``high``;
    ``polynomial``: ((age - 50)/10)^0, ^1 …; ``fractional-polynomial``: 1 and the ``powers`` of
    age/50.
    """

    basis: Literal["spline", "polynomial", "fractional-polynomial"]
    coefficients: tuple[float, ...]
    offset: float = 0.0
    low: float = 0.0
    high: float = 0.0
    segments: int = 0
    powers: tuple[float, ...] = ()

    def columns(self, ages: np.ndarray) -> np.ndarray:
        """The basis at ``ages`` ``[n]``, ``[n, coefficients]``."""
        x = np.asarray(ages, dtype=float)
        if self.basis == "spline":
            return SplineBasis(low=self.low, high=self.high, segments=self.segments).at(x)
        if self.basis == "polynomial":
            return polynomial_columns(x, len(self.coefficients))
        return fractional_age_columns(x, self.powers)

    def at(self, ages: np.ndarray) -> np.ndarray:
        """The function's values ``[n]``."""
        return np.asarray(self.columns(ages) @ np.asarray(self.coefficients) + self.offset)


def polynomial_columns(ages: np.ndarray, size: int) -> np.ndarray:
    """``[n, size]``: powers 0, 1 … of (age - 50)/10."""
    return np.asarray(np.vander((ages - 50) / 10, size, increasing=True))


def fractional_age_columns(ages: np.ndarray, powers: Sequence[float]) -> np.ndarray:
    """``[n, 1 + powers]``: 1 and the fractional powers of age/50."""
    return np.hstack([np.ones((len(ages), 1)), fractional_columns(ages / 50, powers)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A distribution by age, between ``age_low`` and ``age_high``.

    ``functions`` in order: ``log_m, log_s, l`` and, of BCT and BCPE, ``log_tail`` (one number at
    every age); ``mean, log_sd`` or ``mean, sd``; or a function named by each centile (``2.5``).
    ``observed``: the intervals of ages with participants, where there are gaps between them.
    """

    family: FamilyName
    functions: Mapping[str, AgeFunction]
    age_low: float
    age_high: float
    observed: tuple[tuple[float, float], ...] = ()
    tau: float = 0.0

    def is_observed(self, ages: np.ndarray) -> np.ndarray:
        """True for each age ``[n]`` inside the curve's ages and in no gap."""
        found = np.zeros(len(ages), dtype=bool)
        with np.errstate(invalid="ignore"):
            for low, high in self.observed or ((self.age_low, self.age_high),):
                found |= (ages >= low) & (ages <= high)
        return found

    def parameters(self, ages: np.ndarray) -> np.ndarray:
        """The parameters, ``[functions, ages]``."""
        return np.stack([f.at(ages) for f in self.functions.values()])

    def limits(self, ages: np.ndarray, centiles: Sequence[float]) -> np.ndarray:
        """``[ages, centiles]``; a quantile curve has only its own centiles."""
        return self.limits_of(self.parameters(ages), self.tau, centiles)

    def limits_of(self, eta: np.ndarray, tau: float, centiles: Sequence[float]) -> np.ndarray:
        """The same from parameters ``[functions, ages]``."""
        names = tuple(self.functions)
        if self.family == "quantile":
            rows = [names.index(f"{c:g}") for c in centiles]
            return np.asarray(eta[rows].T)
        z = special.ndtri(np.asarray(centiles, dtype=float) / 100)[None, :]
        if self.family == "normal":
            return np.asarray(eta[0][:, None] + self._sd(eta, tau)[:, None] * z)
        m, s, ell = (np.exp(eta[0])[:, None], np.exp(eta[1])[:, None], eta[2][:, None])
        tail = self._tail(eta)
        if tau > 0:
            return _mixed_limits(m, s, ell, tail, tau, z)
        if tail is None:
            return lms_centile(z, m, s, ell)
        return tail_centile(TAILS[tail[0]], special.ndtr(z), m, s, ell, tail[1])

    def _tail(self, eta: np.ndarray) -> _Tail:
        """The family's tail and its ln τ, one number; None where the distribution has none."""
        return (self.family, float(eta[3][0])) if self.family in TAILS else None

    def slopes(self, ages: np.ndarray, centiles: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives of the limits: by parameter ``[ages, centiles, functions]``, by ln tau²."""
        eta = self.parameters(ages)
        if self.family in POWER_FAMILIES and self.tau > 0:
            return _mixed_slopes(eta, self._tail(eta), self.tau, self.limits(ages, centiles))
        columns = []
        for index in range(len(eta)):
            step = _SLOPE * np.maximum(np.abs(eta[index]), 1.0)
            up, down = eta.copy(), eta.copy()
            up[index] += step
            down[index] -= step
            ends = [self.limits_of(at, self.tau, centiles) for at in (up, down)]
            columns.append((ends[0] - ends[1]) / (2 * step)[:, None])
        by_tau = np.zeros_like(columns[0])
        if self.tau > 0:
            more = self.limits_of(eta, self.tau * np.exp(_SLOPE / 2), centiles)
            less = self.limits_of(eta, self.tau * np.exp(-_SLOPE / 2), centiles)
            by_tau = (more - less) / (2 * _SLOPE)
        return np.stack(columns, axis=2), by_tau

    def z_scores(self, values: np.ndarray, ages: np.ndarray) -> np.ndarray:
        """The z score of each value at its age, ``[n]``; NaN where there is no such value.

        For a quantile curve only the side is known: -inf below the lowest centile, inf above the
        highest, linear in z between them.
        """
        return self.z_scores_of(self.parameters(ages), values, self.tau)

    def z_scores_of(self, eta: np.ndarray, values: np.ndarray, tau: float) -> np.ndarray:
        """The same from parameters ``[functions, n]``."""
        if self.family == "quantile":
            return _between_centiles(tuple(self.functions), eta, values)
        if self.family == "normal":
            return np.asarray((values - eta[0]) / self._sd(eta, tau))
        with np.errstate(divide="ignore", invalid="ignore"):
            w = np.where(values > 0, np.log(values), np.nan) - eta[0]
        return _score(w, np.exp(eta[1]), eta[2], self._tail(eta), tau)

    def _sd(self, eta: np.ndarray, tau: float) -> np.ndarray:
        """The SD of a normal curve with that of trials."""
        sd = np.exp(eta[1]) if "log_sd" in self.functions else eta[1]
        return np.asarray(np.sqrt(sd**2 + tau**2))


def _score(w: np.ndarray, s: np.ndarray, ell: np.ndarray, tail: _Tail, tau: float) -> np.ndarray:
    """The z of ln(Y/M) = w; with ``tau`` for a new trial, M varying by exp(N(0, tau²)).

    From the smaller tail, so that far values keep their digits.
    """
    if tau <= 0 and tail is None:
        return np.asarray(scaled_power(w, ell) / s)
    below = np.zeros_like(w)
    above = np.zeros_like(w)
    nodes = zip(_NODES * tau, _WEIGHTS, strict=True) if tau > 0 else ((0.0, 1.0),)
    for x, weight in nodes:
        if tail is None:
            z = scaled_power(w - x, ell) / s
            shares = special.ndtr(z), special.ndtr(-z)
        else:
            shares = tail_shares(TAILS[tail[0]], w - x, s, ell, tail[1])
        below = below + weight * shares[0]
        above = above + weight * shares[1]
    return np.asarray(np.where(below < 0.5, special.ndtri(below), -special.ndtri(above)))


def _mixed_limits(
    m: np.ndarray, s: np.ndarray, ell: np.ndarray, tail: _Tail, tau: float, z: np.ndarray
) -> np.ndarray:
    """Where it reaches each centile for a new trial: bracketed Newton steps on ln(limit/M)."""
    s, ell, z = np.broadcast_arrays(s, ell, z)
    reach = np.sqrt(s**2 + tau**2)
    low, high = -4 * reach * (np.abs(z) + 1) - 0.1, 4 * reach * (np.abs(z) + 1) + 0.1
    w, step = reach * z, 1e-4 * reach
    for _ in range(_STEPS):
        score = _score(w, s, ell, tail, tau) - z
        if np.abs(score).max() < 1e-10:
            break
        low, high = np.where(score < 0, w, low), np.where(score > 0, w, high)
        ahead = _score(w + step, s, ell, tail, tau) - z
        with np.errstate(divide="ignore", invalid="ignore"):
            new = w - score * step / (ahead - score)
        bad = ~((new > low) & (new < high))
        w = np.where(bad, (low + high) / 2, new)
    return np.asarray(m * np.exp(w))


def _mixed_slopes(
    eta: np.ndarray, tail: _Tail, tau: float, limits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """By the implicit function: dw = -(dz by the parameter)/(dz by w) at the limit."""
    w = np.log(limits) - eta[0][:, None]
    s, ell = np.exp(eta[1])[:, None], eta[2][:, None]
    unit = np.sqrt(s**2 + tau**2)

    h = 1e-4

    def by(number: int) -> np.ndarray:
        """The score's derivative by w (in units), ln S, L, ln tau² and ln τ."""
        ends = []
        for step in (h, -h):
            d = np.zeros(5)
            d[number] = step
            moved = None if tail is None else (tail[0], tail[1] + d[4])
            at = w + d[0] * unit, s * np.exp(d[1]), ell + d[2]
            ends.append(_score(*at, moved, tau * float(np.exp(d[3] / 2))))
        return np.asarray((ends[0] - ends[1]) / (2 * h))

    steep = by(0) / unit
    parts = [by(number) for number in (1, 2, *(() if tail is None else (4,)))]
    slopes = np.stack([np.ones_like(w), *(-part / steep for part in parts)], axis=2)
    return limits[:, :, None] * slopes, -limits * by(3) / steep


def _between_centiles(names: Sequence[str], eta: np.ndarray, values: np.ndarray) -> np.ndarray:
    z = special.ndtri(np.array([float(name) for name in names]) / 100)
    ordered = np.sort(eta, axis=0)
    found = np.full(len(values), np.nan)
    found[values < ordered[0]] = -np.inf
    found[values > ordered[-1]] = np.inf
    for index in range(len(names) - 1):
        low, high = ordered[index], ordered[index + 1]
        inside = (values >= low) & (values <= high)
        with np.errstate(divide="ignore", invalid="ignore"):
            part = np.where(high > low, (values - low) / (high - low), 0.5)
        found = np.where(inside, z[index] + part * (z[index + 1] - z[index]), found)
    return np.asarray(found)


# ------------------------------------------------------------------ as a document


def curve_document(curve: Curve) -> dict[str, Any]:
    """The curve as JSON values."""
    of_basis = {"spline": ("low", "high", "segments"), "fractional-polynomial": ("powers",)}
    functions = []
    for name, f in curve.functions.items():
        fields = ("basis", "offset", "coefficients", *of_basis.get(f.basis, ()))
        functions.append({"name": name, **{field: getattr(f, field) for field in fields}})
    ends = {"age_low": curve.age_low, "age_high": curve.age_high}
    observed = [list(ages) for ages in curve.observed or (ends.values(),)]
    return {
        "family": curve.family,
        "functions": functions,
        **ends,
        "observed_ages": observed,
        "tau": curve.tau,
    }


def gaps_of(observed: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The ages between neighbouring intervals."""
    return [(before[1], after[0]) for before, after in pairwise(observed)]


def gap_text(low: float, high: float) -> str:
    """For notes and warnings."""
    return f"almost no participants between {low:g} and {high:g} years"


# ------------------------------------------------------------------ fitted


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedCurve:
    """A curve with its uncertainty.

    Its parameters at ages are ``jacobian(ages) @ theta`` ``[functions, ages, p]`` (to first order),
    theta having ``covariance`` ``[p, p]``; ``deviations`` ``[samples, p]`` are a bootstrap's, whose
    percentiles then make the intervals. ``tau_df``: degrees of freedom of tau², 0 without;
    ``trials`` that tau comes from.
    """

    kind: Kind
    curve: Curve
    jacobian: Callable[[np.ndarray], np.ndarray]
    covariance: np.ndarray
    deviations: np.ndarray | None = None
    tau_df: float = 0.0
    tau: float = 0.0
    trials: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCurves:
    """The curves of one group, a kind each; none where it has too few participants.

    ``pooled``: the age shape is that of all ethnicities, and only the level is its own;
    not ``linked``: no trial separates it from the others, and it has their level (`linked_groups`).
    ``trial_effects`` by the table's trial number, on the scale of the location, for the z scores of
    participants of these trials; ``edf`` of the location and the scale by age; ``fit`` what a
    location-scale model of all participants was estimated as.
    """

    ethnicity: int
    n: int
    trials: int
    age_low: float
    age_high: float
    curves: tuple[FittedCurve, ...] = ()
    pooled: bool = False
    linked: bool = True
    trial_effects: Mapping[int, float] = field(default_factory=dict)
    edf: tuple[float, ...] = ()
    fit: LocationScaleFit | None = None


@dataclass(frozen=True, slots=True)
class CurveLimits:
    """Arrays ``[ages, centiles]``, NaN in a gap.

    ``repaired`` ``[ages]``: crossing centiles were put in order.
    """

    limit: np.ndarray
    low: np.ndarray
    high: np.ndarray
    repaired: np.ndarray

    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The limits and both ends of their intervals."""
        return self.limit, self.low, self.high


def curve_limits(
    fitted: FittedCurve, ages: np.ndarray, centiles: Sequence[float], ci_level: float
) -> CurveLimits:
    """Limits at ``ages`` (within the curve's range), their intervals at that level (a fraction).

    Delta method: Var(limit) = g'·J·V·J'·g, g the derivative of the limit by the parameters, J their
    derivative by the coefficients, V the coefficients' covariance; a new trial's limit adds the
    uncertainty of tau, whose logarithm's variance is 2/df (of tau²). With a random trial effect the
    interval is Student's, with Satterthwaite's degrees of freedom for the part from trials. A
    quantile curve that was resampled has the percentiles of its samples' limits.
    """
    limit = fitted.curve.limits(ages, centiles)
    if fitted.deviations is not None:
        low, high = _percentiles(fitted, limit, ages, centiles, ci_level)
    else:
        variance, quantile = _uncertainty(fitted, ages, centiles, ci_level)
        reach = quantile * np.sqrt(variance)
        low, high = limit - reach, limit + reach
        if fitted.curve.family in POWER_FAMILIES:
            # On the log scale, where the estimates are made: both ends stay above 0.
            factor = np.exp(reach / limit)
            low, high = limit / factor, limit * factor
    order = np.argsort(limit, axis=1, kind="stable")
    repaired = (order != np.arange(limit.shape[1])).any(axis=1)
    if repaired.any():
        # Rearrangement (Chernozhukov V et al. Econometrica 2010;78:1093-125), ends alike.
        limit, low, high = (np.sort(part, axis=1) for part in (limit, low, high))
    return CurveLimits(limit=limit, low=low, high=high, repaired=repaired)


def _percentiles(
    fitted: FittedCurve,
    limit: np.ndarray,
    ages: np.ndarray,
    centiles: Sequence[float],
    ci_level: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The ends ``[ages, centiles]`` of a quantile curve's intervals from its samples."""
    names = tuple(fitted.curve.functions)
    J = fitted.jacobian(ages)[[names.index(f"{c:g}") for c in centiles]]
    tail = (1 - ci_level) / 2
    low, high = np.empty_like(limit), np.empty_like(limit)
    for number, rows in enumerate(J):
        moves = fitted.deviations @ rows.T
        ends = np.quantile(moves, [tail, 1 - tail], axis=0, method="weibull")
        low[:, number], high[:, number] = limit[:, number] + ends
    return np.minimum(low, limit), np.maximum(high, limit)


def _uncertainty(
    fitted: FittedCurve, ages: np.ndarray, centiles: Sequence[float], ci_level: float
) -> tuple[np.ndarray, np.ndarray]:
    """The variance of each limit ``[ages, centiles]``, and the quantile of its interval."""
    curve = fitted.curve
    J = fitted.jacobian(ages)
    joint = np.einsum("qap,pr,sar->aqs", J, fitted.covariance, J, optimize=True)
    gradient, by_log_tau2 = curve.slopes(ages, centiles)
    variance = np.einsum("acq,aqs,acs->ac", gradient, joint, gradient)
    normal = np.full_like(variance, float(special.ndtri((1 + ci_level) / 2)))
    if curve.family == "quantile" or fitted.tau <= 0:
        return variance, normal
    from_trials = gradient[:, :, 0] ** 2 * fitted.tau**2 / max(fitted.trials, 1)
    if fitted.tau_df > 0 and curve.tau > 0:
        extra = by_log_tau2**2 * 2 / fitted.tau_df
        variance, from_trials = variance + extra, from_trials + extra
    if fitted.trials < 2:
        return variance, normal
    share = np.clip(from_trials / np.maximum(variance, 1e-300), 0, 1)
    df = (fitted.trials - 1) / np.maximum(share**2, 1e-6)
    return variance, np.asarray(special.stdtrit(df, (1 + ci_level) / 2))
