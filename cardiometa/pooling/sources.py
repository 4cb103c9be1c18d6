"""Participants' data against published effects: do the trials of the two sources differ?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..estimation.multivariate import MultivariateFit, Part, fit_parts
from ..estimation.random_effects import t_interval
from .options import PoolingOptions
from .records import EffectRow, Study
from .two_stage import interval_cells, sensitivity_row

SUMMARIES_ONLY = "sensitivity: trials with published effects only"
TERM = "treatment:source"
LEVEL = "participants vs summaries"
DIFFERENCE = "sensitivity: participants' data less published effects"
_LEAST = 3


def source_fit(studies: Sequence[Study], method: str) -> MultivariateFit | None:
    """Meta-regression on the source: mean of the published effects, then the difference.

    None where a source has no trial, or there are fewer than three in all.
    """
    usable = [study for study in studies if study.estimable]
    if len(usable) < _LEAST or len({study.aggregate for study in usable}) < 2:
        return None
    parts = [
        Part(
            y=np.array([study.estimate], dtype=float),
            within=np.array([[study.se]], dtype=float) ** 2,
            between=np.eye(1),
            x=np.array([[1.0, float(not study.aggregate)]]),
        )
        for study in usable
    ]
    return fit_parts(parts, method=method)


def source_rows(studies: Sequence[Study], options: PoolingOptions) -> list[EffectRow]:
    """The published effects pooled alone, and the test of the difference between the sources.

    One tau² for both (REML; ML and common effect as asked), Knapp and Hartung's interval with the
    ratio never below 1, k - 2 degrees of freedom.
    """
    published = [study for study in studies if study.estimable and study.aggregate]
    if not published:
        return []
    rows = [sensitivity_row(published, options, SUMMARIES_ONLY)]
    method = options.tau2 if options.tau2 in ("ml", "fe") else "reml"
    fit = source_fit(studies, method)
    if fit is None:
        return rows
    difference = float(fit.coefficients[1])
    if options.headline_ci == "wald":
        variance, df, name = fit.covariance[1, 1], float("inf"), "wald"
    else:
        truncated = options.headline_ci == "hksj-truncated"
        variance, df, name = fit.scaled(truncated=truncated)[1, 1], fit.df, options.headline_ci
    interval = t_interval(difference, float(np.sqrt(variance)), df, options.level, name)
    rows.append(
        EffectRow(
            analysis="pooled",
            outcome=options.outcome,
            effect=options.effect,
            arm=published[0].arm,
            control=published[0].control,
            term=TERM,
            level=LEVEL,
            **interval_cells(difference, interval, options),
            tau2=fit.tau2,
            k=fit.df + 2,
            tau2_method=method,
            headline=True,
            note=DIFFERENCE,
        )
    )
    return rows
