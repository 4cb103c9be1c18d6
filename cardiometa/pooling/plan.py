"""Planning a pooled analysis: power and expected width, by formula and by simulation.

A trial's variance is that of its own model: ANCOVA s² (1 - r²) (1/n0 + 1/n1); of an interaction the
same over the variance of the modifier within the trial (Riley et al. 2022, Stat Med 41:4822; Ensor
et al. 2018, BMC Med Res Methodol 18:41: each trial adds 1 / (its variance + tau²)). The width of an
analysis comes from the variances that it estimates: the second stage is integrated over 4,000 fixed
draws of the trials' effects, of their modifiers' sums of squares and of their residual variances
(chi² on the df of their models). Power is the mean over them, so that few trials and few
participants cost what they cost in the analysis. Kenward-Roger df are those of the two-stage form
(Partlett & Riley 2017).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr, ndtri, stdtrit

from ..statistics.meta import pool_estimates, pooled_interval, reml_batch
from ..statistics.mixed.sufficient_statistics import summarise_rows
from .first_stage.arm_sums import OUTCOME, ArmSums, effects_of_trial
from .options import PlanOptions, PoolingOptions
from .second_stage.one_stage import fit_arm, intervals_of
from .second_stage.two_stage import estimates_of
from .subgroups.interaction import products_with_numbers

TREATMENT, MODIFIER, BASELINE = "treatment", "value", "baseline"
LEAST_TRIALS_KR = 5  # below it Kenward-Roger never stands alone
_DRAWS = 4000
_QUANTILES = (np.arange(_DRAWS) + 0.5) / _DRAWS
_ARMS = ("control", "active")
CiMethod = Literal["hksj-truncated", "kenward-roger", "wald"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTrial:
    """One trial; ``sd`` and ``correlation`` (with baseline) of the outcome without model error.

    ``modifier_variance`` within the trial, None where it tells nothing of the interaction;
    ``is_share`` for one of yes and no. ``fixed`` are the variances of effect and interaction of a
    finished trial by their names (its sd is then not used), ``error_ratio`` how much smaller they
    would be without the model's error.
    """

    trial: str
    n_control: int
    n_active: int
    sd: float = math.nan
    correlation: float = 0.0
    modifier_variance: float | None = None
    is_share: bool = False
    fixed: tuple[tuple[str, float], ...] = ()
    error_ratio: float = 1.0
    existing: bool = False

    @property
    def n(self) -> int:
        """Participants of both arms."""
        return self.n_control + self.n_active

    def residual_variance(self, effect: str, error_sd: float) -> float:
        """Of the outcome given the baseline, with model errors independent between visits."""
        s2, e2 = self.sd**2, error_sd**2
        if effect == "change":
            return 2.0 * s2 * (1.0 - self.correlation) + 2.0 * e2
        if effect == "follow-up":
            return s2 + e2
        return s2 + e2 - (self.correlation * s2) ** 2 / (s2 + e2)

    def variance(self, term: str, options: PlanOptions, error_sd: float) -> float | None:
        """Of the trial's effect or interaction; None where it gives none.

        Effects that differ by the modifier make the active arm's outcomes more variable, which
        the model of the main effect leaves in the residual.
        """
        fixed = dict(self.fixed)
        if self.existing:
            value = fixed.get(term)
            without = self.error_ratio if error_sd == 0 else 1.0
            return None if value is None else value * without
        arms = (self.n_control, self.n_active)
        residual = self.residual_variance(options.effect, error_sd)
        if term == TREATMENT:
            slope2 = (options.interaction or 0.0) ** 2 + options.tau_interaction**2
            residual += slope2 * (self.modifier_variance or 0.0) * self.n_active / self.n
        if (
            options.effect == "mean-difference"
        ):  # what the slope of a random baseline costs on average
            residual *= (self.n - 3) / (self.n - 4)
        if term == TREATMENT:
            return residual * sum(1 / n for n in arms)
        if not self.modifier_variance:
            return None
        return residual * sum(1 / (n - 1) for n in arms) / self.modifier_variance

    def drawn(
        self, term: str, v: float, effect: str, draw: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws ``[4000]`` of the true variance, which is ``v`` on average, and of the estimated.

        That of a finished trial is known. The modifier's sum of squares in an arm is chi² on n - 1
        df, of yes and no that of a binomial count.
        """
        true, size = np.full(_DRAWS, v), _DRAWS
        if self.existing:
            return true, true
        df = self.n - (3 if effect == "mean-difference" else 2)
        if term != TREATMENT:
            df -= 2
            expected, inverse = 0.0, np.zeros(size)
            for n in (self.n_control, self.n_active):
                if self.is_share:
                    share = 0.5 - math.sqrt(max(0.25 - (self.modifier_variance or 0.0), 0.0))
                    yes = np.clip(draw.binomial(n, share, size), 1, n - 1)
                    squares = yes * (1 - yes / n) / (share * (1 - share))
                else:
                    squares = draw.chisquare(n - 1, size)
                expected, inverse = expected + 1 / (n - 1), inverse + 1 / squares
            true = v * inverse / expected
        return true, true * draw.chisquare(max(df, 1), size) / max(df, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRow:
    """One row of ``plan.csv``: a set of trials, a term, with or without the model's error.

    ``set``: ``existing``, ``planned`` or ``existing and planned``; ``df`` the median of those of
    the interval; ``detectable_80`` the effect found with a power of 80 %.
    """

    set: str
    term: str
    error: str
    model: str
    ci_method: str
    k: int
    n: int
    assumed: float
    tau: float
    se: float
    df: float | None
    power_percent: float
    width: float
    detectable_80: float
    headline: bool
    simulations: int | None = None
    simulated_power_percent: float | None = None
    simulated_width: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """One row of ``plan_trials.csv``: what a trial contributes to a term of the largest set."""

    term: str
    error: str
    trial: str
    n_control: int
    n_active: int
    existing: bool
    se: float
    weight_percent: float


# ------------------------------------------------------------------ by formula


@dataclass(frozen=True, slots=True, kw_only=True)
class _Width:
    """Over the distribution of the estimated spread: half widths, and the SD of the estimate."""

    half: np.ndarray
    sd: np.ndarray
    se: float
    df: float | None

    def power(self, difference: float) -> float:
        """The share of analyses whose interval excludes 0."""
        return float(
            np.mean(sum(ndtr((d - self.half) / self.sd) for d in (difference, -difference)))
        )

    def detectable(self) -> float:
        """The difference found with a power of 80 %."""
        high = float(self.half.max()) + 2.0 * float(self.sd.max())
        return float(brentq(lambda d: self.power(d) - 0.8, 0.0, high))


def expected_width(
    v: np.ndarray,
    tau: float,
    ci: CiMethod,
    level: float = 95.0,
    estimated: np.ndarray | None = None,
) -> _Width:
    """The interval of trials with variances ``v``, k of 2 or more, and ``tau`` between.

    ``v`` ``[k]`` or ``[draws, k]``, as ``estimated`` by the trials (None: without error). Each draw
    gives an estimate of tau² by REML, with it the weights of the analysis, and the variance that
    an estimate with these weights really has.
    """
    k, tail = v.shape[-1], 0.5 + level / 200.0
    y = np.sqrt(v + tau**2) * _spreads(k)
    used = np.broadcast_to(v if estimated is None else estimated, y.shape)
    w = 1.0 / (used + reml_batch(y, used)[:, None])
    w1, w2, w3 = (np.sum(w**power, axis=1) for power in (1, 2, 3))
    half = 1.0 / np.sqrt(w1)
    sd = np.sqrt((w**2 * (v + tau**2)).sum(axis=1)) / w1
    se = 1.0 / math.sqrt(float((1.0 / (v + tau**2)).sum(axis=-1).mean()))
    if ci == "wald":
        return _Width(half=half * float(ndtri(tail)), sd=sd, se=se, df=None)
    if ci == "hksj-truncated":
        residual = y - ((w * y).sum(axis=1) / w1)[:, None]
        ratio = np.maximum((w * residual**2).sum(axis=1) / (k - 1), 1.0)
        half = half * np.sqrt(ratio) * float(stdtrit(k - 1, tail))
        return _Width(half=half, sd=sd, se=se, df=float(k - 1))
    information = 0.5 * (w2 - 2.0 * w3 / w1 + (w2 / w1) ** 2)
    df = np.maximum(2.0 * information / (w2 / w1) ** 2, 1.0)
    larger = 1.0 + 2.0 * np.maximum(w3 / w1 - (w2 / w1) ** 2, 0.0) / information
    half = half * np.sqrt(larger) * stdtrit(df, tail)
    return _Width(half=half, sd=sd, se=se, df=float(np.median(df)))


@cache
def _spreads(k: int) -> np.ndarray:
    """Standard normal values of k trials ``[draws, k]``, always the same.

    Their sums of squares about the mean are the quantiles of chi² on k - 1 df, so that the numbers
    for equal trials are exact and others vary little.
    """
    draw = np.random.default_rng(k)
    z = draw.standard_normal((len(_QUANTILES), k))
    apart = z - z.mean(axis=1, keepdims=True)
    size = np.sqrt(chdtri(k - 1, 1.0 - _QUANTILES) / (apart**2).sum(axis=1))
    found: np.ndarray = apart * size[:, None] + draw.standard_normal((len(z), 1)) / math.sqrt(k)
    return found


def plan_rows(trials: Sequence[PlannedTrial], tau: float, options: PlanOptions) -> list[PlanRow]:
    """Every set of trials, term, error and interval; simulated too where it was asked for.

    ``trials`` are finished ones, planned ones or both; a set or a term with fewer than two trials
    gives no rows.
    """
    rows: list[PlanRow] = []
    for name, members in sets_of(trials).items():
        for error in errors_of(options):
            terms = _terms(tau, options)
            drawn = (
                _simulated(members, tau, error, options)
                if options.simulate and not any(trial.existing for trial in members)
                else {}
            )
            for term, (assumed, spread) in terms.items():
                v = variances(members, term, error, options)
                methods: tuple[CiMethod, ...] = ("hksj-truncated", "wald")
                if term == TREATMENT and len(v) >= LEAST_TRIALS_KR:
                    methods = ("hksj-truncated", "kenward-roger", "wald")
                if len(v) < 2:
                    continue
                draw = np.random.default_rng(1)
                drawn_v = [t.drawn(term, v[t.trial], options.effect, draw)
                           for t in members if t.trial in v]  # fmt: skip
                true, estimated = (np.stack(one, axis=1) for one in zip(*drawn_v, strict=True))
                for ci in methods:
                    width = expected_width(true, spread, ci, options.level, estimated)
                    power, simulated = drawn.get((term, ci), (None, None))
                    rows.append(
                        PlanRow(
                            set=name,
                            term=term,
                            error="with" if error else "without",
                            model="one-stage" if ci == "kenward-roger" else "two-stage",
                            ci_method=ci,
                            k=len(v),
                            n=sum(trial.n for trial in members if trial.trial in v),
                            assumed=assumed,
                            tau=spread,
                            se=width.se,
                            df=width.df,
                            power_percent=100.0 * width.power(assumed),
                            width=2.0 * float(width.half.mean()),
                            detectable_80=width.detectable(),
                            headline=ci == "hksj-truncated",
                            simulations=options.simulate if (term, ci) in drawn else None,
                            simulated_power_percent=power,
                            simulated_width=simulated,
                        )
                    )
    return rows


def sets_of(trials: Sequence[PlannedTrial]) -> dict[str, list[PlannedTrial]]:
    """The finished trials, and all with the planned ones."""
    finished = [trial for trial in trials if trial.existing]
    if not finished:
        return {"planned": list(trials)}
    both = {"existing and planned": list(trials)} if len(finished) < len(trials) else {}
    return {"existing": finished, **both}


def errors_of(options: PlanOptions) -> tuple[float, ...]:
    """The SDs of the model's error to plan for: none, and the one given."""
    return (0.0, options.error_sd) if options.error_sd else (0.0,)


def _terms(tau: float, options: PlanOptions) -> dict[str, tuple[float, float]]:
    assert options.difference is not None
    terms = {TREATMENT: (abs(options.difference), tau)}
    if options.interaction is not None:
        terms["treatment:modifier"] = (abs(options.interaction), options.tau_interaction)
    return terms


def variances(
    trials: Sequence[PlannedTrial], term: str, error: float, options: PlanOptions
) -> dict[str, float]:
    """The variance of each trial that gives the term, by name."""
    found = {trial.trial: trial.variance(term, options, error) for trial in trials}
    return {name: value for name, value in found.items() if value is not None}


def trial_rows(trials: Sequence[PlannedTrial], tau: float, options: PlanOptions) -> list[TrialRow]:
    """What each trial contributes to each term, all of them together."""
    rows = []
    known = {trial.trial: trial for trial in trials}
    for error in errors_of(options):
        for term, (_, spread) in _terms(tau, options).items():
            v = variances(trials, term, error, options)
            total = sum(1.0 / (value + spread**2) for value in v.values())
            for name, value in v.items():
                trial = known[name]
                rows.append(
                    TrialRow(
                        term=term,
                        error="with" if error else "without",
                        trial=name,
                        n_control=trial.n_control,
                        n_active=trial.n_active,
                        existing=trial.existing,
                        se=math.sqrt(value),
                        weight_percent=100.0 / (value + spread**2) / total,
                    )
                )
    return rows


# ------------------------------------------------------------------ by simulation


def _simulated(
    trials: Sequence[PlannedTrial], tau: float, error: float, options: PlanOptions
) -> dict[tuple[str, str], tuple[float, float]]:
    """Power in percent and mean width by term and interval, through the engine of pool-trials."""
    draw = np.random.default_rng([options.seed, int(error > 0)])
    asked = PoolingOptions(effect=options.effect, level=options.level)
    found: dict[tuple[str, str], list[tuple[bool, float]]] = {}
    for _ in range(options.simulate):
        sums = [_drawn_trial(trial, tau, error, options, draw) for trial in trials]
        studies = [study for one in sums for study in effects_of_trial(one)]
        pooled = {TREATMENT: estimates_of(studies)}
        if options.interaction is not None:
            fits = [products_with_numbers(one, [MODIFIER], "active") for one in sums]
            given = [fit for fit in fits if not isinstance(fit, str)]
            pooled["treatment:modifier"] = (
                np.array([fit.estimates[0] for fit in given]),
                np.array([fit.covariance[0, 0] for fit in given]),
            )
        for term, (y, v) in pooled.items():
            if len(y) < 2:
                continue
            fit = pool_estimates(y, v, "reml")
            for method in ("hksj-truncated", "wald"):
                interval = pooled_interval(fit, method, options.level)
                result = (interval.low > 0 or interval.high < 0, interval.high - interval.low)
                found.setdefault((term, method), []).append(result)
        if len(trials) >= LEAST_TRIALS_KR:
            single = fit_arm(sums, "active", asked, scan=False)
            (interval,) = [
                one
                for one in intervals_of(single, np.eye(len(single.beta))[0], asked)
                if one.method == "kenward-roger"
            ]
            result = (interval.low > 0 or interval.high < 0, interval.high - interval.low)
            found.setdefault((TREATMENT, "kenward-roger"), []).append(result)
    return {
        key: (100.0 * float(np.mean([x for x, _ in all_])), float(np.mean([w for _, w in all_])))
        for key, all_ in found.items()
    }


def _drawn_trial(
    trial: PlannedTrial,
    tau: float,
    error: float,
    options: PlanOptions,
    draw: np.random.Generator,
) -> ArmSums:
    """The sums of one simulated trial: baseline, follow-up and modifier of each participant."""
    assert options.difference is not None
    effect = options.difference + tau * draw.standard_normal()
    slope = (options.interaction or 0.0) + options.tau_interaction * draw.standard_normal()
    variance = trial.modifier_variance or 0.0
    arms = {}
    for active, name in enumerate(_ARMS):
        n = (trial.n_control, trial.n_active)[active]
        before = draw.standard_normal(n)
        r = trial.correlation
        after = r * before + math.sqrt(1.0 - r**2) * draw.standard_normal(n)
        if trial.is_share:
            share = 0.5 - math.sqrt(max(0.25 - variance, 0.0))
            modifier = (draw.random(n) < share) - share
        else:
            modifier = math.sqrt(variance) * draw.standard_normal(n)
        y = trial.sd * after + active * (effect + slope * modifier)
        y = y + error * draw.standard_normal(n)
        x = trial.sd * before + error * draw.standard_normal(n)
        if options.effect == "change":
            y = y - x
        columns = {MODIFIER: modifier, OUTCOME: y}
        if options.effect == "mean-difference":
            columns = {BASELINE: x, **columns}
        arms[name] = summarise_rows(
            trial.trial, list(columns), np.column_stack(list(columns.values()))
        )
    nuisance = (BASELINE,) if options.effect == "mean-difference" else ()
    return ArmSums(trial=trial.trial, control="control", nuisance=nuisance, arms=arms)
