"""The same participants analysed with the harmonised values and with the trials' reported ones.

The effect of harmonising the image analysis is given in the outcome's unit: the pooled effect, the
residual SD, the standard error and tau of both, with intervals from one bootstrap of the same
participants. Nothing is concluded from I², which rises when measurement noise falls
(``pooling.md`` 9).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from ..errors import TableError, UsageError
from ..records import CohortTable
from ..statistics.meta import pooled_batch, reml_batch
from .endpoint.analysis_set import Analysed, in_two_arms
from .endpoint.columns import number_column, present
from .first_stage.first_stage import FirstStage, first_stage
from .options import DIFFERENCES, PoolingOptions
from .results import ComparisonRow, EffectRow, Study
from .second_stage.one_stage import one_stage
from .second_stage.two_stage import effect_rows, estimates_of

PREFIX = "reported_"
DRAWS = 1000
_SHOWN = ("trial", "pooled")
QUANTITIES = ("pooled effect", "standard error", "residual SD", "tau")


@dataclass(slots=True)
class Comparison:
    """Rows of ``effects.csv`` from the reported values, and the comparison of both sources.

    ``compared`` are the trials and headlines of both sources, for the figure.
    """

    effects: list[EffectRow] = field(default_factory=list)
    compared: list[EffectRow] = field(default_factory=list)
    rows: list[ComparisonRow] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def compare_reported(
    table: CohortTable, options: PoolingOptions, roster: pd.DataFrame | None
) -> Comparison:
    """Both analyses of those who have both values; nothing without ``--compare-reported``.

    TableError where the table has no reported values of the outcome (or of its baseline).
    """
    both = Comparison()
    if not options.compare_reported:
        return both
    if options.effect not in DIFFERENCES or options.missing_outcome != "complete":
        raise UsageError(
            "--compare-reported is for mean-difference, change and follow-up of complete cases."
        )
    tables = paired_tables(table, options)
    plain = replace(options, by=(), spline=0, meta_regression=(), leave_one_out=False)
    stages = [first_stage(one, plain, roster, with_rows=True) for one in tables]
    for arm in [arm for arm in stages[0].arms if arm in stages[1].arms]:
        for stage, source in zip(stages, ("harmonised", "reported"), strict=True):
            found = list(effect_rows(stage.studies[arm], plain))
            if options.model != "two-stage":
                found += one_stage(stage.sums, stage.studies[arm], plain).rows
            found = [replace(row, source=source) for row in found if row.analysis in _SHOWN]
            both.effects += found if source == "reported" else []
            both.compared += [row for row in found if row.headline and row.model == "two-stage"]
        both.rows += _comparison(stages, arm, plain)
    compared = present(in_two_arms(stages[0].people[["trial", "code"]])["trial"])
    lost = {*compared} - {trial.trial for trial in stages[0].trials}
    if lost:
        both.warnings.append(
            "Harmonised and reported values are compared without "
            f"{', '.join(sorted(lost))}, where no two arms have both."
        )
    if options.tau2 != "reml":
        both.warnings.append("The bootstrap of harmonised and reported values uses REML for tau².")
    return both


def paired_tables(table: CohortTable, options: PoolingOptions) -> tuple[CohortTable, CohortTable]:
    """Two tables with the same values missing: the harmonised ones, and the reported in place."""
    rows = table.rows
    names = [options.outcome]
    if options.baseline_column is not None:
        names.append(options.baseline_column)
    missing = [f"{PREFIX}{name}" for name in names if f"{PREFIX}{name}" not in rows]
    if missing:
        present = [str(c) for c in rows.columns if str(c).startswith(PREFIX)]
        raise TableError(
            f"--compare-reported needs the column {', '.join(missing)}, and the table has none.",
            hint=f"Its reported columns: {', '.join(present) or 'none'}.",
        )
    own: dict[str, pd.Series[float]] = {}
    theirs: dict[str, pd.Series[float]] = {}
    for name in names:
        a, b = number_column(rows, name), number_column(rows, f"{PREFIX}{name}")
        both = a.notna() & b.notna()
        own[name], theirs[name] = a.where(both), b.where(both)
    return (
        replace(table, rows=rows.assign(**own)),
        replace(table, rows=rows.assign(**theirs)),
    )


# ------------------------------------------------------------------ the paired bootstrap


def _comparison(
    stages: Sequence[FirstStage], arm: str, options: PoolingOptions
) -> list[ComparisonRow]:
    """Four quantities of both sources, their difference, and intervals from the same draws.

    Participants are drawn within trial and arm, the same for both sources. Drawing adds
    their noise to the spread between trials once more; each interval is therefore moved so that
    its median is the estimate.
    """
    usable = [[s for s in stage.studies[arm] if s.estimable] for stage in stages]
    names = [study.trial for study in usable[0] if study.trial in {s.trial for s in usable[1]}]
    if not names:
        return []
    seen = [_seen([s for s in studies if s.trial in names]) for studies in usable]
    drawn = _drawn(stages, names, arm, options)
    tails = [0.5 - options.level / 200, 0.5 + options.level / 200]
    rows = []
    for q, quantity in enumerate(QUANTITIES):
        if quantity == "tau" and len(names) < 2:
            continue
        cells: dict[str, Any] = {}
        a, b = seen[0][q], seen[1][q]
        own, other = drawn[0][:, q], drawn[1][:, q]
        for name, draws, estimate in (
            ("harmonised", own, a),
            ("reported", other, b),
            ("difference", other - own, b - a),
        ):
            low, middle, high = np.quantile(draws, [tails[0], 0.5, tails[1]])
            ends = (estimate + float(low - middle), estimate + float(high - middle))
            if quantity != "pooled effect" and name != "difference":
                ends = (max(ends[0], 0.0), max(ends[1], 0.0))
            cells |= {name: estimate, f"{name}_low": ends[0], f"{name}_high": ends[1]}
        rows.append(
            ComparisonRow(
                outcome=options.outcome,
                arm=arm,
                control=options.control,
                quantity=quantity,
                k=len(names),
                **cells,
            )
        )
    return rows


def _seen(studies: Sequence[Study]) -> tuple[float, ...]:
    """The four quantities of the data themselves."""
    y, v = estimates_of(studies)
    residual = np.array([study.residual_sd for study in studies], dtype=float)
    df = np.array([study.df for study in studies], dtype=float)
    tau2 = reml_batch(y[None], v[None]) if len(y) > 1 else np.zeros(1)
    estimate, se = pooled_batch(y[None], v[None], tau2)
    spread = math.sqrt(float((residual**2 * df).sum() / df.sum()))
    return float(estimate[0]), float(se[0]), spread, math.sqrt(float(tau2[0]))


def _drawn(
    stages: Sequence[FirstStage], names: Sequence[str], arm: str, options: PoolingOptions
) -> list[np.ndarray]:
    """The four quantities of each draw, ``[draws, 4]`` for each source."""
    rng = np.random.default_rng(options.seed)
    parts: list[list[tuple[np.ndarray, ...]]] = [[], []]
    for name in names:
        trials = [next(t for t in stage.trials if t.trial == name) for stage in stages]
        counts = _counts(trials[0], rng)
        for source, trial in enumerate(trials):
            parts[source].append(_refit(trial, counts, arm, options.control))
    found = []
    for of_source in parts:
        y, v, rss, df = (np.stack(column, axis=1) for column in zip(*of_source, strict=True))
        tau2 = reml_batch(y, v) if y.shape[1] > 1 else np.zeros(len(y))
        estimate, se = pooled_batch(y, v, tau2)
        spread = np.sqrt(rss.sum(axis=1) / df.sum(axis=1))
        found.append(np.column_stack([estimate, se, spread, np.sqrt(tau2)]))
    return found


def _counts(trial: Analysed, rng: np.random.Generator) -> np.ndarray:
    """How often each participant is drawn, ``[draws, n]``: as many of each arm as there are."""
    arms = trial.rows["arm"].to_numpy()
    counts = np.zeros((DRAWS, len(arms)))
    for arm in sorted(set(arms)):
        place = np.flatnonzero(arms == arm)
        share = np.full(len(place), 1.0 / len(place))
        counts[:, place] = rng.multinomial(len(place), share, size=DRAWS)
    return counts


def _refit(
    trial: Analysed, counts: np.ndarray, arm: str, control: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Effect, its variance, residual sum of squares and df of each draw by least squares."""
    arms = trial.rows["arm"].to_numpy()
    others = [name for name in sorted(set(arms)) if name not in (control, arm)]
    y = trial.rows["outcome"].to_numpy(dtype=float)
    columns = [(arms == arm).astype(float), np.ones(len(y))]
    columns += [(arms == name).astype(float) for name in others]
    nuisance = trial.nuisance.to_numpy(dtype=float)
    nuisance = nuisance - nuisance.mean(axis=0)
    scale = nuisance.std(axis=0)
    columns += [nuisance[:, j] / scale[j] for j in range(len(scale)) if scale[j] > 0]
    x = np.column_stack([*columns, y - y.mean()])
    p = x.shape[1] - 1
    products = (x[:, :, None] * x[:, None, :]).reshape(len(y), -1)
    gram = (counts @ products).reshape(len(counts), p + 1, p + 1)
    inverse = np.linalg.pinv(gram[:, :p, :p], hermitian=True)
    beta = np.einsum("bij,bj->bi", inverse, gram[:, :p, p])
    rss = np.maximum(gram[:, p, p] - np.einsum("bi,bi->b", beta, gram[:, :p, p]), 1e-300)
    df = np.full(len(counts), float(len(y) - np.linalg.matrix_rank(x[:, :p])))
    return beta[:, 0], np.maximum(rss / df * inverse[:, 0, 0], 1e-300), rss, df
