"""What curves give for one measure: limits by age for each sex, and whether the curves fit.

Distributions are compared by AIC and BIC, with the effective parameters of the smooths.

For each sex there is a curve of all participants and one of each ethnicity. Q statistics: Royston
P, Wright EM. Stat Med 2000;19:2943-62; worm plots: van Buuren S, Fredriks M. Stat Med 2001;20:
1259-77. All checks are computed from z scores within the participant's own trial; nothing printed
is one participant's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from scipy import special

from ...cohort.plausibility import possible_values
from ...errors import EstimationError
from ...privacy.suppression import Count
from ...records import ETHNICITIES, SEXES, SeriousWarning
from ..error_model import adjusted_rows, with_differences
from ..options import Method, ReferenceOptions
from ..results import (
    UNLINKED,
    Calibration,
    CurveLine,
    CurveParticipants,
    DistributionFit,
    ErrorAdjustedLimit,
    QStatistics,
    ReferenceLimit,
    Status,
    WormPlot,
)
from ..select import ALL, NEEDS_POSITIVE, MeasureData
from ..strata.checks import age_thirds, calibration_row
from ..strata.limits import Limit, possible_limit
from .curve import (
    CurveLimits,
    FittedCurve,
    GroupCurves,
    curve_document,
    curve_limits,
    gap_text,
    gaps_of,
)
from .fit import KEPT_RANDOM, CurveData, curve_data, location_scale_curves, overall_curves
from .per_group import separate_curves
from .shift import between_trials

_EVERY = 5.0
REARRANGED = "rearranged"
# The family of each method whose location and scale are smooth.
_FAMILIES: dict[str, Any] = {"lms": "lms", "bct": "bct", "bcpe": "bcpe", "gaussian": "normal"}
_CLEARLY_WORSE, _MATTERS = 10.0, 5.0  # BIC; percent of the interval's width
_THIRDS = ("youngest", "middle", "oldest")
_GROUPS = 10
_PER_GROUP = 50
_WORM_CENTILES = (2.5, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 97.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class SexCurves:
    """The curves of one measure and sex by ``options.method``; ``counts`` are the n of ``groups``.

    Groups too small for a curve have none.
    """

    measure: str
    unit: str
    sex: str
    data: CurveData
    groups: tuple[GroupCurves, ...]
    counts: tuple[Count, ...]
    options: ReferenceOptions

    def columns(self, group: GroupCurves | None = None) -> dict[str, Any]:
        """The columns of a row that say what it is of, all or one of the groups."""
        columns = {"measure": self.measure, "method": str(self.options.method), "sex": self.sex}
        if group is not None:
            ethnicity = ALL if group.ethnicity < 0 else ETHNICITIES[group.ethnicity]
            columns |= {"unit": self.unit, "ethnicity": ethnicity}
        return columns

    def limits(self, fitted: FittedCurve, ages: np.ndarray) -> CurveLimits:
        """The limits of one of the curves with their intervals."""
        return curve_limits(fitted, ages, self.options.centiles, self.options.ci_level / 100)

    def of_group(self, data: CurveData, ethnicity: int) -> CurveData:
        """The participants of one of the groups."""
        return data if ethnicity < 0 else data.at(data.ethnicity == ethnicity)


def curve_tables(
    data: MeasureData, method: Method
) -> tuple[dict[str, Iterable[Any]], EstimationError | None]:
    """The curves by a method and their checks, rows by field of the result; and why not."""
    measure, min_cell = data.measure, data.options.min_cell
    if method in NEEDS_POSITIVE and np.any(data.values <= 0):
        few = int(np.sum(data.values <= 0))
        how_many = f"fewer than {min_cell}" if few < min_cell else str(few)
        warning = f"{measure} has no {method} curves: {how_many} values are 0 or less."
        return {"warnings": [warning]}, None
    try:
        found = fit_curves(data, method)
    except EstimationError as error:
        return {"warnings": [f"{measure} has no {method} curves. {error}"]}, error
    compared: list[DistributionFit] = []

    def compare() -> Iterator[DistributionFit]:
        for f in found:
            rows = compare_distributions(f)
            compared.extend(rows)
            yield from rows

    internal = found if data.options.internal else ()
    behind = [CurveParticipants(**f.columns(), age=f.data.age, value=f.data.y) for f in internal]
    limits = {id(f): list(_limit_rows(f)) for f in found}
    return {
        "rows": chain.from_iterable(limits.values()),
        "error_adjusted": _error_rows(data, found, limits) if data.error else (),
        "calibration": (row for f in found for row in _calibrate(f, data.participants.trials)),
        "curve_models": (model for f in found for model in _models(f)),
        "curve_lines": (line for f in found for line in _lines(f)),
        "curve_participants": behind,
        "q_statistics": (q for f in found if (q := q_statistics(f)) is not None),
        "worm_plots": (plot for f in found for plot in worm_plots(f)),
        # Only where they are read: limits without scans for review have no use for them.
        "distributions": compare(),
        "warnings": chain((w for f in found for w in _warnings(f)), _misfits(compared)),
    }, None


def fit_curves(data: MeasureData, method: Method) -> tuple[SexCurves, ...]:
    """The curves of a measure by a method.

    Raises EstimationError where a sex with enough participants has no curve.
    """
    options = replace(data.options, method=method)
    found = []
    for sex in range(len(SEXES)) if "sex" in data.participants.by else (-1,):
        mine = curve_data(data.participants, data.values, sex)
        met = [int(g) for g in np.unique(mine.ethnicity) if g >= 0]
        counts = [int(np.sum(mine.ethnicity == g)) for g in met]
        groups = [_empty(-1, mine)]
        if mine.n >= options.smallest_n:
            usable = [g for g, n in zip(met, counts, strict=True) if n >= options.min_cell]
            try:
                fits = {g.ethnicity: g for g in estimate_groups(mine, usable, options)}
            except EstimationError as error:
                who = "all" if sex < 0 else {"male": "men", "female": "women"}[SEXES[sex]]
                what = f"{data.measure}, {who}, method {method}: {error.message}"
                raise EstimationError(what, hint=error.hint) from None
            of_group = {g: mine.at(mine.ethnicity == g) for g in met} | {-1: mine}
            groups = [fits.get(g) or _empty(g, of_group[g]) for g in (-1, *met)]
        numbers = [Count(mine.n), *(Count(n, counts, mine.n, at) for at, n in enumerate(counts))]
        found.append(
            SexCurves(
                measure=data.measure,
                unit=data.unit,
                sex=ALL if sex < 0 else SEXES[sex],
                data=mine,
                groups=tuple(groups),
                counts=tuple(numbers[: len(groups)]),
                options=options,
            )
        )
    return tuple(found)


def estimate_groups(
    data: CurveData, groups: Sequence[int], options: ReferenceOptions
) -> tuple[GroupCurves, ...]:
    """The curves of all participants and those of ``groups`` by the options' method."""
    spread = float(np.std(data.y))
    if not spread > 1e-12 * max(float(np.abs(data.y).max()), 1e-300):
        raise EstimationError(
            "All participants have the same value.", hint="Leave this measure out."
        )
    method = str(options.method)
    if method in _FAMILIES:
        found = location_scale_curves(_FAMILIES[method], data, groups, options)
    else:
        found = separate_curves(method, data, groups, options)
    return tuple(_observed(group, data, options) for group in found)


def _observed(group: GroupCurves, data: CurveData, options: ReferenceOptions) -> GroupCurves:
    """The curves with the gaps in the ages of their participants.

    A group too small for limits of its own has those of all, whose age course it shares.
    """
    own = group.ethnicity >= 0 and group.n >= options.min_n
    ages = (data.at(data.ethnicity == group.ethnicity) if own else data).observed_ages()
    low, high = group.age_low, group.age_high
    ages = tuple((max(a, low), min(b, high)) for a, b in ages if a <= high and b >= low)
    if not ages:
        return group
    low, high = ages[0][0], ages[-1][1]
    curves = tuple(
        replace(fitted, curve=replace(fitted.curve, age_low=low, age_high=high, observed=ages))
        for fitted in group.curves
    )
    return replace(group, curves=curves, age_low=low, age_high=high)


def _empty(ethnicity: int, data: CurveData) -> GroupCurves:
    return GroupCurves(
        ethnicity=ethnicity, n=data.n, trials=data.trials, age_low=math.nan, age_high=math.nan
    )


# ------------------------------------------------------------------ rows


def _limit_rows(found: SexCurves) -> Iterator[ReferenceLimit]:
    """The rows of ``reference_ranges.csv``; one empty row per centile for a group without curve."""
    options, possible = found.options, possible_values(found.measure)
    for group, n in zip(found.groups, found.counts, strict=True):
        bound = options.smallest_n
        for centile in () if group.curves else options.centiles:
            few = Limit(centile, None, notes=(f"n<{bound}",))
            yield _row(found, group, few, n=n, kind="population", below_n=bound)
        for fitted in group.curves:
            ages = _ages_of(group, options)
            limits: Any = found.limits(fitted, ages) if len(ages) else None
            for index, age in enumerate(ages.tolist()):
                gap = next((g for g in gaps_of(fitted.curve.observed) if g[0] < age < g[1]), None)
                for number, centile in enumerate(options.centiles):
                    limit, low, high = (float(part[index, number]) for part in limits.parts())
                    notes = (REARRANGED,) if limits.repaired[index] else ()
                    shown = possible_limit(Limit(centile, limit, low, high, notes=notes), possible)
                    if gap:
                        shown = Limit(centile, None, notes=(gap_text(*gap),))
                    yield _row(found, group, shown, n=n, kind=fitted.kind, age=age)


def _ages_of(group: GroupCurves, options: ReferenceOptions) -> np.ndarray:
    """The ages to print: those asked for, or every 5 years, inside the observed ones."""
    if options.at_ages is not None:
        ages = np.array(sorted(set(options.at_ages)))
    else:
        ages = np.arange(math.ceil(group.age_low / _EVERY) * _EVERY, group.age_high + 1e-9, _EVERY)
    return ages[(ages >= group.age_low) & (ages <= group.age_high)]


def _is_pooled(group: GroupCurves, options: ReferenceOptions) -> bool:
    """True where the group's curve is drawn to the others' because it has too few participants."""
    if group.ethnicity < 0:
        return False
    alone = options.method not in _FAMILIES and group.pooled and group.linked
    return group.n < options.min_n or alone


def _row(found: SexCurves, group: GroupCurves, limit: Limit, **values: Any) -> ReferenceLimit:
    options = found.options
    status: Status = "ok"
    if limit.limit is None:
        status = "suppressed"
    elif _is_pooled(group, options):
        status = "pooled-thin"
    elif group.trials == 1:
        status = "single-trial"
    more = {
        UNLINKED: not group.linked,
        "single-trial": status == "pooled-thin" and group.trials == 1,
    }
    return ReferenceLimit(
        **found.columns(group),
        limits="",
        age_low=None,
        age_high=None,
        n_trials=group.trials,
        **limit.columns,
        ci_level=options.ci_level,
        status=status,
        notes=(*limit.notes, *(note for note, applies in more.items() if applies)),
        **{"age": None, **values},
    )


def _error_rows(
    data: MeasureData, found: Sequence[SexCurves], limits: Mapping[int, Sequence[ReferenceLimit]]
) -> list[ErrorAdjustedLimit]:
    """The curves' limits of true values; ``limits`` are the rows of each sex."""
    made = list[ErrorAdjustedLimit]()
    participants = data.participants
    usable = np.isfinite(data.values) & np.isfinite(participants.age_years)
    for f in found:
        of_sex = usable if f.sex == ALL else usable & (participants.sex == SEXES.index(f.sex))
        for group in f.groups:
            every = group.ethnicity < 0
            mine = of_sex if every else of_sex & (participants.ethnicity == group.ethnicity)
            name = ALL if every else ETHNICITIES[group.ethnicity]
            for fitted in group.curves:
                rows = [r for r in limits[id(f)] if (r.ethnicity, r.kind) == (name, fitted.kind)]
                made += adjusted_rows(data, rows, fitted.curve, np.flatnonzero(mine))
    return with_differences(made, data)


def _lines(found: SexCurves) -> Iterator[CurveLine]:
    """Every curve at half years."""
    for group in found.groups:
        for fitted in group.curves:
            low, high = group.age_low, group.age_high
            if high <= low:
                continue
            ages = np.linspace(low, high, int(2 * (high - low)) + 1)
            limits = found.limits(fitted, ages)
            least, most = possible_values(found.measure)
            drawn = fitted.curve.is_observed(ages)[:, None] & (limits.limit > least)
            drawn &= limits.limit < most
            shown = [np.where(drawn, part, np.nan) for part in limits.parts()]
            yield CurveLine(
                **found.columns(group),
                kind=fitted.kind,
                thin=_is_pooled(group, found.options),
                ages=ages,
                centiles=found.options.centiles,
                limits=CurveLimits(shown[0], shown[1], shown[2], limits.repaired),
            )


def _models(found: SexCurves) -> Iterator[dict[str, Any]]:
    """The curves for ``reference_ranges.json``, with what `adapt` shrinks a site by."""
    overall, data = found.groups[0], found.data
    differences = None
    if overall.curves and overall.curves[0].kind == "marginal":
        curve = replace(overall.curves[-1].curve, tau=0.0)
        differences = between_trials(curve, data.y, data.age, data.trial)
    for group, n in zip(found.groups, found.counts, strict=True):
        for fitted in group.curves:
            ages, printed = _ages_of(group, found.options), None
            ages = ages[fitted.curve.is_observed(ages)]
            if len(ages):
                limits = found.limits(fitted, ages)
                ends = {"ci_low": limits.low.tolist(), "ci_high": limits.high.tolist()}
                printed = {"ages": ages.tolist(), "centiles": list(found.options.centiles), **ends}
            yield {
                "printed": printed,
                **found.columns(group),
                "kind": fitted.kind,
                "n": n,
                "n_trials": group.trials,
                "pooled_thin": _is_pooled(group, found.options),
                "provisional": group.ethnicity >= 0,
                "between_trials": differences,
                **curve_document(fitted.curve),
            }


def _warnings(found: SexCurves) -> Iterator[str]:
    overall = found.groups[0]
    if not overall.curves:
        who = {"male": "men", "female": "women"}.get(found.sex, "participants")
        yield f"{found.measure}: too few {who} for a curve."
        return
    low, high = overall.age_low, overall.age_high
    who = {"male": " in men", "female": " in women"}.get(found.sex, "")
    for gap in gaps_of(overall.curves[0].curve.observed):
        yield f"{found.measure}: the curve has a gap{who}, {gap_text(*gap)}."
    outside = [f"{age:g}" for age in found.options.at_ages or () if not low <= age <= high]
    if outside:
        yield (
            f"{found.measure}: no curve at {', '.join(outside)} years{who}, where (almost) no one "
            f"was observed; observed are {low:g} to {high:g}."
        )


# ------------------------------------------------------------------ shares outside


def _calibrate(found: SexCurves, trials: Sequence[str]) -> Iterator[Calibration]:
    """The participants fitted, by age third, and those of each trial by curves made without it.

    The first curve of a group judges participants of any trial: the marginal where there is one.
    """
    options = found.options
    left = tuple(_left_out(found)) if len(trials) > 1 else ()
    for group in found.groups:
        if not group.curves:
            continue
        columns = found.columns(group)
        columns["notes"] = (group.curves[0].kind,)
        mine = found.of_group(found.data, group.ethnicity)
        sides = _outside(group.curves[0], mine, options)
        yield calibration_row(options, *sides, check="fitted", group=ALL, **columns)
        for third, inside in age_thirds(mine.age):
            part = (side[inside] for side in sides)
            yield calibration_row(options, *part, check="age-third", group=third, **columns)
        for trial, rows, groups in left:
            other = groups.get(group.ethnicity)
            theirs = found.of_group(rows, group.ethnicity)
            if other is not None and theirs.n:
                columns |= {"check": "left-out-trial", "group": trials[trial]}
                columns["notes"] = (other.curves[0].kind,)
                sides = _outside(other.curves[0], theirs, options)
                yield calibration_row(options, *sides, **columns)


def _outside(
    fitted: FittedCurve, data: CurveData, options: ReferenceOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Who lies strictly below the lower and above the upper limit at their own age.

    Participants beyond the curve's ages are judged by the limit at its end.
    """
    ages, code = np.unique(np.round(data.age, 1), return_inverse=True)
    inside = np.clip(ages, fitted.curve.age_low, fitted.curve.age_high)
    limits = np.sort(fitted.curve.limits(inside, options.outer_centiles), axis=1)[code]
    none = np.zeros(data.n, dtype=bool)
    below = data.y < limits[:, 0] if options.sided != "upper" else none
    above = data.y > limits[:, -1] if options.sided != "lower" else none
    return below, above


def _left_out(found: SexCurves) -> Iterator[tuple[int, CurveData, dict[int, GroupCurves]]]:
    """Each trial, its participants, and the curves of all others.

    By the same kind of trial effect.
    """
    data, overall = found.data, found.groups[0]
    if not overall.curves:
        return
    options = replace(found.options, quick=True)
    if overall.curves[0].kind == "marginal":
        options = replace(options, trial_effect=KEPT_RANDOM)
    for trial in np.unique(data.trial).tolist():
        mine = data.trial == trial
        rest = data.at(~mine)
        if rest.n < options.smallest_n:
            continue
        known = [g.ethnicity for g in found.groups if g.ethnicity >= 0]
        groups = [g for g in known if np.sum(rest.ethnicity == g) >= options.min_cell]
        try:
            fits = estimate_groups(rest, groups, options)
        except EstimationError:
            continue  # too few others to say anything of this trial
        yield trial, data.at(mine), {g.ethnicity: g for g in fits}


# ------------------------------------------------------------------ Q statistics and worm plots


def own_z_scores(found: SexCurves) -> np.ndarray | None:
    """The z of all participants of a sex within their own trial; None for a method without z."""
    overall, data = found.groups[0], found.data
    if not overall.curves or overall.curves[-1].curve.family == "quantile":
        return None
    curve = overall.curves[-1].curve
    effects = np.zeros(int(data.trial.max()) + 1)
    for trial, effect in overall.trial_effects.items():
        effects[trial] = effect
    eta = curve.parameters(data.age)
    eta[0] += effects[data.trial]
    return curve.z_scores_of(eta, data.y, 0.0)


def q_statistics(found: SexCurves) -> QStatistics | None:
    """Royston & Wright's Q over up to ten age groups; None for fewer than three groups of 50.

    Normal scores of a group's mean, variance (Wilson & Hilferty's cube root), skewness and
    kurtosis (`shape_scores`).
    """
    z = own_z_scores(found)
    groups = min(_GROUPS, found.data.n // _PER_GROUP)
    if z is None or groups < 3:
        return None
    order = np.argsort(found.data.age, kind="stable")
    scores = []
    for part in (z[rows] for rows in np.array_split(order, groups)):
        n, spread = len(part), float(part.var(ddof=1))
        share = 2 / (9 * (n - 1))
        variance = (spread ** (1 / 3) - (1 - share)) / np.sqrt(share)
        scores.append((float(part.mean()) * np.sqrt(n), variance, *shape_scores(part)))
    q = (np.array(scores) ** 2).sum(axis=0)
    # The smooths have taken some of the mean's and the variance's (half: Royston & Wright).
    edf = found.groups[0].edf or (1.0, 1.0)
    freedom = [max(groups - edf[0], 1.0), max(groups - (edf[1] + 1) / 2, 1.0), groups, groups]
    columns: dict[str, Any] = {}
    names = ("mean", "variance", "skewness", "kurtosis")
    for name, df, value in zip(names, freedom, q, strict=True):
        columns |= {f"q_{name}": float(value), f"p_{name}": float(special.chdtrc(df, value))}
    return QStatistics(**found.columns(), n=found.data.n, groups=groups, **columns)


def shape_scores(z: np.ndarray) -> tuple[float, float]:
    """Normal scores of the skewness and the kurtosis of values ``[n]``, n ≥ 20.

    D'Agostino RB. Biometrika 1970;57:679-81; Anscombe FJ, Glynn WJ. Biometrika 1983;70:227-34.
    scipy.stats has both; to load it is a tenth of a run on 1,000 participants.
    """
    n = float(len(z))
    m2, m3, m4 = (float(np.mean((z - z.mean()) ** power)) for power in (2, 3, 4))
    y = m3 / m2**1.5 * math.sqrt((n + 1) * (n + 3) / (6 * (n - 2)))
    beta = 3 * (n**2 + 27 * n - 70) * (n + 1) * (n + 3)
    beta /= (n - 2) * (n + 5) * (n + 7) * (n + 9)
    w2 = math.sqrt(2 * (beta - 1)) - 1
    skewness = math.asinh(y / math.sqrt(2 / (w2 - 1))) / math.sqrt(0.5 * math.log(w2))
    x = m4 / m2**2 - 3 * (n - 1) / (n + 1)
    x /= math.sqrt(24 * n * (n - 2) * (n - 3) / ((n + 1) ** 2 * (n + 3) * (n + 5)))
    third = 6 * (n**2 - 5 * n + 2) / ((n + 7) * (n + 9))
    third *= math.sqrt(6 * (n + 3) * (n + 5) / (n * (n - 2) * (n - 3)))
    a = 6 + 8 / third * (2 / third + math.sqrt(1 + 4 / third**2))
    root = float(np.cbrt((1 - 2 / a) / (1 + x * math.sqrt(2 / (a - 4)))))
    return skewness, (1 - 2 / (9 * a) - root) / math.sqrt(2 / (9 * a))


def worm_plots(found: SexCurves) -> Iterator[WormPlot]:
    """A worm plot for each age third (all ages where there are too few participants)."""
    z = own_z_scores(found)
    if z is None:
        return
    thirds = list(age_thirds(found.data.age)) or [("all ages", np.ones(len(z), dtype=bool))]
    for name, inside in thirds:
        part = np.sort(z[inside])
        n, min_cell = len(part), found.options.min_cell
        # At least a cell's number of participants beyond each point.
        usable = [c for c in _WORM_CENTILES if min(c, 100 - c) / 100 * (n + 1) >= min_cell]
        if len(usable) < 3:
            continue
        p = np.array(usable) / 100
        expected = special.ndtri(p)
        density = np.exp(-(expected**2) / 2) / np.sqrt(2 * np.pi)
        yield WormPlot(
            **found.columns(),
            ages=name,
            n=n,
            expected=expected,
            deviation=np.quantile(part, p, method="weibull") - expected,
            half_width=1.96 * np.sqrt(p * (1 - p) / n) / density,
        )


# ------------------------------------------------------------------ the choice of the distribution


def compare_distributions(found: SexCurves) -> list[DistributionFit]:
    """Every distribution fitted to all participants of a sex as the curves are, without ethnicity.

    All are as smooth as the chosen one, so that they differ by their distribution alone; none where
    the curves have no distribution (quantiles). Kass & Raftery (JASA 1995;90:773-95)
    call a difference of BIC above 10 very strong.
    """
    overall, data, options = found.groups[0], found.data, found.options
    if not overall.curves or overall.curves[-1].curve.family == "quantile":
        return []
    chosen = str(options.method) if options.method in _FAMILIES else "gaussian"
    quick = replace(options, quick=True)
    fits = {chosen: overall if overall.fit else overall_curves(_FAMILIES[chosen], data, quick)}
    like = fits[chosen].fit
    assert like is not None
    for name, family in _FAMILIES.items():
        if name != chosen and (family == "normal" or data.y.min() > 0):
            with suppress(EstimationError):  # its row then says so
                fits[name] = overall_curves(family, data, quick, (_FAMILIES[chosen], like))
    columns = {**found.columns(), "unit": found.unit, "n": Count(data.n)}
    estimated = {name: f.fit for name, f in fits.items() if f.fit}
    bic = {name: f.deviance + math.log(data.n) * f.parameters for name, f in estimated.items()}
    best = min(bic, key=lambda name: bic[name])
    rows = []
    for name in _FAMILIES:
        row = DistributionFit(**columns, distribution=name, chosen=name == chosen)
        if name not in fits:
            rows.append(replace(row, notes=("not estimated",)))
            continue
        curve = fits[name].curves[-1].curve
        tail = curve.functions.get("log_tail")
        rows.append(
            replace(
                row,
                parameters=estimated[name].parameters,
                tail=math.exp(tail.coefficients[0]) if tail else None,
                aic=estimated[name].deviance + 2 * estimated[name].parameters,
                bic=bic[name],
                bic_difference=bic[name] - bic[best],
                limit_difference_percent=_limit_difference(found, fits[name], fits[best]),
                **_shape_checks(replace(found, groups=(fits[name],))),
            )
        )
    return rows


def _limit_difference(found: SexCurves, fit: GroupCurves, best: GroupCurves) -> float:
    """The greatest distance of their limits, percent of the best's interval (or its half)."""
    ages = np.linspace(best.age_low, best.age_high, 13)
    limits = [f.curves[-1].curve.limits(ages, found.options.centiles) for f in (fit, best)]
    width = np.ptp(limits[1], axis=1)[:, None]
    return 100 * float(np.nanmax(np.abs(limits[0] - limits[1]) / width, initial=0.0))


def _shape_checks(found: SexCurves) -> dict[str, Any]:
    """The columns of `DistributionFit` that come from z."""
    z, data, options = own_z_scores(found), found.data, found.options
    assert z is not None
    points = [(worm.deviation, worm.half_width) for worm in worm_plots(found)]
    columns: dict[str, Any] = {}
    if points:
        deviation, half_width = (np.abs(np.concatenate(p)) for p in zip(*points, strict=True))
        columns["worm_points"] = len(deviation)
        columns["worm_outside"] = int(np.sum(deviation > half_width))
        columns["worm_largest"] = float(deviation.max())
    thirds = list(age_thirds(data.age))
    columns["thirds"] = "; ".join(name for name, _ in thirds)
    ends = special.ndtri(np.array(options.outer_centiles) / 100)
    for third, (_, inside) in zip(_THIRDS, thirds, strict=False):
        if options.below(int(inside.sum())) is None:
            if options.sided != "upper":
                columns[f"below_percent_{third}"] = 100 * float(np.mean(z[inside] < ends[0]))
            if options.sided != "lower":
                columns[f"above_percent_{third}"] = 100 * float(np.mean(z[inside] > ends[-1]))
    return columns


def _misfits(rows: Sequence[DistributionFit]) -> Iterator[SeriousWarning]:
    """What is said where the distribution chosen is clearly worse than another, and it matters."""
    for row in rows:
        worse, distance = row.bic_difference or 0.0, row.limit_difference_percent or 0.0
        if not row.chosen or worse <= _CLEARLY_WORSE or distance <= _MATTERS:
            continue
        best = next(r for r in rows if (r.sex, r.bic_difference) == (row.sex, 0.0)).distribution
        who = {"male": ", men", "female": ", women"}.get(row.sex, "")
        normal = row.distribution == "gaussian"
        what = "normal distribution" if normal else f"distribution of --method {row.distribution}"
        yield SeriousWarning(
            f"{row.measure}{who}: the {what} does not fit (BIC {worse:.0f} above that of {best}); "
            f"limits differ by up to {distance:.0f} % of the interval's width. "
            f"Use --method {best}, and see distributions.csv."
        )
