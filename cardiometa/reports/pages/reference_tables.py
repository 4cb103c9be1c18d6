"""The tables of reference ranges other than the limits themselves.

Row counts, calibration, fit of the curves, influence of single trials, partition, contrasts,
meta-analytic estimates, scans for review and outliers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from ...privacy.suppression import hidden_counts
from ...records import Figure, Table
from ...reference.results import (
    MAY_BE_TRIALS,
    Account,
    Calibration,
    PartitionTest,
    ReferenceLimit,
    ReferenceRanges,
    TrialLimit,
)
from ..figures.reference import (
    ALL,
    ETHNICITY_NAMES,
    META,
    METHOD_NAMES,
    SEX_NAMES,
    STRATA,
    band_name,
    meta_headlines,
    worm_figure,
)
from ..page import (
    Block,
    Column,
    Notice,
    Paragraph,
    as_estimate,
    as_interval,
    as_number,
    grouped,
    make_table,
    words,
)
from ..style import (
    DASH,
    MINUS,
    measure_label,
    measure_name,
    shown,
    shown_count,
    shown_range,
)

_text = partial(words, "reference")

_MOST_OUTLIERS: Final = 500
_WORMS_SHOWN: Final = 6
_REASONS: Final = {
    "failed": "segmentation failed",
    "very-few-phases": "fewer than 12 phases",
    "review": "for review",
    "healthy-unknown": "not known to be healthy",
    "not-healthy": "not healthy",
    "other-visit": "another scan of the participant used",
    "sex-unknown": "sex unknown",
    "age-unknown": "age unknown",
    "age-below-bands": "below the first age band",
    "no-value": "no value",
    "outlier": "outlier",
}
_SIZES: Final = {
    "height": "height, m",
    "weight": "weight, kg",
    "bsa_mosteller": "surface (Mosteller), m²",
    "bsa_dubois": "surface (DuBois), m²",
}
_KINDS: Final = {
    "marginal": "a new trial",
    "conditional": "an average trial",
    "population": "these trials together",
}
_RULES: Final = {
    "frequentist": "random effects",
    "empirical": "empirical",
    "mixture": "mixture of fixed trials",
}

_MEASURE: Final = Column("Measure", "measure", measure_name)
_MEASURE_UNIT: Final = Column("Measure", "measure unit", measure_label)
_METHOD: Final = Column("Method", "method", METHOD_NAMES.__getitem__)
_SEX: Final = Column("Sex", "sex", SEX_NAMES.__getitem__)
_AGE: Final = Column("Age, years", "age_low age_high", band_name)
_N: Final = Column("n", "n", shown_count)


def _small_count(n: int, min_cell: int) -> str:
    return "0" if n == 0 else f"<{min_cell}" if n < min_cell else shown_count(n)


# ------------------------------------------------------------------ participants


def account_table(result: ReferenceRanges) -> Table:
    """Rows of the table in, each reason, rows used: closes for each measure."""
    few = result.options.min_cell
    codes = [c for c in _REASONS if any(c in a.excluded for a in result.accounts)]
    codes += sorted({c for a in result.accounts for c in a.excluded} - set(codes))

    def excluded(account: Account, code: str) -> str:
        counts = [account.excluded.get(name, 0) for name in codes]
        hidden = hidden_counts(counts, account.rows_in - account.analysed, few)
        n = account.excluded.get(code, 0)
        return DASH if n >= few and hidden[codes.index(code)] else _small_count(n, few)

    columns = [
        _MEASURE,
        Column("Rows", "rows_in", shown_count),
        *(
            Column(_REASONS.get(code, code).capitalize(), partial(excluded, code=code))
            for code in codes
        ),
        Column("Analysed", "analysed", shown_count),
    ]
    by_ethnicity = "ethnicity" in result.by
    if by_ethnicity:
        columns.append(
            Column(
                "of them, ethnicity unknown",
                "ethnicity_unknown",
                lambda n: _small_count(n, few),
            )
        )
    caption = _text("table_account", few=few, by_ethnicity=by_ethnicity)
    title = "From the rows of the table to the participants of the ranges."
    return make_table(title, columns, result.accounts, caption)


def review_block(result: ReferenceRanges) -> Block | None:
    """The limits without the scans marked for review, where there are such scans."""
    rows = result.without_review
    if result.options.status == "ok":
        return Paragraph(_text("review_left_out"))
    if rows is None:
        return None
    if not rows:
        return Notice(_text("review_nothing_left"))
    few, n = result.options.min_cell, result.review_rows
    count = f"fewer than {few}" if n < few else shown_count(n)
    overall = [r for r in rows if r.ethnicity == ALL and r.method == STRATA]
    if not any(r.method == STRATA for r in rows):
        return Paragraph(_text("review_count", count=count))
    bands = list(dict.fromkeys((r.age_low, r.age_high) for r in overall))

    def limits(group: Sequence[ReferenceLimit], band: tuple[float | None, float | None]) -> str:
        mine = [r for r in group if (r.age_low, r.age_high) == band and r.centile != 50]
        if not mine or any(r.limit is None for r in mine):
            return DASH
        return shown_range(r.limit for r in mine)

    columns = (
        _MEASURE_UNIT,
        _SEX,
        *(Column(band_name(*band), partial(limits, band=band)) for band in bands),
    )
    title = f"Limits without the scans marked for review (used in the ranges: {count})."
    return make_table(
        title, columns, grouped(overall, "measure sex").values(), _text("table_review")
    )


def outlier_tables(result: ReferenceRanges) -> list[Table]:
    """How many values lie beyond the fences; on an internal page also which."""
    options = result.options
    if options.outliers == "none":
        return []
    few = options.min_cell

    def percent(account: Account) -> str:
        n = account.outliers or 0
        return DASH if n < few else shown(100 * n / max(account.analysed, 1), 2)

    counts = (
        _MEASURE,
        Column("Outliers", lambda account: _small_count(account.outliers or 0, few)),
        Column("% of participants", percent),
    )
    done = "left out of the ranges" if options.outliers == "tukey" else "kept in the ranges"
    title = f"Values far from their sex and age group ({done})."
    tables = [make_table(title, counts, result.accounts, _text("table_outliers"))]
    if options.internal:
        columns = (
            _MEASURE,
            Column("Trial", "trial"),
            Column("Participant", "participant_id"),
            Column("Visit", "visit"),
            Column("Value", "value", as_number()),
            Column("Fences", "fence_low fence_high", as_interval()),
            Column("Rule", "rule"),
            Column(
                "Group",
                lambda row: f"{SEX_NAMES[row.sex]}, {band_name(row.age_low, row.age_high)}",
            ),
        )
        more = len(result.outliers) - _MOST_OUTLIERS
        caption = f"{more} more are in outliers.csv." if more > 0 else "Also in outliers.csv."
        rows = result.outliers[:_MOST_OUTLIERS]
        tables.append(make_table("Outliers to review (internal).", columns, rows, caption))
    return tables


# ------------------------------------------------------------------ calibration and fit


def calibration_table(result: ReferenceRanges) -> Table | None:
    """Shares outside the limits: all, by age third, and of the trial furthest off."""
    if not result.calibration:
        return None
    groups = grouped((r for r in result.calibration if r.ethnicity == ALL), "measure method sex")

    def of(group: Sequence[Calibration], check: str) -> list[Calibration]:
        return [row for row in group if row.check == check]

    def shares(row: Calibration) -> str:
        sides = (row.below_percent, row.above_percent)
        return " / ".join(shown(side) for side in sides if side is not None) or DASH

    def joined(rows: Sequence[Calibration]) -> str:
        return " · ".join(map(shares, rows)) or DASH

    def distance(row: Calibration) -> float:
        pairs = (
            (row.below_percent, row.expected_below_percent),
            (row.above_percent, row.expected_above_percent),
        )
        known = [abs(a - b) for a, b in pairs if a is not None and b is not None]
        return max(known, default=-1)

    def furthest(rows: Sequence[Calibration]) -> str:
        usable = [row for row in rows if distance(row) >= 0]
        worst = max(usable, key=distance, default=None)
        return DASH if worst is None else f"{worst.group}: {shares(worst)}"

    columns = (
        _MEASURE,
        _METHOD,
        _SEX,
        Column("n", lambda group: next((shown_count(r.n) for r in of(group, "fitted")), DASH)),
        Column("All", lambda group: joined(of(group, "fitted"))),
        Column("Youngest · middle · oldest third", lambda group: joined(of(group, "age-third"))),
        Column("Left-out trial furthest off", lambda group: furthest(of(group, "left-out-trial"))),
    )
    title = "Share of participants below / above their group's limits, %."
    caption = _text("table_calibration", options=result.options, result=result)
    return make_table(title, columns, groups.values(), caption, empty=("", DASH))


def fit_blocks(result: ReferenceRanges) -> list[Block]:
    """Q statistics and worm plots of the curves, where there are any."""
    if not result.q_statistics and not result.worm_plots:
        return []
    columns = (
        _MEASURE,
        _METHOD,
        _SEX,
        _N,
        Column("Age groups", "groups", shown_count),
        *(
            Column(name.capitalize(), f"p_{name}", lambda p: "<0.001" if p < 0.001 else shown(p, 3))
            for name in ("mean", "variance", "skewness", "kurtosis")
        ),
    )
    title = "Fit of the curves by age: p of Royston and Wright's Q statistics."
    rows = result.q_statistics
    blocks: list[Block] = [make_table(title, columns, rows, _text("table_q"))] if rows else []
    keys = list(dict.fromkeys((worm.measure, worm.method) for worm in result.worm_plots))
    for measure, method in keys[:_WORMS_SHOWN]:
        worms = [w for w in result.worm_plots if (w.measure, w.method) == (measure, method)]
        title = f"Worm plots of {measure_name(measure)}, {METHOD_NAMES[method]}, by age third."
        blocks.append(Figure(title=title, caption=_text("figure_worms"), svg=worm_figure(worms)))
    return blocks


# ------------------------------------------------------------------ one trial's influence


def trial_influence_table(result: ReferenceRanges) -> Table | None:
    """For each limit the age band in which leaving out one trial moves it most."""
    if len(result.trials) < 2 or not result.by_trial:
        return None
    used = [r for r in result.rows if r.method == STRATA]
    for measure in result.measures if META in result.methods else ():
        of_measure = [r for r in result.rows if r.measure == measure]
        used += meta_headlines(of_measure)
    limits = {(r.measure, r.sex, r.ethnicity, r.age_low, r.centile): r.limit for r in used}

    def pooled(row: TrialLimit) -> float | None:
        return limits[row.measure, row.sex, row.ethnicity, row.age_low, row.centile]

    def distance(row: TrialLimit) -> float:
        return abs((row.limit_without or 0.0) - (pooled(row) or 0.0))

    def shown_as(row: TrialLimit, number: float | None) -> str:
        return shown(number, 2 if abs(pooled(row) or 0.0) < 20 else 1)

    known = [
        row
        for row in result.by_trial
        if row.ethnicity == ALL and row.centile != 50
        if row.limit_without is not None and pooled(row) is not None
    ]
    sexes = list(dict.fromkeys(row.sex for row in known))
    moved = sorted(
        (max(group, key=distance) for group in grouped(known, "measure sex centile").values()),
        key=lambda row: (result.measures.index(row.measure), sexes.index(row.sex), row.centile),
    )
    columns = (
        _MEASURE_UNIT,
        _SEX,
        _AGE,
        Column("Limit", lambda row: "lower" if row.centile < 50 else "upper"),
        Column("All trials", lambda row: shown_as(row, pooled(row))),
        Column("Without", "trial"),
        Column("Limit then", lambda row: shown_as(row, row.limit_without)),
    )
    title = "Influence of single trials: the age band where leaving one out moves the limit most."
    return make_table(title, columns, moved, _text("table_trial_influence"))


# ------------------------------------------------------------------ partition and contrasts


def partition_table(result: ReferenceRanges) -> Table | None:
    """In how many groups two sexes or ethnicities differ enough for limits of their own."""
    if not result.partition:
        return None

    def comparison(test: PartitionTest) -> str:
        if test.factor == "sex":
            return "Men, women"
        return f"{ETHNICITY_NAMES[test.group_a]}, {ETHNICITY_NAMES[test.group_b]}"

    def cell(measure: str, name: str) -> str:
        tests = [
            t
            for t in result.partition
            if (t.measure, comparison(t)) == (measure, name)
            and t.harris_boyd
            and MAY_BE_TRIALS not in t.notes
        ]
        parted = sum(t.harris_boyd == "partition" for t in tests)
        lahti = sum(t.lahti == "partition" for t in tests)
        return f"{parted} · {lahti} of {len(tests)}" if tests else DASH

    names = list(dict.fromkeys(comparison(test) for test in result.partition))
    columns = (
        Column("Measure", measure_name),
        *(Column(name, partial(cell, name=name)) for name in names),
    )
    title = "Groups that need their own limits: Harris–Boyd · Lahti, of the groups tested."
    return make_table(title, columns, result.measures, _text("table_partition", result=result))


def contrast_table(result: ReferenceRanges, factor: str) -> Table | None:
    """Differences of means within trials, between trials and ignoring trials."""
    rows = [c for c in result.contrasts if c.factor == factor]
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        key = (row.measure, row.sex, row.group, row.versus)
        groups.setdefault(key, {"row": row})[row.source] = row
    sources = {
        "within-trial": "Within trials",
        "between-trial": "Between trials",
        "ignoring-trials": "Ignoring trials",
    }
    if len(result.trials) == 1:
        sources = {"ignoring-trials": "Difference"}
    known = [g for g in groups.values() if any(g[s].difference is not None for s in sources)]
    if not rows:
        return None

    def compared(group: dict[str, Any]) -> str:
        row = group["row"]
        if factor == "sex":
            return f"{SEX_NAMES[row.group]} {MINUS} {SEX_NAMES[row.versus].lower()}"
        return f"{ETHNICITY_NAMES[row.group]} {MINUS} {ETHNICITY_NAMES[row.versus]}"

    def difference(group: dict[str, Any], source: str) -> str:
        row = group[source]
        if row.difference is None or MAY_BE_TRIALS in row.notes:
            return DASH
        return as_estimate()(row.difference, row.ci_low, row.ci_high)

    sex = () if factor == "sex" else (Column("Sex", lambda group: SEX_NAMES[group["row"].sex]),)
    columns = (
        Column("Measure", lambda group: measure_label(group["row"].measure, group["row"].unit)),
        Column("Groups", compared),
        *sex,
        *(Column(name, partial(difference, source=source)) for source, name in sources.items()),
    )
    adjusted = "adjusted for age, " if any(c.adjusted_for for c in rows) else ""
    level = f"{result.options.ci_level:g}% CI"
    title = f"Differences of means by {factor} ({adjusted}{level})."
    return make_table(title, columns, known, _text("table_contrasts", result=result))


def indexing_table(result: ReferenceRanges) -> Table | None:
    """The exponent of each measure on each body size with its interval."""
    if not result.indexing:
        return None
    few = f"<{result.options.min_cell}"
    columns = (
        _MEASURE,
        Column("Body size", "size", _SIZES.__getitem__),
        Column("n", "n", lambda n: few if n is None else shown_count(n)),
        Column("Exponent", "exponent", as_number(2)),
        Column("SE", "se", as_number(3)),
        Column("Interval", "ci_low ci_high", as_interval(2)),
    )
    adjusted = any(row.adjusted_for for row in result.indexing)
    title = "Body size: the power of it with which each measure grows."
    caption = _text("table_indexing", adjusted=adjusted, options=result.options)
    return make_table(title, columns, result.indexing, caption)


# ------------------------------------------------------------------ meta-analytic ranges


def rules_table(rows: Sequence[ReferenceLimit], result: ReferenceRanges) -> Table:
    """The limits by every rule and kind, all ethnicities together."""
    known = (
        row for row in rows if row.ethnicity == ALL and row.limit is not None and row.centile != 50
    )
    groups = grouped(known, "sex age_low age_high limits kind")
    centiles = [c for c in result.options.centiles if c != 50]
    estimate = as_estimate()

    def limit(group: Sequence[ReferenceLimit], at: int) -> str:
        return estimate(group[at].limit, group[at].ci_low, group[at].ci_high)

    columns = (
        _SEX,
        _AGE,
        Column("Rule", "limits", _RULES.__getitem__),
        Column("For a participant of", "kind", _KINDS.__getitem__),
        *(Column(f"Centile {c:g}", partial(limit, at=at)) for at, c in enumerate(centiles)),
    )
    title = (
        f"{measure_label(rows[0].measure, rows[0].unit)}: limits by every rule, all ethnicities."
    )
    caption = _text("table_rules", options=result.options)
    return make_table(title, columns, groups.values(), caption)


def estimates_table(measure: str, label: str, result: ReferenceRanges) -> Table:
    """Mean and SD within and between trials behind the meta-analytic limits."""
    rows = [e for e in result.meta if (e.measure, e.ethnicity) == (measure, ALL)]
    columns = (
        _SEX,
        _AGE,
        Column("Rule", "meta", _RULES.__getitem__),
        Column("Trials", "n_trials", shown_count),
        _N,
        Column("Mean", "mean", as_number()),
        Column("SD within trials", "sigma", as_number()),
        Column("SD between trials (tau)", "tau tau_low tau_high", as_estimate()),
        Column("tau/total", "tau_share", as_number(2)),
    )
    logs = any("log" in row.notes for row in rows)
    caption = _text("table_estimates", options=result.options, logs=logs)
    title = f"{label}: estimates behind the limits, all ethnicities."
    return make_table(title, columns, rows, caption)
