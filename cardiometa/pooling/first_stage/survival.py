"""Time to event: a Cox model in each trial (Efron's ties), and one over all trials.

A trial with an arm without events has an infinite plain estimate: Firth's penalty gives a finite
one, and the note says so (Heinze & Schemper 2001). Trials without any event say nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...statistics.cox import RiskSets, fit_cox, partial_likelihood, risk_sets
from ...statistics.firth import Pieces, maximise
from ...statistics.meta import t_interval
from ..endpoint.analysis_set import Analysed
from ..options import PoolingOptions
from ..results import EffectRow, Study
from ..second_stage.two_stage import interval_cells, total
from .binary import FIRTH, SINGULAR, TrialDesign, trial_design

NO_EVENTS = "no events in any arm: nothing is known of the hazards"
NO_RISK = "nobody was at risk in two arms at once when an event happened"
STRATIFIED = "Cox model stratified by trial, common effect"


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


def _sets(trial: Analysed, design: TrialDesign) -> RiskSets:
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
        return NO_EVENTS
    sets = _sets(trial, design)
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


# ------------------------------------------------------------------ all trials at once


def stratified_rows(
    trials: Sequence[Analysed], studies: Sequence[Study], options: PoolingOptions
) -> tuple[EffectRow, ...]:
    """The one-stage model of one active arm; none for fewer than two trials with events.

    Baseline hazards and covariate effects are each trial's own (strata), the effect of every arm
    is common. Trials that say nothing alone (an arm without events) enter as they are.
    """
    arm = studies[0].arm
    chosen = [
        trial
        for trial in trials
        if arm in set(trial.rows["arm"])
        and options.control in set(trial.rows["arm"])
        and (trial.rows["outcome"] > 0).any()
    ]
    if len(chosen) < 2:
        return ()
    fit = fit_stratified(chosen, options.control)
    if fit is None:
        return ()
    arms, estimates, covariance, _ = fit
    place = arms.index(arm)
    interval = t_interval(
        float(estimates[place]),
        float(np.sqrt(covariance[place, place])),
        float("inf"),
        options.level,
    )
    names = {trial.trial for trial in chosen}
    mine = [study for study in studies if study.trial in names]
    return (
        EffectRow(
            analysis="pooled",
            model="one-stage",
            outcome=options.outcome,
            effect=options.effect,
            arm=arm,
            control=options.control,
            n_control=total([study.n_control for study in mine]),
            n_active=total([study.n_active for study in mine]),
            **interval_cells(float(estimates[place]), interval, options),
            tau2=0.0,
            k=len(mine),
            tau2_method="fe",
            headline=True,
            variant="stratified-cox",
            note=STRATIFIED,
        ),
    )


def fit_stratified(
    trials: Sequence[Analysed], control: str
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, float] | None:
    """The Cox model over trials as strata: arms, log hazard ratios, covariance, log likelihood.

    The covariates' coefficients are of each trial; they are solved for beside the arms' in every
    step, each trial filling its own block of one information matrix.
    """
    arms = tuple(sorted({name for trial in trials for name in trial.rows["arm"]} - {control}))
    designs = [trial_design(trial, control) for trial in trials]
    widths = [design.x.shape[1] - len(design.active) for design in designs]
    places = [[arms.index(name) for name in design.active] for design in designs]
    starts = len(arms) + np.concatenate([[0], np.cumsum(widths)]).astype(int)
    size = int(starts[-1])
    sets = [_sets(trial, design) for trial, design in zip(trials, designs, strict=True)]
    indices = [
        np.array([*place, *range(start, start + width)], dtype=int)
        for place, start, width in zip(places, starts[:-1], widths, strict=True)
    ]
    scale = np.ones(size)
    for one, at, place in zip(sets, indices, places, strict=True):
        own = np.sqrt((one.x**2).mean(axis=0))
        scale[at[len(place) :]] = own[len(place) :]

    def pieces(beta: np.ndarray) -> Pieces:
        value, score, information = 0.0, np.zeros(size), np.zeros((size, size))
        for one, at in zip(sets, indices, strict=True):
            part = partial_likelihood(one, beta[at] / scale[at])
            value += part.value
            score[at] += part.score / scale[at]
            information[np.ix_(at, at)] += part.information / np.outer(scale[at], scale[at])
        return Pieces(value=value, score=score, information=information)

    fit = maximise(pieces, np.zeros(size))
    if fit is None:
        return None
    k = len(arms)
    return arms, fit.coefficients[:k], fit.covariance[:k, :k], fit.log_likelihood
