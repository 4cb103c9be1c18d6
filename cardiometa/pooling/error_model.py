"""What the error of the measurement does to a pooled effect, and the effect without it.

The outcome is measured by a model, Y* = α + β·Y + e (`statistics.measurement_error`). Of a
difference between randomised arms α cancels; β multiplies it, e adds noise, and an error that
differs between the arms biases it (``pooling.md`` 10).

- Scale: each trial's effect is divided by its β, and the effects are pooled as the main ones. Where
  trials share one estimate of β its variance is added after pooling, δ² Var(β)/β² (delta method;
  Nab 2019, Stat Med 38:5182), or Fieller's interval is taken where its coefficient of variation
  exceeds 10 %; the variance of a β of the trial's own goes into its weight.
- Noise: σ² of e in the residual variance (twice for a change, whose errors are taken as
  independent), and the share of the participants that a perfect reader would need.
- Differential error: corrected where the evaluation has lines of both arms, else the difference
  that would bring the interval to zero. Of an interaction, a β that differs between groups.
- A modifier that is the baseline itself: its interaction is divided by the reliability.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
from scipy.special import fdtri

from ..cohort.infer_columns import measure_of
from ..errors import UsageError
from ..statistics.measurement_error import (
    FIELLER_CV,
    ErrorInput,
    ErrorLine,
    MeasureError,
)
from ..statistics.meta import Interval, RandomEffects, pool_estimates, pooled_interval, t_interval
from .first_stage.arm_sums import OUTCOME, ArmSums
from .options import DIFFERENCES, PoolingOptions
from .results import EffectRow, ErrorRow, PoolingResult, Study
from .second_stage.two_stage import comparison_cells, estimates_of
from .subgroups.modifiers import VALUE, ModifierSums

_UNBOUNDED: Final = "the slope is too uncertain for an interval"
_OWN: Final = "least-squares"  # a line of one trial alone, not partially pooled


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slope:
    """The slope of one trial: ``group`` is equal where trials depend on one estimate.

    ``shared`` is the variance of that estimate, of which the trial's slope takes ``load`` times the
    error (a partially pooled one as far as it was shrunk), ``own`` the variance of the rest.
    """

    group: str
    value: float = 1.0
    shared: float = 0.0
    load: float = 1.0
    own: float = 0.0
    df: float = math.inf
    label: str = ""
    residual_sd: float
    hearts: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """An estimate with its interval; limits None where there is none."""

    estimate: float
    se: float
    df: float
    low: float | None
    high: float | None
    method: str = "delta"


# ------------------------------------------------------------------ ratios


def satterthwaite(parts: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of variances, each with its own."""
    below = sum(v**2 / df for v, df in parts if v > 0 and math.isfinite(df))
    return sum(v for v, _ in parts) ** 2 / below if below > 0 else math.inf


def _summed(estimate: float, parts: Sequence[tuple[float, float]], level: float) -> Corrected:
    """The estimate with the variance that is the sum of ``parts``, each with its df."""
    se, df = math.sqrt(sum(v for v, _ in parts)), satterthwaite(parts)
    found = t_interval(estimate, se, df, level)
    return Corrected(estimate=estimate, se=se, df=df, low=found.low, high=found.high)


def divided(
    numerator: tuple[float, float, float], slope: tuple[float, float, float], level: float
) -> Corrected:
    """A ratio of two independent estimates, each with its SE and degrees of freedom.

    Delta method, Var = SE²/β² + δ² Var(β)/β²; Fieller's interval where the coefficient of variation
    of the slope exceeds 10 % (limits None where it is not bounded). Degrees of freedom by
    Satterthwaite over both parts.
    """
    (y, se, df_y), (beta, se_beta, df_beta) = numerator, slope
    value = y / beta
    parts = ((se / beta) ** 2, df_y), ((value * se_beta / beta) ** 2, df_beta)
    found = _summed(value, parts, level)
    if se_beta <= FIELLER_CV * abs(beta):
        return found
    t = t_interval(0.0, 1.0, found.df, level).high
    below = beta**2 - t**2 * se_beta**2
    low = high = None
    if below > 0:
        half = t * math.sqrt(y**2 * se_beta**2 + below * se**2)
        low, high = sorted(((y * beta - half) / below, (y * beta + half) / below))
    return replace(found, low=low, high=high, method="fieller")


def _headline_interval(
    fit: RandomEffects, usable: Sequence[Study], options: PoolingOptions
) -> Interval:
    """The interval of the headline; of one trial, that of its own degrees of freedom."""
    if fit.k == 1:
        return t_interval(fit.estimate, fit.se_wald, usable[0].df, options.level)
    return pooled_interval(fit, options.headline_ci, options.level)


def scale_corrected(
    studies: Sequence[Study], slopes: Mapping[str, _Slope], options: PoolingOptions
) -> tuple[Corrected, RandomEffects]:
    """The pooled effect with each trial's divided by its slope, and the fit before what is shared.

    A trial's own uncertainty of the slope is δ² Var(β)/β², with δ the pooled effect, so that the
    weight of a trial does not depend on its own estimate.
    """
    usable = [study for study in studies if study.estimable]
    own = [slopes[study.trial] for study in usable]
    beta = np.array([one.value for one in own])
    y, v = estimates_of(usable)
    groups: dict[str, list[int]] = defaultdict(list)
    for at, one in enumerate(own):
        groups[one.group].append(at)
    shared = {g: at for g, at in groups.items() if len(at) > 1 or len(own) == 1}
    load = np.array([one.load for one in own])
    spread = np.array(
        [one.own + (0.0 if one.group in shared else one.load**2 * one.shared) for one in own]
    )
    first = pool_estimates(y / beta, v / beta**2, options.tau2)
    fit = pool_estimates(y / beta, v / beta**2 + first.estimate**2 * spread / beta**2, options.tau2)
    base = _headline_interval(fit, usable, options)
    if len(set(own)) == 1 and shared and own[0].own == 0:
        line, b = own[0], own[0].value
        over = (b, math.sqrt(line.shared), line.df)
        return divided((fit.estimate * b, base.se * b, base.df), over, options.level), fit
    parts = [(base.se**2, base.df)]
    for members in shared.values():
        change = fit.weights[members] * y[members] * load[members] / beta[members] ** 2
        line = own[members[0]]
        parts.append((float(change.sum()) ** 2 * line.shared, line.df))
    return _summed(fit.estimate, parts, options.level), fit


# ------------------------------------------------------------------ the rows


def with_error_rows(
    result: PoolingResult,
    studies: Mapping[str, Sequence[Study]],
    sums: Sequence[ArmSums],
    modifiers: Mapping[str, Sequence[ModifierSums]],
    error: ErrorInput,
) -> PoolingResult:
    """The result with its rows of ``error_adjusted.csv`` and what to know of them.

    ``studies`` and ``modifiers`` by active arm, ``sums`` of each trial, none where there are none.
    Raises UsageError for an effect that is no difference of a measured outcome, InputError where
    the evaluation has no line of the outcome.
    """
    options = result.options
    if options.effect not in DIFFERENCES:
        raise UsageError(
            f"--error-model cannot be combined with --effect {options.effect}: it is for "
            "differences of a measured outcome.",
        )
    measure = error.measure(options.outcome, measure_of(options.outcome))
    rows: list[ErrorRow] = []
    warnings = _warnings(error, measure, studies, options)
    for arm in result.arms:
        headline = result.headline(arm)
        if headline is None or headline.estimate is None:  # may not be shown
            continue
        usable = [study for study in studies[arm] if study.estimable]
        slopes = {one.trial: _slope_of(one, measure, error) for one in usable}
        own = modifiers.get(arm, ())
        rows += _of_arm(result, arm, usable, slopes, (sums, own), measure)
    return replace(
        result,
        error_adjusted=tuple(rows),
        error_source=error.source,
        warnings=(*result.warnings, *warnings),
    )


def _slope_of(study: Study, measure: MeasureError | None, error: ErrorInput) -> _Slope:
    """The line of a trial: its own, its vendor's, a new trial's, or that of all hearts."""
    if measure is None:
        return _Slope(
            group="scan-sd", label="scan-sd", residual_sd=error.scan_sd.get(study.trial, math.nan)
        )
    line, label = measure.of_trial(study.trial, error.vendors.get(study.trial, ""))
    found = _Slope(
        group=label,
        label=label,
        value=line.slope,
        shared=line.var_slope,
        df=line.residual_df,
        residual_sd=line.residual_sd,
        hearts=line.n_people,
    )
    between = measure.between_trials
    if between is None or not (line.method == "partially-pooled" or label == "new trial"):
        return found
    # Both rest on the mean of the trials' slopes, whose error they share; a trial's own line was
    # moved to the mean by v/(v + tau²).
    alone = ("trial", study.trial, _OWN)
    v = 0.0
    if label != "new trial":
        lines = (x for x in measure.lines if (x.group_by, x.group, x.method) == alone)
        v = next((x.var_slope for x in lines), 0.0)
    load = 1.0 if label == "new trial" else v / (v + between.tau2_slope) if v > 0 else 0.0
    own = max(line.var_slope - load**2 * between.var_slope, 0.0)
    return replace(
        found,
        group="mean of trials",
        shared=between.var_slope,
        df=between.k - 1.0,
        load=load,
        own=own,
    )


def _of_arm(
    result: PoolingResult,
    arm: str,
    usable: Sequence[Study],
    slopes: Mapping[str, _Slope],
    of_rows: tuple[Sequence[ArmSums], Sequence[ModifierSums]],
    measure: MeasureError | None,
) -> Iterator[ErrorRow]:
    """Every row of one active arm; ``of_rows`` are the trials' sums and those of modifiers."""
    options, (sums, modifiers) = result.options, of_rows
    row = partial(ErrorRow, **comparison_cells(options, arm, usable[0].control))
    y, v = estimates_of(usable)
    fit = pool_estimates(y, v, options.tau2)
    base = _headline_interval(fit, usable, options)
    measured = Corrected(
        estimate=fit.estimate, se=base.se, df=base.df, low=base.low, high=base.high, method=""
    )
    yield row(quantity="effect as measured", **_cells(measured), k=fit.k)
    mean: _Slope | None = None
    if measure is not None:
        for label, one in {one.label: one for one in slopes.values()}.items():
            se = math.sqrt(one.load**2 * one.shared + one.own)
            limits = t_interval(one.value, se, one.df, options.level)
            yield row(
                quantity="slope",
                level=label,
                estimate=one.value,
                se=se,
                df=_finite(one.df),
                ci_low=limits.low,
                ci_high=limits.high,
                n_hearts=one.hearts,
            )
        corrected, again = scale_corrected(usable, slopes, options)
        note = "" if corrected.low is not None else _UNBOUNDED
        yield row(quantity="effect corrected for scale", **_cells(corrected), k=fit.k, note=note)
        if fit.k > 1:
            yield row(quantity="tau as measured", estimate=math.sqrt(fit.tau2), k=fit.k)
            yield row(quantity="tau corrected for scale", estimate=math.sqrt(again.tau2), k=fit.k)
        if measure.between_trials is not None and fit.k > 1:
            of_slopes = abs(again.estimate) * math.sqrt(measure.between_trials.tau2_slope)
            yield row(quantity="tau that differing slopes give", estimate=of_slopes, k=fit.k)
        mean = _mean_slope(fit, usable, slopes)
    yield from _noise_rows(row, usable, slopes, options)
    yield from _differential_rows(row, result, arm, measured, sums, measure)
    reliability = _reliability(sums, "baseline", (arm, usable[0].control), slopes)
    for modifier in modifiers:
        if modifier.name in (options.outcome, options.baseline_column) and modifier.numeric:
            reliability = _reliability(modifier.sums, VALUE, (arm, modifier.control), slopes)
    if reliability is not None:
        yield row(quantity="reliability of the baseline", estimate=reliability)
    for effect in result.of_arm(arm, "interaction"):  # the headline of each that is shown
        shown = effect.headline and not effect.trial and effect.estimate is not None and effect.se
        if shown and (effect.model, effect.variant) == ("two-stage", "main"):
            yield from _interaction_rows(row, result, effect, mean, reliability, measure)


def _cells(found: Corrected) -> dict[str, Any]:
    return {
        "estimate": found.estimate,
        "se": found.se,
        "df": _finite(found.df),
        "ci_low": found.low,
        "ci_high": found.high,
        "method": found.method,
    }


def _finite(df: float) -> float | None:
    return df if math.isfinite(df) else None


def _mean_slope(
    fit: RandomEffects, usable: Sequence[Study], slopes: Mapping[str, _Slope]
) -> _Slope:
    """The slope of the pooled effect: the trials' with their weights."""
    own = [slopes[study.trial] for study in usable]
    groups: dict[str, float] = defaultdict(float)
    for weight, one in zip(fit.weights, own, strict=True):
        groups[one.group] += float(weight) * one.load
    variance = sum(
        groups[g] ** 2 * next(one.shared for one in own if one.group == g) for g in groups
    )
    variance += float(sum(w**2 * one.own for w, one in zip(fit.weights, own, strict=True)))
    return _Slope(
        group="all",
        value=float(sum(w * one.value for w, one in zip(fit.weights, own, strict=True))),
        shared=variance,
        df=min(one.df for one in own),
        residual_sd=math.nan,
    )


# ------------------------------------------------------------------ noise


def _noise_rows(
    row: Any, usable: Sequence[Study], slopes: Mapping[str, _Slope], options: PoolingOptions
) -> Iterator[ErrorRow]:
    """The share of the residual variance that is error, and what a perfect reader would save."""
    known = [
        (one, slopes[one.trial])
        for one in usable
        if one.residual_sd and math.isfinite(one.df) and slopes[one.trial].residual_sd > 0
    ]
    if not known:
        return
    times = 2.0 if options.effect == "change" else 1.0
    error = np.array([times * s.residual_sd**2 for _, s in known])
    residual = np.array([(one.residual_sd or 0.0) ** 2 for one, _ in known])
    df = np.array([one.df for one, _ in known])
    share = float(df @ error / (df @ residual))
    freedom = min(s.df for _, s in known)
    low = high = None
    if math.isfinite(freedom):
        outside = (100 - options.level) / 200
        low, high = (
            100 * share / float(fdtri(freedom, df.sum(), p)) for p in (1 - outside, outside)
        )
    impossible = bool((error >= residual).any())
    yield row(
        quantity="share of residual variance that is error, %",
        estimate=100 * share,
        ci_low=low,
        ci_high=high,
        k=len(known),
        note="above the residual variance of a trial: the evaluation's hearts are not like these"
        if impossible
        else "",
    )
    if impossible:
        return
    v = np.array([(one.se or 0.0) ** 2 for one, _ in known])
    needed = float((1 / v).sum() / (1 / (v * (1 - error / residual))).sum())
    yield row(
        quantity="participants that a perfect reader would need, %",
        estimate=100 * needed,
        k=len(known),
    )


def _reliability(
    sums: Sequence[ArmSums], column: str, arms: tuple[str, str], slopes: Mapping[str, _Slope]
) -> float | None:
    """Share of the variance within arms of a measured column that is not error."""
    variances, errors, weights = [], [], []
    for one in sums:
        if one.trial not in slopes or column not in one.columns:
            continue
        at = one.columns.index(column)
        parts = [s for name, s in one.arms.items() if name in arms and s.n > 1]
        df = sum(s.n - 1 for s in parts)
        if df > 0:
            variances.append(sum(float(s.cross_products[at, at]) for s in parts) / df)
            errors.append(slopes[one.trial].residual_sd ** 2)
            weights.append(df)
    total = float(np.dot(weights, variances)) if weights else 0.0
    share = float(np.dot(weights, errors)) / total if total > 0 else math.nan
    return 1 - share if share < 1 else None


# ------------------------------------------------------------------ differential error


def _to_zero(low: float | None, high: float | None) -> float | None:
    """The limit nearer to 0 of an interval without it."""
    if low is None or high is None or low <= 0 <= high:
        return None
    return low if low > 0 else high


def _differential_rows(
    row: Any,
    result: PoolingResult,
    arm: str,
    measured: Corrected,
    sums: Sequence[ArmSums],
    measure: MeasureError | None,
) -> Iterator[ErrorRow]:
    """The effect corrected by arm where both arms have a line, and the error that would undo it."""
    options = result.options
    control = None if measure is None else measure.line("arm", result.control)
    active = None if measure is None else measure.line("arm", arm)
    if control is not None and active is not None:
        parts = [(s.arms[result.control], s) for s in sums if result.control in s.arms]
        at, n = control.mean_reference, sum(part.n for part, _ in parts)
        if n:  # the control arms' mean outcome as measured
            mean = sum(p.n * float(p.means[s.columns.index(OUTCOME)]) for p, s in parts) / n
            at = (mean - control.intercept) / control.slope
        found = corrected_by_arm(measured, control, active, at, options.level)
        yield row(
            quantity="effect corrected by arm",
            **_cells(found),
            n_hearts=min(control.n_people, active.n_people),
        )
    limit = _to_zero(measured.low, measured.high)
    yield row(
        quantity="difference of error between arms that brings the interval to zero",
        estimate=limit,
        note="the interval includes zero as it is" if limit is None else "",
    )


def corrected_by_arm(
    measured: Corrected, control: ErrorLine, active: ErrorLine, at: float, level: float
) -> Corrected:
    """δ = (δ* - D)/β₁, D the difference of the arms' biases at the control arm's true mean ``at``.

    From m₁* - m₀* = (α₁ - α₀) + (β₁ - β₀) m₀ + β₁ δ; variance by the delta method, with the
    covariance of D and β₁; the lines of the arms are independent.
    """
    (bias_0, var_0), (bias_1, var_1) = control.bias_at(at), active.bias_at(at)
    beta = active.slope
    value = (measured.estimate - (bias_1 - bias_0)) / beta
    joint = active.covariance + at * active.var_slope
    of_line = var_1 + value**2 * active.var_slope + 2 * value * joint
    parts = (
        (measured.se**2 / beta**2, measured.df),
        (max(of_line, 0.0) / beta**2, active.residual_df),
        (var_0 / beta**2, control.residual_df),
    )
    return _summed(value, parts, level)


# ------------------------------------------------------------------ interactions


def _interaction_rows(
    row: Any,
    result: PoolingResult,
    effect: EffectRow,
    mean: _Slope | None,
    reliability: float | None,
    measure: MeasureError | None,
) -> Iterator[ErrorRow]:
    """One interaction: as measured, corrected, and the error between groups that would undo it."""
    options, cells = result.options, {"term": effect.term, "level": effect.level}
    estimate, se = float(effect.estimate or 0.0), float(effect.se or 0.0)
    df = math.inf if effect.df is None else float(effect.df)
    measured = Corrected(
        estimate=estimate, se=se, df=df, low=effect.ci_low, high=effect.ci_high, method=""
    )
    yield row(quantity="interaction as measured", **cells, **_cells(measured), k=effect.k)
    name = effect.term.partition(":")[2]
    is_baseline = name in (options.outcome, options.baseline_column)
    if is_baseline and reliability is not None:
        # Scale cancels: the modifier is measured by the same model as the outcome.
        found = divided((estimate, se, df), (reliability, 0.0, math.inf), options.level)
        yield row(
            quantity="interaction corrected for the baseline's reliability",
            **cells,
            **_cells(found),
        )
    elif mean is not None:
        over = (mean.value, math.sqrt(mean.shared), mean.df)
        found = divided((estimate, se, df), over, options.level)
        yield row(quantity="interaction corrected for scale", **cells, **_cells(found))
    levels = effect.level.split(" vs ")
    if len(levels) == 2:
        yield from _by_group(row, result, effect, levels, measure)
    limit = _to_zero(effect.ci_low, effect.ci_high)
    yield row(
        quantity="difference of error between groups that brings the interval to zero",
        **cells,
        estimate=limit,
        note="the interval includes zero as it is" if limit is None else "",
    )


def _by_group(
    row: Any,
    result: PoolingResult,
    effect: EffectRow,
    levels: Sequence[str],
    measure: MeasureError | None,
) -> Iterator[ErrorRow]:
    """An interaction of two levels: corrected by their lines, and the slopes that would undo it."""
    cells = {"term": effect.term, "level": effect.level}
    found = [
        next(
            (
                one
                for one in result.of_arm(effect.arm, "subgroup")
                if (one.term, one.level, one.trial) == (effect.term, level, "")
                and one.estimate is not None
            ),
            None,
        )
        for level in levels
    ]
    limit = _to_zero(effect.ci_low, effect.ci_high)
    reference = found[1]
    if limit is not None and reference is not None and reference.estimate:
        yield row(
            quantity="difference of slopes between groups that brings the interval to zero, %",
            **cells,
            estimate=100 * limit / reference.estimate,
        )
    name = effect.term.partition(":")[2]
    lines = [None if measure is None else measure.line(name, level) for level in levels]
    if found[0] is None or reference is None or lines[0] is None or lines[1] is None:
        return
    (a, b), (line_a, line_b) = (found[0], reference), (lines[0], lines[1])
    effect_a, effect_b = float(a.estimate or 0.0), float(b.estimate or 0.0)
    estimate = effect_a / line_a.slope - effect_b / line_b.slope
    # (a - b)/β_a + b (1/β_a - 1/β_b): the interaction's own variance, and those of the slopes.
    turn = 1 / line_a.slope - 1 / line_b.slope
    df = math.inf if effect.df is None else float(effect.df)
    parts = [
        (float(effect.se or 0.0) ** 2 / line_a.slope**2, df),
        ((float(b.se or 0.0) * turn) ** 2, df),
        *(
            (value**2 * line.var_slope / line.slope**4, line.residual_df)
            for value, line in ((effect_a, line_a), (effect_b, line_b))
        ),
    ]
    yield row(
        quantity="interaction corrected by group",
        **cells,
        **_cells(_summed(estimate, parts, result.options.level)),
        n_hearts=min(line_a.n_people, line_b.n_people),
    )


# ------------------------------------------------------------------ what to know


def _warnings(
    error: ErrorInput,
    measure: MeasureError | None,
    studies: Mapping[str, Sequence[Study]],
    options: PoolingOptions,
) -> list[str]:
    """What the correction rests on, one sentence each."""
    trials = {study.trial for members in studies.values() for study in members}
    if measure is not None:
        found = error.warnings(measure, options.outcome, trials, "the corrected effect is")
        own = {x.group for x in measure.lines if (x.group_by, x.method) == ("trial", _OWN)}
        if measure.between_trials is not None and len(own) < 3:
            found.append(
                "Slopes of two trials say little of how trials differ: the interval of a large "
                "corrected effect is too narrow (in simulation it held 90 to 92% instead of 95%)."
            )
        return found
    found = []
    lacking = sorted(trials - {*error.scan_sd})
    if lacking:
        found.append(f"No SD of scans of {', '.join(lacking)}: left out of the error's share.")
    found.append(
        "The SDs of the scans say nothing of a slope or of an error that differs between arms: "
        "the effect is not corrected. Evaluate the model on hearts of these trials."
    )
    return found
