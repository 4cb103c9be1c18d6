"""``contrasts.csv``: differences of means between sexes and ethnicities, in two parts.

Within trials, people were scanned alike: the difference is the groups'. Between trials, a group
that comes mostly from one trial brings its scanner and its recruitment along. The two are never
mixed without saying so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from ...records import ETHNICITIES, SEXES
from ..disclosure import hidden_counts
from ..options import ReferenceOptions
from ..results import Contrast
from ..select import People
from .groups import ALL

NO_SHARED_TRIAL = "no trial has both groups"
MAY_BE_TRIALS = f"{NO_SHARED_TRIAL}: the difference may be the trials'"


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
    apart = MAY_BE_TRIALS if not has_both.any() else ""
    yield _contrast(
        replace(empty, source="between-trial", note=apart),
        sample,
        between_trial_difference(y, group, age, trial),
        options,
        hide=hide,
        why_not="fewer than 3 trials, or the same share in each",
    )
    found = within_trial_difference(y, group, age, np.zeros_like(trial))
    yield _contrast(
        # Of one trial alone there is no other trial to blame.
        replace(empty, source="ignoring-trials", note=apart if np.sum(sizes > 0) > 1 else ""),
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
        return replace(shown, note=why_not)
    if found is None or few < options.smallest_n:
        bound = options.min_cell if few < options.min_cell else options.smallest_n
        return replace(shown, note=f"n<{bound}")
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
