"""Events of one trial: odds ratio, risk ratio, risk difference, hazard ratio.

Without covariates each comparison is its 2 × 2 table, which for the odds ratio is the logistic
model. An arm without events, or without anyone free of them, has no plain estimate: odds and hazard
ratios then come from Firth's penalised likelihood (Heinze & Schemper 2001), the others from the
table with 0.5 added to each cell, and the note says so. Trials without any event say nothing about
a ratio (Cochrane Handbook 10.4.4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from ...statistics.event_models import (
    RiskSets,
    fit_cox,
    fit_logistic,
    partial_likelihood,
    risk_sets,
)
from ...statistics.mixed.sufficient_statistics import CONSTANT_TOLERANCE
from ..endpoint.analysis_set import Analysed
from ..options import PoolingOptions
from ..results import Study

FIRTH = "Firth's penalised likelihood"
_HALF = "0.5 added to each cell"
_SINGULAR = "the model could not be fitted: arms and covariates cannot be separated"
_DEPENDENT = 1e-7
_Found = tuple[float, float, str] | str  # estimate, SE and note; or why there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialDesign:
    """``x`` ``[n, p]``: the active arms' indicators, then the covariates that are independent.

    ``note`` names covariates that are not in it: constant here, or explained by those before them.
    """

    x: np.ndarray
    active: tuple[str, ...]
    note: str


def trial_design(trial: Analysed, control: str) -> TrialDesign:
    """Indicators of the active arms and the covariates of ``trial``, without an intercept."""
    arm = trial.rows["arm"].to_numpy()
    active = tuple(sorted(set(arm) - {control}))
    indicators = np.column_stack([np.empty((len(arm), 0)), *(arm == name for name in active)])
    covariates = trial.nuisance.to_numpy(dtype=float)
    kept, dropped = independent(covariates, indicators)
    names = ", ".join(str(trial.nuisance.columns[place]) for place in dropped)
    # Centred, so that large values that hardly vary keep their digits.
    centred = covariates[:, kept] - covariates[:, kept].mean(axis=0)
    return TrialDesign(
        x=np.column_stack([indicators, centred]),
        active=active,
        note=f"not adjusted for {names} (constant or explained by the others here)" * bool(names),
    )


def independent(x: np.ndarray, given: np.ndarray | None = None) -> tuple[list[int], list[int]]:
    """The columns of ``x`` ``[n, p]`` that vary on their own, and the others.

    Each is compared, the mean taken out, with ``given`` ``[n, q]`` and the columns before it.
    """
    basis = np.empty((len(x), 0))
    kept: list[int] = []
    dropped: list[int] = []
    start = 0 if given is None else given.shape[1]
    for place, column in enumerate(np.column_stack([x[:, :0] if given is None else given, x]).T):
        rest = column - column.mean()
        size = float(np.linalg.norm(rest))
        for _ in range(2):  # once more for what rounding left
            rest = rest - basis @ (basis.T @ rest)
        varies = size > CONSTANT_TOLERANCE * max(float(np.linalg.norm(column)), 1e-300)
        left = float(np.linalg.norm(rest))
        if varies and left > _DEPENDENT * size:
            basis = np.column_stack([basis, rest / left])
            kept += [place - start] * (place >= start)
        else:
            dropped += [place - start] * (place >= start)
    return kept, dropped


# ------------------------------------------------------------------ 2 x 2 tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A 2 × 2 table: events ``a`` of ``n1`` in the active arm, ``c`` of ``n2`` in the control."""

    a: int
    n1: int
    c: int
    n2: int

    @property
    def empty_cells(self) -> str:
        """Which cells are empty, in words; empty where none is."""
        cells = {
            "no events in the active arm": self.a,
            "no events in the control arm": self.c,
            "everyone in the active arm had the event": self.n1 - self.a,
            "everyone in the control arm had the event": self.n2 - self.c,
        }
        return " and ".join(words for words, count in cells.items() if count == 0)


def binary_studies(trial: Analysed, options: PoolingOptions) -> tuple[Study, ...]:
    """One `Study` per active arm of the trial, ratios as logs."""
    events, arm = trial.rows["outcome"], trial.rows["arm"]
    adjusted: Mapping[str, _Found] = {}
    if len(trial.nuisance.columns) and options.effect == "odds-ratio":
        adjusted = _adjusted(trial, options.control)
    studies = []
    for name in sorted(set(arm) - {options.control}):
        active, reference = arm == name, arm == options.control
        table = Table(
            a=int(events[active].sum()),
            n1=int(active.sum()),
            c=int(events[reference].sum()),
            n2=int(reference.sum()),
        )
        found: _Found = _nothing_known(table, options.effect)
        found = found or adjusted.get(name) or _ESTIMATES[options.effect](table)
        studies.append(
            Study.of_rows(
                (trial.trial, name, options.control),
                (table.n2, table.n1),
                found,
                events_control=table.c,
                events_active=table.a,
            )
        )
    return tuple(studies)


def table_effect(a: int, n1: int, c: int, n2: int, *, effect: str) -> _Found:
    """Estimate, SE and note of a 2 × 2 table, the active arm first; or why there is none."""
    table = Table(a=a, n1=n1, c=c, n2=n2)
    return _nothing_known(table, effect) or _ESTIMATES[effect](table)


def _nothing_known(table: Table, effect: str) -> str:
    """Why nothing can be estimated, empty where something can."""
    if table.n1 == 0:
        return "no participant analysed in the active arm"
    if table.n2 == 0:
        return "no participant analysed in the control arm"
    if effect == "risk-difference":
        return ""
    if table.a + table.c == 0:
        return "no events in either arm: nothing is known of a ratio"
    if table.a == table.n1 and table.c == table.n2:
        return "everyone in both arms had the event: nothing is known of a ratio"
    return ""


def _odds_ratio(table: Table) -> _Found:
    """Log of (ad / bc), Woolf's variance; with an empty cell Firth's logistic model of two columns.

    Firth's estimate of a saturated model is that with 0.5 in each cell; its variance is the
    inverse information there.
    """
    if not table.empty_cells:
        cells = (table.a, table.n1 - table.a, table.c, table.n2 - table.c)
        se = float(np.sqrt(sum(1.0 / cell for cell in cells)))
        return float(np.log(cells[0] * cells[3] / (cells[1] * cells[2]))), se, ""
    odds, variance = 0.0, 0.0
    for sign, events, n in ((1, table.a, table.n1), (-1, table.c, table.n2)):
        p = (events + 0.5) / (n + 1.0)
        odds += sign * np.log(p / (1.0 - p))
        variance += 1.0 / (n * p * (1.0 - p))
    return float(odds), float(np.sqrt(variance)), f"{table.empty_cells}: {FIRTH}"


def _risks(table: Table, *, ratio: bool) -> _Found:
    """Log ratio of the risks p, variance (1 - p) / np of each arm; or difference, p(1 - p) / n.

    0.5 in each cell where the ratio has no logarithm, or the difference no SE.
    """
    empty = table.a == 0 or table.c == 0
    if not ratio:
        empty = table.a in (0, table.n1) and table.c in (0, table.n2)
    add = 0.5 if empty else 0.0
    a, n1, c, n2 = table.a + add, table.n1 + 2 * add, table.c + add, table.n2 + 2 * add
    note = f"{table.empty_cells}: {_HALF}" if empty else ""
    if ratio:
        se = float(np.sqrt(1 / a - 1 / n1 + 1 / c - 1 / n2))
        return float(np.log(a / n1) - np.log(c / n2)), se, note
    p1, p2 = a / n1, c / n2
    return p1 - p2, float(np.sqrt(p1 * (1 - p1) / n1 + p2 * (1 - p2) / n2)), note


_ESTIMATES: Mapping[str, Callable[[Table], _Found]] = {
    "odds-ratio": _odds_ratio,
    "risk-ratio": partial(_risks, ratio=True),
    "risk-difference": partial(_risks, ratio=False),
}


def _adjusted(trial: Analysed, control: str) -> Mapping[str, _Found]:
    """Odds ratios of a logistic model with all arms of the trial and its covariates."""
    design = trial_design(trial, control)
    y = trial.rows["outcome"].to_numpy(dtype=float)
    x = np.column_stack([np.ones(len(y)), design.x])
    words = ""
    fit = fit_logistic(x, y)
    if fit is None:
        fit = fit_logistic(x, y, penalised=True)
        words = f"arms or covariates predict the events perfectly (separation): {FIRTH}"
    if fit is None:
        return dict.fromkeys(design.active, _SINGULAR)
    note = "; ".join(part for part in (words, design.note) if part)
    errors = np.sqrt(np.diag(fit.covariance))
    return {
        arm: (float(fit.coefficients[1 + place]), float(errors[1 + place]), note)
        for place, arm in enumerate(design.active)
    }


# ------------------------------------------------------------------ time to event


def hazard_studies(trial: Analysed, options: PoolingOptions) -> tuple[Study, ...]:
    """One `Study` per active arm: the log hazard ratio of the trial's Cox model (Efron's ties)."""
    design = trial_design(trial, options.control)
    event = trial.rows["outcome"].to_numpy(dtype=float) > 0
    arm = trial.rows["arm"].to_numpy()
    counts = {name: (int((arm == name).sum()), int(event[arm == name].sum())) for name in set(arm)}
    n_control, events_control = counts.get(options.control, (0, 0))
    if n_control == 0:
        fit: tuple[np.ndarray, np.ndarray, str] | str = "no participant analysed in the control arm"
    elif not event.any():
        fit = "no events in any arm: nothing is known of the hazards"
    else:
        fit = _cox(trial, design)
    studies = []
    for place, name in enumerate(design.active):
        found: _Found = (
            fit if isinstance(fit, str) else (float(fit[0][place]), float(fit[1][place]), fit[2])
        )
        studies.append(
            Study.of_rows(
                (trial.trial, name, options.control),
                (n_control, counts[name][0]),
                found,
                events_control=events_control,
                events_active=counts[name][1],
            )
        )
    return tuple(studies)


def trial_risk_sets(trial: Analysed, design: TrialDesign) -> RiskSets:
    """The risk sets of one trial with its arms and covariates."""
    return risk_sets(
        trial.rows["time"].to_numpy(dtype=float),
        trial.rows["outcome"].to_numpy(dtype=float) > 0,
        design.x,
    )


def _cox(trial: Analysed, design: TrialDesign) -> tuple[np.ndarray, np.ndarray, str] | str:
    """Estimates, standard errors and a note; or the reason there are none."""
    sets = trial_risk_sets(trial, design)
    arms = len(design.active)
    at_start = partial_likelihood(sets, np.zeros(design.x.shape[1])).information
    if (np.diag(at_start)[:arms] <= 1e-12).any():
        return "no participant was at risk in two arms at once when an event happened"
    fit, words = fit_cox([sets]), ""
    if fit is None:
        fit = fit_cox([sets], penalised=True)
        words = f"an arm or a covariate predicts the events perfectly: {FIRTH}"
    if fit is None:
        return _SINGULAR
    note = "; ".join(part for part in (words, design.note) if part)
    return fit.coefficients[:arms], np.sqrt(np.diag(fit.covariance)[:arms]), note
