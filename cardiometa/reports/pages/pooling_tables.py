"""The tables and sentences of a pooled analysis: roundings of the values in the CSV files.

Each table takes the result and an arm, and is None where the result has no such rows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from ...measurement.measures import definition
from ...pooling.options import RATIOS
from ...pooling.results import EffectRow, PoolingResult, RegressionRow, SplineRow
from ...privacy.suppression import suppressed_counts
from ...records import Table
from ..figures.pooling import (
    CI_LABELS,
    count_text,
    decimals_of,
    difference_name,
    effect_label,
    interaction_p,
    is_pooled,
    modifiers_shown,
    of_arm,
    p_sentence,
    scaled,
    scaled_prediction,
)
from ..page import Column, as_estimate, as_interval, as_number, make_table, words, yes_no
from ..style import DASH, measure_name, p_equals, shown, shown_count, shown_p, unit_name

text = partial(words, "pooling")

_MODELS: Final = {"two-stage": "Two-stage", "one-stage": "One-stage"}
_TAU2_MODELS: Final = {"one": "one τ²", "separate": "separate τ²", "": ""}
_ARM_COUNTS: Final = (
    "randomised",
    "died",
    "withdrew",
    "alive",
    "scanned",
    "no_outcome",
    "no_baseline",
    "analysed",
    "events",
)


# ------------------------------------------------------------------ columns and formats


def _table(
    result: PoolingResult,
    name: str,
    title: str,
    columns: Iterable[Column],
    rows: Sequence[Any],
    *,
    empty: Sequence[str] = ("",),
    **facts: Any,
) -> Table | None:
    """The table with the caption ``table_NAME`` of the template; None without rows."""
    if not rows:
        return None
    label, options = effect_label(result), result.options
    caption = text(f"table_{name}", label=label, options=options, **facts)
    return make_table(title, columns, rows, caption, empty=empty)


def _estimate(result: PoolingResult, name: str = "Estimate") -> Column:
    return Column(
        f"{name} ({result.options.level:g}% CI)", scaled, _spread(as_estimate(decimals_of(result)))
    )


def _spread(show: Callable[..., str]) -> Callable[[Any], str]:
    """A format of several values as one of their tuple."""
    return lambda values: show(*values)


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
_TRIALS: Final = Column("Trials", "k", shown_count)
_I2: Final = Column("I², %", "i2_percent", as_number(0))
_R2: Final = Column("R², %", "r2_percent", as_number(0))
_COVARIATE: Final = Column("Covariate", "covariate", measure_name)
_NOTE: Final = Column("Note", "note")
_MODIFIER: Final = Column("Modifier", lambda row: row.term.partition(":")[2])


def _versus(result: PoolingResult, arm: str) -> str:
    return f"{arm} versus {result.control}"


# ------------------------------------------------------------------ effects


def effect_title(result: PoolingResult) -> str:
    """What the headline is: of one trial alone nothing is pooled."""
    return "Pooled effect" if is_pooled(result) else "Treatment effect"


def trials_table(result: PoolingResult, arm: str) -> Table | None:
    """Each trial's own effect."""
    columns = (
        Column("Trial", "trial"),
        *_counts(result, arm),
        _estimate(result),
        _se(result),
        Column("df", "df", as_number(0)),
        _P,
        Column("Weight (%)", "weight_percent", as_number(1)),
        _NOTE,
    )
    rows = of_arm(result, arm, "trial")
    title = f"Each trial: {_versus(result, arm)}"
    published = all(row.aggregate for row in rows)
    return _table(result, "trials", title, columns, rows, empty=("", DASH), published=published)


def pooled_table(result: PoolingResult, arm: str) -> Table | None:
    """The pooled effect by every interval, and the sensitivity analyses."""
    prediction = _spread(as_interval(decimals_of(result)))
    columns = (
        Column("Model", lambda row: _MODELS[row.model]),
        Column("Analysis", _analysis),
        _TRIALS,
        _estimate(result),
        _se(result),
        Column("Distribution", _distribution),
        _P,
        Column(
            f"{result.options.level:g}% prediction interval",
            lambda row: scaled_prediction(row) or (None, None),
            prediction,
        ),
        _tau(result),
    )
    rows = of_arm(result, arm, "pooled")
    return _table(
        result, "pooled", f"{effect_title(result)}: {_versus(result, arm)}", columns, rows
    )


def _analysis(row: EffectRow) -> str:
    """What a pooled row is: its interval, or the sensitivity analysis."""
    if row.label:
        name = row.label[0].upper() + row.label[1:].replace("tau2", "τ²")
    elif row.variant == "stratified-cox":
        name = f"{CI_LABELS[row.ci_method]}, common effect"
    else:
        name = CI_LABELS[row.ci_method] if (row.k or 0) > 1 else "One trial"
    return name + (" (headline)" if row.headline and row.term == "treatment" else "")


def _distribution(row: EffectRow) -> str:
    """``t(7)``, ``t(6.9)`` or ``z``; ``F(2, 7)`` or ``χ²(2)`` of a joint test."""
    if row.variant == "joint-test":
        return f"χ²({row.q_df})" if row.df is None else f"F({row.q_df}, {shown(row.df, 0)})"
    if row.df is None:
        return "z"
    return f"t({shown(row.df, 0 if float(row.df).is_integer() else 1)})"


def comparison_table(result: PoolingResult, arm: str) -> Table | None:
    """Four quantities of both sources with paired-bootstrap intervals, in the outcome's unit."""
    rows = [row for row in result.comparison if row.arm == arm]
    estimate = as_estimate(decimals_of(result) + 1)
    names = (
        ("Harmonised", "harmonised"),
        ("As reported", "reported"),
        ("Reported − harmonised", "difference"),
    )
    columns = (
        Column("Quantity", lambda row: row.quantity[0].upper() + row.quantity[1:]),
        *(Column(heading, f"{name} {name}_low {name}_high", estimate) for heading, name in names),
    )
    title = f"Harmonised and reported values, the same participants: {arm}"
    k, unit = rows[0].k if rows else 0, unit_name(result.unit)
    return _table(result, "comparison", title, columns, rows, k=k, unit=unit)


# ------------------------------------------------------------------ heterogeneity and influence


def heterogeneity_table(result: PoolingResult, arm: str) -> Table | None:
    """tau² by every estimator, with I², H² and the Q-profile limits."""
    decimals = decimals_of(result)
    rows = [row for row in result.heterogeneity if row.arm == arm]
    unit = unit_name(result.unit)

    def tau(show: Callable[..., str]) -> Callable[..., str]:
        """Of FE a dash: it is assumed, not estimated."""
        return lambda method, *values: DASH if method == "fe" else show(*values)

    columns = (
        Column("Estimator", lambda row: row.tau2_method.upper() + " (used)" * row.headline),
        Column("τ²", "tau2_method tau2 tau2_low tau2_high", tau(as_estimate(min(2 * decimals, 4)))),
        Column(
            f"τ, {unit}" if unit else "τ",
            "tau2_method tau tau_low tau_high",
            tau(as_estimate(min(decimals + 1, 4))),
        ),
        Column("I², %", "i2_percent i2_low i2_high", as_estimate(1)),
        Column("H²", "h2 h2_low h2_high", as_estimate(2)),
    )
    title = f"Heterogeneity between trials: {arm}"
    line = rows[0] if rows else None
    return _table(result, "heterogeneity", title, columns, rows, line=line)


def leave_one_out_table(result: PoolingResult, arm: str) -> Table | None:
    """The headline with each trial left out in turn; None where there are too few."""
    rows = [row for row in of_arm(result, arm, "leave-one-out") if row.headline]
    if not rows:
        return None
    columns = (
        Column("Left out", "trial"),
        _estimate(result, "Pooled estimate"),
        _tau(result, heading="τ"),
        Column("I², %", "i2_percent", as_number(1)),
        _P,
    )
    return make_table(f"Each trial left out in turn: {arm}", columns, rows)


def influence_table(result: PoolingResult, arm: str) -> Table | None:
    """What each trial does to the pooled effect; None below three trials."""
    columns = (
        Column("Trial", "trial"),
        Column("Studentised residual", "rstudent", as_number(2)),
        Column("DFFITS", "dffits", as_number(2)),
        Column("Cook's distance", "cook_d", as_number(2)),
        Column("Covariance ratio", "cov_ratio", as_number(2)),
        _tau(result, "tau2_deleted", "τ without it"),
        Column("Q without it", "q_deleted", as_number(1)),
        Column("Hat", "hat", as_number(3)),
        Column("DFBETAS", "dfbetas", as_number(2)),
        Column(
            "Influential",
            lambda row: row.note if row.influential is None else yes_no(row.influential),
        ),
    )
    rows = [row for row in result.influence if row.arm == arm]
    return _table(result, "influence", f"Influence of each trial: {arm}", columns, rows)


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
    return _table(result, "checks", "Checks of the one-stage model", columns, result.checks)


# ------------------------------------------------------------------ effect modifiers


def interactions_table(result: PoolingResult, arm: str) -> Table | None:
    """Every pooled within-trial interaction of one arm; None without any."""
    columns = (
        _MODIFIER,
        Column("Contrast", "level"),
        Column("Model", lambda row: _MODELS[row.model]),
        _TRIALS,
        _estimate(result, difference_name(result)),
        _se(result),
        Column("Distribution", _distribution),
        _P,
        Column("p (Holm)", "p_holm", shown_p),
    )
    rows = [row for row in of_arm(result, arm, "interaction") if row.headline and not row.trial]
    title = f"Interactions within trials: {_versus(result, arm)}"
    return _table(result, "interactions", title, columns, rows)


def subgroups_table(result: PoolingResult, arm: str) -> Table | None:
    """The floating effects by level; None without any."""
    columns = (
        _MODIFIER,
        Column("Level", "level"),
        _TRIALS,
        *_counts(result, arm),
        _estimate(result, "Effect"),
        _NOTE,
    )
    rows = [row for row in of_arm(result, arm, "subgroup") if not row.trial]
    title = f"Effects by level: {_versus(result, arm)}"
    method = CI_LABELS["hksj-truncated"]
    return _table(result, "subgroups", title, columns, rows, method=method)


def ecological_table(result: PoolingResult, arm: str) -> Table | None:
    """Associations between trials, separate and labelled; None without any."""
    columns = (
        Column("Covariate", _MODIFIER.source),
        Column("Of the trials' means", "level"),
        _TRIALS,
        _estimate(result, "Association"),
    )
    rows = of_arm(result, arm, "interaction")
    rows = [row for row in rows if row.variant == "ecological"]
    title = "Between trials: ecological, not effect modification"
    return _table(result, "ecological", title, columns, rows)


def spline_table(result: PoolingResult, arm: str) -> Table | None:
    """The tests of the curves, and the difference from the reference at a few values."""
    mine = [row for row in result.spline if row.arm == arm]
    rows: list[SplineRow] = []
    for name in dict.fromkeys(row.covariate for row in mine):
        own = [row for row in mine if row.covariate == name]
        rows += [row for row in own if row.kind == "test"]
        rows += [row for row in own if row.kind == "curve"][::10]

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
    title = f"Continuous modifiers by splines, within trials: {_versus(result, arm)}"
    return _table(result, "spline", title, columns, rows, first=mine[0] if mine else None)


def interaction_sentences(result: PoolingResult, arm: str) -> list[str]:
    """One sentence per modifier, as an abstract states it."""
    estimate = as_estimate(decimals_of(result))
    found = []
    for term in modifiers_shown(result, arm):
        row = interaction_p(result, arm, term)
        if row is not None:
            facts = {"arm": arm, "row": row, "name": term.partition(":")[2], "p": p_sentence(row)}
            shown_effect = "" if row.estimate is None else estimate(*scaled(row))
            found.append(text("interaction_sentence", estimate=shown_effect, **facts))
    return found


# ------------------------------------------------------------------ between trials


def slopes_table(result: PoolingResult, arm: str) -> Table | None:
    """The meta-regressions on numbers; None without any."""
    tau, without = _tau(result), _tau(result, "tau2_without")

    def both(row: RegressionRow) -> str:
        if row.tau2 is None or row.tau2_without is None or row.tau2_method == "fe":
            return DASH
        return f"{tau.cell(row)} ({without.cell(row)})"

    columns = (
        _COVARIATE,
        Column("Change", "level"),
        Column("Analysis", lambda row: CI_LABELS[row.ci_method] + " (headline)" * row.headline),
        _TRIALS,
        _estimate(result, "Ratio" if _of_log(result) else "Slope"),
        _se(result),
        _P,
        Column(f"τ{_of_log(result)} (without)", both),
        _R2,
        _I2,
        Column(
            "Residual Q",
            "q q_df q_p",
            lambda q, df, p: f"{shown(q, 1)} ({df} df), p {p_equals(p)}",
        ),
    )
    rows = [row for row in result.regression if row.arm == arm and row.kind == "slope"]
    return _table(result, "slopes", f"Meta-regression: {_versus(result, arm)}", columns, rows)


def groups_table(result: PoolingResult, arm: str) -> Table | None:
    """The pooled effects of groups of trials by both models of tau²; None without any."""

    def test(row: RegressionRow) -> str:
        if row.kind == "difference":
            return _test(row)
        return row.note if row.estimate is None else DASH

    columns = (
        Column("Covariate", "covariate"),
        Column("Trials with", lambda row: row.level if row.kind == "level" else "difference"),
        Column("Model", lambda row: _TAU2_MODELS[row.tau2_model]),
        _TRIALS,
        _estimate(result, "Effect"),
        _tau(result),
        _I2,
        Column("Test of difference", test),
        _R2,
    )
    rows = [
        row
        for row in result.regression
        if row.arm == arm and row.kind != "slope" and (row.headline or row.k == 1)
    ]
    return _table(result, "groups", f"Groups of trials: {_versus(result, arm)}", columns, rows)


def _test(row: RegressionRow | SplineRow) -> str:
    """``F(1, 10) = 4.2, p = 0.07`` or ``χ²(1) = 4.2, p = 0.04``."""
    name = f"χ²({row.test_df})" if row.df is None else f"F({row.test_df}, {shown(row.df, 0)})"
    return f"{name} = {shown(row.test, 2)}, p {p_equals(row.p)}"


def regression_sentences(result: PoolingResult, arm: str) -> list[str]:
    """One sentence per covariate, as a results section states it."""
    estimate = as_estimate(decimals_of(result))
    return [
        text(
            "regression_sentence",
            row=row,
            estimate=estimate(*scaled(row)),
            test=_test(row) if row.kind != "slope" else "",
            tau2_model=_TAU2_MODELS[row.tau2_model],
        )
        for row in result.regression
        if row.arm == arm and row.headline and row.kind != "level"
    ]


# ------------------------------------------------------------------ participants


def by_arm_table(result: PoolingResult) -> Table | None:
    """Randomised, died, scanned and analysed, by trial and arm; means of the baseline."""
    if not result.by_arm:
        return None
    decimals = max(definition(result.options.outcome).decimals or 0, 1)

    def others(row: Any) -> str:
        if row.n_baseline_others is None:
            return count_text(result, row, "n_baseline_others")
        return shown(row.baseline_others, decimals)

    columns = (
        Column("Trial", "trial"),
        Column("Arm", "arm"),
        *(
            Column(name.replace("_", " ").capitalize(), partial(count_text, result, field=name))
            for name in _ARM_COUNTS
        ),
        Column("Mean baseline, analysed", "baseline_analysed", as_number(decimals)),
        Column("Mean baseline, others", others),
    )
    facts = {
        "deaths": {row.deaths_recorded for row in result.by_arm},
        "withdrew": any(row.withdrew is not None for row in result.by_arm),
        "others": any(row.baseline_others is not None for row in result.by_arm),
    }
    title = "Participants by arm"
    return _table(result, "by_arm", title, columns, result.by_arm, empty=("", DASH), **facts)


def delta_table(result: PoolingResult, arm: str) -> Table | None:
    """The pooled effect by delta and at the tipping points; None where there is none."""
    decimals, unit = decimals_of(result), unit_name(result.unit)
    columns = (
        Column(f"Delta, {unit}" if unit else "Delta", "delta", as_number(decimals)),
        Column(
            f"Pooled estimate ({result.options.level:g}% CI)",
            "estimate ci_low ci_high",
            as_estimate(decimals),
        ),
        _P,
        Column("", lambda row: "tipping point" if row.kind == "tipping-point" else ""),
    )
    rows = sorted((row for row in result.delta if row.arm == arm), key=lambda row: row.delta)
    title = f"If outcomes missing in {arm} had differed"
    return _table(result, "delta", title, columns, rows)


def excluded_reasons(result: PoolingResult) -> list[tuple[str, str]]:
    """Each reason with its count as it may be shown, the largest first."""
    account = result.accounting
    if account is None:
        return []
    least = result.options.min_cell
    sentences = {
        item.code: item.sentence for item in result.exclusions if item.stage == "participant"
    }
    released = suppressed_counts(account.excluded, account.participants - account.analysed, least)

    def count(code: str, n: int) -> str:
        """``<10`` for a few, a dash where the count would reveal another."""
        if released[code] is not None:
            return shown_count(released[code])
        return f"<{least}" if n < least else DASH

    by_size = sorted(account.excluded.items(), key=lambda pair: -pair[1])
    return [(sentences[code], count(code, n)) for code, n in by_size]


def exclusions_table(result: PoolingResult) -> Table | None:
    """How many participants are not analysed, by reason; None where all are."""
    account = result.accounting
    excluded = sum(account.excluded.values()) if account is not None else 0
    columns = (Column("Reason", lambda pair: pair[0]), Column("Participants", lambda pair: pair[1]))
    rows = excluded_reasons(result)
    title = "Participants of the table who are not analysed"
    return _table(result, "exclusions", title, columns, rows, account=account, excluded=excluded)


# ------------------------------------------------------------------ integrity


def integrity_tables(result: PoolingResult) -> list[Table]:
    """Findings to review, then what was checked in how many trials."""
    least = result.options.min_cell

    def found(n: int | None, value: float | None) -> str:
        if value is not None:
            return shown(value, 2)
        return f"<{least}" if n is None else shown_count(n)

    findings = (
        Column("Trial", "trial"),
        Column("Finding", "statement"),
        Column("Found", "n_found value", found),
        Column("Checked", "n_checked", shown_count),
    )
    found_rows = [row for row in result.integrity if row.result == "review"]
    tables = [make_table("Findings to review", findings, found_rows)] if found_rows else []
    counts: dict[str, Counter[str]] = {}
    for row in result.integrity:
        counts.setdefault(row.check, Counter())[row.result] += 1
    done = {check: n for check, n in counts.items() if n["ok"] or n["review"]}
    checks = (
        Column("Check", lambda item: item[0]),
        Column("Trials without findings", lambda item: item[1]["ok"]),
        Column("Trials with findings", lambda item: item[1]["review"]),
        Column("Trials not checked", lambda item: item[1]["not-checked"]),
    )
    caption = text("table_integrity", skipped=[check for check in counts if check not in done])
    return [*tables, make_table("Checks of the data", checks, done.items(), caption)]
