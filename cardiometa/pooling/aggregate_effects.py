"""Trials known by what was published of them, and whether they differ from participants' data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..cohort.plausibility import folded
from ..errors import Problem, TableError
from ..records import SeriousWarning
from ..statistics.meta import MetaRegression, regress_estimates
from .endpoint.columns import number_column, text_column
from .options import DIFFERENCES, RATIOS, PoolingOptions
from .published_tables import (
    effects_of_arms,
    form_of_table,
    harmonised,
    is_log,
    with_measure,
)
from .results import EffectRow, Study
from .second_stage.two_stage import (
    coefficient_cells,
    comparison_cells,
    estimates_of,
    sensitivity_row,
)

_EFFECT_COLUMNS = ("estimate", "se", "variance", "ci_low", "ci_high")
_Z95 = 1.959963984540054
# Both halves of an interval may differ by rounding; beyond this share it is another scale.
_UNEVEN = 0.1
# Ratios with a lower median are hardly known of a treatment; logs of small effects are below it.
_COULD_BE_RATIO = 0.1
# se² and variance may differ by rounding of the digits that are given.
_ROUNDING = 0.05
# The SDs of one outcome in two trials, with and without adjustment, are hardly further apart.
_UNLIKE = 4.0
# Beyond these a square has no digits, or there is no such trial.
_LEAST_NUMBER, _MOST_NUMBER, _MOST_RATIO = 1e-100, 1e100, 1e5


def read_summaries(
    rows: pd.DataFrame, options: PoolingOptions, *, name: str, arms: tuple[str, ...] = ()
) -> tuple[Study, ...]:
    """The studies of a table of published trials.

    With ``se`` ratios are on the log scale, with an interval on the natural one; numbers that could
    be on either are refused. ``arms`` are those of the participants' data: a summary joins the only
    one, else it must name its own. TableError lists every problem.
    """
    form = form_of_table(rows.columns)
    if not form:
        raise TableError(
            f"{name} is not a table of summaries.",
            hint="It needs a trial, and estimate and se (yi and vi, TE and seTE, or ci_low and "
            "ci_high), events and n of each arm, mean, sd and n of each arm, or O - E and V. Its "
            f"columns are: {', '.join(map(str, rows.columns[:30]))}.",
        )
    if rows.empty:
        raise TableError(f"{name} has a header, but no rows.")
    measure = with_measure(form, options, name).effect
    if measure != options.effect:
        raise TableError(f"{name} has {form} of an {measure}, not of a {options.effect}.")
    logs = is_log(rows)
    rows = harmonised(rows, name)
    frame = rows.assign(trial=text_column(rows, "trial"), arm=_arms(rows, arms, name))
    if form == "effects":
        for column in _EFFECT_COLUMNS:
            if column in frame:
                frame[column] = number_column(rows, column)
    counts = number_column(rows, "n") if "n" in rows else pd.Series(np.nan, index=frame.index)
    problems = _row_problems(frame.assign(n=counts), name, form)
    if problems:
        raise TableError(f"{name} cannot be used.", problems=problems)
    if form == "effects":
        estimates, errors = _on_analysis_scale(frame, options, name, logs=logs)
        cells = pd.DataFrame({"estimate": estimates, "se": errors}, index=frame.index)
    else:
        cells = effects_of_arms(form, frame, options, name)
    known = cells["estimate"].notna() if form == "counts" else pd.Series(True, index=cells.index)
    _refuse_impossible(frame["trial"][known], cells[known], name)
    if "n_active" in cells and "n" not in rows:
        counts = cells["n_active"] + cells["n_control"]
    own = cells.assign(trial=frame["trial"], arm=frame["arm"], n=counts).astype(object)
    own = own.where(own.notna(), None)
    studies = []
    for values in own.to_numpy():
        row: dict[str, Any] = dict(zip(map(str, own.columns), values, strict=True))
        row["n"] = None if row["n"] is None else int(row["n"])
        studies.append(Study(control=options.control, aggregate=True, **row))
    return tuple(studies)


def _refuse_impossible(trials: pd.Series[str], cells: pd.DataFrame, name: str) -> None:
    """TableError for standard errors that no trial has, and for numbers beyond what can be squared.

    An SE 1e5 times smaller or larger than the median is an error of unit or of typing.
    """
    estimates, errors = (cells[c].to_numpy(dtype=float) for c in ("estimate", "se"))
    usual = errors[np.isfinite(errors) & (errors > 0)]
    middle = float(np.median(usual)) if len(usual) else 1.0
    problems = []
    for trial, estimate, se in zip(trials, estimates, errors, strict=True):
        where = f"{name}, trial {trial}"
        if not (math.isfinite(se) and se > 0):
            problems.append(
                Problem(where=where, what="its standard error is not a positive number")
            )
        elif not (_LEAST_NUMBER < se < _MOST_NUMBER and abs(estimate) < _MOST_NUMBER):
            problems.append(
                Problem(
                    where=where,
                    what=f"estimate {estimate:g}, standard error {se:g}",
                    why="Numbers of this size cannot be computed with.",
                    fix="Give them in another unit.",
                )
            )
        elif not middle / _MOST_RATIO < se < middle * _MOST_RATIO:
            size = "smaller" if se < middle else "larger"
            ratio = middle / se if se < middle else se / middle
            problems.append(
                Problem(
                    where=where,
                    what=f"its standard error {se:g} is {ratio:.1g} times {size} than the median",
                    why="One trial would have all the weight, or none.",
                    fix="Check its unit, and that it is a standard error.",
                )
            )
    if problems:
        raise TableError(f"{name} cannot be used.", problems=problems)


def _arms(rows: pd.DataFrame, arms: tuple[str, ...], name: str) -> pd.Series[str]:
    if "arm" in rows:
        named = text_column(rows, "arm")
        unknown = sorted(set(named) - set(arms)) if arms else []
        if "" in set(named) or unknown:
            found = ", ".join(repr(arm) for arm in unknown) or "empty"
            raise TableError(
                f"{name}: the arm is {found}; the participants' active arms are {', '.join(arms)}."
                if arms
                else f"{name}: a row has no arm.",
                hint="Name for each summary the active arm it belongs to.",
            )
        return named
    if len(arms) > 1:
        raise TableError(
            f"{name} has no column arm, and there are several active arms: {', '.join(arms)}.",
            hint="Add a column arm that says which one each summary belongs to.",
        )
    return pd.Series(arms[0] if arms else "active", index=rows.index)


def _row_problems(frame: pd.DataFrame, name: str, form: str) -> list[Problem]:
    problems = [
        Problem(where=f"{name}, trial {t}", what=f"{column} is empty")
        for column in (_EFFECT_COLUMNS if form == "effects" else ())
        if column in frame
        for t in frame["trial"][frame[column].isna()]
    ]
    if (frame["trial"] == "").any():
        problems.append(Problem(where=name, what="a row has no trial name"))
    names = frame[["trial", "arm"]].assign(trial=frame["trial"].map(folded))
    twice = frame["trial"][names.duplicated()]
    problems += [
        Problem(
            where=f"{name}, trial {trial}",
            what="it appears twice",
            why="It would count double.",
        )
        for trial in sorted(set(twice))
    ]
    wrong = frame["n"].notna() & ((frame["n"] < 1) | (frame["n"] % 1 != 0))
    problems += [
        Problem(where=f"{name}, trial {t}", what="n is not a whole number of participants")
        for t in frame["trial"][wrong]
    ]
    return problems


def _on_analysis_scale(
    frame: pd.DataFrame, options: PoolingOptions, name: str, *, logs: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Estimates and standard errors; ratios as logs.

    ``logs`` where the column's name says so; without it positive estimates around 1 are refused.
    """
    estimate = frame["estimate"].to_numpy(dtype=float)
    if "ci_low" not in frame or "ci_high" not in frame:
        is_ratio = options.effect in RATIOS and not logs and len(estimate)
        if is_ratio and (estimate > 0).all() and np.median(estimate) > _COULD_BE_RATIO:
            raise TableError(
                f"{name}: the estimates could be ratios or their logs.",
                hint="estimate and se are read as logs. If they are, call the column yi (or TE, or "
                "log_estimate); if they are ratios, give ci_low and ci_high.",
            )
        return estimate, _stated_errors(frame, name)
    low, high = frame["ci_low"].to_numpy(dtype=float), frame["ci_high"].to_numpy(dtype=float)
    if "se" in frame:
        raise TableError(
            f"{name} has both se and an interval.",
            hint="For a ratio se means the log scale and an interval the natural one: it could be "
            "either. Keep one of the two.",
        )
    backwards = ~((low < estimate) & (estimate < high))
    if backwards.any():
        raise TableError(
            f"{name}: some intervals do not contain their estimate.",
            problems=[
                Problem(where=f"{name}, trial {t}", what="ci_low < estimate < ci_high is not true")
                for t in frame["trial"][backwards]
            ],
        )
    if options.effect in RATIOS:
        _check_natural_scale(estimate, low, high, name)
        estimate, low, high = np.log(estimate), np.log(low), np.log(high)
    uneven = _unevenness(estimate, low, high) > _UNEVEN
    if uneven.any():
        raise TableError(
            f"{name}: some estimates are not in the middle of their interval.",
            hint="No standard error can be read from such an interval: give se instead, or say the "
            "right --effect.",
            problems=[
                Problem(where=f"{name}, trial {trial}", what="the interval is uneven about it")
                for trial in frame["trial"][uneven]
            ],
        )
    return estimate, (high - low) / (2 * _Z95)


def _stated_errors(frame: pd.DataFrame, name: str) -> np.ndarray:
    """The standard errors: ``se``, or the root of the variance; TableError where they disagree."""
    if "variance" not in frame:
        return frame["se"].to_numpy(dtype=float)
    with np.errstate(invalid="ignore"):
        root: np.ndarray = np.sqrt(frame["variance"].to_numpy(dtype=float))
    if "se" not in frame:
        return root
    se = frame["se"].to_numpy(dtype=float)
    if (unlike := ~np.isclose(se, root, rtol=_ROUNDING, atol=0.0)).any():
        raise TableError(
            f"{name}: se is not the square root of the variance.",
            hint="Keep the one of the two that is right.",
            problems=[
                Problem(where=f"{name}, trial {t}", what=f"se {s:g}, variance {v:g}")
                for t, s, v in frame.loc[unlike, ["trial", "se", "variance"]].to_numpy()
            ],
        )
    return se


def _unevenness(estimate: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """How far each estimate is from the middle of its interval, as a share of the half width."""
    share: np.ndarray = np.abs(2 * estimate - low - high) / (high - low)
    return share


def _check_natural_scale(
    estimate: np.ndarray, low: np.ndarray, high: np.ndarray, name: str
) -> None:
    hint = (
        "A file with ci_low and ci_high is read on the natural scale (1 is no effect); give logs "
        "as estimate and se."
    )
    if (low <= 0).any():
        raise TableError(
            f"{name}: an interval reaches 0 or below: no ratio on the natural scale.",
            hint=hint,
        )
    natural = float(np.median(_unevenness(np.log(estimate), np.log(low), np.log(high))))
    logged = float(np.median(_unevenness(estimate, low, high)))
    if logged <= natural:
        raise TableError(
            f"{name}: the intervals could be on the log scale or on the natural one.",
            hint=hint,
        )


def unlike_spreads(studies: Sequence[Study], options: PoolingOptions) -> list[str]:
    """A sentence on published differences whose SE and n imply an SD unlike the other trials'."""
    if options.effect not in DIFFERENCES:
        return []
    implied: dict[str, float] = {}
    for study in studies:
        arms: tuple[float | None, float | None] = (study.n_control, study.n_active)
        if study.n and not all(arms):
            arms = (study.n / 2, study.n / 2)
        if study.se and arms[0] and arms[1]:
            implied[study.trial] = study.se / math.sqrt(1 / arms[0] + 1 / arms[1])
    odd = []
    for study in studies if len(implied) > 1 else ():
        others = [spread for trial, spread in implied.items() if trial != study.trial]
        ratio = implied.get(study.trial, math.nan) / float(np.median(others))
        if study.aggregate and not (math.isnan(ratio) or 1 / _UNLIKE < ratio < _UNLIKE):
            odd.append(f"{study.trial} ({ratio:.2g} times)")
    sentence = (
        f"The SD that SE and n imply is unlike that of the other trials in {', '.join(odd)}: was a "
        "standard error given as an SD, or is it another unit?"
    )
    return [SeriousWarning(sentence)] if odd else []


SUMMARIES_ONLY = "trials with published effects only"
TERM = "treatment:source"
LEVEL = "participants vs summaries"
DIFFERENCE = "participants' data less published effects"
_LEAST = 3


def source_fit(studies: Sequence[Study], method: str) -> MetaRegression | None:
    """Meta-regression on the source: mean of the published effects, then the difference.

    None where a source has no trial, or there are fewer than three in all.
    """
    usable = [study for study in studies if study.estimable]
    if len(usable) < _LEAST or len({study.aggregate for study in usable}) < 2:
        return None
    x = np.array([[1.0, float(not study.aggregate)] for study in usable])
    return regress_estimates(*estimates_of(usable), x, method)


def source_rows(studies: Sequence[Study], options: PoolingOptions) -> list[EffectRow]:
    """The published effects pooled alone, and the test of the difference between the sources.

    One tau² for both (REML; ML and common effect as asked), Knapp and Hartung's interval with the
    ratio never below 1, k - 2 degrees of freedom.
    """
    usable = [study for study in studies if study.estimable]
    published = [study for study in usable if study.aggregate]
    if not 0 < len(published) < len(usable):
        return []
    rows = [sensitivity_row(published, options, SUMMARIES_ONLY)]
    method = options.tau2 if options.tau2 in ("ml", "fe") else "reml"
    fit = source_fit(studies, method)
    if fit is None:
        return rows
    rows.append(
        EffectRow(
            analysis="pooled",
            **comparison_cells(options, published[0].arm, published[0].control),
            term=TERM,
            level=LEVEL,
            **coefficient_cells(fit, 1, options.headline_ci, options),
            tau2=fit.tau2,
            k=fit.k,
            tau2_method=method,
            headline=True,
            variant="source-difference",
            label=DIFFERENCE,
            note=f"sensitivity: {DIFFERENCE}",
        )
    )
    return rows
