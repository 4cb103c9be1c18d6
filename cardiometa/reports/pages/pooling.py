"""``report.html`` of ``pool-trials``, and its text for the terminal.

The pooled effect, its trials, the flow of participants after PRISMA-IPD, and the checks.
"""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Any, Final

from ...manifest import notice_for
from ...measurement.measures import definition
from ...pooling.options import RATIOS
from ...pooling.results import (
    Accounting,
    ArmCount,
    EffectRow,
    ErrorRow,
    InfluenceRow,
    PoolingResult,
    RegressionRow,
    SplineRow,
)
from ...privacy.suppression import suppressed_counts
from ...records import Table, severity
from ..export import baseline_tables
from ..figures.flow import boxes_figure, counts_of
from ..figures.pooling import (
    CI_LABELS,
    UNDONE_BY,
    PoolingFigure,
    count_text,
    decimals_of,
    difference_name,
    effect_label,
    effect_unit,
    headline_of,
    heterogeneity_sentence,
    interaction_p,
    is_pooled,
    modifiers_shown,
    of_arm,
    p_sentence,
    result_sentence,
    scaled,
    scaled_prediction,
    small_study_sentence,
    versus,
)
from ..page import (
    Block,
    Column,
    Notice,
    Section,
    as_estimate,
    as_number,
    is_numeric_column,
    notes_section,
    page_html,
    section,
    table_of,
    where,
    words,
    yes_no,
)
from ..style import (
    COMPARED,
    DASH,
    Drawing,
    abbreviations,
    counted,
    measure_name,
    p_equals,
    shown,
    shown_count,
    shown_estimate,
    shown_interval,
    shown_p,
)

_text = partial(words, "pooling")

_MODELS: Final = {"two-stage": "Two-stage", "one-stage": "One-stage"}
_TAU2_MODELS: Final = {"one": "one τ²", "separate": "separate τ²", "": ""}
_ARM_COUNTS: Final = (
    *("randomised", "died", "withdrew", "alive", "scanned", "no_outcome", "no_baseline"),
    *("analysed", "events"),
)


# ------------------------------------------------------------------ columns and formats


def _table(
    result: PoolingResult,
    name: str,
    columns: Iterable[Column],
    rows: Iterable[Any],
    arm: str = "",
    **facts: Any,
) -> Table | None:
    """The table with title and caption ``table_NAME`` of the template; None without rows."""
    facts |= {"label": effect_label(result), "options": result.options, "arm": arm}
    facts["versus"] = versus(result, arm)
    return table_of("pooling", name, columns, rows, **facts)


def _estimate(result: PoolingResult, name: str = "Estimate") -> Column:
    show = as_estimate(decimals_of(result))
    heading = f"{name} ({result.options.level:g}% CI)"
    return Column(heading, lambda row: show(*scaled(row)))


def _counts(result: PoolingResult, arm: str) -> tuple[Column, Column]:
    """How many participants of the control and of the active arm."""
    return (
        Column(f"n {result.control}", partial(count_text, result, field="n_control")),
        Column(f"n {arm}", partial(count_text, result, field="n_active")),
    )


def _of_log(result: PoolingResult) -> str:
    return " of log" if result.options.effect in RATIOS else ""


def _se(result: PoolingResult) -> Column:
    return Column(f"SE{_of_log(result)}", "se", as_number(decimals_of(result) + 1))


def _tau(result: PoolingResult, field: str = "tau2", heading: str = "") -> Column:
    """The square root of a column of τ²."""
    decimals = decimals_of(result) + 1
    return Column(
        heading or f"τ{_of_log(result)}",
        field,
        lambda tau2: DASH if tau2 is None else shown(math.sqrt(tau2), decimals),
    )


_P: Final = Column("p", "p", shown_p)
_TRIAL: Final = Column("Trial", "trial")
_TRIALS: Final = Column("Trials", "k", shown_count)
_I2: Final = Column("I², %", "i2_percent", as_number(0))
_R2: Final = Column("R², %", "r2_percent", as_number(0))
_NOTE: Final = Column("Note", "note")
_MODEL: Final = Column("Model", "model", _MODELS.__getitem__)
_MODIFIER: Final = Column("Modifier", lambda row: row.term.partition(":")[2])


# ------------------------------------------------------------------ effects


def effect_title(result: PoolingResult) -> str:
    """What the headline is: of one trial alone nothing is pooled."""
    return "Pooled effect" if is_pooled(result) else "Treatment effect"


def page_title(result: PoolingResult) -> str:
    """The title asked for, or what the headline is and of which table."""
    return result.presentation.title or f"{effect_title(result)}: {result.name}"


def trials_table(result: PoolingResult, arm: str) -> Table | None:
    """Each trial's own effect."""
    columns = (
        _TRIAL,
        *_counts(result, arm),
        _estimate(result),
        _se(result),
        Column("df", "df", as_number(0)),
        _P,
        Column("Weight (%)", "weight_percent", as_number()),
        _NOTE,
    )
    rows = of_arm(result, arm, "trial")
    published = all(row.aggregate for row in rows)
    return _table(result, "trials", columns, rows, arm, empty=("", DASH), published=published)


def pooled_table(result: PoolingResult, arm: str) -> Table | None:
    """The headline, then the sensitivity analyses: every other interval, model and choice."""
    headline = headline_of(result, arm)

    def prediction(row: EffectRow) -> str:
        limits = scaled_prediction(row)
        return DASH if limits is None else shown_interval(*limits, decimals_of(result))

    columns = (
        _MODEL,
        Column("Analysis", lambda row: _analysis(row) + " (headline)" * (row is headline)),
        _TRIALS,
        _estimate(result),
        _se(result),
        Column("Distribution", _distribution),
        _P,
        Column(f"{result.options.level:g}% prediction interval", prediction),
        _tau(result),
    )
    rows = [headline, *(row for row in of_arm(result, arm, "pooled") if row is not headline)]
    return _table(result, "pooled", columns, rows, arm, title=effect_title(result))


def _analysis(row: EffectRow) -> str:
    """What a pooled row is: its interval, or the sensitivity analysis."""
    if row.label:
        return row.label[0].upper() + row.label[1:].replace("tau2", "τ²")
    if (row.k or 0) < 2:
        return "One trial"
    return CI_LABELS[row.ci_method] + ", common effect" * (row.variant == "stratified-cox")


def _distribution(row: EffectRow) -> str:
    """``t(7)``, ``t(6.9)`` or ``z``; ``F(2, 7)`` or ``χ²(2)`` of a joint test."""
    if row.variant == "joint-test":
        return f"χ²({row.q_df})" if row.df is None else f"F({row.q_df}, {shown(row.df, 0)})"
    if row.df is None:
        return "z"
    return f"t({shown(row.df, 0 if float(row.df).is_integer() else 1)})"


def rmst_table(result: PoolingResult, arm: str) -> Table | None:
    """The difference in restricted mean time by trial and pooled."""
    rows = [row for row in where(result.rmst, arm=arm) if row.trial or row.headline]
    level = f"{result.options.level:g}% CI"
    columns = (
        Column("Trial", lambda row: row.trial or "All trials"),
        Column(result.control, "rmst_control", as_number(1)),
        Column(arm, "rmst_active", as_number(1)),
        Column(f"Difference ({level})", "estimate ci_low ci_high", as_estimate(1)),
        _P,
        _NOTE,
    )
    shown_rows = [replace(r, note=r.note if r.estimate is None or not r.se else "") for r in rows]
    return _table(result, "rmst", columns, shown_rows, arm)


def proportional_table(result: PoolingResult, arm: str) -> Table | None:
    """The test of proportional hazards of each trial and of all."""
    columns = (
        Column("Trial", lambda row: row.trial or "All trials"),
        Column("χ²(1)", "chi2", as_number(2)),
        _P,
        _NOTE,
    )
    return _table(result, "proportional", columns, where(result.proportional, arm=arm), arm)


def comparison_table(result: PoolingResult, arm: str) -> Table | None:
    """Four quantities of each source, and their differences with paired-bootstrap intervals."""
    rows = where(result.comparison, arm=arm)
    decimals = decimals_of(result) + 1
    single = bool(rows) and rows[0].combat is None  # one trial
    names = {h: name for h, name in COMPARED.items() if not (single and "combat" in name)}
    columns = (
        Column("Quantity", lambda row: row.quantity[0].upper() + row.quantity[1:]),
        *(
            Column(head, f"{name} {name}_low {name}_high", as_estimate(decimals))
            if name.endswith("difference")
            else Column(head, name, as_number(decimals))
            for head, name in names.items()
        ),
    )
    unit = effect_unit(result)
    k, measures = (rows[0].k, rows[0].combat_measures) if rows else (0, None)
    return _table(result, "comparison", columns, rows, arm, k=k, unit=unit, measures=measures)


# ------------------------------------------------------------------ the measurement's error


def error_sentence(result: PoolingResult, arm: str) -> str:
    """The corrected effect as a paper states it; empty without ``--error-model``."""
    rows = where(result.error_adjusted, arm=arm)
    first = {row.quantity: row for row in reversed(rows)}
    measured = first.get("effect as measured")
    if measured is None:
        return ""
    decimals = decimals_of(result)
    slopes = [row for row in rows if row.quantity == "slope"]

    def estimate(quantity: str) -> str:
        row = first.get(quantity)
        if row is None or row.estimate is None:
            return ""
        return shown_estimate(row.estimate, row.ci_low, row.ci_high, decimals)

    def percent(quantity: str) -> str:
        row = first.get(quantity)
        return "" if row is None else shown(row.estimate, 0)

    undone = first.get(UNDONE_BY)
    return _text(
        "error_sentence",
        arm=arm,
        unit=effect_unit(result),
        source=result.error_source,
        slope=slopes[0] if len(slopes) == 1 else None,
        slopes=slopes,
        measured=estimate("effect as measured"),
        corrected=estimate("effect corrected for scale"),
        by_arm=estimate("effect corrected by arm"),
        share=percent("share of residual variance that is error, %"),
        needed=percent("participants that a perfect reader would need, %"),
        undone=None if undone is None or undone.estimate is None else undone.estimate,
        decimals=decimals,
    )


def error_table(result: PoolingResult, arm: str) -> Table | None:
    """What the error of the measurement does, quantity by quantity."""
    decimals = decimals_of(result)

    def estimate(row: ErrorRow) -> str:
        places = 1 if row.quantity.endswith("%") else decimals
        if row.quantity in ("slope", "reliability of the baseline"):
            places = 3
        return shown_estimate(row.estimate, row.ci_low, row.ci_high, places)

    def quantity(row: ErrorRow) -> str:
        name = row.quantity[0].upper() + row.quantity[1:]
        of = row.term.partition(":")[2]
        named = ": ".join(filter(None, (of, row.level)))
        return f"{name} ({named})" if named else name

    columns = (
        Column("Quantity", quantity),
        Column(f"Estimate ({result.options.level:g}% CI)", estimate),
        Column("Interval", "method"),
        Column("Hearts evaluated", "n_hearts", shown_count),
        _NOTE,
    )
    rows = where(result.error_adjusted, arm=arm)
    return _table(result, "error", columns, rows, arm, empty=("", DASH), source=result.error_source)


# ------------------------------------------------------------------ heterogeneity and influence


def heterogeneity_table(result: PoolingResult, arm: str) -> Table | None:
    """tau² by every estimator, with I², H² and the Q-profile limits."""
    decimals = decimals_of(result)
    rows = where(result.heterogeneity, arm=arm)
    unit = effect_unit(result)

    def tau(heading: str, name: str, most: int) -> Column:
        """Of FE a dash: it is assumed, not estimated."""
        show = as_estimate(min(most, 4))
        return Column(
            heading,
            f"tau2_method {name} {name}_low {name}_high",
            lambda method, *values: DASH if method == "fe" else show(*values),
        )

    columns = (
        Column("Estimator", lambda row: row.tau2_method.upper() + " (used)" * row.headline),
        tau("τ²", "tau2", 2 * decimals),
        tau(f"τ, {unit}" if unit else "τ", "tau", decimals + 1),
        Column("I², %", "i2_percent i2_low i2_high", as_estimate(1)),
        Column("H²", "h2 h2_low h2_high", as_estimate(2)),
    )
    return _table(result, "heterogeneity", columns, rows, arm, line=rows and rows[0])


def influence_tables(result: PoolingResult, arm: str) -> list[Table | None]:
    """The headline with each trial left out, and what each does to it; from three trials."""

    def influential(row: InfluenceRow) -> str:
        return row.note if row.influential is None else yes_no(row.influential)

    left_out = (
        Column("Left out", "trial"),
        _estimate(result, "Pooled estimate"),
        _tau(result, heading="τ"),
        Column("I², %", "i2_percent", as_number()),
        _P,
    )
    influence = (
        _TRIAL,
        Column("Studentised residual", "rstudent", as_number(2)),
        Column("DFFITS", "dffits", as_number(2)),
        Column("Cook's distance", "cook_d", as_number(2)),
        Column("Covariance ratio", "cov_ratio", as_number(2)),
        _tau(result, "tau2_deleted", "τ without it"),
        Column("Q without it", "q_deleted", as_number()),
        Column("Hat", "hat", as_number(3)),
        Column("DFBETAS", "dfbetas", as_number(2)),
        Column("Influential", influential),
    )
    rows = of_arm(result, arm, "leave-one-out", headline=True)
    return [
        _table(result, "leave_one_out", left_out, rows, arm),
        _table(result, "influence", influence, where(result.influence, arm=arm), arm),
    ]


def check_table(result: PoolingResult) -> Table | None:
    """What was checked of the one-stage fits; None where there is none."""

    def passed(ok: bool) -> str:  # noqa: FBT001 - a cell's value
        return "yes" if ok else "NO"

    columns = (
        Column("Arm", "arm"),
        Column("Trials", "k"),
        Column("Criterion", "criterion", as_number(3)),
        Column("Converged", "converged", passed),
        Column("Starts", "starts"),
        Column("Consistency check", lambda check: passed(check.self_check < 1e-6)),
        Column("One-stage − two-stage", "difference", as_number(decimals_of(result) + 1)),
        Column("Reason", "reason"),
    )
    return _table(result, "checks", columns, result.checks)


# ------------------------------------------------------------------ effect modifiers


def interactions_table(result: PoolingResult, arm: str) -> Table | None:
    """Every pooled within-trial interaction of one arm; None without any."""
    columns = (
        _MODIFIER,
        Column("Contrast", "level"),
        _MODEL,
        _TRIALS,
        _estimate(result, difference_name(result)),
        _se(result),
        Column("Distribution", _distribution),
        _P,
        Column("p (Holm)", "p_holm", shown_p),
    )
    rows = of_arm(result, arm, "interaction", headline=True, trial="")
    return _table(result, "interactions", columns, rows, arm)


def subgroups_table(result: PoolingResult, arm: str) -> Table | None:
    """The floating effects by level; None without any."""
    level = Column("Level", "level")
    columns = (
        *(_MODIFIER, level, _TRIALS),
        *_counts(result, arm),
        *(_estimate(result, "Effect"), _NOTE),
    )
    rows = of_arm(result, arm, "subgroup", trial="")
    return _table(result, "subgroups", columns, rows, arm, method=CI_LABELS["hksj-truncated"])


def ecological_table(result: PoolingResult, arm: str) -> Table | None:
    """Associations between trials, separate and labelled; None without any."""
    columns = (
        Column("Covariate", _MODIFIER.source),
        Column("Of the trials' means", "level"),
        _TRIALS,
        _estimate(result, "Association"),
    )
    rows = of_arm(result, arm, "interaction", variant="ecological")
    return _table(result, "ecological", columns, rows, arm)


def spline_table(result: PoolingResult, arm: str) -> Table | None:
    """The tests of the curves, and the difference from the reference at a few values."""
    mine = where(result.spline, arm=arm)
    rows: list[SplineRow] = []
    for name in dict.fromkeys(row.covariate for row in mine):
        rows += where(mine, covariate=name, kind="test")
        rows += where(mine, covariate=name, kind="curve")[::10]

    def place(row: SplineRow) -> str:
        at_value = row.kind == "curve" and row.value is not None
        return f"at {row.value:g}" if at_value else row.level

    columns = (
        Column("Modifier", "covariate", measure_name),
        Column("Test, or value", place),
        _TRIALS,
        _estimate(result, "Against the reference"),
        Column("Test", lambda row: _test(row) if row.kind == "test" else ""),
        _NOTE,
    )
    return _table(result, "spline", columns, rows, arm, first=mine and mine[0])


def interaction_sentences(result: PoolingResult, arm: str) -> list[str]:
    """One sentence per modifier, as an abstract states it."""
    rows = {term: interaction_p(result, arm, term) for term in modifiers_shown(result, arm)}
    return [
        _text(
            "interaction_sentence",
            arm=arm,
            row=row,
            name=term.partition(":")[2],
            p=p_sentence(row),
            estimate="" if row.estimate is None else _estimate(result).cell(row),
        )
        for term, row in rows.items()
        if row is not None
    ]


# ------------------------------------------------------------------ between trials


def regression_tables(result: PoolingResult, arm: str) -> list[Table | None]:
    """The meta-regressions on numbers, and groups of trials by both models of tau²."""
    tau, without = _tau(result), _tau(result, "tau2_without")

    def both(row: RegressionRow) -> str:
        if row.tau2 is None or row.tau2_without is None or row.tau2_method == "fe":
            return DASH
        return f"{tau.cell(row)} ({without.cell(row)})"

    def residual(q: float | None, df: int | None, p: float | None) -> str:
        return f"{shown(q)} ({df} df), p {p_equals(p)}"

    def test(row: RegressionRow) -> str:
        if row.kind == "difference":
            return _test(row)
        return row.note if row.estimate is None else DASH

    slopes = (
        Column("Covariate", "covariate", measure_name),
        Column("Change", "level"),
        Column("Analysis", lambda row: CI_LABELS[row.ci_method] + " (headline)" * row.headline),
        _TRIALS,
        _estimate(result, "Ratio" if _of_log(result) else "Slope"),
        _se(result),
        _P,
        Column(f"τ{_of_log(result)} (without)", both),
        _R2,
        _I2,
        Column("Residual Q", "q q_df q_p", residual),
    )
    groups = (
        Column("Covariate", "covariate"),
        Column("Trials with", lambda row: row.level if row.kind == "level" else "difference"),
        Column("Model", "tau2_model", _TAU2_MODELS.__getitem__),
        _TRIALS,
        _estimate(result, "Effect"),
        tau,
        _I2,
        Column("Test of difference", test),
        _R2,
    )
    mine = where(result.regression, arm=arm)
    shown_groups = [r for r in mine if r.kind != "slope" and (r.headline or r.k == 1)]
    return [
        _table(result, "slopes", slopes, where(mine, kind="slope"), arm),
        _table(result, "groups", groups, shown_groups, arm),
    ]


def _test(row: RegressionRow | SplineRow) -> str:
    """``F(1, 10) = 4.2, p = 0.07`` or ``χ²(1) = 4.2, p = 0.04``."""
    name = f"χ²({row.test_df})" if row.df is None else f"F({row.test_df}, {shown(row.df, 0)})"
    return f"{name} = {shown(row.test, 2)}, p {p_equals(row.p)}"


def regression_sentences(result: PoolingResult, arm: str) -> list[str]:
    """One sentence per covariate, as a results section states it."""
    return [
        _text(
            "regression_sentence",
            row=row,
            estimate=_estimate(result).cell(row),
            test=_test(row) if row.kind != "slope" else "",
            tau2_model=_TAU2_MODELS[row.tau2_model],
        )
        for row in where(result.regression, arm=arm, headline=True)
        if row.kind != "level"
    ]


# ------------------------------------------------------------------ participants


def by_arm_table(result: PoolingResult) -> Table | None:
    """Randomised, died, scanned and analysed, by trial and arm; means of the baseline."""
    rows = result.by_arm
    decimals = max(definition(result.options.outcome).decimals or 0, 1)

    def others(row: ArmCount) -> str:
        if row.n_baseline_others is None:
            return count_text(result, row, "n_baseline_others")
        return shown(row.baseline_others, decimals)

    columns = (
        _TRIAL,
        Column("Arm", "arm"),
        *(
            Column(name.replace("_", " ").capitalize(), partial(count_text, result, field=name))
            for name in _ARM_COUNTS
        ),
        Column("Mean baseline, analysed", "baseline_analysed", as_number(decimals)),
        Column("Mean baseline, others", others),
    )
    return _table(
        result,
        "by_arm",
        columns,
        rows,
        empty=("", DASH),
        deaths={row.deaths_recorded for row in rows},
        withdrew=any(row.withdrew is not None for row in rows),
        others=any(row.baseline_others is not None for row in rows),
    )


def delta_table(result: PoolingResult, arm: str) -> Table | None:
    """The pooled effect by delta and at the tipping points; None where there is none."""
    decimals, unit = decimals_of(result), effect_unit(result)
    heading = f"Pooled estimate ({result.options.level:g}% CI)"
    columns = (
        Column(f"Delta, {unit}" if unit else "Delta", "delta", as_number(decimals)),
        Column(heading, "estimate ci_low ci_high", as_estimate(decimals)),
        _P,
        Column("", lambda row: "tipping point" if row.kind == "tipping-point" else ""),
    )
    rows = sorted(where(result.delta, arm=arm), key=lambda row: row.delta)
    return _table(result, "delta", columns, rows, arm)


def excluded_reasons(result: PoolingResult) -> list[tuple[str, str]]:
    """Each reason with its count as it may be shown, the largest first."""
    account = result.accounting
    if account is None:
        return []
    least = result.options.min_cell
    sentences = {e.code: e.sentence for e in where(result.exclusions, stage="participant")}
    released = suppressed_counts(account.excluded, account.participants - account.analysed, least)

    def count(code: str, n: int) -> str:
        """``<10`` for a few, a dash where the count would reveal another."""
        hidden = f"<{least}" if n < least else DASH
        return hidden if released[code] is None else shown_count(released[code])

    by_size = sorted(account.excluded.items(), key=lambda pair: -pair[1])
    return [(sentences[code], count(code, n)) for code, n in by_size]


def exclusions_table(result: PoolingResult) -> Table | None:
    """How many participants are not analysed, by reason; None where all are."""
    account = result.accounting
    excluded = sum(account.excluded.values()) if account is not None else 0
    columns = (Column("Reason", itemgetter(0)), Column("Participants", itemgetter(1)))
    rows = excluded_reasons(result)
    return _table(result, "exclusions", columns, rows, account=account, excluded=excluded)


# ------------------------------------------------------------------ integrity


def integrity_tables(result: PoolingResult) -> list[Table | None]:
    """Findings to review, then what was checked in how many trials."""

    def found(n: int | None, value: float | None) -> str:
        if value is not None:
            return shown(value, 2)
        return f"<{result.options.min_cell}" if n is None else shown_count(n)

    findings = (
        _TRIAL,
        Column("Finding", "statement"),
        Column("Found", "n_found value", found),
        Column("Checked", "n_checked", shown_count),
    )
    counts: dict[str, Counter[str]] = {}
    for row in result.integrity:
        counts.setdefault(row.check, Counter())[row.result] += 1
    done = {check: n for check, n in counts.items() if n["ok"] or n["review"]}
    checks = (
        Column("Check", itemgetter(0)),
        Column("Trials without findings", lambda item: str(item[1]["ok"])),
        Column("Trials with findings", lambda item: str(item[1]["review"])),
        Column("Trials not checked", lambda item: str(item[1]["not-checked"])),
    )
    skipped = [check for check in counts if check not in done]
    return [
        _table(result, "findings", findings, where(result.integrity, result="review")),
        _table(result, "integrity", checks, done.items(), skipped=skipped),
    ]


# ------------------------------------------------------------------ the page


_WIDTH = 100
_Part = str | Callable[[PoolingResult, str], Any]


def pooling_page(
    result: PoolingResult, figures: Sequence[PoolingFigure], record: Mapping[str, Any]
) -> str:
    """The complete page as text; ``figures`` as drawn, ``record`` facts of the run."""
    arms = partial(_by_arm, result, figures)
    account, options = result.accounting, result.options
    reviewed = bool(result.review_rows) or options.status == "ok"
    integrity = integrity_tables(result) if result.integrity else []
    sections = [
        section(
            effect_title(result),
            "result",
            *arms(result_sentence, "forest"),
        ),
        section(
            "Sensitivity analyses",
            "sensitivity",
            *arms(pooled_table),
            _text("review_note", options=options) if reviewed else "",
        ),
        section(
            "Survival", "survival", *arms("survival", "incidence", rmst_table, proportional_table)
        ),
        section("Harmonised and reported values", "reported", *arms(comparison_table, "reported")),
        section("The model's error", "error", *arms(error_sentence, "error", error_table)),
        section(
            "By participants' characteristics",
            "by-level",
            *arms(
                *(interaction_sentences, interactions_table),
                *(subgroups_table, "levels", spline_table, "spline"),
                ecological_table,
            ),
        ),
        section("Trials", "trials", *arms(trials_table)),
        section(
            "Heterogeneity and influence",
            "heterogeneity",
            *arms(heterogeneity_table),
            *arms(small_study_sentence),
            *arms("funnel"),
            check_table(result),
            *arms(influence_tables),
        ),
        section(
            "Meta-regression (between trials)",
            "between-trials",
            *arms(regression_sentences, regression_tables, "regression"),
            intro=Notice(_text("between_notice"), kind="note"),
        ),
        *([] if account is None else [_participants_section(result, account)]),
        section("Integrity of the data", "integrity", *integrity, intro=_text("integrity_intro")),
        notes_section(result.warnings),
        _methods_section(result, record),
    ]
    # What was pooled, and how much was tested, against which a p value must be read.
    subtitle = _text(
        "subtitle",
        label=effect_label(result),
        trials=len({row.trial for row in where(result.effects, analysis="trial")}),
        accounting=account,
        arms=len(result.arms),
        options=options,
        planned=len(set(options.by_columns) & set(options.prespecified_columns)),
    )
    return page_html(
        page_title(result),
        subtitle,
        sections,
        warnings=result.warnings,
        foot=notice_for("; ".join(result.conventions.get("model_licence", ()))),
    )


def _drawn(
    result: PoolingResult, figures: Sequence[PoolingFigure], kind: str, arm: str
) -> list[Drawing]:
    """The figures of a kind and arm with the caption of the template."""
    own = where(result.effects, arm=arm)
    caption = _text(
        f"figure_{kind}",
        options=result.options,
        aggregate=any(row.aggregate for row in own),
        pooled=any(row.analysis == "pooled" and (row.k or 0) > 1 for row in own),
        prediction=any(row.headline and scaled_prediction(row) for row in own),
        one_stage=len(where(own, analysis="pooled", headline=True, source="harmonised")) > 1,
    )
    found = where(figures, kind=kind, arm=arm)
    return [replace(one.drawing, caption=caption) for one in found]


def _by_arm(result: PoolingResult, figures: Sequence[PoolingFigure], *parts: _Part) -> list[Block]:
    """Of each arm its ``parts``: the figures of a kind, or what a function of the arm gives."""
    blocks: list[Block] = []
    for arm in result.arms:
        for part in parts:
            if isinstance(part, str):
                blocks += _drawn(result, figures, part, arm)
                continue
            found = part(result, arm)
            blocks += found if isinstance(found, list) else [found]
    return blocks


def _participants_section(result: PoolingResult, account: Accounting) -> Section:
    return section(
        "Participants",
        "participants",
        _text(
            "participants_intro",
            deaths=any(row.deaths_recorded for row in result.by_arm),
            all_analysed=account.analysed == account.participants,
        ),
        *baseline_tables(result.table1, "arm"),
        by_arm_table(result),
        *(delta_table(result, arm) for arm in result.arms),
        pooling_flow(result),
        exclusions_table(result) or _text("all_analysed", account=account),
    )


def _methods_section(result: PoolingResult, record: Mapping[str, Any]) -> Section:
    notes = [_text("rounding"), abbreviations([result.options.outcome])]
    counted_rows = any(row.n_control is not None or row.suppressed for row in result.effects)
    if result.options.min_cell and (result.by_arm or counted_rows):
        notes.insert(0, _text("suppression", options=result.options))
    facts = {name: str(value) for name, value in record.items()}
    return section("Methods", "methods", result.methods, facts, [note for note in notes if note])


# ------------------------------------------------------------------ participant flow


def pooling_flow(result: PoolingResult) -> Drawing | None:
    """The diagram; None for summaries and site files, which identify no participants."""
    flow = result.flow
    if flow is None:
        return None
    trials = None if flow.sought_trials is None else flow.sought_trials - flow.provided_trials
    missing = (
        None
        if flow.sought_participants is None
        else flow.sought_participants - flow.provided_participants
    )
    if missing is not None and missing < result.options.min_cell:
        missing = None  # so few could be identified
    excluded = _excluded(result)
    left_out = _known_counts(flow.provided_trials - flow.analysed_trials or None, None)
    analysed = _known_counts(flow.analysed_trials, flow.analysed_participants)
    if flow.aggregate_trials:
        more = _known_counts(flow.aggregate_trials, flow.aggregate_participants)
        analysed = (
            f"participants' data: {', '.join(analysed)}",
            f"published effects: {', '.join(more)}",
        )
    sought = _known_counts(flow.sought_trials, flow.sought_participants) or ("not stated",)
    provided = _known_counts(flow.provided_trials, flow.provided_participants)
    not_analysed = (*left_out, *excluded) if excluded else ()
    lost = _known_counts(trials or None, missing)
    return boxes_figure(
        [
            ("Individual participant data sought", sought, "Not provided", lost),
            ("Individual participant data provided", provided, "Not analysed", not_analysed),
            ("Analysed", (result.endpoint, *analysed), "", ()),
        ],
        "Flow of trials and participants",
    )


def _excluded(result: PoolingResult) -> list[str]:
    """Each reason with its count."""
    reasons = excluded_reasons(result)
    return [f"{sentence.rstrip('.')}: {count}" for sentence, count in reasons]


def _known_counts(trials: int | None, participants: int | None) -> tuple[str, ...]:
    return counts_of({"trials": trials, "participants": participants})


# ------------------------------------------------------------------ text for the terminal


def pooling_text(result: PoolingResult) -> str:
    """The headline; then trials, heterogeneity, participants and methods as tables and text."""
    arms = partial(_by_arm, result, ())
    notes = [one for one in dict.fromkeys(result.warnings) if severity(one) == "note"]
    parts = [
        *arms(_found),
        *arms(
            *(trials_table, pooled_table, heterogeneity_sentence),
            *(rmst_table, proportional_table),
            *(interactions_table, subgroups_table, ecological_table),
            *(spline_table, regression_tables, comparison_table),
        ),
        by_arm_table(result),
        *arms(delta_table),
        *arms(small_study_sentence),
        f"Methods: {result.methods}",
        *(f"Note: {sentence}" for sentence in notes),
    ]
    return _joined(parts, _WIDTH)


def pooling_brief(result: PoolingResult, width: int = _WIDTH) -> str:
    """What fits on a screen: headline, heterogeneity, participants, the number of notes."""
    parts = _by_arm(result, (), _found, heterogeneity_sentence)
    flow = result.flow
    if flow is not None:
        excluded = "; ".join(_excluded(result))
        parts.append(
            f"Participants: {counted(flow.analysed_participants, 'participant')} of "
            f"{counted(flow.analysed_trials, 'trial')} analysed, of {flow.provided_participants} "
            f"in the table.{f' Not analysed: {excluded}.' if excluded else ''}"
        )
    notes = sum(severity(one) == "note" for one in set(result.warnings))
    if notes:
        parts.append(f"{counted(notes, 'note')}: see the report, or --verbose.")
    return _joined(parts, width)


def _found(result: PoolingResult, arm: str) -> list[str]:
    """The headline of an arm, its interactions and meta-regressions, a sentence each."""
    sentences = interaction_sentences(result, arm) + regression_sentences(result, arm)
    return [result_sentence(result, arm), *sentences]


def _joined(parts: Sequence[Block | None], width: int) -> str:
    texts = (
        text_table(part)
        if isinstance(part, Table)
        else textwrap.fill(str(part), width, break_long_words=False, break_on_hyphens=False)
        for part in parts
        if part
    )
    return "\n\n".join(texts) + "\n"


def text_table(table: Table) -> str:
    """A table in aligned columns: text to the left, numbers to the right."""
    columns = list(zip(table.columns, *table.rows, strict=True))
    lines = [""] * (len(table.rows) + 1)
    for number, cells in enumerate(columns):
        width = max(map(len, cells))
        right = number > 0 and is_numeric_column(cells[1:])
        for i, cell in enumerate(cells):
            lines[i] += (cell.rjust(width) if right else cell.ljust(width)) + "   "
    lines = [line.rstrip() for line in lines]
    rule = "-" * max(map(len, lines))
    return "\n".join([table.title, rule, lines[0], rule, *lines[1:], rule])
