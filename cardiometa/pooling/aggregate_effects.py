"""Trials known by their published effect only: estimate with SE, or with its 95 % interval.

Participants' data against published effects: do the trials of the two sources differ?
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..errors import Problem, TableError
from ..statistics.meta import MetaRegression, regress_estimates
from .endpoint.columns import number_column, text_column
from .options import RATIOS, PoolingOptions
from .results import EffectRow, Study
from .second_stage.two_stage import (
    coefficient_cells,
    comparison_cells,
    estimates_of,
    sensitivity_row,
)

_KNOWN = {"trial", "estimate", "se", "n", "ci_low", "ci_high", "arm"}
_Z95 = 1.959963984540054
# Both halves of an interval may differ by rounding; beyond this share it is another scale.
_UNEVEN = 0.1
# Beyond these a square has no digits, or there is no such trial.
_LEAST_NUMBER, _MOST_NUMBER, _MOST_RATIO = 1e-100, 1e100, 1e5


def is_summaries(rows: pd.DataFrame) -> bool:
    """True for a table with just the columns of summaries: trial, estimate and se or an interval.

    Any other column makes it a table of participants.
    """
    names = set(map(str, rows.columns))
    return (
        names <= _KNOWN
        and {"trial", "estimate"} <= names
        and bool({"se"} <= names or {"ci_low", "ci_high"} <= names)
    )


def read_summaries(
    rows: pd.DataFrame, options: PoolingOptions, *, name: str, arms: tuple[str, ...] = ()
) -> tuple[Study, ...]:
    """The studies of a table ``trial, estimate, se[, n]`` or ``trial, estimate, ci_low, ci_high``.

    With ``se`` ratios are on the log scale, with an interval on the natural one; an interval that
    fits neither or both is refused. ``arms`` are those of the participants' data: a summary joins
    the only one, else it must name its own. TableError lists every problem.
    """
    if not is_summaries(rows):
        raise TableError(
            f"{name} is not a table of summaries.",
            hint="Its columns must be trial, estimate and se (or ci_low and ci_high), with n and "
            f"arm if known, and no others. They are: {', '.join(map(str, rows.columns[:30]))}.",
        )
    if rows.empty:
        raise TableError(f"{name} has a header, but no rows.")
    rows = rows.set_axis([str(column) for column in rows.columns], axis=1)
    frame = pd.DataFrame(
        {
            column: number_column(rows, column)
            for column in ("estimate", "se", "ci_low", "ci_high", "n")
            if column in rows
        },
        index=rows.index,
    ).assign(trial=text_column(rows, "trial"), arm=_arms(rows, arms, name))
    problems = _row_problems(frame, name)
    if problems:
        raise TableError(f"{name} cannot be used.", problems=problems)
    estimates, errors = _on_analysis_scale(frame, options, name)
    _refuse_impossible(frame["trial"], estimates, errors, name)
    counts = frame["n"] if "n" in frame else pd.Series(np.nan, index=frame.index)
    return tuple(
        Study(
            trial=trial,
            arm=arm,
            control=options.control,
            estimate=float(estimate),
            se=float(se),
            n=None if math.isnan(n) else int(n),
            aggregate=True,
        )
        for trial, arm, estimate, se, n in zip(
            frame["trial"], frame["arm"], estimates, errors, counts, strict=True
        )
    )


def _refuse_impossible(
    trials: pd.Series[str], estimates: np.ndarray, errors: np.ndarray, name: str
) -> None:
    """TableError for standard errors that no trial has, and for numbers beyond what can be squared.

    An SE 1e5 times smaller or larger than the median is an error of unit or of typing.
    """
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


def _row_problems(frame: pd.DataFrame, name: str) -> list[Problem]:
    problems = []
    for column in ("estimate", "se", "ci_low", "ci_high"):
        if column in frame and (missing := frame["trial"][frame[column].isna()]).size:
            problems += [
                Problem(where=f"{name}, trial {t}", what=f"{column} is empty") for t in missing
            ]
    if (frame["trial"] == "").any():
        problems.append(Problem(where=name, what="a row has no trial name"))
    twice = frame[frame.duplicated(["trial", "arm"], keep="first")]["trial"]
    problems += [
        Problem(
            where=f"{name}, trial {trial}",
            what="it appears twice",
            why="It would count double.",
        )
        for trial in sorted(set(twice))
    ]
    if "n" in frame:
        wrong = frame["n"].notna() & ((frame["n"] < 1) | (frame["n"] % 1 != 0))
        problems += [
            Problem(where=f"{name}, trial {t}", what="n is not a whole number of participants")
            for t in frame["trial"][wrong]
        ]
    return problems


def _on_analysis_scale(
    frame: pd.DataFrame, options: PoolingOptions, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Estimates and standard errors; ratios as logs."""
    estimate = frame["estimate"].to_numpy(dtype=float)
    if "ci_low" not in frame or "ci_high" not in frame:
        return estimate, frame["se"].to_numpy(dtype=float)
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
    _check_even(frame["trial"], estimate, low, high, name)
    return estimate, (high - low) / (2 * _Z95)


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


def _check_even(
    trials: pd.Series[str], estimate: np.ndarray, low: np.ndarray, high: np.ndarray, name: str
) -> None:
    uneven = _unevenness(estimate, low, high) > _UNEVEN
    if uneven.any():
        raise TableError(
            f"{name}: some estimates are not in the middle of their interval.",
            hint="No standard error can be read from such an interval: give se instead, or say the "
            "right --effect.",
            problems=[
                Problem(where=f"{name}, trial {trial}", what="the interval is uneven about it")
                for trial in trials[uneven]
            ],
        )


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
