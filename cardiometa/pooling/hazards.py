"""What a hazard ratio leaves open: whether hazards are proportional, and how much time is gained.

The restricted mean time free of the event needs no proportional hazards: its difference between the
arms up to a stated time is an effect whatever the hazards do (Royston & Parmar 2013). Each trial's
is of its own Kaplan-Meier curves, unadjusted; they are pooled like other differences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import chdtrc

from ..statistics.event_models import fit_cox
from ..statistics.meta import CI_METHODS, pool_estimates, pooled_interval, t_interval
from ..statistics.survival import km_scale, proportional_hazards, restricted_mean
from .endpoint.analysis_set import Analysed
from .first_stage.events import trial_design, trial_risk_sets
from .options import PoolingOptions
from .results import ProportionalRow, RestrictedMeanRow, Study
from .second_stage.events import fit_stratified, trials_with_events
from .second_stage.two_stage import ONE_TRIAL, comparison_cells, prediction_of, total

VIOLATED = 0.05
_NOT_TESTED = "an arm or a covariate predicts the events perfectly: not tested"


@dataclass(frozen=True, slots=True, kw_only=True)
class HazardTables:
    """The rows of both tables for all arms, and sentences for the report."""

    proportional: tuple[ProportionalRow, ...] = ()
    rmst: tuple[RestrictedMeanRow, ...] = ()
    warnings: tuple[str, ...] = ()


def hazard_tables(
    trials: Sequence[Analysed], studies: Sequence[Sequence[Study]], options: PoolingOptions
) -> HazardTables:
    """Both tables of each active arm's ``studies``; empty where the effect is no hazard ratio."""
    if options.effect != "hazard-ratio" or not trials:
        return HazardTables()
    tests = [proportional_rows(trials, members[0].arm, options) for members in studies]
    times = [rmst_rows(trials, members, options) for members in studies]
    return HazardTables(
        proportional=tuple(row for rows, _ in tests for row in rows),
        rmst=tuple(row for rows, _ in times for row in rows),
        warnings=tuple(text for _, found in (*tests, *times) for text in found),
    )


def proportional_rows(
    trials: Sequence[Analysed], arm: str, options: PoolingOptions
) -> tuple[list[ProportionalRow], list[str]]:
    """The test of each trial and of all together, and a sentence where hazards are not so.

    The test of scaled Schoenfeld residuals over 1 - the Kaplan-Meier curve (Grambsch & Therneau
    1994), of all trials in the model stratified by trial.
    """
    chosen = trials_with_events(trials, arm, options.control)
    rows = []
    for trial in chosen:
        design = trial_design(trial, options.control)
        sets = trial_risk_sets(trial, design)
        fit = fit_cox([sets])
        test = None
        if fit is not None:
            places = [np.arange(design.x.shape[1])]
            scale = _scale_of_events(trial, km_scale(*_times(trial)))
            place = design.active.index(arm)
            test = proportional_hazards([(sets, scale)], [fit.coefficients], places, place)
        rows.append(_proportional(trial.trial, sets.events, test, arm, options))
    fit_all = fit_stratified(chosen, options.control) if len(chosen) > 1 else None
    if fit_all is not None:
        times, events = (np.concatenate(one) for one in zip(*map(_times, chosen), strict=True))
        scales = np.split(km_scale(times, events), np.cumsum([len(t.rows) for t in chosen])[:-1])
        test = proportional_hazards(
            [
                (sets, _scale_of_events(trial, scale))
                for trial, sets, scale in zip(chosen, fit_all.sets, scales, strict=True)
            ],
            [fit_all.coefficients[place] for place in fit_all.places],
            fit_all.places,
            fit_all.arms.index(arm),
        )
        n = sum(sets.events for sets in fit_all.sets)
        rows.append(_proportional("", n, test, arm, options))
    return rows, _sentences(rows, arm, options)


def _sentences(rows: Sequence[ProportionalRow], arm: str, options: PoolingOptions) -> list[str]:
    """What the report says where the test finds that the effect changes over time."""
    found = [row for row in rows if row.p is not None and row.p < VIOLATED]
    together = [row for row in found if not row.trial]
    apart = [row.trial for row in found if row.trial]
    if not together and len(apart) < max(2, math.ceil(0.1 * len(rows))):
        return []  # one test of many
    where = f" (p = {together[0].p:.3f})" if together else f" in {', '.join(apart)}"
    instead = "the restricted mean times" if options.rmst else "restricted mean times (--rmst TIME)"
    sentence = (
        f"{arm}: hazards are not proportional{where}, test of scaled Schoenfeld residuals: the "
        "effect changes over time, and the hazard ratio is an average that depends on the length "
        f"of follow-up. Compare {instead}."
    )
    return [sentence]


def _times(trial: Analysed) -> tuple[np.ndarray, np.ndarray]:
    rows = trial.rows
    return rows["time"].to_numpy(dtype=float), rows["outcome"].to_numpy(dtype=float) > 0


def _scale_of_events(trial: Analysed, scale: np.ndarray) -> np.ndarray:
    """The values of the trial's events in the order of its risk sets, latest first."""
    events = scale[_times(trial)[1]]
    found: np.ndarray = np.sort(events)[::-1]  # the scale rises with time
    return found


def _proportional(
    trial: str, events: int, test: float | None, arm: str, options: PoolingOptions
) -> ProportionalRow:
    return ProportionalRow(
        **comparison_cells(options, arm, options.control),
        trial=trial,
        events=events,
        chi2=test,
        df=None if test is None else 1,
        p=None if test is None else float(chdtrc(1, test)),
        note=_NOT_TESTED if test is None else "",
    )


# ------------------------------------------------------------------ restricted mean survival


def rmst_rows(
    trials: Sequence[Analysed], studies: Sequence[Study], options: PoolingOptions
) -> tuple[list[RestrictedMeanRow], list[str]]:
    """Differences in restricted mean time to ``options.rmst`` by trial and pooled; sentences.

    A trial whose follow-up ends before that time in an arm gives none: an area beyond the last
    observation would be made up.
    """
    if options.rmst is None:
        return [], []
    arm = studies[0].arm
    known = {trial.trial: trial for trial in trials}
    mine = [study for study in studies if study.trial in known and study.n_active]
    rows = [_of_trial(known[study.trial], study, options) for study in mine]
    usable = [row for row in rows if row.se]
    lost = [row.trial for row in rows if not row.se]
    sentences = []
    if lost:
        sentences.append(
            f"{arm}: no difference in restricted mean time up to {options.rmst:g} from "
            f"{', '.join(lost)}: the follow-up ends before, or no event came."
        )
    if not usable:
        return rows, sentences
    return [*rows, *_pooled(usable, options)], sentences


def _of_trial(trial: Analysed, study: Study, options: PoolingOptions) -> RestrictedMeanRow:
    horizon = options.rmst
    assert horizon is not None
    row = RestrictedMeanRow(
        **comparison_cells(options, study.arm, study.control),
        trial=trial.trial,
        time=horizon,
        n_control=study.n_control,
        n_active=study.n_active,
    )
    time, event = _times(trial)
    arms = trial.rows["arm"].to_numpy()
    ends = [name for name in (study.control, study.arm) if time[arms == name].max() < horizon]
    if ends:
        return replace(row, note=f"the follow-up of {' and '.join(ends)} ends before {horizon:g}")
    own, other = (
        restricted_mean(time[arms == name], event[arms == name], horizon)
        for name in (study.arm, study.control)
    )
    estimate, variance = own.mean - other.mean, own.variance + other.variance
    row = replace(row, rmst_control=other.mean, rmst_active=own.mean, estimate=estimate)
    if variance <= 0:
        return replace(row, note=f"no event before {horizon:g}: no standard error")
    interval = t_interval(estimate, math.sqrt(variance), math.inf, options.level)
    return replace(
        row,
        se=interval.se,
        ci_low=interval.low,
        ci_high=interval.high,
        p=interval.p,
        ci_method=interval.method,
        headline=True,
    )


def _pooled(
    usable: Sequence[RestrictedMeanRow], options: PoolingOptions
) -> list[RestrictedMeanRow]:
    """One row for each interval of the pooled difference, as for other effects."""
    y = np.array([row.estimate for row in usable])
    v = np.array([row.se for row in usable]) ** 2
    row = replace(
        usable[0],
        trial="",
        rmst_control=None,
        rmst_active=None,
        n_control=total([one.n_control for one in usable]),
        n_active=total([one.n_active for one in usable]),
        k=len(usable),
    )
    if len(usable) == 1:
        return [replace(row, note=ONE_TRIAL)]
    fit = pool_estimates(y, v, options.tau2)
    rows = []
    for method in CI_METHODS:
        interval = pooled_interval(fit, method, options.level)
        rows.append(
            replace(
                row,
                estimate=fit.estimate,
                se=interval.se,
                df=interval.df if math.isfinite(interval.df) else None,
                ci_low=interval.low,
                ci_high=interval.high,
                p=interval.p,
                ci_method=method,
                headline=method == options.headline_ci,
                tau2=fit.tau2,
                tau2_method=options.tau2,
                note="",
                **prediction_of(fit.estimate, fit.tau2, interval.se, len(usable), options),
            )
        )
    return rows
