"""The design matrix of one trial's own regression of events: arms and covariates, independent.

Binary endpoints of one trial: odds ratio, risk ratio, risk difference, with empty cells said.

Without covariates each comparison is its 2 × 2 table, which for the odds ratio is the logistic
model. An arm without events, or without anyone free of them, has no plain estimate: the odds ratio
then comes from Firth's penalised likelihood, the others from the table with 0.5 added to each cell,
and the note says so. Trials without any event say nothing about a ratio (Cochrane Handbook 10.4.4).

Time to event: a Cox model in each trial (Efron's ties), and one over all trials.

A trial with an arm without events has an infinite plain estimate: Firth's penalty gives a finite
one, and the note says so (Heinze & Schemper 2001). Trials without any event say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...statistics.cox import RiskSets, fit_cox, partial_likelihood, risk_sets
from ...statistics.firth import fit_logistic
from ..endpoint.analysis_set import Analysed
from ..options import PoolingOptions
from ..results import Study

_DEPENDENT = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialDesign:
    """``x`` ``[n, p]``: the active arms' indicators, then the covariates that are independent.

    ``dropped`` are covariates that are constant here, or explained by those before them.
    """

    x: np.ndarray
    active: tuple[str, ...]
    dropped: tuple[str, ...]

    @property
    def note(self) -> str:
        """What was left out of the model, in words."""
        if not self.dropped:
            return ""
        names = ", ".join(self.dropped)
        return f"not adjusted for {names} (constant or explained by the others here)"


def trial_design(trial: Analysed, control: str) -> TrialDesign:
    """Indicators of the active arms and the covariates of ``trial``, without an intercept."""
    arm = trial.rows["arm"].to_numpy()
    active = tuple(sorted(set(arm) - {control}))
    columns = [(arm == name).astype(float) for name in active]
    dropped = []
    # Each covariate is held against the arms and the covariates already in, the mean out.
    for name in trial.nuisance.columns:
        values = trial.nuisance[name].to_numpy(dtype=float)
        if is_explained(values, columns):
            dropped.append(str(name))
        else:
            columns.append(values)
    return TrialDesign(
        x=np.column_stack(columns) if columns else np.empty((len(arm), 0)),
        active=active,
        dropped=tuple(dropped),
    )


def is_explained(values: np.ndarray, columns: list[np.ndarray]) -> bool:
    """True for a column that is constant, or a combination of ``columns`` and a constant."""
    centred = values - values.mean()
    size = float(np.linalg.norm(centred))
    if size <= _DEPENDENT * max(float(np.linalg.norm(values)), 1e-300):
        return True
    if not columns:
        return False
    others = np.column_stack([column - column.mean() for column in columns])
    rest = centred - others @ np.linalg.lstsq(others, centred, rcond=None)[0]
    return float(np.linalg.norm(rest)) <= _DEPENDENT * size


FIRTH = "Firth's penalised likelihood"
HALF = "0.5 added to each cell"
NO_EVENTS = "no events in either arm: nothing is known of a ratio"
ALL_EVENTS = "everyone in both arms had the event: nothing is known of a ratio"
SINGULAR = "the model could not be fitted: arms and covariates cannot be told apart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A 2 × 2 table: events ``a`` of ``n1`` in the active arm, ``c`` of ``n2`` in the control."""

    a: int
    n1: int
    c: int
    n2: int

    @property
    def has_empty_cell(self) -> bool:
        """True where an arm has no events, or nobody without one."""
        return 0 in (self.a, self.c, self.n1 - self.a, self.n2 - self.c)

    @property
    def thin_side(self) -> str:
        """Which cells are empty, in words."""
        cells = {
            "no events in the active arm": self.a,
            "no events in the control arm": self.c,
            "everyone in the active arm had the event": self.n1 - self.a,
            "everyone in the control arm had the event": self.n2 - self.c,
        }
        return " and ".join(words for words, count in cells.items() if count == 0)


def table_of(trial: Analysed, arm: str, control: str) -> Table:
    """The 2 × 2 table of one comparison."""
    rows = trial.rows
    active, reference = rows["arm"] == arm, rows["arm"] == control
    return Table(
        a=int(rows.loc[active, "outcome"].sum()),
        n1=int(active.sum()),
        c=int(rows.loc[reference, "outcome"].sum()),
        n2=int(reference.sum()),
    )


def binary_studies(trial: Analysed, options: PoolingOptions) -> tuple[Study, ...]:
    """One `Study` for each active arm of the trial, ratios as logs."""
    active = sorted(set(trial.rows["arm"]) - {options.control})
    adjusted: Mapping[str, _Estimate | str] = {}
    if len(trial.nuisance.columns) and options.effect == "odds-ratio":
        adjusted = _adjusted(trial, options.control)
    studies = []
    for arm in active:
        table = table_of(trial, arm, options.control)
        found = _reason(table, options.effect) or adjusted.get(arm)
        found = found or _ESTIMATES[options.effect](table)
        given = None if isinstance(found, str) else found
        studies.append(
            Study(
                trial=trial.trial,
                arm=arm,
                control=options.control,
                estimate=None if given is None else given.estimate,
                se=None if given is None else given.se,
                n_control=table.n2,
                n_active=table.n1,
                n=table.n1 + table.n2,
                events_control=table.c,
                events_active=table.a,
                note=found if isinstance(found, str) else found.note,
            )
        )
    return tuple(studies)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Estimate:
    estimate: float
    se: float
    note: str = ""


def _reason(table: Table, effect: str) -> str:
    """Why nothing can be estimated, empty where something can."""
    if table.n1 == 0:
        return "no participant analysed in the active arm"
    if table.n2 == 0:
        return "no participant analysed in the control arm"
    if effect == "risk-difference":
        return ""
    if table.a + table.c == 0:
        return NO_EVENTS
    if table.a == table.n1 and table.c == table.n2:
        return ALL_EVENTS
    return ""


# ------------------------------------------------------------------ from the 2 x 2 table


def _odds_ratio(table: Table) -> _Estimate:
    """Log of (ad / bc), Woolf's variance; with an empty cell Firth's logistic model of two columns.

    Firth's estimate of a saturated model is that with 0.5 in each cell; its variance is the
    inverse information there.
    """
    if not table.has_empty_cell:
        cells = (table.a, table.n1 - table.a, table.c, table.n2 - table.c)
        return _Estimate(
            estimate=float(np.log(cells[0] * cells[3] / (cells[1] * cells[2]))),
            se=float(np.sqrt(sum(1.0 / cell for cell in cells))),
        )
    odds, variance = 0.0, 0.0
    for sign, events, n in ((1, table.a, table.n1), (-1, table.c, table.n2)):
        p = (events + 0.5) / (n + 1.0)
        odds += sign * np.log(p / (1.0 - p))
        variance += 1.0 / (n * p * (1.0 - p))
    return _Estimate(
        estimate=float(odds),
        se=float(np.sqrt(variance)),
        note=f"{table.thin_side}: {FIRTH}",
    )


def _risk_ratio(table: Table) -> _Estimate:
    """Log of the ratio of risks, variance 1/a - 1/n1 + 1/c - 1/n2."""
    add = 0.5 if table.a == 0 or table.c == 0 else 0.0
    a, n1, c, n2 = table.a + add, table.n1 + 2 * add, table.c + add, table.n2 + 2 * add
    return _Estimate(
        estimate=float(np.log(a / n1) - np.log(c / n2)),
        se=float(np.sqrt(1 / a - 1 / n1 + 1 / c - 1 / n2)),
        note=f"{table.thin_side}: {HALF}" if add else "",
    )


def _risk_difference(table: Table) -> _Estimate:
    """Difference of risks, variance p(1 - p) / n of each arm."""
    both = table.a in (0, table.n1) and table.c in (0, table.n2)  # else the SE would be 0
    add = 0.5 if both else 0.0
    a, n1, c, n2 = table.a + add, table.n1 + 2 * add, table.c + add, table.n2 + 2 * add
    p1, p2 = a / n1, c / n2
    return _Estimate(
        estimate=p1 - p2,
        se=float(np.sqrt(p1 * (1 - p1) / n1 + p2 * (1 - p2) / n2)),
        note=f"{table.thin_side}: {HALF}" if both else "",
    )


_ESTIMATES = {
    "odds-ratio": _odds_ratio,
    "risk-ratio": _risk_ratio,
    "risk-difference": _risk_difference,
}


# ------------------------------------------------------------------ adjusted odds ratios


def _adjusted(trial: Analysed, control: str) -> Mapping[str, _Estimate | str]:
    """Odds ratios of a logistic model with all arms of the trial and its covariates."""
    design = trial_design(trial, control)
    y = trial.rows["outcome"].to_numpy(dtype=float)
    x = np.column_stack([np.ones(len(y)), design.x])
    words = ""
    fit = fit_logistic(x, y)
    if fit is None:
        fit = fit_logistic(x, y, penalised=True)
        words = f"arms or covariates tell the events wholly (separation): {FIRTH}"
    if fit is None:
        return dict.fromkeys(design.active, SINGULAR)
    note = "; ".join(part for part in (words, design.note) if part)
    return {
        arm: _Estimate(
            estimate=float(fit.coefficients[1 + place]),
            se=float(np.sqrt(fit.covariance[1 + place, 1 + place])),
            note=note,
        )
        for place, arm in enumerate(design.active)
    }


NO_EVENTS_AT_ALL = "no events in any arm: nothing is known of the hazards"
NO_RISK = "nobody was at risk in two arms at once when an event happened"


def hazard_studies(trial: Analysed, options: PoolingOptions) -> tuple[Study, ...]:
    """One `Study` for each active arm: the log hazard ratio of the trial's own Cox model."""
    design = trial_design(trial, options.control)
    event = trial.rows["outcome"].to_numpy(dtype=float) > 0
    arm = trial.rows["arm"].to_numpy()
    counts = {name: (int((arm == name).sum()), int(event[arm == name].sum())) for name in set(arm)}
    n_control, events_control = counts.get(options.control, (0, 0))
    found = _fit(trial, design, event, n_control)
    studies = []
    for place, name in enumerate(design.active):
        estimate, se, note = found if isinstance(found, tuple) else (None, None, found)
        n_active, events_active = counts[name]
        studies.append(
            Study(
                trial=trial.trial,
                arm=name,
                control=options.control,
                estimate=None if estimate is None else float(estimate[place]),
                se=None if se is None else float(se[place]),
                n_control=n_control,
                n_active=n_active,
                n=n_control + n_active,
                events_control=events_control,
                events_active=events_active,
                note=note,
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


def _fit(
    trial: Analysed, design: TrialDesign, event: np.ndarray, n_control: int
) -> tuple[np.ndarray, np.ndarray, str] | str:
    """Estimates, standard errors and a note; or the reason there are none."""
    if n_control == 0:
        return "no participant analysed in the control arm"
    if not event.any():
        return NO_EVENTS_AT_ALL
    sets = trial_risk_sets(trial, design)
    arms = len(design.active)
    at_start = partial_likelihood(sets, np.zeros(design.x.shape[1])).information
    if (np.diag(at_start)[:arms] <= 1e-12).any():
        return NO_RISK
    fit, words = fit_cox([sets]), ""
    if fit is None:
        fit = fit_cox([sets], penalised=True)
        words = f"an arm or a covariate tells the events wholly: {FIRTH}"
    if fit is None:
        return SINGULAR
    note = "; ".join(part for part in (words, design.note) if part)
    return fit.coefficients[:arms], np.sqrt(np.diag(fit.covariance)[:arms]), note
