"""Checks of each trial's data before its effect is believed.

Each check is ``ok``, ``review`` or ``not-checked`` with what it lacked; none changes or excludes
data. After the IPD Integrity Tool (Hunter et al. 2024), for values of cardiac MRI: values against
each other and against the plausible, days, allocation, balance, last digits, one trial against the
others, and whether participants without a follow-up are like those with one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from ..cohort.plausibility import LIMITS, in_another_trial
from ..errors import Problem, TableError
from ..records import CohortTable, SeriousWarning
from .endpoint.analysis_set import compared, in_two_arms
from .endpoint.columns import (
    covariate_numbers,
    each_trial,
    known_text,
    number_column,
    present,
    text_column,
    words_column,
)
from .options import DIFFERENCES, EVENTS, PoolingOptions
from .results import IntegrityRow, natural

_BOUNDED = ("lv_edv_ml", "lv_esv_ml", "lv_ef_percent", "lv_mass_g")
PLAUSIBLE = {
    name: LIMITS[name].plausible for name in (*_BOUNDED, "rv_edv_ml", "rv_esv_ml", "rv_ef_percent")
}
_EF_POINTS = 1.0  # pooling.md section 6: EF = SV / EDV within 1 %
_SV_ML = 1.0
_BALANCE_Z = 3.2905  # two-sided p < 0.001: with some forty comparisons chance alone seldom does it
_LEAST_MEASURES = 3  # two participants may share a number, not three
_FEW = 8  # a standardised difference of fewer participants per arm says nothing
_RATIOS = ((1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2))
_UNLIKELY = 0.001
_SPREAD = 2.0
_UNIT = 5.0
_LEAST_DIGITS = 100
_MOST_DECIMALS = 3
_COPIED = 0.99
_FINGERPRINT = ("age_years", "height_cm", "weight_kg")
_UNLIKELY_MISSING = 0.01  # a share that differs between the arms by chance in one of 100 trials
_LARGE = 0.3  # of a standard deviation: a smaller difference of the baseline is not a finding
_LARGE_Z = 2.5758
_FEW_MISSING = 5
_BY_CHANCE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFacts:
    """``design`` in the cohort's own words, and how many the trial says it randomised."""

    design: str = ""
    n_randomised: int | None = None

    @classmethod
    def of(cls, stated: Mapping[str, Any]) -> TrialFacts:
        """The facts as `segment` wrote them; what has another type is unknown."""
        design, count = stated.get("design"), stated.get("n_randomised")
        return cls(
            design=design if isinstance(design, str) else "",
            n_randomised=count if isinstance(count, int) else None,
        )


def check_trials(
    table: CohortTable,
    people: pd.DataFrame,
    options: PoolingOptions,
    facts: Mapping[str, TrialFacts],
) -> tuple[tuple[IntegrityRow, ...], list[str]]:
    """Every check of every trial, and what the report must say of them.

    ``table`` has every participant once; ``people`` is the endpoint's, with ``code`` and deaths.
    """
    randomised = compared(people)
    of_trial = dict(each_trial(people))
    none = people.iloc[:0]
    first: dict[str, list[IntegrityRow]] = {}
    second: dict[str, list[IntegrityRow]] = {}
    trial_rows = table.rows.assign(trial=words_column(table.rows, "trial"))
    for trial, part in each_trial(trial_rows):
        mine = of_trial.get(trial, none)
        first[trial] = [*_value_checks(trial, part, table.measures), *_balance(trial, mine)]
        second[trial] = [
            *_allocation(trial, compared(mine)),
            *_copied_followup(trial, compared(mine)),
            *_days(trial, part, mine, options),
            *_last_digits(trial, part, options),
        ]
    trials = sorted(first, key=natural)
    rows = [row for trial in trials for row in first[trial]]
    rows += [*_spreads(randomised, options), *_duplicates(table, options)]
    rows += _counted_twice(randomised, options)
    rows += [row for trial in trials for row in second[trial]]
    here = randomised.groupby("trial", observed=True).size()
    known = present(people["trial"])
    for trial, fact in sorted(facts.items()):
        if fact.n_randomised is not None and trial in known:
            n = int(here.get(trial, 0))
            away = abs(n - fact.n_randomised)
            more = "more" if n > fact.n_randomised else "fewer"
            words = f"randomised participants {more} than the {fact.n_randomised} stated"
            words = words if away else "as many participants randomised as stated"
            rows.append(_row(trial, "n-randomised", words, look=away > 0, checked=n, found=away))
    for trial in sorted(present(randomised["trial"]), key=natural):
        rows += _missing_outcomes(trial, compared(of_trial[trial]), options)
    sentences = [row.warning for row in rows if row.result == "review" and row.warning]
    crossed = [t for t in sorted(first) if "cross" in _fact(facts, t).design.lower()]
    if crossed:
        sentences.append(
            SeriousWarning(
                f"Crossover by its design: {', '.join(crossed)}. Participants are compared with "
                "each other here, which is right for the first period alone; a paired analysis "
                "can enter as a summary (--also-summaries)."
            )
        )
    return tuple(rows), sentences


def _row(  # noqa: PLR0913 - the columns of a row
    trial: str,
    check: str,
    sentence: str,
    *,
    look: bool | None,
    alarm: str = "",
    warning: str = "",
    checked: float | None = None,
    found: int | None = None,
    value: float | None = None,
) -> IntegrityRow:
    """One check: ``look`` None where it could not be made; ``alarm`` is added to a finding."""
    return IntegrityRow(
        trial=trial,
        check=check,
        result={None: "not-checked", True: "review", False: "ok"}[look],
        n_checked=None if checked is None else int(checked),
        n_found=found,
        value=value,
        sentence=f"{sentence}: {alarm}" if look and alarm else sentence,
        warning=warning,
    )


# ------------------------------------------------------------------ the values of each row


def _value_checks(
    trial: str, rows: pd.DataFrame, measures: tuple[str, ...]
) -> Iterable[IntegrityRow]:
    """Repeated rows; EDV, ESV, SV and EF against each other; values beyond the plausible."""
    values = _numbers(rows, [name for name in measures if name in rows]).dropna(axis=1, how="all")
    values = values.dropna()
    if len(values.columns) < _LEAST_MEASURES or values.empty:
        reason = f"fewer than {_LEAST_MEASURES} measures to compare rows by"
        yield _row(trial, "repeated-rows", reason, look=None)
    else:
        found = int(values.duplicated(keep=False).sum())
        words = "rows that equal another row in every measure"
        yield _row(trial, "repeated-rows", words, look=found > 0, checked=len(values), found=found)
    checks: list[tuple[str, tuple[str, ...], Callable[..., np.ndarray], str]] = []
    for side in ("lv", "rv"):
        edv, esv, sv, ef = (f"{side}_{x}" for x in ("edv_ml", "esv_ml", "sv_ml", "ef_percent"))
        above = f"{side.upper()} EDV is not above ESV"
        stroke = f"{side.upper()} SV differs from EDV - ESV by more than {_SV_ML:g} mL"
        share = (
            f"{side.upper()} EF differs from (EDV - ESV) / EDV by more than {_EF_POINTS:g} point"
        )
        checks += [
            (f"{side}-edv-above-esv", (edv, esv), np.less_equal, above),
            (
                f"{side}-sv-consistent",
                (edv, esv, sv),
                lambda edv, esv, sv: np.abs(sv - (edv - esv)) > _SV_ML,
                stroke,
            ),
            (
                f"{side}-ef-consistent",  # an EDV of 0 gives NaN, which is wrong too
                (edv, esv, ef),
                lambda edv, esv, ef: ~(np.abs(ef - 100.0 * (edv - esv) / edv) <= _EF_POINTS),
                share,
            ),
        ]
    checks += [
        (
            f"plausible-{column.replace('_', '-')}",
            (column,),
            lambda v, low=low, high=high: (v < low) | (v > high),
            f"{column} is outside {low:g} to {high:g}",
        )
        for column, (low, high) in PLAUSIBLE.items()
    ]
    for check, columns, is_wrong, words in checks:
        missing = [name for name in columns if name not in rows]
        if not missing:
            values = _numbers(rows, columns).dropna()
            missing = [] if len(values) else list(columns)
        if missing:
            yield _row(trial, check, f"no values of {', '.join(missing)}", look=None)
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            found = int(is_wrong(*(values[name].to_numpy() for name in columns)).sum())
        sentence = f"rows where {words}"
        yield _row(trial, check, sentence, look=found > 0, checked=len(values), found=found)


def _numbers(rows: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    return pd.DataFrame({name: number_column(rows, name) for name in columns}, index=rows.index)


def _days(
    trial: str, rows: pd.DataFrame, people: pd.DataFrame, options: PoolingOptions
) -> Iterable[IntegrityRow]:
    """Baseline scans after randomisation, follow-up before baseline, scans after death."""
    if "visit_day" not in rows or "visit" not in rows:
        return

    def days_row(check: str, sentence: str, wrong: pd.Series, checked: int) -> IntegrityRow:
        found = int(wrong.sum())
        return _row(trial, check, sentence, look=found > 0, checked=checked, found=found)

    day = number_column(rows, "visit_day")
    before = day[text_column(rows, "visit") == options.baseline_visit]
    if before.notna().any():
        sentence = "baseline scans on a day after randomisation"
        yield days_row("baseline-before-treatment", sentence, before > 0, int(before.notna().sum()))
    person = text_column(rows, "participant_id")
    first = before.groupby(person[before.index]).min()
    later = people.set_index("participant_id")["visit_day"].astype(float)
    both = pd.DataFrame({"first": first, "later": later}).dropna()
    if len(both):
        sentence = "participants whose follow-up is not after their baseline"
        yield days_row("date-order", sentence, both["later"] <= both["first"], len(both))
    died = people[people["death_day"].notna() & people["visit_day"].notna()]
    if len(died):
        sentence = "participants scanned after the day of their death"
        late = died["visit_day"].astype(float) > died["death_day"]
        yield days_row("scan-after-death", sentence, late, len(died))


def _last_digits(trial: str, rows: pd.DataFrame, options: PoolingOptions) -> Iterable[IntegrityRow]:
    """Whether the last digits of rounded values are equally frequent (chi-squared, 9 df)."""
    for name in dict.fromkeys([options.outcome, options.baseline_column or ""]):
        if options.effect in EVENTS or name not in rows:
            continue
        values = number_column(rows, name).dropna().to_numpy()
        scaled = (values * 10**decimals for decimals in range(_MOST_DECIMALS + 1))
        rounded_to = (v for v in scaled if np.allclose(v, np.round(v), rtol=0, atol=1e-6))
        rounded = next(rounded_to, None)  # None: more decimals than can be judged
        if rounded is None or len(values) < _LEAST_DIGITS:
            continue
        counts = np.bincount(np.round(np.abs(rounded)).astype(np.int64) % 10, minlength=10)
        yield _row(
            trial,
            f"last-digits-{name.replace('_', '-')}",
            f"share of the commonest last digit of {name}",
            look=equal_shares_p(counts) < _UNLIKELY,
            alarm="some digits are preferred",
            value=float(counts.max() / counts.sum()),
            checked=len(values),
        )


# ------------------------------------------------------------------ the arms of each trial


def _balance(trial: str, people: pd.DataFrame) -> Iterable[IntegrityRow]:
    """The largest standardised difference between arms of the randomised, before treatment."""
    randomised = in_two_arms(people)
    if randomised.empty:
        return
    columns = {"outcome": randomised["baseline"]}
    for name in randomised.columns:
        if name.startswith("covariate "):
            numbers = covariate_numbers(randomised[name])
            if numbers is not None:
                columns[name.removeprefix("covariate ")] = numbers
    for name, values in columns.items():
        check = f"balance-{name.replace('_', '-')}"
        groups = [
            values[randomised["arm"] == arm].dropna().to_numpy()
            for arm in present(randomised["arm"])
        ]
        if min(len(group) for group in groups) < _FEW:
            yield _row(trial, check, f"fewer than {_FEW} values in an arm", look=None)
            continue
        worst, worst_z = 0.0, 0.0
        for first, second in combinations(groups, 2):
            difference, z = _standardised(first, second)
            if abs(z) > abs(worst_z):
                worst, worst_z = difference, z
        yield _row(
            trial,
            check,
            "largest standardised difference between arms before treatment",
            look=abs(worst_z) > _BALANCE_Z,
            alarm="larger than chance gives in one of 1000 trials",
            checked=sum(map(len, groups)),
            value=abs(worst),
        )


def _standardised(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """The difference of means in SDs, and in its own standard errors; 0 without scatter."""
    spread = math.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2)
    difference = float(first.mean() - second.mean()) / spread if spread > 0 else 0.0
    return difference, difference / math.sqrt(1 / len(first) + 1 / len(second))


def _copied_followup(trial: str, people: pd.DataFrame) -> Iterable[IntegrityRow]:
    """Follow-up values that repeat the baseline: no measurement is so exact."""
    both = people[people["baseline"].notna() & people["outcome"].notna()]
    if len(both) < _FEW or both["baseline"].std() == 0 or both["outcome"].std() == 0:
        return
    r = float(both["baseline"].corr(both["outcome"]))
    yield _row(
        trial,
        "followup-like-baseline",
        "correlation of baseline and follow-up",
        look=r > _COPIED,
        alarm="were values carried forward or copied?",
        value=r,
        checked=len(both),
    )


def _allocation(trial: str, people: pd.DataFrame) -> Iterable[IntegrityRow]:
    """The sizes of the arms against the usual allocation ratios."""
    counts = people.groupby("arm", observed=True).size()
    if len(counts) < 2:
        return
    if len(counts) > 2:
        p = equal_shares_p(counts.to_numpy())
    else:
        first, n = int(counts.iloc[0]), int(counts.sum())
        p = max(binomial_p(first, n, a / (a + b)) for a, b in _RATIOS)
    yield _row(
        trial,
        "allocation",
        "largest arm over smallest",
        look=p < _UNLIKELY,
        alarm="no usual allocation ratio gives such numbers by chance",
        value=float(counts.max() / counts.min()),
        checked=counts.sum(),
    )


def _missing_outcomes(
    trial: str, people: pd.DataFrame, options: PoolingOptions
) -> Iterable[IntegrityRow]:
    """The share with the outcome over the arms, and the baseline of those without it in each arm.

    A trial in which the sickest of one arm are missing has an effect of its own making.
    """
    known = people["outcome"].notna()
    has = known.groupby(people["arm"], observed=True).agg(["sum", "size"])
    counts = pd.DataFrame({True: has["sum"], False: has["size"] - has["sum"]})
    if options.effect in EVENTS or len(counts) < 2:
        return
    p = 1.0
    if (counts.sum() > 0).all():
        p = independence_p(counts.to_numpy())
    lack = counts[False]
    missing = lack / counts.sum(axis=1)
    numbers = ", ".join(f"{arm} {100 * share:.0f} %" for arm, share in missing.items())
    if ((lack > 0) & (lack < options.min_cell)).any():
        numbers = "too few in an arm for the numbers to be shown"
    read = ["the table by arm"]
    if people["died"].any():
        read.append("the analysis in which a death is the worst outcome")
    read += ["the delta-adjusted analysis"] * (options.effect in DIFFERENCES)
    further = " and ".join(filter(None, [", ".join(read[:-1]), read[-1]]))
    yield _row(
        trial,
        "outcome-known-by-arm",
        "difference between arms in the share whose outcome is known",
        look=p < _UNLIKELY_MISSING,
        alarm="larger than chance gives in one of 100 trials",
        checked=len(people),
        value=float(missing.max() - missing.min()),
        warning=SeriousWarning(
            f"{trial}: the arms differ in how many have no outcome ({numbers}). The effect is that "
            f"in participants who have one: read {further} with it."
        ),
    )
    has_baseline = people[people["baseline"].notna()]
    for arm, members in has_baseline.groupby("arm", sort=True, observed=True):
        is_known = members["outcome"].notna().to_numpy()
        before = members["baseline"].to_numpy()
        without, having = before[~is_known], before[is_known]
        if min(len(without), len(having)) < _FEW_MISSING:
            continue
        difference, z = _standardised(without, having)
        means = f"{without.mean():.4g} against {having.mean():.4g}"
        share = f" ({means}, {100 * missing[arm]:.0f} % of the arm)"
        yield _row(
            trial,
            f"baseline-of-the-missing-{arm}",
            f"standardised baseline difference in arm {arm} between those without the outcome and "
            "those with it",
            look=abs(difference) > _LARGE and abs(z) > _LARGE_Z,
            checked=len(members),
            value=abs(difference),
            warning=SeriousWarning(
                f"{trial}, arm {arm}: those without the outcome had a "
                f"{'lower' if difference < 0 else 'higher'} baseline than those with it"
                f"{share * (len(without) >= options.min_cell)}: by their baseline they are not "
                "missing at random."
            ),
        )


# ------------------------------------------------------------------ one trial against the others


def _spreads(people: pd.DataFrame, options: PoolingOptions) -> Iterable[IntegrityRow]:
    """Within-arm SD of the outcome of each trial against the median of the others."""
    if options.effect in EVENTS:
        return
    spread, mean, size = {}, {}, {}
    for trial, every in each_trial(people):
        part = every.loc[every["outcome"].notna(), ["arm", "outcome"]]
        by_arm = part.groupby("arm", observed=True)["outcome"]
        inner = part["outcome"] - by_arm.transform("mean")
        squares, df = float((inner**2).sum()), len(part) - part["arm"].nunique()
        if df >= _FEW and squares > 0:
            spread[trial] = math.sqrt(squares / df)
            mean[trial], size[trial] = float(part["outcome"].mean()), len(part)
    for trial in sorted(spread, key=natural):
        others = [spread[name] for name in spread if name != trial]
        if not others:
            continue
        ratio = spread[trial] / float(np.median(others))
        middle = float(np.median([mean[name] for name in spread if name != trial]))
        shift = mean[trial] / middle if middle else math.nan
        look = ratio > _SPREAD or ratio < 1 / _SPREAD
        unit = look and all(x > _UNIT or 0 < x < 1 / _UNIT for x in (ratio, shift))
        warning = SeriousWarning(
            f"{trial}: the outcome's spread is {ratio:.3g} times that of the other trials, and so "
            "is its mean: is it in another unit? Pooling it as it is would make no sense."
        )
        yield _row(
            trial,
            "sd-ratio",
            "SD of the outcome within arms, over the median of the other trials",
            look=look,
            alarm="another unit?" * unit,
            warning=warning if unit else "",
            value=ratio,
            checked=size[trial],
        )


def _duplicates(table: CohortTable, options: PoolingOptions) -> Iterable[IntegrityRow]:
    """Rows of one trial that are in another trial too, number for number."""
    wanted = [*table.measures, options.baseline_column, options.outcome, *_FINGERPRINT]
    names = [name for name in dict.fromkeys(wanted) if name and name in table.rows]
    if options.effect in EVENTS:
        names = [name for name in names if name != options.event_column]
    trials = words_column(table.rows, "trial")
    names = [name for name in names if table.rows[name].notna().any()]
    if len(names) < _LEAST_MEASURES or trials.nunique() < 2:
        return
    values = _numbers(table.rows, names).dropna(axis=1, how="all").dropna()
    if len(values.columns) < _LEAST_MEASURES:
        return
    trials = trials[values.index]
    for trial, part in in_another_trial(values, trials).groupby(trials, observed=True):
        found, name = int(part.sum()), "duplicates-across-trials"
        words = "rows that are in another trial too, number for number"
        yield _row(str(trial), name, words, look=found > 0, checked=len(part), found=found)


def _counted_twice(people: pd.DataFrame, options: PoolingOptions) -> Iterable[IntegrityRow]:
    """Trials over half of whose participants have another's baseline and outcome, to the digit.

    Of one trial under two names, or participants under two ids. No row where there is none, or
    where the values are so coarse that chance does it.
    """
    names = ["baseline", "outcome"]
    both = people.loc[people[names].notna().all(axis=1), ["trial", *names]]
    if options.effect in EVENTS or both.empty:
        return
    shares = [float((both[name].value_counts(normalize=True) ** 2).sum()) for name in names]
    # Matches of one participant by chance; a correlation of up to 0.97 makes four times as many.
    if 4.0 * len(both) * math.prod(shares) > _BY_CHANCE:
        return
    again = both[both.duplicated(names, keep=False)]
    for trial, part in each_trial(again):
        n = int((both["trial"] == trial).sum())
        if len(part) < max(_FEW_MISSING, n / 2):
            continue
        same = again.merge(part[names].drop_duplicates(), on=names)
        others = [name for name in present(same["trial"].astype(str)) if name != trial]
        whose = ", ".join(others) or "other participants of the trial"
        yield _row(
            trial,
            "counted-twice",
            f"participants with the baseline and outcome of {whose}, number for number",
            look=True,
            checked=n,
            found=len(part),
            warning=SeriousWarning(
                f"{trial}: over half of its participants have, number for number, the baseline and "
                f"outcome of {whose}: the same people seem to be counted twice."
            ),
        )


# ------------------------------------------------------------------ what the cohort states


def _fact(facts: Mapping[str, TrialFacts], trial: str) -> TrialFacts:
    return facts.get(trial, TrialFacts())


def refuse_unmodelled(
    table: CohortTable, facts: Mapping[str, TrialFacts], options: PoolingOptions
) -> None:
    """TableError where a trial is known to have randomised clusters and none are given."""
    trials = words_column(table.rows, "trial")
    given: set[str] = set()
    if options.cluster and options.cluster in table.rows:
        given = {*present(trials[known_text(table.rows, options.cluster) != ""])}
    lacking = [
        trial
        for trial in present(trials)
        if "cluster" in _fact(facts, trial).design.lower() and trial not in given
    ]
    if lacking:
        raise TableError(
            "Cluster-randomised trials would be analysed as if individuals had been randomised.",
            hint="Name the column of the cluster with --cluster (carry it in cohort.toml), or give "
            "the trial randomised = false to leave it out.",
            problems=[
                Problem(
                    where=f"trial {trial}",
                    what=f"its design is {facts[trial].design!r}, and it has no cluster",
                    why="Its standard error would be too small.",
                )
                for trial in lacking
            ],
        )


# ------------------------------------------------------------------ tests of counts

# The same as `chisquare`, `binomtest`, `fisher_exact` and `chi2_contingency` of scipy.stats, whose
# import takes an eighth of the time of a run on 1,000 rows.


def equal_shares_p(counts: np.ndarray) -> float:
    """P of chi-squared for counts ``[n]`` of equally frequent values."""
    mean = counts.mean()
    return float(special.chdtrc(len(counts) - 1, ((counts - mean) ** 2 / mean).sum()))


def binomial_p(count: int, n: int, share: float) -> float:
    """Two-sided exact P of ``count`` among ``n`` where ``share`` is expected."""
    k = np.arange(n + 1)
    ways = -special.gammaln(k + 1) - special.gammaln(n - k + 1)
    return _exact_p(ways + k * math.log(share) + (n - k) * math.log1p(-share), count)


def independence_p(counts: np.ndarray) -> float:
    """P of arms ``[arm, 2]`` with equal shares: Fisher's for two arms, else chi-squared."""
    (yes, _), arms = counts.sum(axis=0), counts.sum(axis=1)
    if len(arms) == 2:
        k = np.arange(max(0, yes - arms[1]), min(arms[0], yes) + 1)
        cells = (k, arms[0] - k, yes - k, arms[1] - yes + k)
        ways = -sum(special.gammaln(cell + 1) for cell in cells)
        return _exact_p(ways, int(counts[0, 0] - k[0]))
    expected = np.outer(arms, counts.sum(axis=0)) / arms.sum()
    statistic = ((counts - expected) ** 2 / expected).sum()
    return float(special.chdtrc(len(arms) - 1, statistic))


def _exact_p(logarithms: np.ndarray, place: int) -> float:
    """The share of outcomes not likelier than that at ``place``; equal ones differ by rounding."""
    masses = np.exp(logarithms - logarithms.max())
    return float(masses[masses <= masses[place] * (1 + 1e-7)].sum() / masses.sum())
