"""Missing outcomes imputed within trial and arm by a proper Bayesian normal regression.

For each trial and arm the outcome is regressed on baseline and covariates among those who have it;
a residual variance, then coefficients, then outcomes are drawn (Rubin 1987, p. 167; the ``norm``
method of R's mice). Within the arm, because the effect must be free to differ; within the trial,
because its people are its own. One generator a trial and arm, so that no trial's draws hang on
which others there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from .eligible import Analysed, design_of
from .endpoint import Endpoint
from .options import PoolingOptions

IMPUTED = "outcomes imputed"
TOO_FEW = "too few outcomes in an arm to impute: complete cases"
_DEPENDENT = 1e-9
_LEAST_DF = 2


def imputable(people: pd.DataFrame, options: PoolingOptions) -> pd.Series:
    """Who lacks the outcome alone, and is one the estimand is about."""
    codes = ["no-followup", "no-outcome"]
    if options.estimand == "hypothetical":
        codes.append("died")
    wanted = people["code"].isin(codes)
    if options.effect == "change":
        wanted &= people["baseline"].notna()
    return wanted


def predictors(people: pd.DataFrame, endpoint: Endpoint, options: PoolingOptions) -> pd.DataFrame:
    """Baseline and covariates of the imputation model; the trial's mean where one is missing."""
    design = design_of(people, endpoint, replace(options, effect="mean-difference"))
    means = design.groupby(people["trial"]).transform("mean")
    return design.fillna(means).fillna(0.0)


def completed(
    trial: Analysed, known: pd.Series, model: pd.DataFrame, options: PoolingOptions
) -> Iterator[Analysed] | None:
    """``options.imputations`` copies of a trial with its missing outcomes drawn.

    ``known`` is the follow-up value (NaN: to draw), ``model`` the predictors, both on the index of
    the trial's rows. None where an arm has too few outcomes to learn a model from.
    """
    arm = trial.rows["arm"]
    draws: dict[str, np.ndarray] = {}
    for name in sorted(set(arm)):
        mine = arm.index[arm == name]
        have = mine[known[mine].notna()]
        lack = mine[known[mine].isna()]
        if not len(lack):
            continue
        seed = _seed(options.seed, trial.trial, str(name))
        found = draw_outcomes(
            known[have].to_numpy(dtype=float),
            model.loc[have].to_numpy(dtype=float),
            model.loc[lack].to_numpy(dtype=float),
            imputations=options.imputations,
            generator=np.random.default_rng(seed),
        )
        if found is None:
            return None
        draws[str(name)] = found
    return (_filled(trial, known, draws, number, options) for number in range(options.imputations))


def _filled(
    trial: Analysed,
    known: pd.Series,
    draws: dict[str, np.ndarray],
    number: int,
    options: PoolingOptions,
) -> Analysed:
    values = known.astype(float).copy()
    for name, found in draws.items():
        lack = values.index[(trial.rows["arm"] == name) & known.isna()]
        values.loc[lack] = found[number]
    if options.effect == "change":
        values = values - trial.rows["baseline"]
    return replace(trial, rows=trial.rows.assign(outcome=values))


def _seed(seed: int, trial: str, arm: str) -> list[int]:
    digest = hashlib.sha256(f"{trial}\x1f{arm}".encode()).digest()
    return [seed, int.from_bytes(digest[:8], "big")]


def draw_outcomes(
    y: np.ndarray,
    x: np.ndarray,
    x_missing: np.ndarray,
    *,
    imputations: int,
    generator: np.random.Generator,
) -> np.ndarray | None:
    """Draws ``[imputations, n_missing]`` of outcomes given predictors ``[n, p]``, no intercept.

    Columns that are constant or dependent among those observed are left out. None with fewer
    than two residual degrees of freedom.
    """
    keep = _independent(x)
    design = np.column_stack([np.ones(len(y)), x[:, keep]])
    target = np.column_stack([np.ones(len(x_missing)), x_missing[:, keep]])
    df = len(y) - design.shape[1]
    if df < _LEAST_DF:
        return None
    q, r = np.linalg.qr(design)
    beta = np.linalg.solve(r, q.T @ y)
    rss = float(((y - design @ beta) ** 2).sum())
    root = np.linalg.inv(r)  # (X'X)^-1 = root root'
    drawn = np.empty((imputations, len(x_missing)))
    for number in range(imputations):
        sigma = np.sqrt(rss / generator.chisquare(df))
        coefficients = beta + sigma * (root @ generator.standard_normal(len(beta)))
        drawn[number] = target @ coefficients + sigma * generator.standard_normal(len(target))
    return drawn


def _independent(x: np.ndarray) -> list[int]:
    """Columns that are neither constant nor explained by those before them."""
    kept: list[int] = []
    basis: list[np.ndarray] = []
    for place in range(x.shape[1]):
        column = x[:, place] - x[:, place].mean()
        size = float(np.linalg.norm(column))
        for one in basis:
            column = column - (one @ column) * one
        rest = float(np.linalg.norm(column))
        if rest > _DEPENDENT * max(size, float(np.linalg.norm(x[:, place])), 1e-300):
            basis.append(column / rest)
            kept.append(place)
    return kept
