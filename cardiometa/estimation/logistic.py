"""Logistic regression by Newton's method, plain or with Firth's penalty.

Plain maximum likelihood does not exist where an arm or a covariate tells the outcome wholly
("separation": an arm without events). Firth's penalised likelihood has a finite maximum and is
nearly unbiased (Firth 1993, Biometrika 80:27; Heinze & Schemper 2002, Stat Med 21:2409).
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from .newton import NewtonFit, Pieces, maximise

# Firth's steps use the information without the penalty's own curvature: more, smaller steps.
_PENALISED_STEPS = 1000


def fit_logistic(x: np.ndarray, y: np.ndarray, *, penalised: bool = False) -> NewtonFit | None:
    """Fit ``logit P(y = 1) = x b``; ``x`` ``[n, p]`` with its intercept, ``y`` ``[n]`` 0 or 1.

    None where there is no finite maximum; penalised, only where the columns are dependent.
    """
    scale = np.sqrt((x**2).mean(axis=0))
    if (scale == 0).any():
        return None
    z = x / scale
    fit = maximise(
        lambda b: _pieces(z, y, b, penalised=penalised),
        np.zeros(x.shape[1]),
        most_steps=_PENALISED_STEPS if penalised else 60,
        penalised=penalised,
    )
    if fit is None:
        return None
    return NewtonFit(
        coefficients=fit.coefficients / scale,
        covariance=fit.covariance / np.outer(scale, scale),
        # The penalty is of the information on the user's scale.
        log_likelihood=fit.log_likelihood + (np.log(scale).sum() if penalised else 0.0),
        steps=fit.steps,
        penalised=penalised,
    )


def _pieces(x: np.ndarray, y: np.ndarray, beta: np.ndarray, *, penalised: bool) -> Pieces:
    """Log-likelihood, score and information; penalised, Firth's: X'(y - p + h (1/2 - p))."""
    eta = x @ beta
    p = expit(eta)
    weight = p * (1.0 - p)
    information = x.T @ (x * weight[:, None])
    value = float(y @ eta - np.logaddexp(0.0, eta).sum())
    residual = y - p
    if penalised:
        sign, logdet = np.linalg.slogdet(information)
        if sign <= 0:
            return Pieces(value=-np.inf, score=np.zeros_like(beta), information=information)
        value += 0.5 * float(logdet)
        hat = weight * np.einsum("ij,ij->i", x @ np.linalg.inv(information), x)
        residual = residual + hat * (0.5 - p)
    return Pieces(value=value, score=x.T @ residual, information=information)
