"""The forms in which published trials come: effects, counts, means and SDs, log-rank sums.

Columns are recognised by the names of R's metafor and meta and by plain ones, whatever their case
and punctuation. Each form gives an estimate and a standard error on the analysis scale (ratios:
log), or the reason why a trial has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from ..cohort.infer_columns import plain_name
from ..errors import Problem, TableError
from .endpoint.columns import number_column
from .first_stage.events import table_effect
from .first_stage.trial_models import hedges_factor
from .options import DIFFERENCES, STANDARDISED, PoolingOptions

# What a column is: its usual names, without case and punctuation.
_NAMES = {
    "trial": "trial study studlab studyid trialid author slab",
    "arm": "arm",
    "estimate": "estimate yi te logestimate",
    "se": "se sei sete stderr standarderror",
    "variance": "vi variance",
    "ci_low": "cilow cilb lower cilower lowerci lcl",
    "ci_high": "cihigh ciub upper ciupper upperci ucl",
    "n": "n ni ntotal",
    "events_active": "eventsactive eventactive ai evente event1 events1",
    "events_control": "eventscontrol eventcontrol ci eventc event2 events2",
    "free_active": "bi noneventsactive",
    "free_control": "di noneventscontrol",
    "n_active": "nactive n1i ne n1",
    "n_control": "ncontrol n2i nc n2",
    "mean_active": "meanactive m1i meane mean1",
    "mean_control": "meancontrol m2i meanc mean2",
    "sd_active": "sdactive sd1i sde sd1",
    "sd_control": "sdcontrol sd2i sdc sd2",
    "observed_less_expected": "oe ominuse observedlessexpected",
    "log_rank_variance": "v logrankvariance voe",
}
_ROLES = {word: role for role, words in _NAMES.items() for word in words.split()}
_LOGS = {"yi", "te", "logestimate"}
_PARTICIPANT = {
    *("participantid", "participant", "subjid", "usubjid"),
    *("subject", "patid", "patient", "patientid"),
}
_MEANS = tuple(f"{what}_{arm}" for what in ("mean", "sd", "n") for arm in ("active", "control"))
# The columns of each form; a table may have one of them.
FORMS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "effects": (("estimate", "se"), ("estimate", "variance"), ("estimate", "ci_low", "ci_high")),
    "counts": (
        ("events_active", "n_active", "events_control", "n_control"),
        ("events_active", "free_active", "events_control", "free_control"),
    ),
    "means": (_MEANS,),
    "log-rank": (("observed_less_expected", "log_rank_variance"),),
}
_OF_FORM = {
    "counts": ("odds-ratio", "risk-ratio", "risk-difference"),
    "means": (*DIFFERENCES, STANDARDISED),
    "log-rank": ("hazard-ratio",),
}


def form_of_table(columns: Iterable[object]) -> str:
    """One of `FORMS`; empty for a table of participants or anything else.

    It needs a trial and all columns of the form; further ones may be covariates of the trials.
    """
    words = {plain_name(str(name)) for name in columns}
    roles = {_ROLES[word] for word in words if word in _ROLES}
    if "trial" not in roles or words & _PARTICIPANT:
        return ""
    return next((f for f, sets in FORMS.items() if any(set(s) <= roles for s in sets)), "")


def harmonised(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """``rows`` with the recognised columns by their role; TableError where two are of one role."""
    renamed: dict[str, list[str]] = {}
    for column in map(str, rows.columns):
        renamed.setdefault(_ROLES.get(plain_name(column), column), []).append(column)
    twice = [columns for columns in renamed.values() if len(columns) > 1]
    forms = [f for f, sets in FORMS.items() if any(set(s) <= set(renamed) for s in sets)]
    problems = [
        Problem(
            where=name,
            what=f"the columns {' and '.join(columns)} say the same",
            why="Which one is meant cannot be guessed.",
            fix="Remove or rename one.",
        )
        for columns in twice
    ]
    if len(forms) > 1:
        problems.append(
            Problem(
                where=name,
                what=f"it has {' and '.join(forms)}",
                why="They need not agree, nor be of the same effect measure.",
                fix="Keep the columns of one of them.",
            )
        )
    if problems:
        raise TableError(f"{name} cannot be used.", problems=problems)
    return rows.set_axis([*renamed], axis=1)


def with_measure(form: str, options: PoolingOptions, name: str) -> PoolingOptions:
    """The options with the effect measure that the form has; TableError where it has another one.

    The default, a mean difference, becomes the odds ratio of counts, the hazard ratio of log-rank
    sums.
    """
    possible = _OF_FORM.get(form)
    if possible is None or options.effect in possible:
        return options
    if options.effect == "mean-difference":
        changes: dict[str, Any] = {"effect": possible[0]}
        return replace(options, **changes)
    raise TableError(
        f"{name} has {form}, which give no {options.effect}.",
        hint=f"Use --effect {', '.join(possible[:-1])} or {possible[-1]}."
        if len(possible) > 1
        else f"Use --effect {possible[0]}.",
    )


def recognised(rows: pd.DataFrame) -> str:
    """Which columns were taken for which, in words; empty where all have the plain names."""
    taken = [(c, _ROLES[plain_name(c)]) for c in map(str, rows.columns) if plain_name(c) in _ROLES]
    named = [f"{column} as {role.replace('_', ' ')}" for column, role in taken if column != role]
    return f"Columns read: {', '.join(named)}." if named else ""


def is_log(rows: pd.DataFrame) -> bool:
    """True where the column of the estimate says that ratios are logs, as in metafor and meta."""
    return any(plain_name(str(column)) in _LOGS for column in rows.columns)


def effects_of_arms(
    form: str, frame: pd.DataFrame, options: PoolingOptions, name: str
) -> pd.DataFrame:
    """``estimate``, ``se`` and ``note`` of each trial from what is given by arm.

    ``frame`` is `harmonised` with a column ``trial``. TableError lists every impossible number.
    """
    wanted = next(s for s in FORMS[form] if set(s) <= set(frame))
    numbers = pd.DataFrame({c: number_column(frame, c) for c in wanted}, index=frame.index)
    if "free_active" in wanted:
        for arm in ("active", "control"):
            numbers[f"n_{arm}"] = numbers[f"events_{arm}"] + numbers[f"free_{arm}"]
    problems = [
        Problem(where=f"{name}, trial {trial}", what=what)
        for what, wrong in _impossible(form, numbers).items()
        for trial in frame.loc[wrong, "trial"]
    ]
    if problems:
        raise TableError(f"{name} cannot be used.", problems=problems)

    def difference_of_means(row: pd.Series[float]) -> tuple[float, float, str]:
        """With its SE, or Hedges' g (metafor's ``MD`` and ``SMD``)."""
        n1, n2 = row["n_active"], row["n_control"]
        difference = row["mean_active"] - row["mean_control"]
        squares = row["sd_active"] ** 2, row["sd_control"] ** 2
        if options.effect != STANDARDISED:
            return difference, math.sqrt(squares[0] / n1 + squares[1] / n2), ""
        m = n1 + n2 - 2
        pooled = math.sqrt(((n1 - 1) * squares[0] + (n2 - 1) * squares[1]) / m)
        g = hedges_factor(m) * difference / pooled
        return g, math.sqrt(1 / n1 + 1 / n2 + g**2 / (2 * (n1 + n2))), ""

    effect: Callable[[pd.Series[float]], tuple[float, float, str] | str] = {
        "counts": lambda row: table_effect(
            *(int(row[c]) for c in FORMS["counts"][0]), effect=options.effect
        ),
        "means": difference_of_means,
        "log-rank": lambda row: (row.iloc[0] / row.iloc[1], row.iloc[1] ** -0.5, ""),
    }[form]
    found = [effect(row) for _, row in numbers.iterrows()]
    cells = [(math.nan, math.nan, one) if isinstance(one, str) else one for one in found]
    estimates = pd.DataFrame(cells, columns=["estimate", "se", "note"], index=frame.index)
    kept = [c for c in map(str, numbers) if c.startswith(("n_", "events_"))]
    return estimates.join(numbers[kept].astype(int))


def _impossible(form: str, numbers: pd.DataFrame) -> dict[str, pd.Series[bool]]:
    """What cannot be, and in which rows."""
    columns = list(map(str, numbers))
    found = {f"{c.replace('_', ' ')} is empty": numbers[c].isna() for c in columns}
    for c in columns:
        if c.startswith(("n_", "events_", "free_")):
            wrong = numbers[c].notna() & ((numbers[c] < 0) | (numbers[c] % 1 != 0))
            found[f"{c.replace('_', ' ')} is not a count"] = wrong
    for arm in ("active", "control") if form in ("counts", "means") else ():
        n = numbers[f"n_{arm}"]
        if form == "counts":
            found[f"more events than participants in the {arm} arm"] = numbers[f"events_{arm}"] > n
        else:
            found[f"fewer than two participants in the {arm} arm"] = n < 2
            found[f"the SD of the {arm} arm is not positive"] = numbers[f"sd_{arm}"] <= 0
    if form == "log-rank":
        found["the variance of O - E is not positive"] = numbers["log_rank_variance"] <= 0
    return found
