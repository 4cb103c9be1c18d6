"""One-stage interactions: the covariate centred by trial, what is between trials kept apart.

``y ~ 0 + trial + trial:baseline + trial:x + treat + treat:(x - xbar_i) + treat:xbar_i`` with random
``treat`` and ``treat:(x - xbar_i)``; within is the coefficient of the centred product
(``pooling.md`` 2.3; Hua et al. 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...statistics.mixed.one_stage import OneStageFit, fit_one_stage
from ...statistics.mixed.trial_contrasts import ModelColumns, TrialBlock, trial_block
from ..first_stage.arm_sums import INTERCEPT, OUTCOME, PRODUCT, ArmSums, arm_column, centre, form_of
from ..options import PoolingOptions
from .interaction import PooledInteraction
from .modifiers import VALUE, level_column

_ACROSS = "across:"


@dataclass(frozen=True, slots=True, kw_only=True)
class OneStageInteraction:
    """The fit, where in ``beta`` the within-trial interactions stand, and the across-trial ones."""

    fit: OneStageFit
    within: tuple[int, ...]
    across: tuple[int, ...]
    k: int


def one_stage_interaction(
    pooled: PooledInteraction, options: PoolingOptions
) -> OneStageInteraction | None:
    """The one-stage model of the trials that the two-stage interaction uses; None below two.

    Across-trial terms are left out where there are not at least two more trials than fixed
    effects; within-trial ones do not depend on them. ArithmeticError or LinAlgError where it
    cannot be fitted.
    """
    names = [VALUE] if pooled.modifier.numeric else [level_column(v) for v in pooled.levels[1:]]
    given = {trial.trial for trial in pooled.trials if trial.estimates is not None}
    sums = [one for one in pooled.modifier.sums if one.trial in given]
    if not pooled.modifier.numeric:
        sums = [one for one in sums if len(_present(pooled, one)) > 1]
    if len(sums) < 2 or not names:
        return None
    across = [] if len(sums) < 3 + 2 * len(names) else [f"{_ACROSS}{name}" for name in names]
    if across and _flat(sums, names):
        across = []
    blocks = [_block(one, pooled, names, across, options.residual) for one in sums]
    size = len(names)
    basis = np.zeros((2, 1 + size, 1 + size))
    basis[0, 0, 0] = 1.0
    basis[1, 1:, 1:] = 0.5 * (np.eye(size) + np.ones((size, size)))
    fit = fit_one_stage(
        blocks,
        basis,
        residual=options.residual,
        restricted=options.tau2 != "ml",
        common_effect=options.tau2 == "fe",
    )
    return OneStageInteraction(
        fit=fit,
        within=tuple(range(1, 1 + size)),
        across=tuple(range(1 + size, 1 + size + len(across))),
        k=len(sums),
    )


def _present(pooled: PooledInteraction, sums: ArmSums) -> list[str]:
    return [level for level in pooled.modifier.levels_of(sums) if level in pooled.levels]


def _flat(sums: list[ArmSums], names: list[str]) -> bool:
    """True where the trials' means do not differ, so that nothing is between them."""
    means = np.array([[_mean(one, name) for name in names] for one in sums])
    centred = means - means.mean(axis=0)
    return int(np.linalg.matrix_rank(centred, tol=1e-8 * max(1.0, float(np.abs(means).max())))) < (
        len(names)
    )


def _mean(sums: ArmSums, name: str) -> float:
    return centre(sums, name) if name in sums.columns else 0.0


def _block(
    sums: ArmSums,
    pooled: PooledInteraction,
    names: list[str],
    across: list[str],
    residual: str,
) -> TrialBlock:
    treat = arm_column(pooled.modifier.arm)
    own = [name for name in names if name in sums.columns]
    means = {name: _mean(sums, name) for name in names}
    products = [f"{PRODUCT}{name}" for name in names]
    columns = ModelColumns(
        nuisance=(INTERCEPT, *sums.nuisance, *own),
        fixed=(treat, *products, *across),
        random=(treat, *products),
        outcome=OUTCOME,
    )
    every = {*columns.nuisance, *columns.fixed, OUTCOME}
    maps = [{name: _form(sums, arm, name, means) for name in every} for arm in sums.arms]
    return trial_block(sums.trial, list(sums.arms.values()), maps, columns, residual=residual)


def _form(sums: ArmSums, arm: str, column: str, means: dict[str, float]) -> np.ndarray:
    """Like `form_of`, with the trial's means times treatment, and zeros for levels it lacks."""
    if column.startswith(_ACROSS):
        form = np.zeros(1 + len(sums.columns))
        form[0] = means[column.removeprefix(_ACROSS)] if arm != sums.control else 0.0
        return form
    if column.startswith(PRODUCT) and column.removeprefix(PRODUCT) not in sums.columns:
        return np.zeros(1 + len(sums.columns))
    return form_of(sums, arm, column, means if column.startswith(PRODUCT) else {})
