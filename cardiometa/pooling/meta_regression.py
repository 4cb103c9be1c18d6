"""Meta-regression: the trials' effects by a covariate's mean, share or single word in each trial.

Between trials, so ecological, and labelled so: aggregates say nothing about participants, but may
show where trials differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from ..cohort.infer_columns import plain_name
from ..errors import TableError
from ..statistics.meta import (
    CI_METHODS,
    MetaRegression,
    between_groups,
    pool_estimates,
    pooled_interval,
    r2_percent,
    regress_estimates,
    t_interval,
)
from .endpoint.columns import covariate_numbers, known_text, text_column
from .endpoint.endpoint import refuse_unclear_categories
from .options import PoolingOptions
from .results import RegressionLine, RegressionRow, Study, TrialPoint
from .second_stage.two_stage import (
    coefficient_cells,
    comparison_cells,
    estimates_of,
    heterogeneity_cells,
    interval_cells,
)
from .subgroups.modifiers import PER, per_text
from .subgroups.rows import ALL_LEVELS

SHARE_UNIT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialValues:
    """One covariate of the trials, of those analysed in one active arm and control.

    ``numbers`` by trial where it is a mean or a share in percent, else ``words`` by trial. A slope
    is read per ``unit``, ``per`` in words; ``what`` names the aggregate. ``counts`` by trial are of
    the participants behind a number (of a share: with and without).
    """

    name: str
    what: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    unit: float = 1.0
    per: str = ""
    counts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def values_of_table(rows: pd.DataFrame, name: str, table: str) -> TrialValues:
    """A covariate of published trials: ``rows`` has one per trial, with a column ``trial``.

    TableError where there is no such column, whatever its case, or it mixes numbers and words.
    """
    named = {plain_name(str(column)): column for column in rows.columns}
    column = named.get(plain_name(name)) or named.get(plain_name(name.removesuffix("_years")))
    if column is None:
        raise TableError(
            f"{table} has no column {name} (--meta-regression).",
            hint=f"It has: {', '.join(map(str, rows.columns[:60]))}.",
        )
    text = known_text(rows, column)
    known = text != ""
    refuse_unclear_categories(f"--meta-regression {name}", text[known])
    trials = text_column(rows, "trial")[known]
    numbers = covariate_numbers(text[known])
    found = TrialValues(name=name, what=name)
    if numbers is None:
        return replace(found, words=dict(zip(trials, text[known], strict=True)))
    return replace(
        found,
        numbers={trial: float(x) for trial, x in zip(trials, numbers, strict=True)},
        unit=PER.get(name, (1.0, ""))[0],
        per=per_text(name),
        counts=dict.fromkeys(trials, ()),
    )


def trial_values(people: pd.DataFrame, options: PoolingOptions, name: str, arm: str) -> TrialValues:
    """The values of one covariate; TableError for words that differ within trials.

    Numbers become means. Words that are constant in each trial divide the trials into groups; two
    words that mix within trials (sex) become the share of the second in percent.
    """
    is_chosen = (people["code"] == "") & people["arm"].isin([arm, options.control])
    chosen = people.loc[is_chosen, ["trial", f"covariate {name}"]]
    text = chosen[f"covariate {name}"]
    known = text != ""
    text, trial = text[known], chosen.loc[known, "trial"].astype(str)
    different = text.groupby(trial).nunique()
    numbers = covariate_numbers(text)
    found = TrialValues(name=name, what=name)
    if numbers is not None:
        return replace(
            found,
            what=name if (different <= 1).all() else f"mean {name}",
            numbers={str(t): float(x) for t, x in numbers.groupby(trial).mean().items()},
            unit=PER.get(name, (1.0, ""))[0],
            per=per_text(name),
            counts={str(t): (int(n),) for t, n in trial.value_counts().items()},
        )
    if (different <= 1).all():
        words = text.groupby(trial).first().items()
        return replace(found, words={str(t): str(v) for t, v in words})
    levels = sorted(set(text), key=lambda word: (word == "female", word))
    if len(levels) != 2:
        raise TableError(
            f"--meta-regression {name}: its words differ within trials: "
            f"{', '.join(levels[:8])}{', …' if len(levels) > 8 else ''}.",
            hint=f"A trial does not have a single value of it. Use --by {name} for the effect at "
            "each level, or a column with one word per trial.",
        )
    second = (text == levels[1]).groupby(trial).agg(["sum", "size"])
    share = 100.0 * second["sum"] / second["size"]
    return replace(
        found,
        what=f"percent {levels[1]}",
        numbers={str(t): float(x) for t, x in share.items()},
        unit=SHARE_UNIT,
        per=f"per {SHARE_UNIT:g} percentage points {levels[1]}",
        counts={
            str(t): (int(row["sum"]), int(row["size"] - row["sum"])) for t, row in second.iterrows()
        },
    )


ECOLOGICAL = "ecological: between trials, not within"
ALONE = "one trial alone: see its own row"
_LEAST = 4  # two degrees of freedom are the least that inform
FEW = 10  # Cochrane Handbook 10.11.5.1: fewer trials than this per covariate are too few


@dataclass(slots=True)
class TrialRegression:
    """The rows of every arm and covariate, the points and lines of the figures, and sentences."""

    rows: list[RegressionRow] = field(default_factory=list)
    points: list[TrialPoint] = field(default_factory=list)
    lines: list[RegressionLine] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def trial_regression(
    studies: Mapping[str, Sequence[Study]],
    values_of: Callable[[str, str], TrialValues],
    options: PoolingOptions,
) -> TrialRegression:
    """Each covariate of ``--meta-regression`` by itself, over the trials of each active arm.

    ``values_of`` a covariate and arm gives the trials' values.
    """
    regression = TrialRegression()
    asked = [(arm, name) for arm in studies for name in options.regression_columns]
    for arm, name in asked:
        usable = [study for study in studies[arm] if study.estimable]
        if not usable:
            continue
        values = values_of(name, arm)
        known = values.numbers or values.words
        chosen = [study for study in usable if study.trial in known]
        lost = [study.trial for study in usable if study not in chosen]
        before = len(regression.rows)
        if values.numbers:
            _add_slope(regression, chosen, values, options)
        else:
            regression.rows += _group_rows(chosen, values, options)
        if len(regression.rows) == before:
            regression.warnings.append(
                f"{arm}: no meta-regression on {name}: too few trials, or trials that do not "
                "differ in it."
            )
            continue
        if lost:
            regression.warnings.append(
                f"{arm}: not in the meta-regression on {name}, because it is not known there: "
                f"{', '.join(lost)}."
            )
        if len(chosen) < FEW:
            regression.warnings.append(
                f"{arm}: the meta-regression on {name} rests on {len(chosen)} trials; with fewer "
                f"than {FEW} trials per covariate, chance findings are likely."
            )
    return regression


def _base(studies: Sequence[Study], values: TrialValues, options: PoolingOptions) -> RegressionRow:
    """What all rows of one covariate share."""
    return RegressionRow(
        **comparison_cells(options, studies[0].arm, studies[0].control),
        covariate=values.name,
        kind="",
        level="",
        tau2_model="one",
        k=len(studies),
        tau2_method=options.tau2,
        note=ECOLOGICAL,
    )


def _fit_cells(fit: MetaRegression, studies: Sequence[Study], options: PoolingOptions) -> Any:
    without = pool_estimates(*estimates_of(studies), options.tau2).tau2
    r2 = None if options.tau2 == "fe" else r2_percent(without, fit.tau2)
    cells = {"tau2": fit.tau2, "tau2_without": without, "r2_percent": r2}
    return cells | {"i2_percent": fit.i2_percent, "q": fit.q, "q_df": fit.df, "q_p": fit.q_p}


# ------------------------------------------------------------------ a number


def _add_slope(
    regression: TrialRegression,
    studies: Sequence[Study],
    values: TrialValues,
    options: PoolingOptions,
) -> None:
    """The change of the effect per unit of the trials' mean or share, by every interval.

    With the line and the points of its figure, whose weights are the main analysis's.
    """
    if len(studies) < _LEAST:
        return
    y, v = estimates_of(studies)
    own = np.array([values.numbers[study.trial] for study in studies])
    scaled = own / values.unit
    design = np.column_stack([np.ones(len(own)), scaled - scaled.mean()])
    fit = regress_estimates(y, v, design, options.tau2)
    if fit is None:
        return
    name = values.per + " of the trial's mean" * values.what.startswith("mean ")
    row = replace(_base(studies, values, options), kind="slope", level=name)
    row = replace(row, **_fit_cells(fit, studies, options))
    regression.rows += [
        replace(row, **coefficient_cells(fit, 1, ci, options), headline=ci == options.headline_ci)
        for ci in CI_METHODS
    ]
    x = np.linspace(own.min(), own.max(), 41)
    design = np.column_stack([np.ones(len(x)), (x - own.mean()) / values.unit])
    covariance = fit.scaled(options.headline_ci)
    df = float("inf") if options.headline_ci == "wald" else fit.df
    middle = design @ fit.coefficients
    half = t_interval(0.0, 1.0, df, options.level).high * np.sqrt(
        np.einsum("ij,jk,ik->i", design, covariance, design)
    )
    regression.lines.append(
        RegressionLine(
            arm=studies[0].arm,
            covariate=values.name,
            label=values.what,
            x=tuple(map(float, x)),
            estimate=tuple(map(float, middle)),
            low=tuple(map(float, middle - half)),
            high=tuple(map(float, middle + half)),
        )
    )
    weights = pool_estimates(y, v, options.tau2).weights
    regression.points += [
        TrialPoint(
            arm=study.arm,
            covariate=values.name,
            trial=study.trial,
            value=values.numbers[study.trial],
            estimate=float(estimate),
            weight=float(weight),
            counts=(study.n_control or 0, study.n_active or 0, *values.counts[study.trial]),
        )
        for study, estimate, weight in zip(studies, y, weights, strict=True)
    ]


# ------------------------------------------------------------------ groups of trials


def _group_rows(
    studies: Sequence[Study], values: TrialValues, options: PoolingOptions
) -> list[RegressionRow]:
    """The pooled effect of each group and the test of their difference, tau² separate and one."""
    words = [values.words[study.trial] for study in studies]
    counted = {word: words.count(word) for word in sorted(set(words))}
    levels = [word for word, count in counted.items() if count > 1]
    chosen = [s for s, word in zip(studies, words, strict=True) if word in levels]
    if len(levels) < 2 or len(chosen) < len(levels) + 1:
        return []
    groups = {word: [s for s in chosen if values.words[s.trial] == word] for word in levels}
    base = _base(chosen, values, options)
    # Each group pooled alone, and Wald's test between them.
    fits = {word: pool_estimates(*estimates_of(own), options.tau2) for word, own in groups.items()}
    rows, separate = [], replace(base, tau2_model="separate")
    for level, fit in fits.items():
        row = replace(separate, kind="level", level=level, **heterogeneity_cells(fit))
        for ci in CI_METHODS:
            interval = pooled_interval(fit, ci, options.level)
            cells = interval_cells(fit.estimate, interval, options)
            rows.append(replace(row, **cells, headline=ci == options.headline_ci))
    q, df, p = between_groups(
        np.array([fit.estimate for fit in fits.values()]),
        np.array([fit.se_wald for fit in fits.values()]),
    )
    test = replace(separate, kind="difference", level=ALL_LEVELS, test=q, test_df=df, p=p)
    rows.append(replace(test, ci_method="wald", headline=True))
    rows += _one_tau2_rows(chosen, groups, base, options)
    alone = replace(base, kind="level", tau2_model="", k=1, note=ALONE)
    rows += [replace(alone, level=word) for word, count in counted.items() if count == 1]
    members = {word: tuple(t for t, w in values.words.items() if w == word) for word in counted}
    return [replace(row, trials=members.get(row.level, ())) for row in rows]


def _one_tau2_rows(
    studies: Sequence[Study],
    groups: Mapping[str, Sequence[Study]],
    base: RegressionRow,
    options: PoolingOptions,
) -> list[RegressionRow]:
    """All groups in one model with one tau²."""
    y, v = estimates_of(studies)
    indicators = np.array([[float(s in own) for own in groups.values()] for s in studies])
    means = regress_estimates(y, v, indicators, options.tau2)
    against = np.column_stack([np.ones(len(y)), indicators[:, 1:]])
    fit = regress_estimates(y, v, against, options.tau2)
    if means is None or fit is None:
        return []
    rows = [
        replace(
            base,
            kind="level",
            level=level,
            k=len(own),
            **coefficient_cells(means, place, ci, options),
            headline=ci == options.headline_ci,
            tau2=means.tau2,
        )
        for place, (level, own) in enumerate(groups.items())
        for ci in CI_METHODS
    ]
    row = replace(base, kind="difference", level=ALL_LEVELS, **_fit_cells(fit, studies, options))
    for ci in CI_METHODS:
        statistic, m, df, p = fit.test(list(range(1, len(groups))), ci)
        cells: dict[str, Any] = {"test": statistic, "test_df": m, "p": p}
        cells["df"] = df if np.isfinite(df) else None
        rows.append(replace(row, **cells, ci_method=ci, headline=ci == options.headline_ci))
    return rows
