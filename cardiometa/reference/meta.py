"""``--method meta``: the reference range of a meta-analysis, by sex, ethnicity and age band.

The second stage needs the number, mean and SD of each trial alone, so people's rows and a table of
summaries give the same limits. With ``--limits log`` it is made of the logarithms, for skewed
people; what is known of a table of summaries is then the log-normal law of each mean and SD.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special

from ..records import ReferenceLimit
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
from .curves.data import RANDOM_FROM, TrialPlan, plan_for
from .disclosure import hidden_counts
from .model import Kind
from .options import (
    NONPARAMETRIC_MIN_N,
    NOT_A_REFERENCE,
    LimitsRule,
    MetaRule,
    Method,
    ReferenceOptions,
)
from .results import Calibration, MetaEstimate, TrialLimit
from .strata.groups import Cell, StratumKey
from .strata.limits import Limit, is_asymmetric
from .strata.stratum_fit import FittedCell

META: Method = "meta"
MIXTURE = "mixture"
LEAST_PEOPLE = 10  # of a trial: with fewer its variance, which weighs it, says nothing
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
        notes.append(
            "a trial without spread left out"
            if group.constant
            else f"trials of fewer than {LEAST_PEOPLE} left out"
        )
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
                note="; ".join(notes),
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
            note="; ".join([*notes, *below]),
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
        note="; ".join(_notes(group, options)),
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
            note = [] if own else [f"n<{options.smallest_n}"]
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
                note="; ".join(note),
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
