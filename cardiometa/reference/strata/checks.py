"""Checks of the limits: by trial, calibration, and whether groups differ.

``by_trial.csv``: what each trial alone would give, and what is left without it.

``calibration.csv``: how many participants lie outside their own stratum's limits. Right limits
leave the same share outside at every age and in a trial that they were not made of; a share that
drifts over the age thirds shows a band that hides a trend, one that jumps in a left-out trial shows
a difference between trials.

``contrasts.csv``: differences of means between sexes and ethnicities, in two parts. Within trials,
participants were scanned alike: the difference is the groups'. Between trials, a group that comes
mostly from one trial brings its scanner and its recruitment along. The two are never mixed without
saying so.

``partition.csv``: whether two groups differ enough to need limits of their own (Harris EK, Boyd JC.
Clin Chem 1990;36:265-70; Lahti A et al., Clin Chem 2002;48:338-52; EP28-A3c).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
from scipy import special

from ...privacy.suppression import LIMITS_WITHHELD, Count, without_extremes
from ...records import ETHNICITIES, SEXES
from ...statistics.order_statistics import interpolated_quantile
from ..options import NONPARAMETRIC_MIN_N, Factor, Method, ReferenceOptions
from ..results import (
    EXTREME_KEPT,
    MAY_BE_TRIALS,
    NO_SHARED_TRIAL,
    Calibration,
    Contrast,
    PartitionTest,
    TrialLimit,
)
from ..select import ALL, MeasureData
from .groups import Cell, FittedCell, request_for
from .limits import Limit, default_rule, estimate_limits


@dataclass(frozen=True, slots=True)
class TrialLimits:
    """A trial's ``own`` limits by a rule, and those ``without`` it; empty where too few remain."""

    name: str
    n: int
    rule: str
    own: Sequence[Limit]
    without: Sequence[Limit]


def trial_limits(data: MeasureData, fitted: FittedCell) -> Iterator[TrialLimit]:
    """The rows of a cell that has limits."""
    cell, options = fitted.cell, data.options
    if fitted.rule is None:
        return iter(())
    shown: Callable[[Sequence[Limit]], tuple[Limit, ...]]
    shown = tuple if options.internal else without_extremes
    request = request_for(data.measure, cell, options).point()
    trials = []
    for trial, n in cell.trial_counts.items():
        rule: str = ""
        own: tuple[Limit, ...] = ()
        if n >= options.smallest_n:
            mine = cell.ordered[cell.trial == trial]
            rule = options.limits or default_rule(mine, n, options.outer_centiles)
            own = estimate_limits(mine, rule, request)
            if cell.person is not None:
                # A rank interval takes values for participants' own.
                own = tuple(replace(found, ci_low=None, ci_high=None) for found in own)
        name, without = data.participants.trials[trial], shown(fitted.without.get(trial, ()))
        trials.append(TrialLimits(name, n, rule, shown(own), without))
    columns = {**data.columns, **cell.key.columns()}
    return trial_rows(trials, columns, options, cell.n)


def trial_rows(
    trials: Sequence[TrialLimits], columns: Mapping[str, Any], options: ReferenceOptions, total: int
) -> Iterator[TrialLimit]:
    """A row for each centile and trial of a group of ``total`` participants."""
    sizes = [trial.n for trial in trials]
    for index, centile in enumerate(options.centiles):
        rest = [t.without[index].limit if t.without else None for t in trials]
        known = [limit for limit in rest if limit is not None]
        for place, trial in enumerate(trials):
            limit = trial.own[index] if trial.own else Limit(centile, None)
            few = options.below(trial.n)
            status = "small-n" if trial.n < NONPARAMETRIC_MIN_N else "ok"
            yield TrialLimit(
                **columns,
                **limit.columns,
                trial=trial.name,
                n=Count(trial.n, sizes, total, place),
                limits=trial.rule,
                ci_level=options.ci_level,
                status="suppressed" if limit.limit is None else status,
                n_without=sum(sizes) - trial.n,
                limit_without=rest[place],
                span_low=min(known, default=None),
                span_high=max(known, default=None),
                notes=(*([f"n<{few}"] if few else []), *limit.notes),
                below_n=few,
            )


# ------------------------------------------------------------------ calibration


def calibrate(
    data: MeasureData, fitted: Sequence[FittedCell], method: Method = "strata"
) -> Iterator[Calibration]:
    """Rows for each sex and ethnicity, age bands together; groups below ``min_n`` stay empty."""
    participants, options = data.participants, data.options
    has_limits = [f for f in fitted if f.rule is not None]
    for (sex, ethnicity), group in groupby(
        has_limits, key=lambda f: (f.cell.key.sex, f.cell.key.ethnicity)
    ):
        cells = list(group)
        columns = {**data.columns, "method": method, "sex": sex, "ethnicity": ethnicity}

        def row(check: str, name: str, outside: Any, columns: Any = columns) -> Calibration:
            n = participants.count_of(outside[0])
            return calibration_row(
                options, outside[1], outside[2], n=n, check=check, group=name, **columns
            )

        together = _outside([(f, f.limits, None) for f in cells], options)
        yield row("fitted", ALL, together)
        for name, inside in age_thirds(participants.age_years[together[0]]):
            yield row("age-third", name, [part[inside] for part in together])
        for trial, name in enumerate(participants.trials):
            parts = [(f, f.without[trial], trial) for f in cells if trial in f.without]
            if parts and len(participants.trials) > 1:
                yield row("left-out-trial", name, _outside(parts, options))


def _outside(
    parts: Sequence[tuple[FittedCell, Sequence[Limit], int | None]], options: ReferenceOptions
) -> list[np.ndarray]:
    """Members of cells (of one trial, or all), and who lies strictly below and above ``limits``."""
    found = []
    for fitted, limits, trial in parts:
        cell = fitted.cell
        mine = np.ones(len(cell.ordered), dtype=bool) if trial is None else cell.trial == trial
        values = cell.ordered[mine]
        low = next((f.limit for f in limits if f.centile < 50), None)
        high = next((f.limit for f in limits if f.centile > 50), None)
        none = np.zeros(len(values), dtype=bool)
        below = none if low is None or options.sided == "upper" else values < low
        above = none if high is None or options.sided == "lower" else values > high
        found.append((cell.members[mine], below, above))
    return [np.concatenate(part) for part in zip(*found, strict=True)]


def age_thirds(age_years: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Thirds of the known ages, cut at whole years (an exact cut would be a participant's age)."""
    known = age_years[np.isfinite(age_years)]
    if not len(known):
        return
    first, second = np.round(np.quantile(known, [1 / 3, 2 / 3], method="weibull"))
    if first == second:
        return
    yield f"<{first:g}", age_years < first
    yield f"{first:g}-{second:g}", (age_years >= first) & (age_years < second)
    yield f">={second:g}", age_years >= second


def calibration_row(
    options: ReferenceOptions,
    below: np.ndarray,
    above: np.ndarray,
    *,
    n: int | None = None,
    notes: tuple[str, ...] = (),
    **columns: Any,
) -> Calibration:
    """A row with the shares of ``below`` and ``above`` ``[n]``.

    ``n``: how many participants they are, where one may have several values.
    """
    n = len(below) if n is None else n
    few = options.below(n)
    low, high = few is None and options.sided != "upper", few is None and options.sided != "lower"
    expected = 100 - options.level if options.sided != "two" else (100 - options.level) / 2
    return Calibration(
        n=Count(n),
        below_percent=100 * float(below.mean()) if low else None,
        above_percent=100 * float(above.mean()) if high else None,
        expected_below_percent=expected if low else None,
        expected_above_percent=expected if high else None,
        notes=notes if few is None else (*notes, f"n<{few}"),
        below_n=few,
        **columns,
    )


# ------------------------------------------------------------------ contrasts


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanDifference:
    """A difference with its SE and degrees of freedom; ``n_trials`` that contribute."""

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
    if (sizes == 1).any():  # a trial of one participant is fitted exactly and says nothing
        keep = sizes[trial] > 1
        rest = None if covariate is None else covariate[keep]
        return within_trial_difference(y[keep], group[keep], rest, trial[keep])
    C = np.column_stack([_centred(c, trial, sizes) for c in (group, covariate) if c is not None])
    count = np.bincount(trial, group)
    both = int(np.sum((count > 0) & (count < sizes)))
    df = len(y) - int(np.sum(sizes > 0)) - C.shape[1]
    cross = C.T @ C
    scale = np.sqrt(np.diag(cross))
    # The columns must vary and not be multiples of each other.
    regular = (scale > 0).all() and np.linalg.cond(cross / np.outer(scale, scale)) < 1e12
    if not both or df < 1 or not regular:
        return None
    influence = C @ np.linalg.inv(cross)
    beta = influence.T @ y
    residual = _centred(y, trial, sizes) - C @ beta
    left = (1 - 1 / np.maximum(sizes, 1))[trial] - np.einsum("nk,nk->n", influence, C)
    # A participant with leverage 1 is fitted exactly: residual and weight are both 0.
    exact = left < 1e-9
    residual[exact], left[exact] = 0.0, 1.0
    moved = influence[:, 0] * residual / left
    se = float(np.sqrt(moved @ moved))
    return MeanDifference(difference=float(beta[0]), se=se, df=float(df), n_trials=both)


def between_trial_difference(
    y: np.ndarray, group: np.ndarray, covariate: np.ndarray | None, trial: np.ndarray
) -> MeanDifference | None:
    """OLS of the trials' means on their share of ``group``, one point per trial.

    The means are first moved to the overall mean of the covariate by its within-trial slope (0
    where it does not vary). None with fewer than 3 trials, or where every trial has the same share.
    """
    sizes = np.bincount(trial)
    met = sizes > 0
    if met.sum() < 3:
        return None
    share = np.bincount(trial, group)[met] / sizes[met]
    mean = np.bincount(trial, y)[met] / sizes[met]
    if covariate is not None:
        C = np.column_stack([_centred(c, trial, sizes) for c in (covariate, group)])
        slope = np.linalg.lstsq(C.T @ C, C.T @ y, rcond=1e-12)[0][0]
        mean = mean - float(slope) * (np.bincount(trial, covariate)[met] / sizes[met])
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


def contrasts(data: MeasureData) -> Iterator[Contrast]:
    """Male minus female; each ethnicity minus the largest, for each sex with limits."""
    participants = data.participants
    usable = np.isfinite(data.values)
    if np.isfinite(participants.age_years).any():
        usable &= np.isfinite(participants.age_years)
    if "sex" in participants.by:
        columns = {"factor": "sex", "group": SEXES[0], "versus": SEXES[1], "sex": ALL}
        rows = np.flatnonzero(usable & (participants.sex >= 0))
        yield from _three_ways(data, rows, participants.sex == 0, (Count, Count), columns)
    if "ethnicity" not in participants.by:
        return
    own = [participants.ethnicity == number for number in range(len(ETHNICITIES))]
    for sex in range(len(SEXES)) if "sex" in participants.by else (-1,):
        of_sex = usable & ((participants.sex == sex) if sex >= 0 else True)
        ethnicity = participants.ethnicity[of_sex]
        counts = np.bincount(ethnicity + 1, minlength=len(ETHNICITIES) + 1)[1:]
        if np.sum(counts > 0) < 2:
            continue
        among = {"siblings": counts.tolist(), "total": int(of_sex.sum())}
        largest = int(np.argmax(counts))
        for number in np.flatnonzero(counts).tolist():
            if number == largest:
                continue
            columns = {"factor": "ethnicity", "group": ETHNICITIES[number]}
            columns |= {"versus": ETHNICITIES[largest], "sex": SEXES[sex] if sex >= 0 else ALL}
            rows = np.flatnonzero(of_sex & (own[number] | own[largest]))
            pair = (partial(Count, **among, place=p) for p in (number, largest))
            yield from _three_ways(data, rows, own[number], tuple(pair), columns)


def _three_ways(
    data: MeasureData,
    rows: np.ndarray,
    in_group: np.ndarray,
    counted: tuple[Callable[[int], Count], ...],
    columns: dict[str, Any],
) -> Iterator[Contrast]:
    """The difference within trials, between them, and as if there were none.

    ``counted`` makes the counts of a row of the numbers of both groups in it.
    """
    trial, group = data.participants.trial[rows], in_group[rows].astype(np.float64)
    options = data.options
    has_age = bool(np.isfinite(data.participants.age_years).any())
    age = data.participants.age_years[rows] if has_age else None
    y = data.values[rows]
    sizes, count = np.bincount(trial), np.bincount(trial, group)
    has_both, met = (count > 0) & (count < sizes), int(np.sum(sizes > 0))
    kept = (EXTREME_KEPT,) if np.isin(rows, data.extreme).any() else ()
    columns = {**data.columns, **columns, "adjusted_for": "age" if has_age else "", "notes": kept}
    columns["ci_level"] = options.ci_level

    def contrast(
        source: str, group: np.ndarray, found: MeanDifference | None, why_not: str, **more: Any
    ) -> Contrast:
        n_group = int(group.sum())
        n_versus = len(group) - n_group
        few = min(n_group, n_versus)
        bound = options.below(few) if found is not None or few else None
        cells = {**columns, "source": source, **more}
        if bound is not None or found is None:
            cells["notes"] = (f"n<{bound}" if bound is not None else why_not,)
        else:
            half = float(special.stdtrit(found.df, (1 + options.ci_level / 100) / 2)) * found.se
            ends = {"ci_low": found.difference - half, "ci_high": found.difference + half}
            cells |= {**asdict(found), **ends}
        return Contrast(
            n_group=counted[0](n_group), n_versus=counted[1](n_versus), below_n=bound, **cells
        )

    # No copy where all trials have both.
    inside = slice(None) if has_both[trial].all() else has_both[trial]
    age_inside = None if age is None else age[inside]
    found = within_trial_difference(y[inside], group[inside], age_inside, trial[inside])
    yield contrast("within-trial", group[inside], found, NO_SHARED_TRIAL)
    # In a single trial there is no other trial to attribute the difference to.
    alone = {} if has_both.any() else {"notes": (MAY_BE_TRIALS, *kept)}
    why_not = "fewer than 3 trials, or the same share in each"
    found = between_trial_difference(y, group, age, trial)
    yield contrast("between-trial", group, found, why_not, **alone)
    found = within_trial_difference(y, group, age, np.zeros_like(trial))
    found = None if found is None else replace(found, n_trials=met)
    more = alone if met > 1 else {}
    yield contrast("ignoring-trials", group, found, "only one group", **more)


# ------------------------------------------------------------------ partition

# Lahti: a tail with 2.5 % of both together; shares of one group that part or pool.
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


def lahti_shares(a: np.ndarray, b: np.ndarray) -> tuple[float, ...]:
    """Percent of ``a`` below and above, of ``b`` below and above, the 95 % limits of both."""
    both = np.sort(np.concatenate([a, b]))
    low, high = interpolated_quantile(both, 0.025), interpolated_quantile(both, 0.975)
    sides = (a < low, a > high, b < low, b > high)
    return tuple(100 * float(np.mean(side)) for side in sides)


def lahti_verdict(shares: Sequence[float]) -> str:
    """``partition``: a tail ≥ 4.1 % or ≤ 0.9 %; ``pool``: all within 1.8 to 3.2 %; else judge."""
    if any(s >= _PART_ABOVE or s <= _PART_BELOW for s in shares):
        return "partition"
    if all(_POOL_LOW <= s <= _POOL_HIGH for s in shares):
        return "pool"
    return "judgement"


def partition_tests(data: MeasureData, fitted: Sequence[FittedCell]) -> Iterator[PartitionTest]:
    """Male against female in each age band; each ethnicity against the largest, by sex and band."""
    by_key = {
        ((key.age_low, key.age_high), key.sex, key.ethnicity): f
        for f in fitted
        if (key := f.cell.key)
    }
    bands, sexes = dict.fromkeys(k[0] for k in by_key), list(dict.fromkeys(k[1] for k in by_key))
    ethnicities = [e for e in ETHNICITIES if any(e == k[2] for k in by_key)]
    total = {e: sum(f.cell.n for k, f in by_key.items() if k[2] == e) for e in ethnicities}
    for band in bands:
        if all(sex in sexes for sex in SEXES):
            pair = (by_key[band, SEXES[0], ALL], by_key[band, SEXES[1], ALL])
            yield _partition_test(data, "sex", pair, [Count(f.cell.n) for f in pair])
        for sex in sexes if len(ethnicities) > 1 else ():
            groups = [by_key[band, sex, e] for e in ethnicities]
            # The reference range prints the n of `all` with these.
            sizes, n_all = [g.cell.n for g in groups], by_key[band, sex, ALL].cell.n
            counts = [Count(n, sizes, n_all, place) for place, n in enumerate(sizes)]
            largest = ethnicities.index(max(ethnicities, key=lambda e: total[e]))
            for number, group in enumerate(groups):
                if number != largest:
                    both, pair = (counts[number], counts[largest]), (group, groups[largest])
                    yield _partition_test(data, "ethnicity", pair, both)


def _partition_test(
    data: MeasureData,
    factor: Factor,
    pair: tuple[FittedCell, FittedCell],
    counts: Sequence[Count],
) -> PartitionTest:
    """The row; of withheld limits the verdicts alone.

    Means and SDs with those of the groups would disclose a small rest.
    """
    options, cells = data.options, [f.cell for f in pair]
    a, b = (cell.ordered for cell in cells)
    few, withheld = min(len(a), len(b)), any(f.withheld for f in pair)
    below_n = options.below(few)
    notes = (LIMITS_WITHHELD,) * withheld
    columns: dict[str, Any] = {}
    for side, cell, n in zip("ab", cells, counts, strict=True):
        columns |= {f"group_{side}": getattr(cell.key, factor), f"n_{side}": n}
    if below_n is not None:
        notes += (f"n<{below_n}",)
    else:
        notes += (MAY_BE_TRIALS,) * _mostly_other_trials(*cells)
        z, critical, ratio = harris_boyd(a, b)
        shares = lahti_shares(a, b)
        columns |= {"harris_boyd": "partition" if z > critical or ratio > 1.5 else "pool"}
        columns |= {"lahti": lahti_verdict(shares), "z_critical": critical}
        sides = zip("ab", (a, b), (shares[:2], shares[2:]), strict=True)
        for side, values, (below, above) in () if withheld else sides:
            columns |= {
                f"mean_{side}": float(values.mean()),
                f"sd_{side}": float(values.std(ddof=1)),
                f"below_percent_{side}": below,
                f"above_percent_{side}": above,
            }
        columns |= {} if withheld else {"z": z, "sd_ratio": ratio}
    return PartitionTest(
        **data.columns,
        factor=factor,
        sex=ALL if factor == "sex" else cells[0].key.sex,
        age_low=cells[0].key.age_low,
        age_high=cells[0].key.age_high,
        notes=notes,
        below_n=below_n,
        **columns,
    )


def _mostly_other_trials(a: Cell, b: Cell) -> bool:
    """True where most participants of one group are in trials with hardly any of the other.

    Hardly: less than a twentieth of its participants.
    """
    for mine, other in ((a, b), (b, a)):
        least = other.n / 20
        shared = sum(
            n for t, n in mine.trial_counts.items() if other.trial_counts.get(t, 0) >= least
        )
        if 2 * shared < mine.n:
            return True
    return False
