"""How measures grow with body size, as the page shows it.

The checks beside the limits: calibration, the weight of one trial, partition, contrasts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...records import Table
from ..style import DASH, measure_name, shown, shown_count, shown_interval

if TYPE_CHECKING:
    from ...reference.results import ReferenceRanges
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ...reference.results import MAY_BE_TRIALS, ReferenceLimit
from ..figures.reference_curves import METHOD_NAMES, fit_blocks
from ..figures.reference_strata import ALL, ETHNICITY_NAMES, SEX_NAMES, band_name
from ..page import Block, Notice, Paragraph
from ..style import MINUS, measure_label, shown_estimate
from .reference_meta import META, meta_headlines

if TYPE_CHECKING:
    from ...reference.results import Calibration, PartitionTest, ReferenceRanges, TrialLimit


_SIZES: Final = {
    "height": "height, m",
    "weight": "weight, kg",
    "bsa_mosteller": "surface (Mosteller), m²",
    "bsa_dubois": "surface (DuBois), m²",
}


def indexing_table(result: ReferenceRanges) -> Table:
    """The exponent of each measure on each body size with its interval."""
    few = f"<{result.options.min_cell}"
    adjusted = any(row.adjusted_for for row in result.indexing)
    return Table(
        title="Body size: the power of it that each measure grows with.",
        columns=("Measure", "Body size", "n", "Exponent", "SE", "Interval"),
        rows=tuple(
            (
                measure_name(row.measure),
                _SIZES[row.size],
                few if row.n is None else shown_count(row.n),
                shown(row.exponent, 2),
                shown(row.se, 3),
                DASH if row.ci_low is None else shown_interval(row.ci_low, row.ci_high, 2),
            )
            for row in result.indexing
        ),
        caption=(
            "Least squares of log measure on log size"
            + (", a level for each sex" if adjusted else "")
            + f"; {result.options.ci_level:g}% interval. Dividing by a power far from the exponent"
            " leaves an index that still depends on size. Names of indices for --measure are "
            "in indexing.csv."
        ),
    )


_MOST_OUTLIERS: Final = 500


def check_blocks(result: ReferenceRanges) -> tuple[Block, ...]:
    """Every check that these data allow."""
    blocks: list[Block] = [_calibration_table(result)] if result.calibration else []
    blocks += fit_blocks(result)
    if len(result.trials) > 1 and result.by_trial:
        blocks.append(_span_table(result))
    if result.partition:
        blocks.append(_partition_table(result))
    if any(c.factor == "sex" for c in result.contrasts):
        blocks.append(_contrast_table(result, "sex"))
    if any(c.factor == "ethnicity" for c in result.contrasts):
        blocks.append(_contrast_table(result, "ethnicity"))
    if result.indexing:
        blocks.append(indexing_table(result))
    return tuple(blocks)


# ------------------------------------------------------------------ calibration


def _calibration_table(result: ReferenceRanges) -> Table:
    rows = []
    keys = dict.fromkeys((c.measure, c.method) for c in result.calibration)
    for measure, method in keys:
        mine = [
            c
            for c in result.calibration
            if (c.measure, c.method, c.ethnicity) == (measure, method, ALL)
        ]
        for sex in dict.fromkeys(c.sex for c in mine):
            found = [c for c in mine if c.sex == sex]
            fitted = [c for c in found if c.check == "fitted"]
            rows.append(
                (
                    measure_name(measure),
                    METHOD_NAMES[method],
                    SEX_NAMES[sex],
                    shown_count(fitted[0].n) if fitted else DASH,
                    _pair(fitted),
                    _pair(c for c in found if c.check == "age-third"),
                    _worst(c for c in found if c.check == "left-out-trial"),
                )
            )
    options = result.options
    outside = 100 - options.level
    expected = f"{outside / 2:g}% on each side" if options.sided == "two" else f"{outside:g}%"
    return Table(
        title="Share of people below / above their group's limits, %.",
        columns=(
            "Measure",
            "Method",
            "Sex",
            "n",
            "All",
            "Youngest · middle · oldest third",
            "Left-out trial furthest off",
        ),
        rows=tuple(rows),
        caption=(
            f"Expected: {expected}. The last column judges the people of one trial by limits made "
            "without it. All ethnicities; each ethnicity is in calibration.csv."
        ),
    )


def _pair(found: Iterable[Calibration]) -> str:
    return " · ".join(_shares(c) for c in found) or DASH


def _shares(found: Calibration) -> str:
    sides = (found.below_percent, found.above_percent)
    known = [shown(side) for side in sides if side is not None]
    return " / ".join(known) if known else DASH


def _worst(found: Iterable[Calibration]) -> str:
    """The trial whose shares are furthest from what is expected."""

    def distance(c: Calibration) -> float:
        pairs = (
            (c.below_percent, c.expected_below_percent),
            (c.above_percent, c.expected_above_percent),
        )
        return max((abs(a - b) for a, b in pairs if a is not None and b is not None), default=-1)

    usable = [c for c in found if distance(c) >= 0]
    if not usable:
        return DASH
    worst = max(usable, key=distance)
    return f"{worst.group}: {_shares(worst)}"


# ------------------------------------------------------------------ one trial's weight


def _span_table(result: ReferenceRanges) -> Table:
    used = [r for r in result.rows if r.method == "strata"]
    for measure in result.measures if META in result.methods else ():
        used += meta_headlines([r for r in result.rows if r.measure == measure])
    pooled = {(r.measure, r.sex, r.ethnicity, r.age_low, r.centile): r.limit for r in used}
    rows = []
    for measure in result.measures:
        mine = [t for t in result.by_trial if t.measure == measure and t.ethnicity == ALL]
        for sex in dict.fromkeys(t.sex for t in mine):
            for centile in (c for c in result.options.centiles if c != 50):
                found = [t for t in mine if t.sex == sex and t.centile == centile]
                row = _furthest(found, pooled)
                if row is not None:
                    rows.append((measure_label(measure, found[0].unit), SEX_NAMES[sex], *row))
    return Table(
        title="What the limits owe to one trial: the age band where leaving one out moves it most.",
        columns=("Measure", "Sex", "Age, years", "Limit", "All trials", "Without", "Limit then"),
        rows=tuple(rows),
        caption=(
            "All ethnicities. This is the part of the uncertainty that the confidence intervals "
            "leave out. Each trial's own limits are in by_trial.csv."
        ),
    )


def _furthest(
    found: Sequence[TrialLimit],
    pooled: dict[tuple[str, str, str, float | None, float], float | None],
) -> tuple[str, ...] | None:
    moves = []
    for row in found:
        limit = pooled[row.measure, row.sex, row.ethnicity, row.age_low, row.centile]
        if limit is not None and row.limit_without is not None:
            moves.append((abs(row.limit_without - limit), limit, row))
    if not moves:
        return None
    _, limit, row = max(moves, key=lambda m: m[0])
    decimals = 2 if abs(limit) < 20 else 1
    return (
        band_name(row.age_low, row.age_high),
        "lower" if row.centile < 50 else "upper",
        shown(limit, decimals),
        row.trial,
        shown(row.limit_without, decimals),
    )


# ------------------------------------------------------------------ partition and contrasts


def _comparison(test: PartitionTest) -> str:
    if test.factor == "sex":
        return "Men, women"
    return f"{ETHNICITY_NAMES[test.group_a]}, {ETHNICITY_NAMES[test.group_b]}"


def _partition_table(result: ReferenceRanges) -> Table:
    columns = list(dict.fromkeys(_comparison(test) for test in result.partition))
    rows = []
    for measure in result.measures:
        cells = [measure_name(measure)]
        for name in columns:
            tests = [
                t
                for t in result.partition
                if t.measure == measure
                and _comparison(t) == name
                and t.harris_boyd
                and MAY_BE_TRIALS not in t.notes
            ]
            parted = sum(t.harris_boyd == "partition" for t in tests)
            lahti = sum(t.lahti == "partition" for t in tests)
            cells.append(f"{parted} · {lahti} of {len(tests)}" if tests else DASH)
        rows.append(tuple(cells))
    return Table(
        title="Groups that ask for limits of their own: Harris–Boyd · Lahti, of the groups tested.",
        columns=("Measure", *columns),
        rows=tuple(rows),
        caption=(
            "Number of sex and age groups in which the two differ enough, by Harris and Boyd's z "
            "or SD ratio and by Lahti's shares outside the common 95% limits. Groups that come "
            "mostly from trials of their own are not counted: it may be the trials that differ. "
            "Every value is in partition.csv."
        ),
    )


def _contrast_table(result: ReferenceRanges, factor: str) -> Table:
    found = [c for c in result.contrasts if c.factor == factor]
    keys = list(dict.fromkeys((c.measure, c.unit, c.sex, c.group, c.versus) for c in found))
    by_key = {(c.measure, c.sex, c.group, c.versus, c.source): c for c in found}
    rows = []
    for measure, unit, sex, group, versus in keys:
        three = [
            by_key[measure, sex, group, versus, source]
            for source in ("within-trial", "between-trial", "ignoring-trials")
        ]
        if all(c.difference is None for c in three):
            continue
        who = (
            f"{SEX_NAMES[group]} {MINUS} {SEX_NAMES[versus].lower()}"
            if factor == "sex"
            else f"{ETHNICITY_NAMES[group]} {MINUS} {ETHNICITY_NAMES[versus]}"
        )
        cells = [
            shown_estimate(c.difference, c.ci_low, c.ci_high)
            if c.difference is not None and MAY_BE_TRIALS not in c.notes
            else DASH
            for c in three
        ]
        middle = () if factor == "sex" else (SEX_NAMES[sex],)
        rows.append((measure_label(measure, unit), who, *middle, *cells))
    middle_head = () if factor == "sex" else ("Sex",)
    adjusted = "adjusted for age, " if any(c.adjusted_for for c in found) else ""
    return Table(
        title=f"Differences of means by {factor} ({adjusted}{result.options.ci_level:g}% CI).",
        columns=(
            "Measure",
            "Groups",
            *middle_head,
            "Within trials",
            "Between trials",
            "Ignoring trials",
        ),
        rows=tuple(rows),
        caption=(
            "Within trials: people of one trial compared. Between trials: trials with a larger "
            "share of the group compared with trials with a smaller one, per 100% of share; "
            "scanner and recruitment are in it, and with few trials it is mostly noise. Where no "
            f"trial has both groups ({DASH}) no difference can be told from the trials' own."
        ),
    )


# ------------------------------------------------------------------ review and outliers


def review_blocks(result: ReferenceRanges) -> tuple[Block, ...]:
    """The limits without the scans that ask for review, where there are such scans."""
    if result.options.status == "ok":
        return (Paragraph("Scans that ask for review were left out (--status ok)."),)
    if result.without_review is None:
        return ()
    few = result.options.min_cell
    count = result.review_rows
    how_many = f"fewer than {few}" if count < few else shown_count(count)
    if not result.without_review:
        return (Notice("Without the scans that ask for review nothing is left."),)
    if not any(r.method == "strata" for r in result.without_review):
        where = "the limits without them are in reference_ranges_without_review.csv"
        return (Paragraph(f"Scans that ask for review: {how_many}; {where}."),)
    return (_review_table(result.without_review, how_many),)


def _review_table(rows: Sequence[ReferenceLimit], how_many: str) -> Table:
    everybody = [r for r in rows if r.ethnicity == ALL and r.method == "strata"]
    bands = list(dict.fromkeys((r.age_low, r.age_high) for r in everybody))
    lines = []
    for measure in dict.fromkeys(r.measure for r in everybody):
        mine = [r for r in everybody if r.measure == measure]
        for sex in dict.fromkeys(r.sex for r in mine):
            cells = [
                _range([r for r in mine if r.sex == sex and (r.age_low, r.age_high) == band])
                for band in bands
            ]
            lines.append((measure_label(measure, mine[0].unit), SEX_NAMES[sex], *cells))
    return Table(
        title=f"Limits without the scans that ask for review (used in the ranges: {how_many}).",
        columns=("Measure", "Sex", *(band_name(*band) for band in bands)),
        rows=tuple(lines),
        caption=(
            "All ethnicities; compare with the column All of the ranges. Every limit is in "
            "reference_ranges_without_review.csv."
        ),
    )


def _range(rows: Sequence[ReferenceLimit]) -> str:
    outer = [r.limit for r in rows if r.centile != 50]
    if not outer or any(limit is None for limit in outer):
        return DASH
    values = [shown(limit) for limit in outer]
    return (" to " if any(MINUS in v for v in values) else "–").join(values)


def outlier_blocks(result: ReferenceRanges) -> tuple[Block, ...]:
    """How many values lie beyond the fences; who they are only on an internal page."""
    options = result.options
    if options.outliers == "none":
        return ()
    few = options.min_cell
    rows = []
    for account in result.accounts:
        n = account.outliers or 0
        share = DASH if n < few else shown(100 * n / max(account.analysed, 1), 2)
        text = "0" if n == 0 else f"<{few}" if n < few else shown_count(n)
        rows.append((measure_name(account.measure), text, share))
    done = "left out of the ranges" if options.outliers == "tukey" else "kept in the ranges"
    table = Table(
        title=f"Values far from their sex and age group ({done}).",
        columns=("Measure", "Outliers", "% of people"),
        rows=tuple(rows),
        caption="Tukey's fences after a power transformation to symmetry; in normal data 0.7%.",
    )
    return (table, _named_outliers(result)) if options.internal else (table,)


def _named_outliers(result: ReferenceRanges) -> Table:
    shown_rows = result.outliers[:_MOST_OUTLIERS]
    more = len(result.outliers) - len(shown_rows)
    return Table(
        title="The outliers, to look at (internal).",
        columns=("Measure", "Trial", "Participant", "Visit", "Value", "Fences", "Rule", "Group"),
        rows=tuple(
            (
                measure_name(o.measure),
                o.trial,
                o.participant_id,
                o.visit,
                shown(o.value),
                f"{shown(o.fence_low)} to {shown(o.fence_high)}",
                o.rule,
                f"{SEX_NAMES[o.sex]}, {band_name(o.age_low, o.age_high)}",
            )
            for o in shown_rows
        ),
        caption=f"{more} more are in outliers.csv." if more > 0 else "Also in outliers.csv.",
    )
