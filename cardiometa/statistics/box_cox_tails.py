"""Box-Cox t and Box-Cox power exponential distributions: LMS with a parameter for the tails.

With w = ln(y/M) and z = (exp(L·w) - 1)/(L·S), z follows Student's t on τ degrees of freedom (BCT:
Rigby RA, Stasinopoulos DM. Stat Modelling 2006;6:209-29) or a power exponential distribution of
variance 1 (BCPE: Stat Med 2004;23:3053-76; τ = 2 is normal), cut where 1 + L·S·z would not be
positive, as in gamlss. Heavy tails reach that end, so the cut is part of the density (for LMS it is
left out, as Cole & Green did). ``log_tail`` is ln τ throughout, one number.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from scipy import special

from .lms import lms_centile, scaled_power

_LEAST_SHAPE = 1e-6  # of S·|L|: below it the cut is too far out for any tail


class Tail(Protocol):
    """A symmetric distribution of z: functions of z ``[...]`` and one ``log_tail``."""

    @property
    def start(self) -> float:
        """Where a fit starts."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The values that ``log_tail`` may have."""

    def log_density(self, z: np.ndarray, log_tail: float) -> np.ndarray:
        """Its logarithm."""

    def slope(self, z: np.ndarray, log_tail: float) -> np.ndarray:
        """The derivative of -log density by z."""

    def tail_slope(self, z: np.ndarray, log_tail: float) -> np.ndarray:
        """The derivative of the log density by ``log_tail``."""

    def below(self, z: np.ndarray, log_tail: float) -> np.ndarray:
        """The share below z, precise in the lower tail."""

    def point(self, share: np.ndarray, log_tail: float) -> np.ndarray:
        """The z with that share below it."""


class StudentTail:
    """Student's t; τ the degrees of freedom, 2 to 1000 (where limits are the normal ones)."""

    start = math.log(4.0)
    bounds = (math.log(2.0), math.log(1000.0))

    def log_density(self, z: np.ndarray, log_tail: float) -> np.ndarray:
        """Constant lnΓ((τ+1)/2) - lnΓ(τ/2) - ln(τπ)/2 - (τ+1)/2·ln(1 + z²/τ)."""
        df = math.exp(log_tail)
        constant = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - math.log(df * math.pi) / 2
        return np.asarray(constant - (df + 1) / 2 * np.log1p(z * z / df))

    def slope(self, z: np.ndarray, log_tail: float) -> np.ndarray:
        """(τ+1)z/(τ + z²)."""
        df = math.exp(log_tail)
        return np.asarray((df + 1) * z / (df + z * z))

    def tail_slope(self, z: np.ndarray, log_tail: float) -> np.ndarray:
        """τ/2·(ψ((τ+1)/2) - ψ(τ/2) - 1/τ - ln(1 + z²/τ) + (τ+1)z²/(τ(τ + z²)))."""
        df, square = math.exp(log_tail), z * z
        constant = float(special.digamma((df + 1) / 2) - special.digamma(df / 2)) - 1 / df
        changing = (df + 1) / df * (square / (df + square)) - np.log1p(square / df)
        return np.asarray(df / 2 * (constant + changing))

    def below(self, z: np.ndarray, log_tail: float) -> np.ndarray:
        """Student's distribution function."""
        return np.asarray(special.stdtr(math.exp(log_tail), z))

    def point(self, share: np.ndarray, log_tail: float) -> np.ndarray:
        """Its inverse."""
        return np.asarray(special.stdtrit(math.exp(log_tail), share))


class PowerExponentialTail:
    """Density in proportion to exp(-|z/c|^τ/2), variance 1.

    τ from 1.25 (near Laplace, whose kink at 0 no Fisher step survives) to 20 (flat).
    """

    start = math.log(2.0)
    bounds = (math.log(1.25), math.log(20.0))

    @staticmethod
    def _log_unit(power: float) -> float:
        """The unit: ln c, c² = 2^(-2/τ)·Γ(1/τ)/Γ(3/τ)."""
        return (math.lgamma(1 / power) - math.lgamma(3 / power)) / 2 - math.log(2) / power

    def log_density(self, z: np.ndarray, log_tail: float) -> np.ndarray:
        """Constant ln τ - ln c - (1 + 1/τ)·ln 2 - lnΓ(1/τ) - |z/c|^τ/2."""
        power = math.exp(log_tail)
        unit = self._log_unit(power)
        constant = log_tail - unit - (1 + 1 / power) * math.log(2) - math.lgamma(1 / power)
        return np.asarray(constant - np.abs(z / math.exp(unit)) ** power / 2)

    def slope(self, z: np.ndarray, log_tail: float) -> np.ndarray:
        """τ/(2c)·|z/c|^(τ-1)·sign z."""
        power = math.exp(log_tail)
        unit = math.exp(self._log_unit(power))
        return np.asarray(power / (2 * unit) * np.abs(z / unit) ** (power - 1) * np.sign(z))

    def tail_slope(self, z: np.ndarray, log_tail: float) -> np.ndarray:
        """Of k = d ln c/dτ, u = |z/c|: τ(1/τ - k + (ln 2 + ψ(1/τ))/τ² - u^τ(ln u - τk)/2)."""
        power = math.exp(log_tail)
        first, third = (float(special.digamma(n / power)) for n in (1, 3))
        unit_slope = (math.log(2) - first / 2 + 1.5 * third) / power**2
        log_u = np.log(np.maximum(np.abs(z), 1e-300)) - self._log_unit(power)
        constant = 1 / power - unit_slope + (math.log(2) + first) / power**2
        changing = np.exp(power * log_u) * (log_u - power * unit_slope) / 2
        return np.asarray(power * (constant - changing))

    def below(self, z: np.ndarray, log_tail: float) -> np.ndarray:
        """By the incomplete gamma function of |z/c|^τ/2."""
        power = math.exp(log_tail)
        half = np.abs(z / math.exp(self._log_unit(power))) ** power / 2
        upper = special.gammaincc(1 / power, half) / 2
        return np.asarray(np.where(z < 0, upper, 1 - upper))

    def point(self, share: np.ndarray, log_tail: float) -> np.ndarray:
        """Its inverse."""
        power = math.exp(log_tail)
        side = np.minimum(share, 1 - share)
        far = (2 * special.gammainccinv(1 / power, 2 * side)) ** (1 / power)
        return np.asarray(np.sign(share - 0.5) * far * math.exp(self._log_unit(power)))


TAILS: dict[str, Tail] = {"bct": StudentTail(), "bcpe": PowerExponentialTail()}


# ------------------------------------------------------------------ the cut distribution


def beyond_cut(tail: Tail, shape: np.ndarray, log_tail: float) -> np.ndarray:
    """The share of z beyond the cut at 1/|S·L|; ``shape`` is S·L ``[...]``."""
    return tail.below(-1 / np.maximum(np.abs(shape), _LEAST_SHAPE), log_tail)


def tail_shares(
    tail: Tail, w: np.ndarray, s: np.ndarray, ell: np.ndarray, log_tail: float
) -> tuple[np.ndarray, np.ndarray]:
    """The shares below and above w = ln(y/M), each precise in its own tail."""
    z, shape = scaled_power(w, ell) / s, ell * s
    cut = beyond_cut(tail, shape, log_tail)
    below = tail.below(z, log_tail) - np.where(shape > 0, cut, 0)
    above = tail.below(-z, log_tail) - np.where(shape < 0, cut, 0)
    return np.maximum(below, 0) / (1 - cut), np.maximum(above, 0) / (1 - cut)


def tail_centile(
    tail: Tail, share: np.ndarray, m: np.ndarray, s: np.ndarray, ell: np.ndarray, log_tail: float
) -> np.ndarray:
    """The value with that share below it."""
    shape = ell * s
    cut = beyond_cut(tail, shape, log_tail)
    z = tail.point(np.where(shape > 0, cut, 0) + share * (1 - cut), log_tail)
    return lms_centile(z, m, s, ell)
