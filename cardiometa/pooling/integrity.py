"""First checks of each trial's data, before anyone believes its effect.

Each check is ``ok``, ``look`` or ``not-checked`` with what it lacked; nothing is changed or left
out by them. After the IPD Integrity Tool (Hunter et al. 2024), for values of cardiac MRI.

Checks of a trial against the others, of its days, its allocation and its last digits.

Like those of `integrity` they change nothing: a finding asks a person to look (IPD Integrity Tool,
Hunter et al. 2024).

Whether those without a follow-up are like the others: by arm, and by their baseline.

A trial whose sickest are missing in one arm has an effect of its own making. Both checks are rows
of the integrity table and sentences of the report.

What the cohort's definition states of a trial, held against its data: its design, its size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from ..errors import Problem, TableError
from ..records import CohortTable
from .endpoint.analysis_set import compared, covariate_numbers
from .endpoint.columns import known_text, number_column, text_column
from .options import EVENTS, PoolingOptions
from .results import IntegrityRow, natural

# What an adult heart can be; a value beyond is an error of unit or of reading more often than not.
PLAUSIBLE = {
    "lv_edv_ml": (30.0, 700.0),
    "lv_esv_ml": (5.0, 650.0),
    "lv_ef_percent": (5.0, 85.0),
    "lv_mass_g": (25.0, 600.0),
    "rv_edv_ml": (30.0, 700.0),
    "rv_esv_ml": (5.0, 650.0),
    "rv_ef_percent": (5.0, 85.0),
}
_EF_POINTS = 1.0  # pooling.md section 6: EF = SV / EDV within 1 %
_SV_ML = 1.0
_BALANCE_Z = 3.2905  # two-sided p < 0.001: with some forty comparisons chance alone seldom does it
_LEAST_MEASURES = 3  # two people may share a number, not three
_FEW = 8  # a standardised difference of fewer people an arm says nothing

_Finding = tuple[int, int]  # checked, found


def integrity_checks(table: CohortTable, people: pd.DataFrame) -> tuple[IntegrityRow, ...]:
    """Every check of every trial; ``people`` is the endpoint's with ``code`` and baseline."""
    rows: list[IntegrityRow] = []
    trials = text_column(table.rows, "trial")
    for trial in sorted(set(trials), key=natural):
        part = table.rows[trials == trial]
        rows += _value_checks(trial, part, table.measures)
        rows += _balance(trial, people[people["trial"] == trial])
    return tuple(rows)


def _value_checks(
    trial: str, rows: pd.DataFrame, measures: tuple[str, ...]
) -> Iterable[IntegrityRow]:
    yield _repeats(trial, rows, measures)
    for side in ("lv", "rv"):
        edv, esv, sv, ef = (
            f"{side}_{name}" for name in ("edv_ml", "esv_ml", "sv_ml", "ef_percent")
        )
        name = side.upper()
        yield _check(
            trial,
            f"{side}-edv-above-esv",
            rows,
            (edv, esv),
            _edv_not_above_esv,
            f"{name} EDV is not above ESV",
        )
        yield _check(
            trial,
            f"{side}-sv-consistent",
            rows,
            (edv, esv, sv),
            _sv_off,
            f"{name} SV differs from EDV - ESV by more than {_SV_ML:g} mL",
        )
        yield _check(
            trial,
            f"{side}-ef-consistent",
            rows,
            (edv, esv, ef),
            _ef_off,
            f"{name} EF differs from (EDV - ESV) / EDV by more than {_EF_POINTS:g} point",
        )
    for column, (low, high) in PLAUSIBLE.items():
        yield _check(
            trial,
            f"plausible-{column.replace('_', '-')}",
            rows,
            (column,),
            lambda v, low=low, high=high: (v < low) | (v > high),
            f"{column} is outside {low:g} to {high:g}",
        )


def _edv_not_above_esv(edv: np.ndarray, esv: np.ndarray) -> np.ndarray:
    wrong: np.ndarray = edv <= esv
    return wrong


def _sv_off(edv: np.ndarray, esv: np.ndarray, sv: np.ndarray) -> np.ndarray:
    wrong: np.ndarray = np.abs(sv - (edv - esv)) > _SV_ML
    return wrong


def _ef_off(edv: np.ndarray, esv: np.ndarray, ef: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.abs(ef - 100.0 * (edv - esv) / edv)
    # An EDV of 0 gives no number, which is wrong too.
    wrong: np.ndarray = ~(off <= _EF_POINTS)
    return wrong


def _check(
    trial: str,
    check: str,
    rows: pd.DataFrame,
    columns: tuple[str, ...],
    is_wrong: Callable[..., np.ndarray],
    sentence: str,
) -> IntegrityRow:
    """Run one row-wise check over the rows that have all its columns."""
    missing = [name for name in columns if name not in rows]
    if not missing:
        values = pd.DataFrame({name: number_column(rows, name) for name in columns}).dropna()
        missing = [] if len(values) else list(columns)
    if missing:
        return _not_checked(trial, check, f"no values of {', '.join(missing)}")
    found = int(is_wrong(*(values[name].to_numpy() for name in columns)).sum())
    return _found(trial, check, (len(values), found), f"rows where {sentence}")


def _not_checked(trial: str, check: str, reason: str) -> IntegrityRow:
    return IntegrityRow(
        trial=trial,
        check=check,
        result="not-checked",
        n_checked=None,
        n_found=None,
        value=None,
        sentence=reason,
    )


def _found(trial: str, check: str, counts: _Finding, sentence: str) -> IntegrityRow:
    return IntegrityRow(
        trial=trial,
        check=check,
        result="look" if counts[1] else "ok",
        n_checked=counts[0],
        n_found=counts[1],
        value=None,
        sentence=sentence,
    )


def _repeats(trial: str, rows: pd.DataFrame, measures: tuple[str, ...]) -> IntegrityRow:
    """Rows whose every measure is that of another row: copied, or one person twice."""
    present = [name for name in measures if name in rows]
    values = pd.DataFrame({name: number_column(rows, name) for name in present}, index=rows.index)
    values = values.dropna(axis=1, how="all").dropna()
    if len(values.columns) < _LEAST_MEASURES or values.empty:
        reason = f"fewer than {_LEAST_MEASURES} measures to compare rows by"
        return _not_checked(trial, "repeated-rows", reason)
    found = int(values.duplicated(keep=False).sum())
    sentence = "rows that equal another row in every measure"
    return _found(trial, "repeated-rows", (len(values), found), sentence)


# ------------------------------------------------------------------ balance at baseline


def _balance(trial: str, people: pd.DataFrame) -> Iterable[IntegrityRow]:
    """Standardised differences between the arms of the randomised, before treatment."""
    randomised = people[~people["code"].isin(["not-randomised", "no-arm", "one-arm-trial"])]
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
            for arm in sorted(set(randomised["arm"]))
        ]
        if min(len(group) for group in groups) < _FEW:
            yield _not_checked(trial, check, f"fewer than {_FEW} values in an arm")
            continue
        yield _worst_balance(trial, check, groups)


def _worst_balance(trial: str, check: str, groups: list[np.ndarray]) -> IntegrityRow:
    worst, worst_z = 0.0, 0.0
    for i, first in enumerate(groups):
        for second in groups[i + 1 :]:
            pooled = math.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2)
            if pooled == 0:
                continue
            difference = float(first.mean() - second.mean()) / pooled
            z = difference / math.sqrt(1 / len(first) + 1 / len(second))
            if abs(z) > abs(worst_z):
                worst, worst_z = difference, z
    unlikely = abs(worst_z) > _BALANCE_Z
    return IntegrityRow(
        trial=trial,
        check=check,
        result="look" if unlikely else "ok",
        n_checked=sum(map(len, groups)),
        n_found=None,
        value=abs(worst),
        sentence="largest standardised difference between arms before treatment"
        + (": larger than chance gives once in 1000 trials" if unlikely else ""),
    )


_RATIOS = ((1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2))
_UNLIKELY = 0.001
_SPREAD = 2.0
_UNIT = 5.0
_LEAST_DIGITS = 100
_MOST_DECIMALS = 3
_COPIED = 0.99
_FINGERPRINT = ("age_years", "height_cm", "weight_kg")
_LEAST_COLUMNS = 3


def cohort_checks(
    table: CohortTable, people: pd.DataFrame, options: PoolingOptions
) -> tuple[IntegrityRow, ...]:
    """Every check of every trial; ``people`` is the endpoint's with `with_fate`."""
    randomised = compared(people)
    rows: list[IntegrityRow] = [*_spreads(randomised, options), *_duplicates(table, options)]
    trials = text_column(table.rows, "trial")
    for trial in sorted(set(trials), key=natural):
        part = table.rows[trials == trial]
        mine = randomised[randomised["trial"] == trial]
        rows += _allocation(trial, mine)
        rows += _copied_followup(trial, mine)
        rows += _days(trial, part, people[people["trial"] == trial], options)
        rows += _last_digits(trial, part, options)
    return tuple(rows)


def unit_warnings(rows: Sequence[IntegrityRow]) -> list[str]:
    """One sentence for each trial whose outcome looks as if in another unit."""
    return [
        f"{row.trial}: the outcome's spread is {row.value:.3g} times that of the other trials, and "
        "so is its mean: is it in another unit? Pooling it as it is would make no sense."
        for row in rows
        if row.other_unit
    ]


def _row(
    trial: str, check: str, *, look: bool, sentence: str, **cells: float | None
) -> IntegrityRow:
    checked, found = cells.get("checked"), cells.get("found")
    return IntegrityRow(
        trial=trial,
        check=check,
        result="look" if look else "ok",
        n_checked=None if checked is None else int(checked),
        n_found=None if found is None else int(found),
        value=cells.get("value"),
        sentence=sentence,
    )


def _spreads(people: pd.DataFrame, options: PoolingOptions) -> Iterable[IntegrityRow]:
    """Within-arm SD of the outcome of each trial against the median of the others."""
    if options.effect in EVENTS:
        return
    known = people[people["outcome"].notna()]
    found: dict[str, Spread] = {}
    for trial, part in known.groupby("trial"):
        inner = part["outcome"] - part.groupby("arm")["outcome"].transform("mean")
        found[str(trial)] = Spread(
            squares=float((inner**2).sum()),
            df=len(part) - part["arm"].nunique(),
            mean=float(part["outcome"].mean()),
            n=len(part),
        )
    yield from spread_rows(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A trial's outcome: sum of squares within arms with its ``df``, mean, people."""

    squares: float
    df: int
    mean: float
    n: int


def spread_rows(trials: Mapping[str, Spread]) -> Iterable[IntegrityRow]:
    """Each trial's SD within arms against the median of the others."""
    usable = {t: one for t, one in trials.items() if one.df >= _FEW and one.squares > 0}
    spread = {trial: math.sqrt(one.squares / one.df) for trial, one in usable.items()}
    mean = {trial: one.mean for trial, one in usable.items()}
    size = {trial: one.n for trial, one in usable.items()}
    for trial in sorted(spread, key=natural):
        others = [spread[name] for name in spread if name != trial]
        if not others:
            continue
        ratio = spread[trial] / float(np.median(others))
        middle = float(np.median([mean[name] for name in spread if name != trial]))
        shift = mean[trial] / middle if middle else math.nan
        look = ratio > _SPREAD or ratio < 1 / _SPREAD
        unit = all(x > _UNIT or 0 < x < 1 / _UNIT for x in (ratio, shift))
        row = _row(
            trial,
            "sd-ratio",
            look=look,
            sentence="SD of the outcome within arms, over the median of the other trials"
            + (": another unit?" if unit and look else ""),
            value=ratio,
            checked=size[trial],
        )
        yield replace(row, other_unit=unit and look)


def _duplicates(table: CohortTable, options: PoolingOptions) -> Iterable[IntegrityRow]:
    """Rows of one trial that stand in another trial too, number for number."""
    wanted = [*table.measures, options.baseline_column, options.outcome, *_FINGERPRINT]
    names = [name for name in dict.fromkeys(wanted) if name and name in table.rows]
    if options.effect in EVENTS:
        names = [name for name in names if name != options.event_column]
    values = pd.DataFrame({name: number_column(table.rows, name) for name in names})
    values = values.dropna(axis=1, how="all").dropna()
    trials = text_column(table.rows, "trial")
    if len(values.columns) < _LEAST_COLUMNS or trials.nunique() < 2:
        return
    keys = values.assign(trial=trials[values.index])
    several = keys.groupby(list(values.columns))["trial"].transform("nunique") > 1
    for trial, part in several.groupby(keys["trial"]):
        yield _row(
            str(trial),
            "duplicates-across-trials",
            look=bool(part.any()),
            sentence="rows that stand in another trial too, number for number",
            checked=len(part),
            found=int(part.sum()),
        )


def _copied_followup(trial: str, people: pd.DataFrame) -> Iterable[IntegrityRow]:
    """Follow-up values that are the baseline over again: nobody is measured so exactly."""
    both = people[people["baseline"].notna() & people["outcome"].notna()]
    if len(both) < _FEW or both["baseline"].std() == 0 or both["outcome"].std() == 0:
        return
    r = float(both["baseline"].corr(both["outcome"]))
    look = r > _COPIED
    yield _row(
        trial,
        "followup-like-baseline",
        look=look,
        sentence="correlation of baseline and follow-up"
        + (": were values carried forward or copied?" if look else ""),
        value=r,
        checked=len(both),
    )


def _allocation(trial: str, people: pd.DataFrame) -> Iterable[IntegrityRow]:
    """The sizes of the arms against the usual allocation ratios."""
    counts = people["arm"].value_counts().sort_index()
    if len(counts) < 2:
        return
    if len(counts) > 2:
        p = float(stats.chisquare(counts).pvalue)
    else:
        first, n = int(counts.iloc[0]), int(counts.sum())
        p = max(float(stats.binomtest(first, n, a / (a + b)).pvalue) for a, b in _RATIOS)
    look = p < _UNLIKELY
    yield _row(
        trial,
        "allocation",
        look=look,
        sentence="largest arm over smallest"
        + (": no usual allocation ratio gives such numbers by chance" if look else ""),
        value=float(counts.max() / counts.min()),
        checked=int(counts.sum()),
    )


def _days(
    trial: str, rows: pd.DataFrame, people: pd.DataFrame, options: PoolingOptions
) -> Iterable[IntegrityRow]:
    """Baseline scans after randomisation, follow-up before baseline, scans after death."""
    if "visit_day" not in rows or "visit" not in rows:
        return
    day = number_column(rows, "visit_day")
    visit = text_column(rows, "visit")
    before = day[visit == options.baseline_visit]
    if before.notna().any():
        late = int((before > 0).sum())
        yield _row(
            trial,
            "baseline-before-treatment",
            look=late > 0,
            sentence="baseline scans on a day after randomisation",
            checked=int(before.notna().sum()),
            found=late,
        )
    person = text_column(rows, "participant_id")
    first = before.groupby(person[before.index]).min()
    later = people.set_index("participant_id")["visit_day"].astype(float)
    both = pd.DataFrame({"first": first, "later": later}).dropna()
    if len(both):
        wrong = int((both["later"] <= both["first"]).sum())
        yield _row(
            trial,
            "date-order",
            look=wrong > 0,
            sentence="people whose follow-up is not after their baseline",
            checked=len(both),
            found=wrong,
        )
    died = people[people["death_day"].notna() & people["visit_day"].notna()]
    if len(died):
        wrong = int((died["visit_day"].astype(float) > died["death_day"]).sum())
        yield _row(
            trial,
            "scan-after-death",
            look=wrong > 0,
            sentence="people scanned after the day of their death",
            checked=len(died),
            found=wrong,
        )


def _last_digits(trial: str, rows: pd.DataFrame, options: PoolingOptions) -> Iterable[IntegrityRow]:
    """Whether the last digits of rounded values are equally frequent (chi-squared, 9 df)."""
    for name in dict.fromkeys([options.outcome, options.baseline_column or ""]):
        if options.effect in EVENTS or name not in rows:
            continue
        values = number_column(rows, name).dropna().to_numpy()
        decimals = _decimals(values)
        if decimals is None or len(values) < _LEAST_DIGITS:
            continue
        digits = np.round(np.abs(values) * 10**decimals).astype(np.int64) % 10
        counts = np.bincount(digits, minlength=10)
        p = float(stats.chisquare(counts).pvalue)
        yield _row(
            trial,
            f"last-digits-{name.replace('_', '-')}",
            look=p < _UNLIKELY,
            sentence=f"share of the commonest last digit of {name}"
            + (": some digits are preferred" if p < _UNLIKELY else ""),
            value=float(counts.max() / counts.sum()),
            checked=len(values),
        )


def _decimals(values: np.ndarray) -> int | None:
    """How many decimals the values are rounded to; None for more than three."""
    for decimals in range(_MOST_DECIMALS + 1):
        scaled = values * 10**decimals
        if np.allclose(scaled, np.round(scaled), rtol=0, atol=1e-6):
            return decimals
    return None


_UNLIKELY_MISSING = 0.01  # a share that differs between the arms by chance once in a hundred trials
_LARGE = 0.3  # of a standard deviation: a small difference of the baseline is no finding
_LARGE_Z = 2.5758
_FEW_MISSING = 5


def selection_checks(
    people: pd.DataFrame, options: PoolingOptions
) -> tuple[tuple[IntegrityRow, ...], tuple[str, ...]]:
    """Rows for ``integrity.csv`` and sentences, of every trial with two arms or more."""
    if options.effect in EVENTS:
        return (), ()
    rows: list[IntegrityRow] = []
    sentences: list[str] = []
    everyone = compared(people)
    for trial in sorted(set(everyone["trial"]), key=natural):
        part = everyone[everyone["trial"] == trial]
        arms = {str(arm): members for arm, members in part.groupby("arm", sort=True)}
        if len(arms) < 2:
            continue
        share = _share_check(str(trial), arms)
        baseline = list(_baseline_checks(str(trial), arms))
        rows += [share, *(row for row, _ in baseline)]
        if share.result == "look":
            sentences.append(_share_sentence(str(trial), arms, options))
        sentences += [
            _baseline_sentence(str(trial), arm, arms[arm], options)
            for row, arm in baseline
            if row.result == "look"
        ]
    return tuple(rows), tuple(sentences)


def _share_check(trial: str, arms: dict[str, pd.DataFrame]) -> IntegrityRow:
    """The share with the outcome, compared over the arms (Fisher; chi-squared for more arms)."""
    counts = [
        (int(m["outcome"].notna().sum()), int(m["outcome"].isna().sum())) for m in arms.values()
    ]
    shares = [have / (have + lack) for have, lack in counts]
    p = 1.0
    if any(lack for _, lack in counts) and any(have for have, _ in counts):
        if len(counts) == 2:
            p = float(stats.fisher_exact(counts)[1])
        else:
            p = float(stats.chi2_contingency(counts)[1])
    return IntegrityRow(
        trial=trial,
        check="outcome-known-by-arm",
        result="look" if p < _UNLIKELY_MISSING else "ok",
        n_checked=sum(have + lack for have, lack in counts),
        n_found=None,
        value=max(shares) - min(shares),
        sentence="difference between arms in the share whose outcome is known"
        + (": larger than chance gives once in 100 trials" if p < _UNLIKELY_MISSING else ""),
    )


def _baseline_checks(
    trial: str, arms: dict[str, pd.DataFrame]
) -> Iterable[tuple[IntegrityRow, str]]:
    """The baseline of those without the outcome against those with it, within each arm."""
    for arm, members in arms.items():
        known = members[members["baseline"].notna()]
        lack = known.loc[known["outcome"].isna(), "baseline"]
        have = known.loc[known["outcome"].notna(), "baseline"]
        if min(len(lack), len(have)) < _FEW_MISSING:
            continue
        spread = math.sqrt((have.var(ddof=1) + lack.var(ddof=1)) / 2)
        difference = (lack.mean() - have.mean()) / spread if spread > 0 else 0.0
        z = difference / math.sqrt(1 / len(lack) + 1 / len(have))
        look = abs(difference) > _LARGE and abs(z) > _LARGE_Z
        yield (
            IntegrityRow(
                trial=trial,
                check=f"baseline-of-the-missing-{arm}",
                result="look" if look else "ok",
                n_checked=len(known),
                n_found=None,
                value=abs(float(difference)),
                sentence=f"standardised baseline difference in arm {arm} between those without "
                "the outcome and those with it",
            ),
            arm,
        )


def _percent(members: pd.DataFrame) -> str:
    return f"{100 * members['outcome'].isna().mean():.0f} %"


def _small(members: pd.DataFrame, options: PoolingOptions) -> bool:
    return 0 < int(members["outcome"].isna().sum()) < options.min_cell


def _share_sentence(trial: str, arms: dict[str, pd.DataFrame], options: PoolingOptions) -> str:
    if any(_small(members, options) for members in arms.values()):
        numbers = "how many, is too few to be shown"
    else:
        numbers = ", ".join(f"{arm} {_percent(members)}" for arm, members in arms.items())
    return (
        f"{trial}: the arms differ in how many have no outcome ({numbers}). The effect is of those "
        "who came: read the table by arm, the worst-rank and the delta-adjusted analysis."
    )


def _baseline_sentence(trial: str, arm: str, members: pd.DataFrame, options: PoolingOptions) -> str:
    lack = members.loc[members["outcome"].isna(), "baseline"].dropna()
    have = members.loc[members["outcome"].notna(), "baseline"].dropna()
    side = "lower" if lack.mean() < have.mean() else "higher"
    numbers = (
        ""
        if len(lack) < options.min_cell
        else f" ({lack.mean():.4g} against {have.mean():.4g}, {_percent(members)} of the arm)"
    )
    return (
        f"{trial}, arm {arm}: those without the outcome had a {side} baseline than those with "
        f"it{numbers}: they are missing not at random as far as the baseline tells."
    )


CHECK = "n-randomised"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFacts:
    """``design`` in the cohort's own words, and how many the trial says it randomised."""

    design: str = ""
    n_randomised: int | None = None


def refuse_unmodelled(
    table: CohortTable, facts: Mapping[str, TrialFacts], options: PoolingOptions
) -> None:
    """TableError where a trial is known to have randomised clusters and none are given."""
    trials = text_column(table.rows, "trial")
    given: set[str] = set()
    if options.cluster and options.cluster in table.rows:
        given = set(trials[known_text(table.rows, options.cluster) != ""])
    lacking = [
        trial
        for trial in sorted(set(trials))
        if "cluster" in facts.get(trial, TrialFacts()).design.lower() and trial not in given
    ]
    if lacking:
        raise TableError(
            "Cluster-randomised trials would be analysed as if persons had been randomised.",
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


def design_warnings(table: CohortTable, facts: Mapping[str, TrialFacts]) -> list[str]:
    """Designs that the model of a parallel trial fits only in part."""
    crossed = [
        trial
        for trial in sorted(set(text_column(table.rows, "trial")))
        if "cross" in facts.get(trial, TrialFacts()).design.lower()
    ]
    if not crossed:
        return []
    sentence = (
        f"Crossover by its design: {', '.join(crossed)}. Persons are compared with persons here, "
        "which is right for the first period alone; a paired analysis can enter as a summary "
        "(--also-summaries)."
    )
    return [sentence]


def stated_checks(people: pd.DataFrame, facts: Mapping[str, TrialFacts]) -> Iterable[IntegrityRow]:
    """Each trial's randomised against the number that it states."""
    found = compared(people).groupby("trial").size()
    for trial, fact in sorted(facts.items()):
        if fact.n_randomised is None or trial not in set(people["trial"]):
            continue
        here = int(found.get(trial, 0))
        away = abs(here - fact.n_randomised)
        yield IntegrityRow(
            trial=trial,
            check=CHECK,
            result="look" if away else "ok",
            n_checked=here,
            n_found=away,
            value=None,
            sentence=f"randomised participants {'more' if here > fact.n_randomised else 'fewer'} "
            f"than the {fact.n_randomised} stated"
            if away
            else "as many participants randomised as stated",
        )
