"""Models of events by Newton's method with step halving: logistic, and Cox with Efron's ties.

Plain maximum likelihood does not exist where an arm or a covariate predicts the outcome perfectly
("separation": an arm without events). Firth's penalised likelihood, with half the log determinant
of the information, has a finite maximum and is nearly unbiased (Firth 1993, Biometrika 80:27;
Heinze & Schemper 2001, Biometrics 57:114, and 2002, Stat Med 21:2409).

The partial likelihood is written for cumulative sums: one sort per stratum, then each evaluation
costs O(n p²) whatever the ties (Efron 1977).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

_LARGEST_STEP = 5.0
_HALVINGS = 40
_MOST_STEPS = 60
_DIFFERENCE = 1e-4  # for second derivatives; columns are scaled to a root mean square of 1
# Less than this share of the information at the start left: the maximum is at infinity, and only
# rounding made the steps small.
_NO_INFORMATION = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class NewtonFit:
    """A fitted model: ``coefficients`` ``[p]``, their ``covariance`` (inverse information).

    ``log_likelihood`` has the penalty in it where the fit is ``penalised``.
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    log_likelihood: float
    steps: int
    penalised: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LikelihoodTerms:
    """A log-likelihood at one point: ``value``, ``score`` ``[p]``, ``information`` ``[p, p]``."""

    value: float
    score: np.ndarray
    information: np.ndarray


def maximise(
    terms: Callable[[np.ndarray], LikelihoodTerms],
    start: np.ndarray,
    *,
    tolerance: float = 1e-10,
    penalised: bool = False,
) -> NewtonFit | None:
    """The maximum of a log-likelihood from ``start``; None where the steps never become small.

    Coefficients are compared with ``tolerance`` as they are: the caller scales its columns. A
    likelihood without a finite maximum (separation) moves on by about one unit a step for ever,
    or its information becomes singular: both give None. The information lacks the curvature of a
    penalty, which is as large where events are few: ``penalised``, it is taken from the score.
    """
    beta = np.asarray(start, dtype=float)
    now = terms(beta)
    least = _NO_INFORMATION * np.diag(now.information)
    for number in range(1, _MOST_STEPS):
        curvature = now.information
        if penalised:  # minus the second derivatives, by central differences of the score
            moves = _DIFFERENCE * np.eye(len(beta))
            slopes = [terms(beta + move).score - terms(beta - move).score for move in moves]
            matrix = np.array(slopes) / (-2.0 * _DIFFERENCE)
            curvature = 0.5 * (matrix + matrix.T)
        step = _solved(curvature, now.score)
        if step is None or (penalised and step @ now.score < 0):
            step = _solved(now.information, now.score)
        if step is None:
            return None
        step = step * min(1.0, _LARGEST_STEP / max(float(np.max(np.abs(step))), 1e-300))
        for _ in range(_HALVINGS):
            new = terms(beta + step)
            if new.value >= now.value - 1e-11 * (1.0 + abs(now.value)):
                break
            step = step / 2.0
        beta, now = beta + step, new
        if np.max(np.abs(step)) < tolerance:
            covariance = _solved(now.information, np.eye(len(beta)))
            if covariance is None or (np.diag(now.information) < least).any():
                return None
            return NewtonFit(
                coefficients=beta,
                covariance=covariance,
                log_likelihood=now.value,
                steps=number,
                penalised=penalised,
            )
    return None


def _solved(information: np.ndarray, right: np.ndarray) -> np.ndarray | None:
    diagonal = np.diag(information)
    if not (np.isfinite(information).all() and (diagonal > 0).all()):
        return None
    scale = 1.0 / np.sqrt(diagonal)
    scaled = information * np.outer(scale, scale)
    if np.linalg.cond(scaled) > 1e13:
        return None
    solution: np.ndarray = (np.linalg.solve(scaled, (right.T * scale).T).T * scale).T
    return solution


def fit_logistic(x: np.ndarray, y: np.ndarray, *, penalised: bool = False) -> NewtonFit | None:
    """Fit ``logit P(y = 1) = x b``; ``x`` ``[n, p]`` with its intercept, ``y`` ``[n]`` 0 or 1.

    None where there is no finite maximum; penalised, only where the columns are dependent.
    """
    scale = np.sqrt((x**2).mean(axis=0))
    if (scale == 0).any():
        return None
    z = x / scale

    def terms(beta: np.ndarray) -> LikelihoodTerms:
        """Penalised, the score is Firth's: X'(y - p + h (1/2 - p))."""
        eta = z @ beta
        p = expit(eta)
        weight = p * (1.0 - p)
        information = z.T @ (z * weight[:, None])
        value = float(y @ eta - np.logaddexp(0.0, eta).sum())
        residual = y - p
        if penalised:
            sign, logdet = np.linalg.slogdet(information)
            if sign <= 0:
                none = np.zeros_like(beta)
                return LikelihoodTerms(value=-np.inf, score=none, information=information)
            value += 0.5 * float(logdet)
            hat = weight * np.einsum("ij,ij->i", z @ np.linalg.inv(information), z)
            residual = residual + hat * (0.5 - p)
        return LikelihoodTerms(value=value, score=z.T @ residual, information=information)

    return _unscaled(maximise(terms, np.zeros(x.shape[1]), penalised=penalised), scale)


def _unscaled(fit: NewtonFit | None, scale: np.ndarray) -> NewtonFit | None:
    """The fit of columns divided by ``scale`` for the columns as they were."""
    if fit is None:
        return None
    return replace(
        fit,
        coefficients=fit.coefficients / scale,
        covariance=fit.covariance / np.outer(scale, scale),
        # The penalty is of the information on the user's scale.
        log_likelihood=fit.log_likelihood + (np.log(scale).sum() if fit.penalised else 0.0),
    )


_MOST_THIRD_MOMENTS = 5e7
_TIED = np.finfo(float).eps ** 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskSets:
    """People of one stratum from the longest time to the shortest, and who is at risk when.

    ``x`` ``[n, p]`` centred; ``at`` ``[n]`` whether the person had the event; for each of the
    ``d`` events: ``last`` the end of its risk set, ``first`` and ``final`` its tied events among
    the events in this order, ``share`` Efron's l/d.
    """

    x: np.ndarray
    at: np.ndarray
    last: np.ndarray
    first: np.ndarray
    final: np.ndarray
    share: np.ndarray

    @property
    def events(self) -> int:
        """How many events."""
        return len(self.last)


def risk_sets(time: np.ndarray, event: np.ndarray, x: np.ndarray) -> RiskSets:
    """Sort one stratum: ``time`` ``[n]``, ``event`` ``[n]`` true or false, ``x`` ``[n, p]``."""
    time = without_rounding(time)
    order = np.argsort(-time, kind="stable")
    time, event = time[order], event[order].astype(bool)
    x = x[order] - x.mean(axis=0)
    when = time[event]
    # -time rises along the rows: the risk set of t ends with the last row of that time.
    last = np.searchsorted(-time, -when, side="right") - 1
    first = np.searchsorted(-when, -when, side="left")
    final = np.searchsorted(-when, -when, side="right") - 1
    share = (np.arange(len(when)) - first) / (final - first + 1.0)
    return RiskSets(x=x, at=event, last=last, first=first, final=final, share=share)


def without_rounding(values: np.ndarray) -> np.ndarray:
    """``values`` ``[n]`` with those that differ by rounding made equal (3 × 0.1 and 0.3).

    The rule of R's `survival::aeqSurv`: neighbours within 1.5e-8, absolutely or of the mean size of
    the distinct values, are one value.
    """
    distinct = np.unique(values)
    if len(distinct) < 2:
        return values
    gaps = np.diff(distinct)
    tied = np.minimum(gaps, gaps / np.abs(distinct).mean()) <= _TIED
    starts = distinct[np.concatenate([[True], ~tied])]
    found: np.ndarray = starts[np.searchsorted(starts, values, side="right") - 1]
    return found


def partial_likelihood(
    sets: RiskSets, beta: np.ndarray, *, penalised: bool = False
) -> LikelihoodTerms:
    """Log partial likelihood, score and information of one stratum at ``beta``."""
    p = sets.x.shape[1]
    if sets.events == 0:
        return LikelihoodTerms(value=0.0, score=np.zeros(p), information=np.zeros((p, p)))
    eta, second, m0, m1, m2 = _moments(sets, beta)
    value = float(eta[sets.at].sum() - np.log(m0).sum())
    score = sets.x[sets.at].sum(axis=0) - m1.sum(axis=0)
    information = m2.sum(axis=0) - m1.T @ m1
    if penalised:
        sign, logdet = np.linalg.slogdet(information)
        if sign <= 0:
            return LikelihoodTerms(value=-np.inf, score=np.zeros(p), information=information)
        value += 0.5 * float(logdet)
        # The derivative of the information, [p, p, p]: third cumulants of the risk sets.
        third = _at_events(sets, second[..., None] * sets.x[:, None, None, :])
        m3 = (third / _like(m0, third)).sum(axis=0)
        mixed = np.einsum("ijk,il->jkl", m2, m1)
        cube = np.einsum("ij,ik,il->jkl", m1, m1, m1)
        third = m3 - mixed - mixed.transpose(0, 2, 1) - mixed.transpose(2, 0, 1) + 2.0 * cube
        score = score + 0.5 * np.einsum("jk,jkl->l", np.linalg.inv(information), third)
    return LikelihoodTerms(value=value, score=score, information=information)


def _moments(sets: RiskSets, beta: np.ndarray) -> tuple[np.ndarray, ...]:
    """Log hazards less the largest, weighted ``xx'``, and each event's sums over its risk set.

    Of the weights, and the weighted means of ``x`` and of ``xx'``.
    """
    eta = sets.x @ beta
    eta = eta - float(eta.max())
    weight = np.exp(eta)
    m0 = _at_events(sets, weight)
    m1 = _at_events(sets, weight[:, None] * sets.x) / m0[:, None]
    second = weight[:, None, None] * sets.x[:, :, None] * sets.x[:, None, :]
    return eta, second, m0, m1, _at_events(sets, second) / m0[:, None, None]


def hazards_over_time(sets: RiskSets, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Schoenfeld's residual ``[d, p]`` and the variance of the columns ``[d, p, p]`` at each event.

    Their sums are the score and the information of `partial_likelihood`.
    """
    *_, m1, m2 = _moments(sets, beta)
    return sets.x[sets.at] - m1, m2 - m1[:, :, None] * m1[:, None, :]


def _at_events(sets: RiskSets, values: np.ndarray) -> np.ndarray:
    """The sum over each event's risk set, its tied events counting by Efron's share."""
    at_risk = np.cumsum(values, axis=0)[sets.last]
    ran = np.cumsum(values[sets.at], axis=0)
    before = np.where(
        _like(sets.first > 0, ran), ran[np.maximum(sets.first - 1, 0)], np.zeros_like(ran)
    )
    found: np.ndarray = at_risk - _like(sets.share, ran) * (ran[sets.final] - before)
    return found


def _like(values: np.ndarray, shape_of: np.ndarray) -> np.ndarray:
    return values.reshape(-1, *(1,) * (shape_of.ndim - 1))


def fit_cox(
    strata: Sequence[RiskSets],
    *,
    places: Sequence[np.ndarray] | None = None,
    penalised: bool = False,
) -> NewtonFit | None:
    """Fit one Cox model over strata; None without a finite maximum.

    ``places`` are where each stratum's columns are among the coefficients; without, all strata have
    the same columns. The penalty is of one stratum alone.
    """
    if penalised and len(strata) > 1:
        raise ValueError("the penalty is written for one stratum")
    at = places or [np.arange(one.x.shape[1]) for one in strata]
    p = 1 + max(int(place.max(initial=-1)) for place in at)
    if penalised and sum(len(one.x) for one in strata) * p**3 > _MOST_THIRD_MOMENTS:
        return None
    squares, size = np.zeros(p), np.zeros(p)
    for one, place in zip(strata, at, strict=True):
        squares[place] += (one.x**2).sum(axis=0)
        size[place] += len(one.x)
    scale = np.sqrt(squares / size)
    if (scale == 0).any():
        return None
    scaled = [replace(one, x=one.x / scale[place]) for one, place in zip(strata, at, strict=True)]

    def terms(beta: np.ndarray) -> LikelihoodTerms:
        value, score, information = 0.0, np.zeros(p), np.zeros((p, p))
        for one, place in zip(scaled, at, strict=True):
            part = partial_likelihood(one, beta[place], penalised=penalised)
            value += part.value
            score[place] += part.score
            information[np.ix_(place, place)] += part.information
        return LikelihoodTerms(value=value, score=score, information=information)

    return _unscaled(maximise(terms, np.zeros(p), penalised=penalised), scale)
