"""``--method meta``: the reference range of a meta-analysis, by sex, ethnicity and age band.

The second stage needs the number, mean and SD of each trial alone, so people's rows and a table of
summaries give the same limits. With ``--limits log`` it is made of the logarithms, for skewed
people; what is known of a table of summaries is then the log-normal law of each mean and SD.

Meta-analytic ranges of trials that give summaries alone: number, mean and SD by group.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from ..cohort.parsing import LARGEST
from ..errors import EstimationError, Problem, TableError, UsageError
from ..measurement.measures import definition
from ..privacy.suppression import hidden_counts
from ..records import ETHNICITIES, SEXES
from ..statistics.meta import q_profile
from ..statistics.meta_range import (
    MetaDraws,
    MetaRange,
    TrialMoments,
    empirical_range,
    fixed_draws,
    frequentist_range,
    mixture_interval,
    mixture_limits,
    pivotal_draws,
    pooled_sigma2,
)
from .curves.fit import RANDOM_FROM, TrialPlan, plan_for
from .curves.measure import too_few_trials
from .model import model_document
from .options import (
    NONPARAMETRIC_MIN_N,
    NOT_A_REFERENCE,
    Factor,
    Kind,
    LimitsRule,
    MetaRule,
    Method,
    ReferenceOptions,
)
from .results import (
    CONSTANT_TRIAL,
    LEAST_PEOPLE,
    TINY_TRIALS,
    Calibration,
    MetaEstimate,
    ReferenceLimit,
    ReferenceRanges,
    TrialLimit,
)
from .strata.groups import ALL, Cell, FittedCell, StratumKey
from .strata.limits import Limit, is_asymmetric

if TYPE_CHECKING:
    import pandas as pd


META: Method = "meta"
MIXTURE = "mixture"
_KINDS: dict[TrialPlan, tuple[Kind, ...]] = {
    "none": ("population",),
    "fixed": ("conditional",),
    "random": ("marginal", "conditional"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaGroup:
    """The trials of one group: ``names`` and their moments; ``left_out`` people of tiny trials.

    ``asymmetric``: the people's deviations from their trial's mean are skewed (None: unknown);
    ``hide``: the number of people must not be told.
    """

    key: StratumKey
    names: tuple[str, ...]
    moments: TrialMoments
    left_out: int = 0
    constant: bool = False
    asymmetric: bool | None = None
    hide: bool = False

    @property
    def n(self) -> int:
        """People of the trials used."""
        return int(self.moments.n.sum())

    @property
    def k(self) -> int:
        """Trials used."""
        return len(self.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureMeta:
    """What ``meta`` gives for one measure."""

    limits: tuple[ReferenceLimit, ...] = ()
    by_trial: tuple[TrialLimit, ...] = ()
    estimates: tuple[MetaEstimate, ...] = ()
    calibration: tuple[Calibration, ...] = ()
    models: tuple[dict[str, Any], ...] = ()


def on_logs(options: ReferenceOptions) -> bool:
    """True where the ranges are made of logarithms."""
    return options.limits == "log"


def log_moments(trials: TrialMoments) -> TrialMoments:
    """Mean and SD of the logarithms of log-normal people from their mean (> 0) and SD.

    s_L² = ln(1 + s²/m²), m_L = ln m - s_L²/2 (Higgins JPT, White IR, Anzures-Cabrera J. Stat Med
    2008;27:6072-92, method 1).
    """
    variance = np.log1p((trials.sd / trials.mean) ** 2)
    return TrialMoments(n=trials.n, mean=np.log(trials.mean) - variance / 2, sd=np.sqrt(variance))


def group_of_cell(cell: Cell, trials: Sequence[str], *, logs: bool = False) -> MetaGroup:
    """The moments of each trial of a cell of people, of their logarithms where asked for."""
    if not cell.n:
        empty = np.empty(0)
        return MetaGroup(
            key=cell.key, names=(), moments=TrialMoments(n=empty, mean=empty, sd=empty)
        )
    values = np.log(cell.ordered) if logs else cell.ordered
    sizes = np.bincount(cell.trial, minlength=len(trials)).astype(float)
    means = np.bincount(cell.trial, values, minlength=len(trials)) / np.maximum(sizes, 1)
    deviations = values - means[cell.trial]
    squares = np.bincount(cell.trial, deviations**2, minlength=len(trials))
    sds = np.sqrt(squares / np.maximum(sizes - 1, 1))
    many = sizes >= LEAST_PEOPLE
    varied = sds > 1e-12 * np.maximum(np.abs(means), 1e-300)
    used = np.flatnonzero(many & varied)
    return MetaGroup(
        key=cell.key,
        names=tuple(trials[t] for t in used.tolist()),
        moments=TrialMoments(n=sizes[used], mean=means[used], sd=sds[used]),
        left_out=int(sizes[~(many & varied)].sum()),
        constant=bool((many & ~varied).any()),
        asymmetric=is_asymmetric(np.sort(deviations)),
    )


def measure_meta(
    measure: str, unit: str, groups: Sequence[MetaGroup], options: ReferenceOptions
) -> MeasureMeta:
    """The limits of every group and what they are made of."""
    parts = [_one_group(_about(measure, unit, group, options)) for group in groups]
    return MeasureMeta(
        limits=tuple(row for p in parts for row in p.limits),
        by_trial=tuple(row for p in parts for row in p.by_trial),
        estimates=tuple(row for p in parts for row in p.estimates),
        models=tuple(row for p in parts for row in p.models),
    )


# ------------------------------------------------------------------ one group


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Limits of one rule and kind, ``[centiles]`` each; ``law`` None for a mixture."""

    rule: str
    kind: Kind
    limit: np.ndarray
    low: np.ndarray
    high: np.ndarray
    law: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _About:
    """What a row is of; ``n`` None where it must not be told."""

    measure: str
    unit: str
    group: MetaGroup
    n: int | None
    options: ReferenceOptions


def _about(measure: str, unit: str, group: MetaGroup, options: ReferenceOptions) -> _About:
    few = 0 < group.left_out < options.min_cell or group.n < options.min_cell
    return _About(
        measure=measure,
        unit=unit,
        group=group,
        n=None if few or group.hide else group.n,
        options=options,
    )


def _one_group(about: _About) -> MeasureMeta:
    group, options = about.group, about.options
    if group.n < options.smallest_n or not group.k:
        return MeasureMeta(limits=tuple(_suppressed(about)))
    plan = plan_for(options.trial_effect, group.k)
    moments = group.moments if options.trial_effect != "none" else _together(group.moments)
    seed = zlib.crc32(f"{options.seed}/{META}/{about.measure}/{group.key.text()}".encode())
    parts = list(_parts(moments, plan, options, seed))
    return MeasureMeta(
        limits=tuple(row for part in parts for row in _rows(about, part)),
        by_trial=tuple(_by_trial(about, parts[0])),
        estimates=tuple(_estimate(about, moments, rule, plan) for rule in options.meta),
        models=tuple(
            _model(about, part)
            for part in parts
            if part.law is not None and part.rule == options.meta[0]
        ),
    )


def _together(trials: TrialMoments) -> TrialMoments:
    """All people as one trial (``--trial-effect none``)."""
    n = float(trials.n.sum())
    mean = float(trials.n @ trials.mean / n)
    squares = (trials.n - 1) @ trials.sd**2 + trials.n @ (trials.mean - mean) ** 2
    return TrialMoments(
        n=np.array([n]), mean=np.array([mean]), sd=np.array([np.sqrt(squares / (n - 1))])
    )


def _fixed_range(trials: TrialMoments) -> MetaRange:
    """An average of these very trials: mean by people, SD within."""
    return MetaRange(
        mean=float(trials.n @ trials.mean / trials.n.sum()),
        sigma=float(np.sqrt(pooled_sigma2(trials))),
        tau=0.0,
    )


def _range_of(trials: TrialMoments, rule: MetaRule, plan: TrialPlan) -> MetaRange:
    if plan != "random":
        return _fixed_range(trials)
    return frequentist_range(trials) if rule == "frequentist" else empirical_range(trials)


def _parts(
    trials: TrialMoments, plan: TrialPlan, options: ReferenceOptions, seed: int
) -> Iterator[_Part]:
    centiles, level = np.array(options.centiles), options.ci_level / 100
    for rule in options.meta:
        fit = _range_of(trials, rule, plan)
        draws = _draws(trials, rule, plan, options.bootstrap, seed)
        for kind in _KINDS[plan]:
            marginal = kind == "marginal"
            low, high = draws.interval(centiles, level, marginal=marginal)
            yield _Part(
                rule=rule,
                kind=kind,
                limit=fit.limits(centiles, marginal=marginal),
                low=low,
                high=high,
                law=(fit.mean, fit.sd if marginal else fit.sigma),
            )
    if plan == "fixed":
        low, high = mixture_interval(trials, centiles, level, draws=options.bootstrap, seed=seed)
        yield _Part(
            rule=MIXTURE,
            kind="population",
            limit=mixture_limits(trials, centiles),
            low=low,
            high=high,
            law=None,
        )


def _draws(
    trials: TrialMoments, rule: MetaRule, plan: TrialPlan, draws: int, seed: int
) -> MetaDraws:
    if plan != "random":
        return fixed_draws(trials, draws, seed)
    return pivotal_draws(trials, draws, seed, "precision" if rule == "frequentist" else "people")


# ------------------------------------------------------------------ rows


def _notes(group: MetaGroup, options: ReferenceOptions) -> list[str]:
    notes = []
    if 1 < group.k < RANDOM_FROM:
        notes.append(f"k<{RANDOM_FROM}: no limit of a new trial")
    if group.left_out:
        notes.append(CONSTANT_TRIAL if group.constant else TINY_TRIALS)
    if group.asymmetric:
        notes.append("asymmetric")
    if on_logs(options):
        notes.append("log")
    if not options.healthy_only:
        notes.append(NOT_A_REFERENCE)
    return notes


def _shown(value: float, options: ReferenceOptions) -> float:
    """A limit in the measure's unit."""
    return float(np.exp(value)) if on_logs(options) else float(value)


def _empty_row(about: _About) -> ReferenceLimit:
    group = about.group
    return ReferenceLimit(
        measure=about.measure,
        unit=about.unit,
        method=META,
        limits="",
        kind="population",
        sex=group.key.sex,
        ethnicity=group.key.ethnicity,
        age_low=group.key.age_low,
        age_high=group.key.age_high,
        age=None,
        n=about.n,
        n_trials=group.k,
        centile=50.0,
        limit=None,
        ci_low=None,
        ci_high=None,
        ci_level=about.options.ci_level,
        status="suppressed",
    )


def _suppressed(about: _About) -> Iterator[ReferenceLimit]:
    group, options = about.group, about.options
    few = group.n + group.left_out < options.min_cell
    withheld = about.n is None
    bound = options.min_cell if few else options.smallest_n
    notes = [f"n<{bound}", *(["n-withheld"] if withheld and not few else [])]
    row = _empty_row(about)
    for rule in options.meta:
        for centile in options.centiles:
            yield replace(
                row,
                limits=rule,
                centile=centile,
                n_trials=None if few else group.k,
                notes=tuple(notes),
                below_n=bound,
            )


def _rows(about: _About, part: _Part) -> Iterator[ReferenceLimit]:
    group, options = about.group, about.options
    row = _empty_row(about)
    notes = [*_notes(group, options), *(["n-withheld"] if about.n is None else [])]
    small = group.n < NONPARAMETRIC_MIN_N
    if small and group.k == 1:
        notes.append("single-trial")
    for index, centile in enumerate(options.centiles):
        limit = _shown(part.limit[index], options)
        below = ["below-zero"] if limit < 0 < group.moments.mean.min() else []
        yield replace(
            row,
            limits=part.rule,
            kind=part.kind,
            centile=centile,
            limit=limit,
            ci_low=_shown(part.low[index], options),
            ci_high=_shown(part.high[index], options),
            status="small-n" if small else "single-trial" if group.k == 1 else "ok",
            notes=(*notes, *below),
        )


def _estimate(
    about: _About, moments: TrialMoments, rule: MetaRule, plan: TrialPlan
) -> MetaEstimate:
    group, options = about.group, about.options
    fit = _range_of(moments, rule, plan)
    tau: tuple[float, float] | None = None
    if plan == "random":
        interval = q_profile(moments.mean, moments.sd**2 / moments.n, options.ci_level)
        if interval.tau2 is not None:
            tau = (float(np.sqrt(interval.tau2[0])), float(np.sqrt(interval.tau2[1])))
        elif interval.empty:
            tau = (0.0, 0.0)
    return MetaEstimate(
        measure=about.measure,
        unit=about.unit,
        sex=group.key.sex,
        ethnicity=group.key.ethnicity,
        age_low=group.key.age_low,
        age_high=group.key.age_high,
        meta=rule,
        trial_effect=plan,
        n=about.n,
        n_trials=group.k,
        mean=fit.mean,
        sigma=fit.sigma,
        tau=fit.tau if plan == "random" else None,
        tau_low=tau[0] if tau else None,
        tau_high=tau[1] if tau else None,
        tau_share=fit.tau_share if plan == "random" else None,
        ci_level=options.ci_level,
        notes=tuple(_notes(group, options)),
    )


def _by_trial(about: _About, headline: _Part) -> Iterator[TrialLimit]:
    """Each trial's mean + z·SD, and the headline's limits without the trial."""
    group, options = about.group, about.options
    moments, centiles = group.moments, np.array(options.centiles)
    hidden = hidden_counts(
        moments.n.astype(int).tolist(), group.n + group.left_out, options.min_cell
    )
    z = special.ndtri(centiles / 100)
    z_ci = float(special.ndtri((1 + options.ci_level / 100) / 2))
    without = [_without(moments, t, headline, centiles, options) for t in range(group.k)]
    for index, centile in enumerate(options.centiles):
        left = [_shown(w[index], options) for w in without if w is not None]
        for t, name in enumerate(group.names):
            own = moments.n[t] >= options.smallest_n
            limit = float(moments.mean[t] + z[index] * moments.sd[t])
            se = moments.sd[t] * np.sqrt(1 / moments.n[t] + z[index] ** 2 / (2 * moments.n[t]))
            rest = without[t]
            yield TrialLimit(
                measure=about.measure,
                unit=about.unit,
                sex=group.key.sex,
                ethnicity=group.key.ethnicity,
                age_low=group.key.age_low,
                age_high=group.key.age_high,
                centile=centile,
                trial=name,
                n=None if hidden[t] else int(moments.n[t]),
                limits="log" if on_logs(options) else "parametric",
                limit=_shown(limit, options) if own else None,
                ci_low=_shown(limit - z_ci * se, options) if own else None,
                ci_high=_shown(limit + z_ci * se, options) if own else None,
                ci_level=options.ci_level,
                status=("ok" if moments.n[t] >= NONPARAMETRIC_MIN_N else "small-n")
                if own
                else "suppressed",
                n_without=None if hidden[t] else group.n - int(moments.n[t]),
                limit_without=None if rest is None else _shown(rest[index], options),
                span_low=min(left) if left else None,
                span_high=max(left) if left else None,
                notes=() if own else (f"n<{options.smallest_n}",),
                below_n=None if own else options.smallest_n,
            )


def _without(
    moments: TrialMoments, t: int, headline: _Part, centiles: np.ndarray, options: ReferenceOptions
) -> np.ndarray | None:
    """The headline's limits of the other trials, of the same kind; None where too few are left."""
    rest = moments.at(np.arange(moments.k) != t)
    if not rest.k or rest.n.sum() < options.smallest_n:
        return None
    if headline.kind == "marginal":
        fit = _range_of(rest, options.meta[0], "random")
        return fit.limits(centiles, marginal=True)
    if headline.kind == "population":
        return _fixed_range(_together(rest)).limits(centiles, marginal=False)
    return _fixed_range(rest).limits(centiles, marginal=False)


def meta_cells(
    cells: Sequence[Cell],
    groups: Sequence[MetaGroup],
    trials: Sequence[str],
    options: ReferenceOptions,
) -> Iterator[FittedCell]:
    """Each cell's people with the headline's limits, all of them and without each trial."""
    centiles = np.array(options.centiles)
    for cell, group in zip(cells, groups, strict=True):
        if group.n < options.smallest_n or not group.k:
            yield FittedCell(cell=cell, rule=None, without={})
            continue
        headline = _headline(group, options)
        without = {
            trials.index(name): _points(found, options)
            for t, name in enumerate(group.names)
            if (found := _without(group.moments, t, headline, centiles, options)) is not None
        }
        limits = _points(headline.limit, options)
        rule: LimitsRule = "log" if on_logs(options) else "parametric"
        yield FittedCell(cell=cell, rule=rule, limits=limits, without=without)


def _headline(group: MetaGroup, options: ReferenceOptions) -> _Part:
    """The first rule's limits of the first kind, without an interval."""
    plan = plan_for(options.trial_effect, group.k)
    moments = group.moments if options.trial_effect != "none" else _together(group.moments)
    kind = _KINDS[plan][0]
    fit = _range_of(moments, options.meta[0], plan)
    limit = fit.limits(np.array(options.centiles), marginal=kind == "marginal")
    return _Part(rule=options.meta[0], kind=kind, limit=limit, low=limit, high=limit, law=None)


def _points(values: np.ndarray, options: ReferenceOptions) -> tuple[Limit, ...]:
    return tuple(
        Limit(centile=centile, limit=_shown(value, options), ci_low=None, ci_high=None)
        for centile, value in zip(options.centiles, values, strict=True)
    )


def _model(about: _About, part: _Part) -> dict[str, Any]:
    """The entry of ``reference_ranges.json``."""
    group, options = about.group, about.options
    assert part.law is not None
    return {
        "measure": about.measure,
        "unit": about.unit,
        "method": META,
        "kind": part.kind,
        "sex": group.key.sex,
        "ethnicity": group.key.ethnicity,
        "age_low": group.key.age_low,
        "age_high": group.key.age_high,
        "n": about.n,
        "n_trials": group.k,
        "limits": part.rule,
        "centiles": [
            {"centile": c, "limit": x, "ci_low": low, "ci_high": high}
            for c, (x, low, high) in zip(
                options.centiles,
                (
                    [_shown(value, options) for value in three]
                    for three in zip(part.limit, part.low, part.high, strict=True)
                ),
                strict=True,
            )
        ],
        "score": {
            "family": "log-normal" if on_logs(options) else "normal",
            "mean": part.law[0],
            "sd": part.law[1],
        },
        "provisional": group.key.ethnicity != "all",
    }


REQUIRED = ("trial", "measure", "n", "mean", "sd")
COLUMNS = (*REQUIRED, "sex", "ethnicity", "age_low", "age_high")
_SEX_WORDS = {"": ALL, "all": ALL, "m": "male", "male": "male", "f": "female", "female": "female"}
_FAR = 4.0  # times the other trials' mean: another unit
_SMALL_SD = 0.25  # of the others' SD: perhaps a standard error
_FACTORS: tuple[Factor, ...] = ("sex", "ethnicity", "age")


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryRow:
    """One trial's people of one group; ages None where it has no bounds."""

    trial: str
    measure: str
    sex: str
    ethnicity: str
    age_low: float | None
    age_high: float | None
    n: int
    mean: float
    sd: float


def is_summaries(columns: Iterable[str]) -> bool:
    """True for a table of summaries: it has ``measure, n, mean, sd``."""
    return {"measure", "n", "mean", "sd"} <= set(columns)


def summary_rows(table: pd.DataFrame, where: str) -> tuple[SummaryRow, ...]:
    """The rows of a table read as text; TableError lists every problem.

    Blank (or ``all``) sex, ethnicity and ages: not parted by it.
    """
    missing = [name for name in REQUIRED if name not in table]
    if missing:
        raise TableError(
            f"{where} has no column {', '.join(missing)}.",
            hint=f"A table of summaries has {', '.join(COLUMNS)}.",
        )
    rows, problems = [], []
    cells = {
        name: table[name].astype(str).where(table[name].notna(), "").str.strip().tolist()
        for name in COLUMNS
        if name in table
    }
    for place, number in enumerate(table.index.tolist()):
        texts = {name: column[place] for name, column in cells.items()}
        found = _row(texts, f"{where}, row {number}")
        if isinstance(found, SummaryRow):
            rows.append(found)
        else:
            problems += found
    problems += _twice(rows, where)
    problems += _other_units(rows, where)
    if problems:
        raise TableError(
            f"{where} cannot be used: {len(problems)} problem{'s' * (len(problems) > 1)}.",
            problems=problems,
        )
    if not rows:
        raise TableError(f"{where} has a header, but no rows.")
    return tuple(rows)


def _row(texts: dict[str, str], where: str) -> SummaryRow | list[Problem]:
    problems: list[Problem] = []

    def number(name: str, *, needed: bool = True) -> float | None:
        text = texts.get(name, "")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if text and abs(value) <= LARGEST:
            return value
        if text or needed:
            what = f"{name} is {text!r}, no number" if text else f"{name} is empty"
            problems.append(Problem(where=where, what=what))
        return None

    n, mean, sd = number("n"), number("mean"), number("sd")
    low, high = number("age_low", needed=False), number("age_high", needed=False)
    if n is not None and (n < 2 or n != int(n)):
        problems.append(Problem(where=where, what=f"n is {n:g}", fix="Give people, 2 or more."))
    if sd is not None and sd <= 0:
        problems.append(
            Problem(where=where, what=f"sd is {sd:g}", fix="Give the standard deviation of people.")
        )
    if low is not None and high is not None and low >= high:
        problems.append(Problem(where=where, what=f"age_low {low:g} is not below {high:g}"))
    if low is None and high is not None:
        problems.append(Problem(where=where, what="there is an age_high, but no age_low"))
    sex = _SEX_WORDS.get(texts.get("sex", "").casefold(), "")
    if not sex:
        problems.append(
            Problem(where=where, what=f"sex is {texts['sex']!r}", fix="Use male, female or all.")
        )
    ethnicity = texts.get("ethnicity", "").casefold() or ALL
    if ethnicity not in (ALL, *ETHNICITIES):
        known = ", ".join((*ETHNICITIES, ALL))
        problems.append(
            Problem(where=where, what=f"ethnicity is {ethnicity!r}", fix=f"Use {known}.")
        )
    problems += [
        Problem(where=where, what=f"there is no {name}")
        for name in ("trial", "measure")
        if not texts[name]
    ]
    if problems or n is None or mean is None or sd is None:
        return problems
    return SummaryRow(
        trial=texts["trial"],
        measure=texts["measure"],
        sex=sex,
        ethnicity=ethnicity,
        age_low=low,
        age_high=high,
        n=int(n),
        mean=mean,
        sd=sd,
    )


def _twice(rows: Sequence[SummaryRow], where: str) -> list[Problem]:
    counts: dict[tuple[object, ...], int] = {}
    for row in rows:
        key = (row.trial, row.measure, row.sex, row.ethnicity, row.age_low, row.age_high)
        counts[key] = counts.get(key, 0) + 1
    return [
        Problem(
            where=f"{where}, {key[0]}",
            what=f"{count} rows of {key[1]} for one group",
            why="It is unknown which counts.",
        )
        for key, count in counts.items()
        if count > 1
    ]


def _other_units(rows: Sequence[SummaryRow], where: str) -> list[Problem]:
    """A mean far from those of the other trials is in another unit (L for mL)."""
    problems = []
    for measure in dict.fromkeys(r.measure for r in rows):
        mine = [r for r in rows if r.measure == measure]
        middle = float(np.median([r.mean for r in mine]))
        problems += [
            Problem(
                where=f"{where}, {r.trial}",
                what=f"the mean {r.mean:g} of {measure} is far from the median {middle:g}",
                why="It looks like another unit.",
                fix=f"Give {definition(measure).unit or 'one unit'} in every row.",
            )
            for r in mine
            if middle > 0 and not middle / _FAR <= r.mean <= middle * _FAR
        ]
    return problems


def _maybe_errors(rows: Sequence[SummaryRow]) -> list[str]:
    found = []
    for measure in dict.fromkeys(r.measure for r in rows):
        mine = [r for r in rows if r.measure == measure]
        middle = float(np.median([r.sd for r in mine]))
        names = dict.fromkeys(r.trial for r in mine if r.sd < _SMALL_SD * middle)
        if names:
            found.append(
                f"{measure}: the SD of {', '.join(names)} is less than a quarter of the others': "
                "is it a standard error?"
            )
    return found


# ------------------------------------------------------------------ groups


def _joined(rows: Sequence[SummaryRow], **common: object) -> SummaryRow:
    """The people of several rows of one trial as one."""
    n = np.array([r.n for r in rows], dtype=float)
    mean = np.array([r.mean for r in rows])
    total = n.sum()
    centre = float(n @ mean / total)
    squares = float((n - 1) @ np.array([r.sd for r in rows]) ** 2 + n @ (mean - centre) ** 2)
    return replace(
        rows[0],
        n=int(total),
        mean=centre,
        sd=math.sqrt(squares / (total - 1)),
        **common,  # type: ignore[arg-type]
    )


def _without_factor(rows: Sequence[SummaryRow], factor: Factor) -> list[SummaryRow]:
    """Each trial's rows over all levels of a factor: its own such row, else its parts as one."""
    blank: dict[Factor, dict[str, object]] = {
        "sex": {"sex": ALL},
        "ethnicity": {"ethnicity": ALL},
        "age": {"age_low": None, "age_high": None},
    }
    groups: dict[SummaryRow, list[SummaryRow]] = {}
    for row in rows:
        key = replace(row, n=0, mean=0.0, sd=0.0, **blank[factor])  # type: ignore[arg-type]
        groups.setdefault(key, []).append(row)
    found = []
    for mine in groups.values():
        whole = [r for r in mine if replace(r, **blank[factor]) == r]  # type: ignore[arg-type]
        found.append(whole[0] if whole else _joined(mine, **blank[factor]))
    return found


def _factors(rows: Sequence[SummaryRow], options: ReferenceOptions) -> tuple[Factor, ...]:
    there = {
        "sex": any(r.sex != ALL for r in rows),
        "ethnicity": any(r.ethnicity != ALL for r in rows),
        "age": any(r.age_low is not None for r in rows),
    }
    if options.by is None:
        return tuple(f for f in _FACTORS if there[f])
    absent = [f for f in options.by if not there[f]]
    if absent:
        raise TableError(f"--by {','.join(options.by)}: the summaries have no {absent[0]}.")
    return tuple(f for f in _FACTORS if f in options.by)


def summary_groups(rows: Sequence[SummaryRow], by: Sequence[Factor]) -> tuple[MetaGroup, ...]:
    """The groups of one measure in the order of the tables, ethnicity ``all`` always among them.

    Rows that are of everybody where others are parted (sex ``all``) make no group of their own.
    """
    for factor in _FACTORS:
        if factor not in by:
            rows = _without_factor(rows, factor)
    if "ethnicity" in by:
        rows = [*_without_factor(rows, "ethnicity"), *(r for r in rows if r.ethnicity != ALL)]
    if "sex" in by:
        rows = [r for r in rows if r.sex != ALL]
    if "age" in by:
        rows = [r for r in rows if r.age_low is not None]
    groups: dict[StratumKey, list[SummaryRow]] = {}
    for row in rows:
        key = StratumKey(
            sex=row.sex, ethnicity=row.ethnicity, age_low=row.age_low, age_high=row.age_high
        )
        groups.setdefault(key, []).append(row)
    return tuple(_group(key, groups[key]) for key in sorted(groups, key=_order))


def _order(key: StratumKey) -> tuple[float, ...]:
    sexes, ethnicities = (ALL, *SEXES), (ALL, *ETHNICITIES)
    return (
        sexes.index(key.sex),
        ethnicities.index(key.ethnicity),
        -1.0 if key.age_low is None else key.age_low,
        math.inf if key.age_high is None else key.age_high,
    )


def _group(key: StratumKey, rows: Sequence[SummaryRow]) -> MetaGroup:
    used = sorted((r for r in rows if r.n >= LEAST_PEOPLE), key=lambda r: r.trial)
    return MetaGroup(
        key=key,
        names=tuple(r.trial for r in used),
        moments=TrialMoments(
            n=np.array([r.n for r in used], dtype=float),
            mean=np.array([r.mean for r in used]),
            sd=np.array([r.sd for r in used]),
        ),
        left_out=sum(r.n for r in rows if r.n < LEAST_PEOPLE),
    )


# ------------------------------------------------------------------ the result


def summary_ranges(
    rows: Sequence[SummaryRow], options: ReferenceOptions, *, name: str, sha256: str
) -> ReferenceRanges:
    """The ranges of a table of summaries.

    Raises TableError where nobody says who the people are, EstimationError for a random trial
    effect of fewer than 5 trials.
    """
    if options.healthy_only and not options.healthy_rule:
        raise TableError(
            "Summaries do not say whether their people are healthy.",
            hint="Say who they are with --healthy-rule, or --all for everybody's distribution.",
        )
    trials = tuple(sorted({r.trial for r in rows}))
    why = too_few_trials(options, len(trials))
    if why is not None:
        raise EstimationError(f"{why}.", hint="Use --trial-effect fixed (or auto).")
    measures = tuple(dict.fromkeys(r.measure for r in rows))
    if options.measures is not None:
        absent = [m for m in options.measures if m not in measures]
        if absent:
            raise TableError(f"The summaries have no measure {', '.join(absent)}.")
        measures = options.measures
    by = _factors(rows, options)
    if on_logs(options):
        _need_positive([r for r in rows if r.measure in measures])
    found, people = {}, 0
    for measure in measures:
        groups = summary_groups([r for r in rows if r.measure == measure], by)
        if on_logs(options):
            groups = tuple(replace(g, moments=log_moments(g.moments)) for g in groups)
        found[measure] = measure_meta(measure, definition(measure).unit, groups, options)
        of_all = [g for g in groups if g.key.ethnicity == ALL]
        people = max(people, sum(g.n + g.left_out for g in of_all))
    facts = _Facts(
        name=name,
        sha256=sha256,
        by=by,
        measures=measures,
        trials=trials,
        people=people,
        warnings=tuple(_maybe_errors(rows)),
    )
    return _result(tuple(found.values()), options, facts)


def _need_positive(rows: Sequence[SummaryRow]) -> None:
    """Refuse means of which no log-normal law has one; raises TableError."""
    wrong = [r for r in rows if r.mean <= 0]
    if wrong:
        raise TableError(
            "--limits log needs positive means.",
            hint="Leave it out, or name the measures that are positive with --measure.",
            problems=[
                Problem(where=f"{r.measure}, trial {r.trial}", what=f"mean {r.mean:g}")
                for r in wrong
            ],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What the result says of the table."""

    name: str
    sha256: str
    by: tuple[Factor, ...]
    measures: tuple[str, ...]
    trials: tuple[str, ...]
    people: int
    warnings: tuple[str, ...]


def _result(
    found: Sequence[MeasureMeta], options: ReferenceOptions, facts: _Facts
) -> ReferenceRanges:
    title = "Reference ranges" if options.healthy_only else NOT_A_REFERENCE.capitalize()
    return ReferenceRanges(
        title=title,
        name=facts.name,
        options=options,
        by=facts.by,
        measures=facts.measures,
        trials=facts.trials,
        people=facts.people,
        review_people=0,
        visits=(),
        conventions={},
        scanners={},
        rows=tuple(row for m in found for row in m.limits),
        by_trial=tuple(row for m in found for row in m.by_trial),
        partition=(),
        contrasts=(),
        calibration=(),
        outliers=(),
        accounts=(),
        exclusions=(),
        model=model_document(
            [entry for m in found for entry in m.models],
            [],
            options,
            methods=(META,),
            title=title,
            name=facts.name,
            facts={
                "conventions": {},
                "trials": list(facts.trials),
                "healthy_rule": options.healthy_rule,
                "by": list(facts.by),
                "input_sha256": facts.sha256,
            },
        ),
        methods=(META,),
        meta=tuple(row for m in found for row in m.estimates),
        warnings=(
            *facts.warnings,
            "Made of the trials' summaries: conventions, outliers and skewness were not checked.",
        ),
    )


def refuse_other_method(options: ReferenceOptions, name: str) -> None:
    """A table of summaries has one method; raises UsageError."""
    if options.method != META:
        raise UsageError(
            f"{name} is a table of summaries (measure, n, mean, sd).",
            hint="Say --method meta; the other methods need a row a person.",
        )
