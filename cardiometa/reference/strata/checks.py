"""``by_trial.csv``: what each trial alone would give, and what is left without it.

``calibration.csv``: how many people lie outside their own stratum's limits.

Right limits leave the same share outside at every age and in a trial that they were not made of;
a share that drifts over the age thirds shows a band that hides a trend, one that leaps in a
left-out trial shows a difference between trials.

``contrasts.csv``: differences of means between sexes and ethnicities, in two parts.

Within trials, people were scanned alike: the difference is the groups'. Between trials, a group
that comes mostly from one trial brings its scanner and its recruitment along. The two are never
mixed without saying so.

``partition.csv``: whether two groups differ enough to need limits of their own.

Harris EK, Boyd JC. Clin Chem 1990;36:265-70; Lahti A et al., Clin Chem 2002;48:338-52; EP28-A3c.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

import numpy as np
from scipy import special

from ...privacy.suppression import hidden_counts, without_extremes
from ...records import ETHNICITIES, SEXES
from ...statistics.order_statistics import interpolated_quantile
from ..options import Factor, Method, ReferenceOptions
from ..results import (
    MAY_BE_TRIALS,
    NO_SHARED_TRIAL,
    Calibration,
    Contrast,
    PartitionTest,
    TrialLimit,
)
from ..select import People
from .groups import ALL, Cell, FittedCell, point_request, request_for, rule_for
from .limits import Limit, estimate_limits


@dataclass(frozen=True, slots=True, kw_only=True)
class _Own:
    """One trial's own limits in a cell."""

    rule: str
    limits: tuple[Limit, ...]
    status: str
    notes: tuple[str, ...]


def trial_limits(
    measure: str,
    unit: str,
    fitted: FittedCell,
    trials: Sequence[str],
    options: ReferenceOptions,
) -> Iterator[TrialLimit]:
    """A row for each trial and centile of a cell that has limits."""
    cell = fitted.cell
    if fitted.rule is None:
        return
    numbers, counts = list(cell.trial_counts), list(cell.trial_counts.values())
    hidden = hidden_counts(counts, cell.n, options.min_cell)
    without = {
        trial: limits if options.internal else without_extremes(limits)
        for trial, limits in fitted.without.items()
    }
    own = {trial: _own(measure, fitted, trial, options) for trial in numbers}
    if not options.internal:
        # The limits with and without a few people, taken together, are those people's values; the
        # span would tell one of them too.
        for trial, hide in zip(numbers, hidden, strict=True):
            if hide:
                without.pop(trial, None)
                own[trial] = replace(own[trial], rule="", limits=(), status="suppressed")
    for index, centile in enumerate(options.centiles):
        left = [w[index].limit for w in without.values()]
        known = [limit for limit in left if limit is not None]
        for trial, count, hide in zip(numbers, counts, hidden, strict=True):
            mine = own[trial]
            limit = mine.limits[index] if mine.limits else None
            rest = without.get(trial)
            notes = (*mine.notes, *(limit.notes if limit else ()))
            if hide:
                notes = (*notes, _count_note(count, options))
            yield TrialLimit(
                measure=measure,
                unit=unit,
                sex=cell.key.sex,
                ethnicity=cell.key.ethnicity,
                age_low=cell.key.age_low,
                age_high=cell.key.age_high,
                centile=centile,
                trial=trials[trial],
                n=None if hide else count,
                limits=mine.rule,
                limit=limit.limit if limit else None,
                ci_low=limit.ci_low if limit else None,
                ci_high=limit.ci_high if limit else None,
                ci_level=options.ci_level,
                status="suppressed" if limit is None or limit.limit is None else mine.status,
                n_without=None if hide else cell.n - count,
                limit_without=rest[index].limit if rest else None,
                span_low=min(known) if known else None,
                span_high=max(known) if known else None,
                notes=tuple(dict.fromkeys(notes)),
                below_n=options.below(count),
            )


def _own(measure: str, fitted: FittedCell, trial: int, options: ReferenceOptions) -> _Own:
    cell = fitted.cell
    mine = cell.ordered[cell.trial == trial]
    n = cell.trial_counts[trial]
    rule = rule_for(n, options)
    if n < options.smallest_n:
        return _Own(rule="", limits=(), status="suppressed", notes=(_few_note(n, options),))
    request = point_request(request_for(measure, cell, options))
    limits = estimate_limits(mine, rule, request)
    if cell.person is not None:
        # A rank interval takes values for people's own.
        limits = tuple(replace(found, ci_low=None, ci_high=None) for found in limits)
    return _Own(
        rule=rule,
        limits=limits if options.internal else without_extremes(limits),
        status="small-n" if n < 120 else "ok",
        notes=(),
    )


def _few_note(n: int, options: ReferenceOptions) -> str:
    if n < options.min_cell:
        return f"n<{options.min_cell}"
    return f"n<{options.smallest_n}"


def _count_note(count: int, options: ReferenceOptions) -> str:
    return f"n<{options.min_cell}" if count < options.min_cell else "n-withheld"


_Check = Literal["fitted", "age-third", "left-out-trial"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outside:
    """People of one cell, ``[n]``: who they are and on which side of the limits they lie."""

    members: np.ndarray
    below: np.ndarray
    above: np.ndarray


def calibrate(
    measure: str,
    unit: str,
    fitted: Sequence[FittedCell],
    people: People,
    options: ReferenceOptions,
    *,
    method: Method = "strata",
) -> Iterator[Calibration]:
    """Rows for each sex and ethnicity, age bands together; groups below ``min_n`` stay empty."""
    has_limits = [f for f in fitted if f.rule is not None]
    for (sex, ethnicity), group in groupby(
        has_limits, key=lambda f: (f.cell.key.sex, f.cell.key.ethnicity)
    ):
        cells = list(group)
        empty = Calibration(
            measure=measure,
            unit=unit,
            method=method,
            sex=sex,
            ethnicity=ethnicity,
            check="fitted",
            group="all",
            n=None,
            below_percent=None,
            above_percent=None,
            expected_below_percent=None,
            expected_above_percent=None,
        )
        for check, name, outside in _checks(cells, people, options):
            row = replace(empty, check=check, group=name)
            n = people.count_of(outside.members)
            yield filled(row, outside.below, outside.above, options, people=n)


def _checks(
    cells: Sequence[FittedCell], people: People, options: ReferenceOptions
) -> Iterator[tuple[_Check, str, _Outside]]:
    together = _joined([_sides(f, f.limits, None, options) for f in cells])
    yield "fitted", "all", together
    for name, inside in age_thirds(people.age_years[together.members]):
        yield "age-third", name, _subset(together, inside)
    if len(people.trials) < 2:
        return
    for trial, name in enumerate(people.trials):
        parts = [_sides(f, f.without[trial], trial, options) for f in cells if trial in f.without]
        if parts:
            yield "left-out-trial", name, _joined(parts)


def _sides(
    fitted: FittedCell, limits: Sequence[Limit], trial: int | None, options: ReferenceOptions
) -> _Outside:
    """Who of a cell (of one trial, or all) lies strictly outside ``limits``."""
    cell = fitted.cell
    mine = np.ones(len(cell.ordered), dtype=bool) if trial is None else cell.trial == trial
    values = cell.ordered[mine]
    low, high = _lower_upper(limits)
    nobody = np.zeros(len(values), dtype=bool)
    return _Outside(
        members=cell.members[mine],
        below=nobody if low is None or options.sided == "upper" else values < low,
        above=nobody if high is None or options.sided == "lower" else values > high,
    )


def _lower_upper(limits: Sequence[Limit]) -> tuple[float | None, float | None]:
    low = next((found.limit for found in limits if found.centile < 50), None)
    high = next((found.limit for found in limits if found.centile > 50), None)
    return low, high


def _joined(parts: Sequence[_Outside]) -> _Outside:
    return _Outside(
        members=np.concatenate([p.members for p in parts]),
        below=np.concatenate([p.below for p in parts]),
        above=np.concatenate([p.above for p in parts]),
    )


def _subset(outside: _Outside, inside: np.ndarray) -> _Outside:
    return _Outside(
        members=outside.members[inside], below=outside.below[inside], above=outside.above[inside]
    )


def age_thirds(age_years: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Thirds of the known ages, cut at whole years (an exact cut would be a person's age)."""
    known = age_years[np.isfinite(age_years)]
    if not len(known):
        return
    first, second = np.round(np.quantile(known, [1 / 3, 2 / 3], method="weibull"))
    if first == second:
        return
    yield f"<{first:g}", age_years < first
    yield f"{first:g}-{second:g}", (age_years >= first) & (age_years < second)
    yield f">={second:g}", age_years >= second


def filled(
    empty: Calibration,
    below: np.ndarray,
    above: np.ndarray,
    options: ReferenceOptions,
    *,
    people: int | None = None,
) -> Calibration:
    """The row with its shares: ``below`` and ``above`` ``[n]`` tell who lies outside.

    ``people``: how many they are, where one may stand there several times.
    """
    n = len(below) if people is None else people
    if n < options.smallest_n:
        few = n < options.min_cell
        bound = options.below(n)
        notes = (*empty.notes, f"n<{bound}")
        return replace(empty, n=None if few else n, notes=notes, below_n=bound)
    expected = 100 - options.level if options.sided != "two" else (100 - options.level) / 2
    has_low, has_high = options.sided != "upper", options.sided != "lower"
    return replace(
        empty,
        n=n,
        below_percent=100 * float(below.mean()) if has_low else None,
        above_percent=100 * float(above.mean()) if has_high else None,
        expected_below_percent=expected if has_low else None,
        expected_above_percent=expected if has_high else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanDifference:
    """A difference with its SE and degrees of freedom; ``n_trials`` that carry it."""

    difference: float
    se: float
    df: float
    n_trials: int


def within_trial_difference(
    y: np.ndarray, group: np.ndarray, covariate: np.ndarray | None, trial: np.ndarray
) -> MeanDifference | None:
    """OLS of ``y`` on ``group`` (0/1) and the covariate with an intercept for each trial.

    Arrays ``[n]``, ``trial`` small integers. HC3 standard error (MacKinnon & White 1985), since
    groups differ in spread; n - trials - columns degrees of freedom. None where no trial has both
    groups.
    """
    if len(y) == 0:
        return None
    sizes = np.bincount(trial)
    if (sizes == 1).any():  # a trial of one person is fitted exactly and says nothing
        keep = sizes[trial] > 1
        rest = None if covariate is None else covariate[keep]
        return within_trial_difference(y[keep], group[keep], rest, trial[keep])
    columns = [group] if covariate is None else [group, covariate]
    columns = [_centred(c, trial, sizes) for c in columns]
    both = _trials_with_both(group, trial, sizes)
    df = len(y) - int(np.sum(sizes > 0)) - len(columns)
    cross = np.array([[a @ b for b in columns] for a in columns])
    if not both or df < 1 or not _is_regular(cross):
        return None
    inverse = np.linalg.inv(cross)
    beta = inverse @ np.array([c @ y for c in columns])
    residual = _centred(y, trial, sizes)
    for slope, column in zip(beta, columns, strict=True):
        residual -= slope * column
    moved, left = _influence(columns, inverse)
    left = (1 - 1 / np.maximum(sizes, 1))[trial] - left
    # A person with leverage 1 is fitted exactly: residual and weight are both 0.
    exact = left < 1e-9
    if exact.any():
        residual[exact], left[exact] = 0.0, 1.0
    moved *= residual
    moved /= left
    return MeanDifference(
        difference=float(beta[0]), se=float(np.sqrt(moved @ moved)), df=float(df), n_trials=both
    )


def _influence(columns: Sequence[np.ndarray], inverse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x'A⁻¹e₁ and x'A⁻¹x for every row x of one or two columns, ``[n]`` each."""
    first = inverse[0, 0] * columns[0]
    if len(columns) == 1:
        return first, first * columns[0]
    first += inverse[0, 1] * columns[1]
    second = inverse[1, 0] * columns[0]
    second += inverse[1, 1] * columns[1]
    second *= columns[1]
    return first, first * columns[0] + second


def between_trial_difference(
    y: np.ndarray, group: np.ndarray, covariate: np.ndarray | None, trial: np.ndarray
) -> MeanDifference | None:
    """OLS of the trials' means on their share of ``group``, one point a trial.

    The means are first moved to the overall mean of the covariate by its within-trial slope. None
    with fewer than 3 trials, or where every trial has the same share.
    """
    sizes = np.bincount(trial)
    met = sizes > 0
    if met.sum() < 3:
        return None
    share = np.bincount(trial, group)[met] / sizes[met]
    mean = np.bincount(trial, y)[met] / sizes[met]
    if covariate is not None:
        slope = _within_slope(y, group, covariate, trial)
        mean = mean - slope * (np.bincount(trial, covariate)[met] / sizes[met])
    x = share - share.mean()
    spread = float(x @ x)
    if spread < 1e-12:
        return None
    difference = float(x @ mean) / spread
    residual = mean - mean.mean() - x * difference
    df = len(mean) - 2
    se = float(np.sqrt(residual @ residual / df / spread))
    return MeanDifference(difference=difference, se=se, df=float(df), n_trials=len(mean))


def _centred(values: np.ndarray, trial: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    if len(sizes) == 1:
        return np.asarray(values - values.mean(), dtype=np.float64)
    means = np.bincount(trial, values) / np.maximum(sizes, 1)
    return np.asarray(values - means[trial], dtype=np.float64)


def _trials_with_both(group: np.ndarray, trial: np.ndarray, sizes: np.ndarray) -> int:
    count = np.bincount(trial, group)
    return int(np.sum((count > 0) & (count < sizes)))


def _is_regular(cross: np.ndarray) -> bool:
    """True where the columns behind X'X vary and are not multiples of each other."""
    scale = np.sqrt(np.diag(cross))
    if not (scale > 0).all():
        return False
    return bool(np.linalg.cond(cross / np.outer(scale, scale)) < 1e12)


def _within_slope(
    y: np.ndarray, group: np.ndarray, covariate: np.ndarray, trial: np.ndarray
) -> float:
    """The covariate's slope at one trial and group; 0 where it does not vary there."""
    sizes = np.bincount(trial)
    columns = [_centred(covariate, trial, sizes), _centred(group, trial, sizes)]
    cross = np.array([[a @ b for b in columns] for a in columns])
    solution = np.linalg.lstsq(cross, np.array([c @ y for c in columns]), rcond=1e-12)[0]
    return float(solution[0])


# ------------------------------------------------------------------ the table


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """The people of one contrast, arrays ``[n]``; ``age`` None where the table has none."""

    y: np.ndarray
    group: np.ndarray
    age: np.ndarray | None
    trial: np.ndarray


def contrasts(
    measure: str, unit: str, people: People, values: np.ndarray, options: ReferenceOptions
) -> Iterator[Contrast]:
    """Male minus female; each ethnicity minus the largest, for each sex with limits."""
    usable = np.isfinite(values)
    has_age = bool(np.isfinite(people.age_years).any())
    if has_age:
        usable &= np.isfinite(people.age_years)
    empty = Contrast(
        measure=measure,
        unit=unit,
        factor="sex",
        group=SEXES[0],
        versus=SEXES[1],
        sex=ALL,
        source="within-trial",
        n_group=None,
        n_versus=None,
        n_trials=None,
        adjusted_for="age" if has_age else "",
        difference=None,
        se=None,
        df=None,
        ci_low=None,
        ci_high=None,
        ci_level=options.ci_level,
    )

    def sample(mask: np.ndarray, group: np.ndarray) -> _Sample:
        rows = np.flatnonzero(mask)
        return _Sample(
            y=values[rows],
            group=group[rows].astype(np.float64),
            age=people.age_years[rows] if has_age else None,
            trial=people.trial[rows],
        )

    if "sex" in people.by:
        rows = usable & (people.sex >= 0)
        yield from _three_ways(empty, sample(rows, people.sex == 0), options, hide=(False, False))
    if "ethnicity" not in people.by:
        return
    own = [people.ethnicity == number for number in range(len(ETHNICITIES))]
    for sex in range(len(SEXES)) if "sex" in people.by else (-1,):
        of_sex = usable & ((people.sex == sex) if sex >= 0 else True)
        counts = np.bincount(people.ethnicity[of_sex] + 1, minlength=len(ETHNICITIES) + 1)[1:]
        if np.sum(counts > 0) < 2:
            continue
        hidden = hidden_counts(counts.tolist(), int(of_sex.sum()), options.min_cell)
        largest = int(np.argmax(counts))
        for ethnicity in np.flatnonzero(counts).tolist():
            if ethnicity == largest:
                continue
            rows = of_sex & (own[ethnicity] | own[largest])
            named = replace(
                empty,
                factor="ethnicity",
                group=ETHNICITIES[ethnicity],
                versus=ETHNICITIES[largest],
                sex=SEXES[sex] if sex >= 0 else ALL,
            )
            hide = (hidden[ethnicity], hidden[largest])
            yield from _three_ways(named, sample(rows, own[ethnicity]), options, hide=hide)


def _three_ways(
    empty: Contrast, sample: _Sample, options: ReferenceOptions, *, hide: tuple[bool, bool]
) -> Iterator[Contrast]:
    y, group, age, trial = sample.y, sample.group, sample.age, sample.trial
    sizes, count = np.bincount(trial), np.bincount(trial, group)
    has_both = (count > 0) & (count < sizes)
    inside = sample
    if not has_both[sizes > 0].all():
        mixed = np.flatnonzero(has_both[trial])
        inside = _Sample(
            y=y[mixed],
            group=group[mixed],
            age=None if age is None else age[mixed],
            trial=trial[mixed],
        )
    yield _contrast(
        replace(empty, source="within-trial"),
        inside,
        within_trial_difference(inside.y, inside.group, inside.age, inside.trial),
        options,
        hide=hide,
        why_not=NO_SHARED_TRIAL,
    )
    apart = (MAY_BE_TRIALS,) if not has_both.any() else ()
    yield _contrast(
        replace(empty, source="between-trial", notes=apart),
        sample,
        between_trial_difference(y, group, age, trial),
        options,
        hide=hide,
        why_not="fewer than 3 trials, or the same share in each",
    )
    found = within_trial_difference(y, group, age, np.zeros_like(trial))
    yield _contrast(
        # Of one trial alone there is no other trial to blame.
        replace(empty, source="ignoring-trials", notes=apart if np.sum(sizes > 0) > 1 else ()),
        sample,
        None if found is None else replace(found, n_trials=int(np.sum(sizes > 0))),
        options,
        hide=hide,
        why_not="only one group",
    )


def _contrast(
    empty: Contrast,
    sample: _Sample,
    found: MeanDifference | None,
    options: ReferenceOptions,
    *,
    hide: tuple[bool, bool],
    why_not: str,
) -> Contrast:
    n_group = int(sample.group.sum())
    n_versus = len(sample.group) - n_group
    few = min(n_group, n_versus)
    shown = replace(
        empty,
        n_group=None if hide[0] or n_group < options.min_cell else n_group,
        n_versus=None if hide[1] or n_versus < options.min_cell else n_versus,
    )
    if found is None and (few >= options.smallest_n or few == 0):
        return replace(shown, notes=(why_not,))
    if found is None or few < options.smallest_n:
        bound = options.min_cell if few < options.min_cell else options.smallest_n
        return replace(shown, notes=(f"n<{bound}",), below_n=bound)
    half = float(special.stdtrit(found.df, (1 + options.ci_level / 100) / 2)) * found.se
    return replace(
        shown,
        n_trials=found.n_trials,
        difference=found.difference,
        se=found.se,
        df=found.df,
        ci_low=found.difference - half,
        ci_high=found.difference + half,
    )


# Lahti: a tail holding 2.5 % of both together; shares of one group that part or pool.
_PART_ABOVE, _PART_BELOW = 4.1, 0.9
_POOL_LOW, _POOL_HIGH = 1.8, 3.2


def harris_boyd(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """z, its critical value 3·√(n̄/120) with n̄ the mean of both sizes, and the SD ratio (≥ 1).

    ``a``, ``b``: the values of each group; z is 0 where neither varies and the means agree.
    """
    difference = abs(float(a.mean()) - float(b.mean()))
    var_a, var_b = float(a.var(ddof=1)), float(b.var(ddof=1))
    error = math.sqrt(var_a / len(a) + var_b / len(b))
    z = difference / error if error > 0 else (math.inf if difference > 0 else 0.0)
    critical = 3 * math.sqrt((len(a) + len(b)) / 2 / 120)
    small, large = sorted((math.sqrt(var_a), math.sqrt(var_b)))
    ratio = large / small if small > 0 else (math.inf if large > 0 else 1.0)
    return z, critical, ratio


def lahti_shares(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float, float]:
    """Percent of ``a`` below and above, of ``b`` below and above, the 95 % limits of both."""
    both = np.sort(np.concatenate([a, b]))
    low, high = interpolated_quantile(both, 0.025), interpolated_quantile(both, 0.975)
    return (
        100 * float(np.mean(a < low)),
        100 * float(np.mean(a > high)),
        100 * float(np.mean(b < low)),
        100 * float(np.mean(b > high)),
    )


def lahti_verdict(shares: Sequence[float]) -> str:
    """``partition``: a tail ≥ 4.1 % or ≤ 0.9 %; ``pool``: all within 1.8 to 3.2 %; else judge."""
    if any(s >= _PART_ABOVE or s <= _PART_BELOW for s in shares):
        return "partition"
    if all(_POOL_LOW <= s <= _POOL_HIGH for s in shares):
        return "pool"
    return "judgement"


def partition_tests(
    measure: str, unit: str, fitted: Sequence[FittedCell], options: ReferenceOptions
) -> Iterator[PartitionTest]:
    """Male against female in each age band; each ethnicity against the largest, by sex and band."""
    by_key = {
        (f.cell.key.age_low, f.cell.key.age_high, f.cell.key.sex, f.cell.key.ethnicity): f.cell
        for f in fitted
    }
    withheld = {id(f.cell) for f in fitted if f.withheld}
    bands = list(dict.fromkeys((k[0], k[1]) for k in by_key))
    sexes = list(dict.fromkeys(k[2] for k in by_key))
    ethnicities = [e for e in ETHNICITIES if any(k[3] == e for k in by_key)]
    largest = _largest(fitted, ethnicities)
    for band in bands:
        if all(sex in sexes for sex in SEXES):
            pair = (by_key[*band, SEXES[0], ALL], by_key[*band, SEXES[1], ALL])
            row = _test(measure, unit, "sex", pair, options, hide=None)
            yield _without_moments(row) if withheld & {id(c) for c in pair} else row
        for sex in sexes:
            groups = [by_key[*band, sex, e] for e in ethnicities]
            # The reference range prints the n of `all` beside these: hide here what it hides.
            total = by_key[*band, sex, ALL].n
            hidden = hidden_counts([g.n for g in groups], total, options.min_cell)
            hide = dict(zip(ethnicities, hidden, strict=True))
            for cell in groups:
                if largest is not None and cell.key.ethnicity != largest:
                    pair = (cell, by_key[*band, sex, largest])
                    yield _test(measure, unit, "ethnicity", pair, options, hide=hide)


def _largest(fitted: Sequence[FittedCell], ethnicities: Sequence[str]) -> str | None:
    if len(ethnicities) < 2:
        return None
    total = {e: sum(f.cell.n for f in fitted if f.cell.key.ethnicity == e) for e in ethnicities}
    return max(ethnicities, key=lambda e: total[e])


def _test(
    measure: str,
    unit: str,
    factor: Factor,
    pair: tuple[Cell, Cell],
    options: ReferenceOptions,
    *,
    hide: dict[str, bool] | None,
) -> PartitionTest:
    cell_a, cell_b = pair
    a, b = cell_a.ordered, cell_b.ordered
    enough = min(len(a), len(b)) >= options.smallest_n
    z, critical, ratio = harris_boyd(a, b) if enough else (None, None, None)
    shares = lahti_shares(a, b) if enough else (None, None, None, None)
    hidden = [
        c.n < options.min_cell or bool(hide and hide.get(c.key.ethnicity)) for c in (cell_a, cell_b)
    ]
    few = min(len(a), len(b))
    bound = options.min_cell if few < options.min_cell else options.smallest_n
    return PartitionTest(
        measure=measure,
        unit=unit,
        factor=factor,
        group_a=cell_a.key.sex if factor == "sex" else cell_a.key.ethnicity,
        group_b=cell_b.key.sex if factor == "sex" else cell_b.key.ethnicity,
        sex=ALL if factor == "sex" else cell_a.key.sex,
        age_low=cell_a.key.age_low,
        age_high=cell_a.key.age_high,
        n_a=None if hidden[0] else len(a),
        n_b=None if hidden[1] else len(b),
        mean_a=float(a.mean()) if enough else None,
        mean_b=float(b.mean()) if enough else None,
        sd_a=float(a.std(ddof=1)) if enough else None,
        sd_b=float(b.std(ddof=1)) if enough else None,
        z=z,
        z_critical=critical,
        sd_ratio=ratio,
        harris_boyd=_harris_boyd_verdict(z, critical, ratio),
        below_percent_a=shares[0],
        above_percent_a=shares[1],
        below_percent_b=shares[2],
        above_percent_b=shares[3],
        lahti=lahti_verdict([s for s in shares if s is not None]) if enough else "",
        notes=(f"n<{bound}",) if not enough else (MAY_BE_TRIALS,) if _apart(cell_a, cell_b) else (),
        below_n=None if enough else bound,
    )


def _without_moments(row: PartitionTest) -> PartitionTest:
    """The verdicts alone: means and SDs beside those of the groups would tell of a few people."""
    told = ("mean_a", "mean_b", "sd_a", "sd_b", "z", "sd_ratio")
    shares = ("below_percent_a", "above_percent_a", "below_percent_b", "above_percent_b")
    nothing: dict[str, Any] = dict.fromkeys((*told, *shares))
    return replace(row, **nothing, notes=("limits-withheld", *row.notes))


def _apart(a: Cell, b: Cell) -> bool:
    """True where most people of one group are in trials that the other is hardly in.

    Hardly: with less than a twentieth of its people.
    """
    for mine, other in ((a, b), (b, a)):
        least = other.n / 20
        shared = sum(
            n for t, n in mine.trial_counts.items() if other.trial_counts.get(t, 0) >= least
        )
        if 2 * shared < mine.n:
            return True
    return False


def _harris_boyd_verdict(z: float | None, critical: float | None, ratio: float | None) -> str:
    if z is None or critical is None or ratio is None:
        return ""
    return "partition" if z > critical or ratio > 1.5 else "pool"
