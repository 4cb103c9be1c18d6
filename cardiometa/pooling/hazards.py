"""What a hazard ratio leaves open: the risk itself, whether hazards are proportional, time gained.

Curves of survival and incidence, by trial and of all. A point of a curve is at a round time, not
at anybody's event, and between two points lie at least ``min_cell`` events of each kind or none,
so that no participant's time can be read from a curve.

The restricted mean time free of the event needs no proportional hazards: its difference between the
arms up to a stated time is an effect whatever the hazards do (Royston & Parmar 2013). Each trial's
is of its own Kaplan-Meier curves, unadjusted; they are pooled like other differences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import chdtrc

from ..privacy.suppression import WITHHELD, hidden_counts, is_small
from ..statistics.event_models import fit_cox
from ..statistics.meta import CI_METHODS, pool_estimates, pooled_interval, t_interval
from ..statistics.survival import (
    cumulative_incidence,
    km_scale,
    log_log_interval,
    proportional_hazards,
    restricted_mean,
)
from .endpoint.analysis_set import Analysed
from .first_stage.events import trial_design, trial_risk_sets
from .options import PoolingOptions
from .results import ProportionalRow, RestrictedMeanRow, Study, SurvivalRow
from .second_stage.events import fit_stratified, trials_with_events
from .second_stage.two_stage import (
    ONE_TRIAL,
    comparison_cells,
    interval_cells,
    prediction_of,
    total,
)

VIOLATED = 0.05
_POINTS, _TICKS = 40, 6  # at most: of a curve, of the numbers at risk
_NOT_TESTED = "an arm or a covariate predicts the events perfectly: not tested"


@dataclass(frozen=True, slots=True, kw_only=True)
class HazardTables:
    """The rows of the tables for all arms, and sentences for the report."""

    proportional: tuple[ProportionalRow, ...] = ()
    rmst: tuple[RestrictedMeanRow, ...] = ()
    survival: tuple[SurvivalRow, ...] = ()
    warnings: tuple[str, ...] = ()


def hazard_tables(
    trials: Sequence[Analysed], studies: Sequence[Sequence[Study]], options: PoolingOptions
) -> HazardTables:
    """The tables of each active arm's ``studies``; empty where the effect is no hazard ratio."""
    if options.effect != "hazard-ratio" or not trials:
        return HazardTables()
    tests = [proportional_rows(trials, members[0].arm, options) for members in studies]
    times = [rmst_rows(trials, members, options) for members in studies]
    return HazardTables(
        proportional=tuple(row for rows, _ in tests for row in rows),
        rmst=tuple(row for rows, _ in times for row in rows),
        survival=tuple(
            row for members in studies for row in survival_rows(trials, members[0].arm, options)
        ),
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
    return replace(row, **interval_cells(estimate, interval, options, ratio=False), headline=True)


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
                **interval_cells(fit.estimate, interval, options, ratio=False),
                headline=method == options.headline_ci,
                tau2=fit.tau2,
                tau2_method=options.tau2,
                note="",
                **prediction_of(fit.estimate, fit.tau2, interval.se, len(usable), options),
            )
        )
    return rows


# ------------------------------------------------------------------ curves


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """The participants of one arm, of a trial or of all: ``cause`` 1 the event, 2 a competing."""

    trial: str
    name: str
    time: np.ndarray
    cause: np.ndarray
    weights: np.ndarray | None = None
    k: int = 1

    def row(self, kind: str, time: float) -> SurvivalRow:
        """A row of the group without its numbers; the caller names the comparison."""
        named: dict[str, Any] = {"trial": self.trial, "group": self.name, "k": self.k}
        return SurvivalRow(outcome="", effect="", arm="", control="", kind=kind, time=time, **named)


def survival_rows(
    trials: Sequence[Analysed], arm: str, options: PoolingOptions
) -> list[SurvivalRow]:
    """Curves and numbers at risk of ``arm`` and the control, by trial and of all trials.

    Of all trials every participant has the weight n of the trial / n of the trial's arm: both arms
    then have one mix of trials, whatever the allocation. The curves describe; the effect is within
    trials.
    """
    pairs: dict[str, list[_Group]] = {}
    for trial in trials:
        arms, (time, event) = trial.rows["arm"].to_numpy(), _times(trial)
        if not {arm, options.control} <= set(arms):
            continue
        other = np.zeros(len(time), dtype=bool)
        if options.competing:
            other = trial.rows["competing"].to_numpy(dtype=float) > 0  # unknown: none
        cause = np.where(event, 1, np.where(other, 2, 0))
        pairs[trial.trial] = [
            _Group(trial=trial.trial, name=name, time=time[arms == name], cause=cause[arms == name])
            for name in (options.control, arm)
        ]
    if not pairs:
        return []
    ends = max(float(group.time.max()) for pair in pairs.values() for group in pair)
    if len(pairs) > 1:
        pairs = {"": [_together(list(pairs.values()), side) for side in (0, 1)], **pairs}
    rows: list[SurvivalRow] = []
    for kinds in (("event-free",), ("incidence", "competing"))[: 2 if options.competing else 1]:
        for pair in pairs.values():
            curves = [_curve(one, kinds, _round_times(ends, _POINTS), options) for one in pair]
            rows += [row for curve in curves for row in curve if all(curves)]
    for side in (0, 1):
        groups = [pair[side] for pair in pairs.values()]
        rows += _at_risk(groups, _round_times(ends, _TICKS), options)
    cells = comparison_cells(options, arm, options.control)
    return [replace(row, **cells) for row in rows]


def _together(pairs: Sequence[Sequence[_Group]], side: int) -> _Group:
    """One arm of all trials, weighted so that both arms have the same mix of trials."""
    mine = [pair[side] for pair in pairs]
    shares = [sum(len(one.time) for one in pair) / len(pair[side].time) for pair in pairs]
    return _Group(
        trial="",
        name=mine[0].name,
        time=np.concatenate([one.time for one in mine]),
        cause=np.concatenate([one.cause for one in mine]),
        weights=np.repeat(shares, [len(one.time) for one in mine]),
        k=len(mine),
    )


def _round_times(end: float, most: int) -> np.ndarray:
    """Multiples of 1, 2 or 5 times a power of ten up to ``end``, at most ``most`` after 0."""
    if end <= 0:
        return np.zeros(1)
    power = 10.0 ** math.floor(math.log10(end / most))
    step = next(power * digit for digit in (1, 2, 5, 10) if end / (power * digit) <= most)
    found: np.ndarray = (step * np.arange(int(end / step) + 1)).round(10)
    return found


def _curve(
    group: _Group, kinds: Sequence[str], grid: np.ndarray, options: PoolingOptions
) -> list[SurvivalRow]:
    """The points of the group's curves that may be shown; for Kaplan-Meier nothing competes."""
    if kinds == ("event-free",):
        group = replace(group, cause=np.where(group.cause == 1, 1, 0))
    least = max(options.min_cell, 1)
    causes = sorted({*group.cause} - {0})

    def events(after: float, until: float) -> list[int]:
        between = (group.time > after) & (group.time <= until)
        return [int((group.cause[between] == one).sum()) for one in causes]

    def may_be_shown(counts: Sequence[int]) -> bool:
        return all(n == 0 or n >= least for n in counts)

    if not all(may_be_shown(events(-1.0, until)) for until in (0.0, math.inf)):
        return []
    usable = [float(time) for time in grid[1:] if int((group.time > time).sum()) >= least]
    kept = [0.0]
    for time in usable:
        counts = events(kept[-1], time)
        if any(counts) and may_be_shown(counts):
            kept.append(time)
    if usable and usable[-1] > kept[-1]:
        # What is too few for a step of its own joins those before it.
        while len(kept) > 1 and not may_be_shown(events(kept[-1], usable[-1])):
            kept.pop()
        kept += [usable[-1]] * may_be_shown(events(kept[-1], usable[-1]))
    if len(kept) < 2:
        return []
    quantile = t_interval(0.0, 1.0, math.inf, options.level).high
    rows = []
    for kind in kinds:
        cause = (
            np.where(group.cause == 0, 0, 3 - group.cause) if kind == "competing" else group.cause
        )
        estimate, se = cumulative_incidence(group.time, cause, np.array(kept), group.weights)
        estimate = 1.0 - estimate if kind == "event-free" else estimate
        low, high = log_log_interval(estimate, se, quantile)
        rows += [
            replace(
                group.row(kind, time),
                estimate=float(estimate[place]),
                se=float(se[place]),
                ci_low=float(low[place]),
                ci_high=float(high[place]),
            )
            for place, time in enumerate(kept)
        ]
    return rows


def _at_risk(
    groups: Sequence[_Group], ticks: np.ndarray, options: PoolingOptions
) -> list[SurvivalRow]:
    """How many are followed beyond each time, the pooled group first.

    Not shown: fewer than ``min_cell``, a difference of so few from the time before, and what the
    trials and their total would give back.
    """
    counts = [[int((group.time > time).sum()) for time in ticks] for group in groups]
    for of_group, group in zip(counts, groups, strict=True):
        of_group[0] = len(group.time)
    least, several = options.min_cell, len(groups) > 1
    shown: list[list[int | None]] = []
    for of_group in counts:
        before, own = 0, list[int | None]()
        for number, n in enumerate(of_group):
            few = is_small(n, least) or (number > 0 and is_small(before - n, least))
            own.append(None if few else n)
            before = before if few else n
        shown.append(own)
    rows = []
    for place, time in enumerate(ticks):
        if several:
            parts = [of_group[place] for of_group in counts[1:]]
            hidden = hidden_counts(parts, counts[0][place], least)
            for own, hide, n in zip(shown[1:], hidden, parts, strict=True):
                own[place] = None if hide and n else own[place]
            if sum(own[place] is None for own in shown[1:]) == 1:
                shown[0][place] = None
        for group, own, of_group in zip(groups, shown, counts, strict=True):
            note = f"n<{least}" if is_small(of_group[place], least) else WITHHELD
            row = replace(group.row("at-risk", float(time)), n_at_risk=own[place])
            rows.append(replace(row, note=note * (own[place] is None)))
    return rows
