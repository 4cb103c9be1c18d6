"""The same participants analysed with the harmonised values and with the trials' reported ones.

The effect of harmonising the image analysis is given in the outcome's unit: the pooled effect, the
residual SD, the standard error and tau of both, with intervals from one bootstrap of the same
participants. Nothing is concluded from I², which rises when measurement noise falls
(``pooling.md`` 9).

A third column has the reported values harmonised by ComBat, the way of those without the images.
ComBat moves each trial's values along a line, so its effects are the reported ones times the line's
slope: the shift cancels within a trial, and of the randomised arms nothing is protected.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from ..cohort.plausibility import possible_values
from ..cohort.recode import as_numbers
from ..errors import TableError, UsageError
from ..measurement.measures import MEASURES
from ..records import CohortTable
from ..statistics.combat import combat, compared_sources
from ..statistics.meta import pooled_batch, reml_batch
from .endpoint.analysis_set import Analysed, in_two_arms
from .endpoint.columns import id_column, number_column, present, words_column
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
    scans = _reported_scans(tables[1].rows, stages[1].people, plain)
    for arm in [arm for arm in stages[0].arms if arm in stages[1].arms]:
        for stage, source in zip(stages, ("harmonised", "reported"), strict=True):
            found = list(effect_rows(stage.studies[arm], plain))
            if options.model != "two-stage":
                found += one_stage(stage.sums, stage.studies[arm], plain).rows
            found = [replace(row, source=source) for row in found if row.analysis in _SHOWN]
            both.effects += found if source == "reported" else []
            both.compared += [row for row in found if row.headline and row.model == "two-stage"]
        both.rows += _comparison(stages, arm, plain, scans)
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


# ------------------------------------------------------------------ what ComBat learns from


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scans:
    """The reported ``values`` ``[scans, measures]`` of the analysed, and whose each scan is.

    The outcome is the first of ``measures``; ``person`` ``[scans]`` is of the analysed set's index.
    """

    values: np.ndarray
    person: np.ndarray
    measures: tuple[str, ...]

    def sums_of(self, people: pd.Index, weights: np.ndarray) -> tuple[np.ndarray, ...]:
        """Count, mean and squares about the mean of each row of ``weights`` ``[draws, people]``."""
        place = people.get_indexer(pd.Index(self.person))
        mine, place = self.values[place >= 0], place[place >= 0]
        middle = mine.mean(axis=0)
        each = np.column_stack([np.ones(len(mine)), mine - middle, (mine - middle) ** 2])
        of_person = np.zeros((len(people), each.shape[1]))
        np.add.at(of_person, place, each)
        found = weights @ of_person
        n, p = found[:, 0], mine.shape[1]
        mean = found[:, 1 : p + 1] / n[:, None]
        squares = np.maximum(found[:, p + 1 :] - n[:, None] * mean**2, 0.0)
        return n, middle + mean, squares


def _reported_scans(rows: pd.DataFrame, people: pd.DataFrame, options: PoolingOptions) -> _Scans:
    """The reported values that ComBat takes: every scan of those analysed with the outcome.

    ``rows`` have the reported outcome in place of the harmonised one. The other measures are those
    that the trials reported for each of these scans, with values that a heart can have. In a table
    of one row a participant, outcome and baseline are two scans, and the only measure.
    """
    known = people[people["code"] == ""]
    keys = pd.MultiIndex.from_arrays([known["trial"].map(str), known["participant_id"].map(str)])
    wanted = [words_column(rows, "trial").map(str), id_column(rows).map(str)]
    place = keys.get_indexer(pd.MultiIndex.from_arrays(wanted))
    columns = [options.outcome, *filter(None, [options.baseline_column])]
    parts = []
    for column in columns:
        values = number_column(rows, column)
        chosen = (place >= 0) & values.notna().to_numpy()
        parts.append((values.to_numpy(dtype=float)[chosen, None], np.flatnonzero(chosen)))
    found, line = (np.concatenate(part) for part in zip(*parts, strict=True))
    measures = [options.outcome]
    for measure in MEASURES if options.baseline_column is None else ():
        name = f"{PREFIX}{measure.name}"
        if measure.name == options.outcome or name not in rows:
            continue
        other, wrong = as_numbers(rows[name].iloc[line])
        low, high = possible_values(measure.name)
        if not wrong.any() and bool(((other > low) & (other < high)).all()):
            found = np.column_stack([found, other.to_numpy(dtype=float)])
            measures.append(measure.name)
    person = known.index.to_numpy()[place[line]]
    return _Scans(values=found, person=person, measures=tuple(measures))


# ------------------------------------------------------------------ the paired bootstrap


def _comparison(
    stages: Sequence[FirstStage], arm: str, options: PoolingOptions, scans: _Scans
) -> list[ComparisonRow]:
    """Four quantities of each source, differences, and intervals from the same draws.

    Participants are drawn within trial and arm, the same for all sources. Drawing adds
    their noise to the spread between trials once more; each interval is therefore moved so that
    its median is the estimate.
    """
    usable = [[s for s in stage.studies[arm] if s.estimable] for stage in stages]
    names = [study.trial for study in usable[0] if study.trial in {s.trial for s in usable[1]}]
    if not names:
        return []
    fitted = [[s for s in studies if s.trial in names] for studies in usable]
    drawn, slopes = _drawn(stages, names, arm, options, scans)
    if slopes is not None:
        larger = []  # the studies of the same participants with an outcome `slope` times as large
        for study, slope in zip(fitted[1], slopes, strict=True):
            scaled = ("estimate", "se", "residual_sd")
            cells: dict[str, Any] = {name: float(slope * getattr(study, name)) for name in scaled}
            larger.append(replace(study, **cells))
        fitted.append(larger)
    seen = [_seen(studies) for studies in fitted]
    rows = []
    for q, quantity in enumerate(QUANTITIES):
        if quantity == "tau" and len(names) < 2:
            continue
        each = [np.append(v[q], d[:, q]) for v, d in zip(seen, drawn, strict=False)]
        cells = compared_sources(
            np.column_stack(each), options.level, positive=quantity != "pooled effect"
        )
        rows.append(
            ComparisonRow(
                outcome=options.outcome,
                arm=arm,
                control=options.control,
                quantity=quantity,
                k=len(names),
                combat_measures=len(scans.measures) if slopes is not None else None,
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
    stages: Sequence[FirstStage],
    names: Sequence[str],
    arm: str,
    options: PoolingOptions,
    scans: _Scans,
) -> tuple[list[np.ndarray], np.ndarray | None]:
    """The four quantities of each draw, ``[draws, 4]`` for each source; ComBat's slopes.

    ComBat is fitted anew in each draw, so that its intervals hold what it does not know. No third
    source and no slopes with one trial, where there is nothing to harmonise.
    """
    rng = np.random.default_rng(options.seed)
    parts: list[list[tuple[np.ndarray, ...]]] = [[], []]
    sums: list[tuple[np.ndarray, ...]] = []
    for name in names:
        trials = [next(t for t in stage.trials if t.trial == name) for stage in stages]
        # How often each participant is drawn: as many of each arm as there are.
        arms = trials[0].rows["arm"].to_numpy()
        counts = np.zeros((DRAWS, len(arms)))
        for one in sorted(set(arms)):
            place = np.flatnonzero(arms == one)
            share = np.full(len(place), 1.0 / len(place))
            counts[:, place] = rng.multinomial(len(place), share, size=DRAWS)
        for source, trial in enumerate(trials):
            parts[source].append(_refit(trial, counts, arm, options.control))
        # The data themselves, then the draws.
        weights = np.vstack([np.ones(counts.shape[1]), counts])
        sums.append(scans.sums_of(trials[1].rows.index, weights))
    slopes = None
    if len(names) > 1:
        n, mean, squares = (np.stack(column, axis=1) for column in zip(*sums, strict=True))
        slopes = combat(n, mean, squares).slope[:, :, 0]  # the outcome is the first measure
        parts.append(
            [
                (slope * y, slope**2 * v, slope**2 * rss, df)
                for slope, (y, v, rss, df) in zip(slopes[1:].T, parts[1], strict=True)
            ]
        )
    found = []
    for of_source in parts:
        y, v, rss, df = (np.stack(column, axis=1) for column in zip(*of_source, strict=True))
        tau2 = reml_batch(y, v) if y.shape[1] > 1 else np.zeros(len(y))
        estimate, se = pooled_batch(y, v, tau2)
        spread = np.sqrt(rss.sum(axis=1) / df.sum(axis=1))
        found.append(np.column_stack([estimate, se, spread, np.sqrt(tau2)]))
    return found, None if slopes is None else slopes[0]


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
