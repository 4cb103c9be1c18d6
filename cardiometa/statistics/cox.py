"""The Cox model with Efron's ties: partial likelihood of strata, plain or with Firth's penalty.

Written for cumulative sums: one sort a stratum, then each evaluation costs O(n p²) whatever the
ties (Efron 1977). The penalty is half the log determinant of the information (Heinze & Schemper
2001, Biometrics 57:114), for arms without events, where plain estimates are infinite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .firth import NewtonFit, Pieces, maximise

_PENALISED_STEPS = 1000
_MOST_THIRD_MOMENTS = 5e7


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


def partial_likelihood(sets: RiskSets, beta: np.ndarray, *, penalised: bool = False) -> Pieces:
    """Log partial likelihood, score and information of one stratum at ``beta``."""
    p = sets.x.shape[1]
    if sets.events == 0:
        return Pieces(value=0.0, score=np.zeros(p), information=np.zeros((p, p)))
    eta = sets.x @ beta
    shift = float(eta.max())
    weight = np.exp(eta - shift)
    m0 = _at_events(sets, weight)
    m1 = _at_events(sets, weight[:, None] * sets.x) / m0[:, None]
    second = weight[:, None, None] * sets.x[:, :, None] * sets.x[:, None, :]
    m2 = _at_events(sets, second) / m0[:, None, None]
    value = float((eta[sets.at] - shift).sum() - np.log(m0).sum())
    score = sets.x[sets.at].sum(axis=0) - m1.sum(axis=0)
    information = m2.sum(axis=0) - m1.T @ m1
    if penalised:
        sign, logdet = np.linalg.slogdet(information)
        if sign <= 0:
            return Pieces(value=-np.inf, score=np.zeros(p), information=information)
        value += 0.5 * float(logdet)
        third = _third_cumulants(sets, second, m0, m1, m2)
        score = score + 0.5 * np.einsum("jk,jkl->l", np.linalg.inv(information), third)
    return Pieces(value=value, score=score, information=information)


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


def _third_cumulants(
    sets: RiskSets, second: np.ndarray, m0: np.ndarray, m1: np.ndarray, m2: np.ndarray
) -> np.ndarray:
    """The derivative of the information, ``[p, p, p]``: third cumulants of the risk sets."""
    third = _at_events(sets, second[..., None] * sets.x[:, None, None, :])
    m3 = (third / _like(m0, third)).sum(axis=0)
    mixed = np.einsum("ijk,il->jkl", m2, m1)
    cube = np.einsum("ij,ik,il->jkl", m1, m1, m1)
    found: np.ndarray = (
        m3 - mixed - mixed.transpose(0, 2, 1) - mixed.transpose(2, 0, 1) + 2.0 * cube
    )
    return found


def fit_cox(strata: Sequence[RiskSets], *, penalised: bool = False) -> NewtonFit | None:
    """Fit one Cox model over strata with common coefficients; None without a finite maximum.

    The penalty is of one stratum alone. ``strata`` must have the same columns.
    """
    if penalised and len(strata) > 1:
        raise ValueError("the penalty is written for one stratum")
    p = strata[0].x.shape[1]
    size = sum(len(one.x) for one in strata)
    if penalised and size * p**3 > _MOST_THIRD_MOMENTS:
        return None
    scale = np.sqrt(sum((one.x**2).sum(axis=0) for one in strata) / size)
    if (scale == 0).any():
        return None
    scaled = [
        RiskSets(
            x=one.x / scale,
            at=one.at,
            last=one.last,
            first=one.first,
            final=one.final,
            share=one.share,
        )
        for one in strata
    ]

    def pieces(beta: np.ndarray) -> Pieces:
        parts = [partial_likelihood(one, beta, penalised=penalised) for one in scaled]
        return Pieces(
            value=sum(part.value for part in parts),
            score=np.sum([part.score for part in parts], axis=0),
            information=np.sum([part.information for part in parts], axis=0),
        )

    fit = maximise(
        pieces,
        np.zeros(p),
        most_steps=_PENALISED_STEPS if penalised else 60,
        penalised=penalised,
    )
    if fit is None:
        return None
    return NewtonFit(
        coefficients=fit.coefficients / scale,
        covariance=fit.covariance / np.outer(scale, scale),
        log_likelihood=fit.log_likelihood + (float(np.log(scale).sum()) if penalised else 0.0),
        steps=fit.steps,
        penalised=penalised,
    )
