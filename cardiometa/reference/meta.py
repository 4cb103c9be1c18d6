"""``--method meta``: the reference range of a meta-analysis, by sex, ethnicity and age band.

The second stage needs the number, mean and SD of each trial alone, so participants' rows and a
table of summaries give the same limits. With ``--limits log`` it is made of the logarithms, for
skewed values; of a table of summaries, the log-normal distribution of each mean and SD is taken.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from ..cohort.plausibility import plausible_values, possible_values
from ..errors import Problem, TableError, UsageError
from ..measurement.measures import definition
from ..privacy.suppression import Count
from ..records import ETHNICITIES, SEXES, SeriousWarning
from ..statistics.meta import q_profile
from ..statistics.meta_range import (
    MetaRange,
    TrialMoments,
    Weights,
    empirical_range,
    fixed_draws,
    frequentist_range,
    mixture_interval,
    mixture_limits,
    pivotal_draws,
    pooled_sigma2,
)
from .curves.fit import RANDOM_FROM, TrialPlan, check_trials, plan_for
from .model import stratum_entry
from .options import (
    NONPARAMETRIC_MIN_N,
    Factor,
    Kind,
    LimitsRule,
    MetaRule,
    Method,
    ReferenceOptions,
)
from .results import (
    CONSTANT_TRIAL,
    LEAST_PARTICIPANTS,
    TINY_TRIALS,
    MetaEstimate,
    ReferenceLimit,
    ReferenceRanges,
    Status,
    TrialLimit,
)
from .select import ALL, MeasureData, TextRow, text_rows
from .strata.checks import TrialLimits, calibrate, trial_rows
from .strata.groups import Cell, FittedCell, StratumKey, counts_of
from .strata.limits import Limit, is_asymmetric, possible_limit

META: Method = "meta"
MIXTURE = "mixture"
REQUIRED = ("trial", "measure", "n", "mean", "sd")
COLUMNS = (*REQUIRED, "sex", "ethnicity", "age_low", "age_high")
_KINDS: dict[TrialPlan, tuple[Kind, ...]] = {
    "none": ("population",),
    "fixed": ("conditional",),
    "random": ("marginal", "conditional"),
}
_FAR, _TENFOLD = 4.0, 10.0  # SDs from the other trials, or times their mean and SD: another unit
# Of one sample t takes the uncertainty of mean and SD in; the interval of a limit shows it here.
_NO_T = "z of a small sample: t is of one sample (--method strata --limits prediction)"
_SMALL_SD = 0.25  # of the others' SD: perhaps a standard error
_KEY = ["sex", "ethnicity", "age_low", "age_high"]
_NUMBERS = ("n", "mean", "sd", "age_low", "age_high")
# The columns of a group over all levels of a factor.
_WITHOUT: dict[Factor, dict[str, Any]] = {
    "sex": {"sex": ALL},
    "ethnicity": {"ethnicity": ALL},
    "age": {"age_low": math.nan, "age_high": math.nan},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaGroup:
    """The trials of one group: ``names`` and moments; ``left_out`` participants of tiny trials.

    ``asymmetric``: the deviations from the trial's mean are skewed (None: unknown); ``cell``: the
    number of participants of the stratum, where they are known one by one.
    """

    key: StratumKey
    names: tuple[str, ...] = ()
    moments: TrialMoments
    left_out: int = 0
    constant: bool = False
    asymmetric: bool | None = None
    cell: Count = Count(0)  # noqa: RUF009

    @property
    def n(self) -> Count:
        """Participants of the trials used."""
        n, cell = int(self.moments.n.sum()), self.cell
        return Count(n, cell.siblings, cell.total, cell.place, left_out=self.left_out)

    @property
    def k(self) -> int:
        """Trials used."""
        return len(self.names)


def log_moments(trials: TrialMoments) -> TrialMoments:
    """Mean and SD of the logarithms of log-normal values from their mean (> 0) and SD.

    s_L² = ln(1 + s²/m²), m_L = ln m - s_L²/2 (Higgins JPT, White IR, Anzures-Cabrera J. Stat Med
    2008;27:6072-92, method 1).
    """
    variance = np.log1p((trials.sd / trials.mean) ** 2)
    return TrialMoments(n=trials.n, mean=np.log(trials.mean) - variance / 2, sd=np.sqrt(variance))


def group_of_cell(cell: Cell, trials: Sequence[str], *, logs: bool, n: Count) -> MetaGroup:
    """The moments of each trial of a cell, of the values' logarithms where asked for."""
    values = np.log(cell.ordered) if logs else cell.ordered
    sizes = np.bincount(cell.trial, minlength=len(trials)).astype(float)
    means = np.bincount(cell.trial, values, minlength=len(trials)) / np.maximum(sizes, 1)
    deviations = values - means[cell.trial]
    squares = np.bincount(cell.trial, deviations**2, minlength=len(trials))
    sds = np.sqrt(squares / np.maximum(sizes - 1, 1))
    many = sizes >= LEAST_PARTICIPANTS
    varied = sds > 1e-12 * np.maximum(np.abs(means), 1e-300)
    used = np.flatnonzero(many & varied)
    return MetaGroup(
        key=cell.key,
        names=tuple(trials[t] for t in used.tolist()),
        moments=TrialMoments(n=sizes[used], mean=means[used], sd=sds[used]),
        left_out=int(sizes[~(many & varied)].sum()),
        constant=bool((many & ~varied).any()),
        asymmetric=is_asymmetric(np.sort(deviations)),
        cell=n,
    )


def participants_meta(data: MeasureData, cells: Sequence[Cell]) -> dict[str, list[Any]]:
    """The tables of the cells of participants."""
    options, trials = data.options, data.participants.trials
    groups = [
        group_of_cell(cell, trials, logs=options.limits == "log", n=n)
        for cell, n in zip(cells, counts_of(cells), strict=True)
    ]
    ranges = [_GroupRanges(data.measure, data.unit, group, options) for group in groups]
    fitted = [r.fitted(cell, trials) for r, cell in zip(ranges, cells, strict=True) if r.enough]
    return {**_tables(ranges), "calibration": list(calibrate(data, fitted, META))}


# ------------------------------------------------------------------ one group


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Limits of one rule and kind, in the measure's unit; mean and SD but for a mixture."""

    rule: str
    kind: Kind
    limits: tuple[Limit, ...]
    mean: float = math.nan
    sd: float = math.nan


def _together(trials: TrialMoments) -> TrialMoments:
    """All participants of these trials as one."""
    n = float(trials.n.sum())
    mean = float(trials.n @ trials.mean / n)
    squares = (trials.n - 1) @ trials.sd**2 + trials.n @ (trials.mean - mean) ** 2
    return TrialMoments(
        n=np.array([n]), mean=np.array([mean]), sd=np.array([np.sqrt(squares / (n - 1))])
    )


def _range_of(trials: TrialMoments, rule: MetaRule, plan: TrialPlan) -> MetaRange:
    if plan == "random":
        return frequentist_range(trials) if rule == "frequentist" else empirical_range(trials)
    # An average of these very trials: mean by participants, SD within.
    mean = float(trials.n @ trials.mean / trials.n.sum())
    return MetaRange(mean=mean, sigma=float(np.sqrt(pooled_sigma2(trials))), tau=0.0)


class _GroupRanges:
    """The ranges of one group of one measure."""

    def __init__(
        self, measure: str, unit: str, group: MetaGroup, options: ReferenceOptions
    ) -> None:
        self.group, self.options = group, options
        self.columns = {"measure": measure, "unit": unit, **group.key.columns()}
        self.enough = group.n >= options.smallest_n and group.k > 0
        self.plan = plan_for(options.trial_effect, group.k)
        self.centiles = np.array(options.centiles)
        self.logs = options.limits == "log"
        self.seed = zlib.crc32(f"{options.seed}/{META}/{measure}/{group.key.text()}".encode())
        merged = options.trial_effect == "none" and group.k > 0
        self.possible = possible_values(measure)
        self.moments = _together(group.moments) if merged else group.moments

    def limits(self, *ends: np.ndarray) -> tuple[Limit, ...]:
        """Limits (and both ends of their intervals) ``[centiles]`` in the measure's unit."""
        shown = [(np.exp(e) if self.logs else e).tolist() for e in ends]
        positive = bool((self.group.moments.mean > 0).all()) or self.logs
        return tuple(
            possible_limit(Limit(c, *each), self.possible, positive=positive)
            for c, *each in zip(self.options.centiles, *shown, strict=True)
        )

    def parts(self) -> Iterator[_Part]:
        """The limits of every rule and kind, the headline's first; empty without enough.

        The mixture of the trials is last.
        """
        options, level, moments = self.options, self.options.ci_level / 100, self.moments
        if not self.enough:
            empty = tuple(Limit(centile, None) for centile in options.centiles)
            yield from (_Part(rule=r, kind="population", limits=empty) for r in options.meta)
            return
        for rule in options.meta:
            fit = _range_of(moments, rule, self.plan)
            if self.plan == "random":
                by: Weights = "precision" if rule == "frequentist" else "people"
                draws = pivotal_draws(moments, options.bootstrap, self.seed, by)
            else:
                draws = fixed_draws(moments, options.bootstrap, self.seed)
            for kind in _KINDS[self.plan]:
                marginal = kind == "marginal"
                ends = draws.interval(self.centiles, level, marginal=marginal)
                limits = self.limits(fit.limits(self.centiles, marginal=marginal), *ends)
                sd = fit.sd if marginal else fit.sigma
                yield _Part(rule=rule, kind=kind, limits=limits, mean=fit.mean, sd=sd)
        if self.plan == "fixed":
            ends = mixture_interval(
                moments, self.centiles, level, draws=options.bootstrap, seed=self.seed
            )
            limits = self.limits(mixture_limits(moments, self.centiles), *ends)
            yield _Part(rule=MIXTURE, kind="population", limits=limits)

    def headline(self, without: int | None = None) -> tuple[Limit, ...]:
        """The limits of the first rule and kind, of all trials or without one.

        None at all where too few are left.
        """
        kind, moments = _KINDS[self.plan][0], self.moments
        if without is not None:
            moments = self.group.moments
            moments = moments.at(np.arange(moments.k) != without)
            if not moments.k or moments.n.sum() < self.options.smallest_n:
                return ()
            moments = _together(moments) if kind == "population" else moments
        fit = _range_of(moments, self.options.meta[0], self.plan)
        return self.limits(fit.limits(self.centiles, marginal=kind == "marginal"))

    def fitted(self, cell: Cell, trials: Sequence[str]) -> FittedCell:
        """The cell with the headline's limits, of all trials and without each."""
        without = {
            trials.index(name): found
            for t, name in enumerate(self.group.names)
            if (found := self.headline(t))
        }
        return FittedCell(cell=cell, rule=self.rule, limits=self.headline(), without=without)

    @property
    def rule(self) -> LimitsRule:
        """What is taken of the distribution within a trial."""
        return "log" if self.logs else "parametric"

    def notes(self) -> tuple[str, ...]:
        """What is to know of the group."""
        group = self.group
        notes = {
            f"k<{RANDOM_FROM}: no limit of a new trial": 1 < group.k < RANDOM_FROM,
            CONSTANT_TRIAL if group.constant else TINY_TRIALS: group.left_out,
            "asymmetric": group.asymmetric,
            "log": self.logs,
        }
        return tuple(note for note, applies in notes.items() if applies)

    def rows(self, parts: Sequence[_Part]) -> Iterator[ReferenceLimit]:
        """The limits of every rule and kind; empty rows of a group with too few participants."""
        group, options = self.group, self.options
        columns = {**self.columns, "method": META, "age": None, "n": group.n}
        columns |= {"n_trials": group.k, "ci_level": options.ci_level}
        notes, few = self.notes(), None
        small, single = group.n < NONPARAMETRIC_MIN_N, group.k == 1
        status: Status = "small-n" if small else "single-trial" if single else "ok"
        notes += ("single-trial",) * (small and single) + (_NO_T,) * small
        if not self.enough:
            few, status, notes = options.smallest_n, "suppressed", (f"n<{options.smallest_n}",)
        for part in parts:
            for found in part.limits:
                yield ReferenceLimit(
                    **columns,
                    limits=part.rule,
                    kind=part.kind,
                    **found.columns,
                    status="suppressed" if found.limit is None else status,
                    notes=(*notes, *found.notes),
                    below_n=few,
                )

    def estimate(self, rule: MetaRule) -> MetaEstimate:
        """Mean, SD and tau with its Q-profile interval."""
        moments, random = self.moments, self.plan == "random"
        fit = _range_of(moments, rule, self.plan)
        tau: tuple[float | None, float | None] = (None, None)
        if random:
            interval = q_profile(moments.mean, moments.sd**2 / moments.n, self.options.ci_level)
            if interval.tau2 is not None:
                tau = (float(np.sqrt(interval.tau2[0])), float(np.sqrt(interval.tau2[1])))
            elif interval.empty:
                tau = (0.0, 0.0)
        return MetaEstimate(
            **self.columns,
            meta=rule,
            trial_effect=self.plan,
            n=self.group.n,
            n_trials=self.group.k,
            mean=fit.mean,
            sigma=fit.sigma,
            tau=fit.tau if random else None,
            tau_low=tau[0],
            tau_high=tau[1],
            tau_share=fit.tau_share if random else None,
            ci_level=self.options.ci_level,
            notes=self.notes(),
        )

    def by_trial(self) -> Iterator[TrialLimit]:
        """Each trial's mean + z·SD, and the headline's limits without the trial."""
        moments, z = self.group.moments, special.ndtri(self.centiles / 100)
        z_ci = float(special.ndtri((1 + self.options.ci_level / 100) / 2))
        trials = []
        for t, name in enumerate(self.group.names):
            n, mean, sd = (float(part[t]) for part in (moments.n, moments.mean, moments.sd))
            limit, half = mean + z * sd, z_ci * sd * np.sqrt(1 / n + z**2 / (2 * n))
            own = self.limits(limit, limit - half, limit + half)
            own = own if n >= self.options.smallest_n else ()
            trials.append(TrialLimits(name, int(n), self.rule, own, self.headline(t)))
        total = self.group.n + self.group.left_out
        return trial_rows(trials, self.columns, self.options, total)

    def models(self, parts: Sequence[_Part]) -> Iterator[dict[str, Any]]:
        """The entries of ``reference_ranges.json``."""
        family = "log-normal" if self.logs else "normal"
        for part in parts:
            given = all(found.limit is not None for found in part.limits)
            if part.rule == self.options.meta[0] and given:
                score = {"family": family, "mean": part.mean, "sd": part.sd}
                entry = stratum_entry(
                    self.columns, self.group.n, self.group.k, part.rule, part.limits, score
                )
                yield {**entry, "method": META, "kind": part.kind}


def _tables(groups: Sequence[_GroupRanges]) -> dict[str, list[Any]]:
    """The limits of every group and what they are made of, by field of the result."""
    enough = [group for group in groups if group.enough]
    parts = {group: tuple(group.parts()) for group in groups}
    return {
        "rows": [row for group in groups for row in group.rows(parts[group])],
        "by_trial": [row for group in enough for row in group.by_trial()],
        "meta": [group.estimate(rule) for group in enough for rule in group.options.meta],
        "strata_models": [model for group in enough for model in group.models(parts[group])],
    }


# ------------------------------------------------------------------ summaries


def is_summaries(columns: Iterable[str]) -> bool:
    """True for a table of summaries: it has ``measure, n, mean, sd``."""
    return {"measure", "n", "mean", "sd"} <= set(columns)


def summary_rows(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """A table read as text: a row per measure, trial and group; TableError lists every problem.

    Sex and ethnicity ``all`` and ages NaN (blank in the table): not split by it.
    """
    missing = [name for name in REQUIRED if name not in table]
    if missing:
        raise TableError(
            f"{where} has no column {', '.join(missing)}.",
            hint=f"A table of summaries has {', '.join(COLUMNS)}.",
        )
    read, problems = [], []
    for row in text_rows(table, where):
        found = _summary_row(row)
        read += [] if row.problems else [found]
        problems += row.problems
    rows = pd.DataFrame(read, columns=list(COLUMNS)).astype(dict.fromkeys(_NUMBERS, float))
    sizes: Any = rows.groupby(["trial", "measure", *_KEY], dropna=False, sort=False).size()
    problems += [
        Problem(
            where=f"{where}, {trial}",
            what=f"{count} rows of {measure} for one group",
            why="It is unknown which counts.",
        )
        for (trial, measure, *_), count in sizes[sizes > 1].items()
    ]
    banded = rows.dropna(subset="age_low").drop_duplicates(["trial", "measure", *_KEY])
    for (trial, measure, *_), mine in banded.groupby(["trial", "measure", "sex", "ethnicity"]):
        bands = mine.sort_values("age_low")
        before = bands["age_high"].fillna(math.inf).cummax().shift()
        if (bands["age_low"] < before).any():
            what = f"the age bands of {measure} overlap"
            why = "Participants of two bands would count twice."
            problems.append(Problem(where=f"{where}, {trial}", what=what, why=why))
    for measure, mine in rows.groupby("measure", sort=False):
        problems += _other_units(str(measure), mine, where)
    if problems:
        raise TableError(
            f"{where} cannot be used: {len(problems)} problem{'s' * (len(problems) > 1)}.",
            problems=problems,
        )
    if not read:
        raise TableError(f"{where} has a header, but no rows.")
    return rows


def _summary_row(row: TextRow) -> dict[str, Any]:
    """The cells of a row; its problems are added to it."""
    n, mean, sd = (row.number(name) for name in ("n", "mean", "sd"))
    low, high = row.ages()
    if n is not None and (n < 2 or n != int(n)):
        row.refuse(f"n is {n:g}", "Give the number of participants, 2 or more.")
    if sd is not None and sd <= 0:
        row.refuse(f"sd is {sd:g}", "Give the standard deviation of the participants.")
    if low is None and high is not None:
        row.refuse("there is an age_high, but no age_low")
    measure = row.texts["measure"]
    least, most = plausible_values(measure)
    if mean is not None and not least <= mean <= most:
        unit = definition(measure).unit
        what = f"the mean {mean:g} of {measure} is not between {least:g} and {most:g} {unit}"
        row.refuse(f"{what}: another unit?")
    sex, ethnicity = row.sex(), row.ethnicity()
    for name in ("trial", "measure"):
        if not row.texts[name]:
            row.refuse(f"there is no {name}")
    cells = (row.texts["trial"], row.texts["measure"], n, mean, sd, sex, ethnicity, low, high)
    return dict(zip(COLUMNS, cells, strict=True))


def _other_units(measure: str, rows: pd.DataFrame, where: str) -> Iterator[Problem]:
    """Trials whose mean is in another unit (L for mL).

    It lies many SDs from the others, or mean and SD are both ten times as large (or small): a
    ratio of means alone says nothing of a measure around 0, such as a change.
    """
    mean, sd = rows["mean"].median(), rows["sd"].median()
    for trial, own_mean, own_sd in zip(rows["trial"], rows["mean"], rows["sd"], strict=True):
        ratios = [own_sd / sd, own_mean / mean] if mean else []
        scaled = all(x >= _TENFOLD for x in ratios) or all(0 < x <= 1 / _TENFOLD for x in ratios)
        if abs(own_mean - mean) > _FAR * max(sd, own_sd) or (ratios and scaled):
            yield Problem(
                where=f"{where}, {trial}",
                what=f"the mean {own_mean:g} of {measure} is far from the median {mean:g}",
                why="It looks like another unit.",
                fix=f"Give {definition(measure).unit or 'one unit'} in every row.",
            )


def _moments(rows: pd.DataFrame) -> TrialMoments:
    """The rows as arrays."""
    return TrialMoments(**{name: rows[name].to_numpy() for name in ("n", "mean", "sd")})


def _without_factor(rows: pd.DataFrame, factor: Factor) -> pd.DataFrame:
    """Each trial's rows over all levels of a factor: its own such row, else its parts as one."""
    complete = rows["age_low"].isna() if factor == "age" else rows[factor] == ALL
    joined, found = rows.assign(**_WITHOUT[factor]), []
    for _, mine in joined.groupby(["trial", *_KEY], dropna=False, sort=False):
        own = mine[complete[mine.index]]
        if own.empty:
            one = _together(_moments(mine))
            own = mine.assign(n=one.n[0], mean=one.mean[0], sd=one.sd[0])
        found.append(own.head(1))
    return pd.concat(found, ignore_index=True)


def summary_groups(rows: pd.DataFrame, by: Sequence[Factor]) -> tuple[MetaGroup, ...]:
    """The groups of one measure in the order of the tables, ethnicity ``all`` always among them.

    Rows of all participants where others are split (sex ``all``) make no group of their own.
    """
    for factor in _WITHOUT:
        if factor not in by:
            rows = _without_factor(rows, factor)
    if "ethnicity" in by:
        rows = pd.concat([_without_factor(rows, "ethnicity"), rows[rows["ethnicity"] != ALL]])
    rows = rows[rows["sex"] != ALL] if "sex" in by else rows
    rows = rows[rows["age_low"].notna()] if "age" in by else rows
    found = []
    groups: Any = rows.groupby(_KEY, dropna=False, sort=False)
    for (sex, ethnicity, *ages), mine in groups:
        low, high = (None if math.isnan(age) else float(age) for age in ages)
        used = mine[mine["n"] >= LEAST_PARTICIPANTS].sort_values("trial")
        found.append(
            MetaGroup(
                key=StratumKey(sex=sex, ethnicity=ethnicity, age_low=low, age_high=high),
                names=tuple(used["trial"]),
                moments=_moments(used),
                left_out=int(mine["n"].sum() - used["n"].sum()),
            )
        )

    def order(group: MetaGroup) -> tuple[float, ...]:
        key = group.key
        low = -1.0 if key.age_low is None else key.age_low
        high = math.inf if key.age_high is None else key.age_high
        sex, ethnicity = (ALL, *SEXES).index(key.sex), (ALL, *ETHNICITIES).index(key.ethnicity)
        return sex, ethnicity, low, high

    return tuple(sorted(found, key=order))


def _chosen(
    rows: pd.DataFrame, options: ReferenceOptions
) -> tuple[tuple[str, ...], tuple[Factor, ...]]:
    """The measures and factors to use; raises TableError where the summaries do not have them."""
    met = tuple(dict.fromkeys(rows["measure"]))
    measures = options.measures or met
    absent = [m for m in measures if m not in met]
    if absent:
        raise TableError(f"The summaries have no measure {', '.join(absent)}.")
    known: dict[Factor, bool] = {
        "sex": bool((rows["sex"] != ALL).any()),
        "ethnicity": bool((rows["ethnicity"] != ALL).any()),
        "age": bool(rows["age_low"].notna().any()),
    }
    by = tuple(f for f in known if (known[f] if options.by is None else f in options.by))
    unknown = [f for f in by if not known[f]]
    if unknown:
        raise TableError(f"--by {','.join(options.by or ())}: the summaries have no {unknown[0]}.")
    wrong = rows[(rows["mean"] <= 0) & rows["measure"].isin(measures)]
    if len(wrong) and options.limits == "log":
        cells = zip(wrong["measure"], wrong["trial"], wrong["mean"], strict=True)
        raise TableError(
            "--limits log needs positive means.",
            hint="Leave it out, or name the measures that are positive with --measure.",
            problems=[
                Problem(where=f"{m}, trial {t}", what=f"mean {mean:g}") for m, t, mean in cells
            ],
        )
    return measures, by


def _summary_warnings(rows: pd.DataFrame, by: Sequence[Factor]) -> Iterator[str]:
    """What to know of the summaries: trials left out, SDs that may be SEs, what is unchecked."""
    split = {"sex": rows["sex"] != ALL, "age": rows["age_low"].notna()}
    for factor in (f for f in by if f in split):
        every, used = (
            set(zip(r["trial"], r["measure"], strict=True)) for r in (rows, rows[split[factor]])
        )
        if lost := ", ".join(sorted({trial for trial, _ in every - used})):
            what = f"no rows by {factor}, so not used. --by without {factor} uses them"
            yield SeriousWarning(f"{lost}: {what}.")
    for measured, mine in rows.groupby("measure", sort=False):
        small = dict.fromkeys(mine.loc[mine["sd"] < _SMALL_SD * mine["sd"].median(), "trial"])
        if small:
            yield (
                f"{measured}: the SD of {', '.join(small)} is less than a quarter of the others': "
                "is it a standard error?"
            )
    yield "Made of the trials' summaries: conventions, outliers and skewness were not checked."


def summary_ranges(
    rows: pd.DataFrame, options: ReferenceOptions, *, name: str, sha256: str
) -> ReferenceRanges:
    """The ranges of a table of summaries.

    Raises UsageError for another method, TableError where nothing says who the participants are,
    EstimationError for a random trial effect of fewer than 5 trials.
    """
    if options.method != META:
        raise UsageError(
            f"{name} is a table of summaries (measure, n, mean, sd).",
            hint="Use --method meta; the other methods need a row per participant.",
        )
    if options.healthy_only and not options.healthy_rule:
        raise TableError(
            "Summaries do not say whether their participants are healthy.",
            hint="Say who they are with --healthy-rule, or --all for the distribution of all.",
        )
    trials = tuple(sorted(set(rows["trial"])))
    check_trials(options, len(trials))
    measures, by = _chosen(rows, options)
    tables: dict[str, list[Any]] = {"warnings": list(_summary_warnings(rows, by))}
    participants = 0
    for measure in measures:
        groups = summary_groups(rows[rows["measure"] == measure], by)
        if options.limits == "log":
            groups = tuple(replace(g, moments=log_moments(g.moments)) for g in groups)
        unit = definition(measure).unit
        ranges = [_GroupRanges(measure, unit, group, options) for group in groups]
        for field, more in _tables(ranges).items():
            tables.setdefault(field, []).extend(more)
        of_all = [g for g in groups if g.key.ethnicity == ALL]
        participants = max(participants, sum(g.n + g.left_out for g in of_all))
    return ReferenceRanges.of(
        tables,
        options,
        name=name,
        input_sha256=sha256,
        by=by,
        measures=measures,
        trials=trials,
        participants=participants,
        methods=(META,),
    )
