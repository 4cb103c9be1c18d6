"""The delta-adjusted effects of an arm as a table.

The tables of a pooled analysis as shown text: roundings of the values in the CSV files.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable

from ...measurement.measures import definition
from ...pooling.methods import EFFECT_NAMES
from ...pooling.options import EVENTS, RATIOS, STANDARDISED, WIN_ODDS
from ...pooling.results import ArmCount, EffectRow, HeterogeneityRow, PoolingResult
from ...privacy.suppression import suppressed_counts
from ...records import Table
from ..style import (
    DASH,
    measure_label,
    measure_name,
    shown,
    shown_count,
    shown_estimate,
    shown_interval,
    unit_name,
)


def delta_table(result: PoolingResult, arm: str) -> Table | None:
    """The pooled effect by delta and at the tipping points; None where there is none."""
    rows = sorted((row for row in result.delta if row.arm == arm), key=lambda row: row.delta)
    if not rows:
        return None
    decimals = decimals_of(result)
    unit = unit_name(result.unit)
    return Table(
        title=f"If those of {arm} without the outcome did otherwise",
        columns=(
            f"Delta, {unit}" if unit else "Delta",
            f"Pooled estimate ({result.options.level:g}% CI)",
            "p",
            "",
        ),
        rows=tuple(
            (
                shown(row.delta, decimals),
                shown_estimate(row.estimate, row.ci_low, row.ci_high, decimals),
                shown_p(row.p),
                "tipping point" if row.kind == "tipping-point" else "",
            )
            for row in rows
        ),
        caption=f"{effect_label(result)}. Delta: how far those of this arm whose outcome is "
        "missing are, on average, from people like them who have it; 0 is the analysis itself. A "
        "tipping point is the delta at which the interval begins to hold 0.",
    )


CI_LABELS = {
    "wald": "Wald",
    "hksj": "HKSJ",
    "hksj-truncated": "HKSJ, truncated",
    "kenward-roger": "Kenward-Roger",
    "satterthwaite": "Satterthwaite",
}


MODEL_NAMES = {"two-stage": "Two-stage", "one-stage": "One-stage"}


def shown_p(p: float | None) -> str:
    """A p value as journals print it: three decimals, two where it is larger."""
    if p is None or not math.isfinite(p):
        return DASH
    if p < 0.001:
        return "<0.001"
    return shown(p, 3 if p < 0.1 else 2)


def decimals_of(result: PoolingResult) -> int:
    """Decimals for effects: those of the measure, more where the SE is small against them."""
    known = definition(result.options.outcome).decimals or 0
    if result.options.effect in (*EVENTS, WIN_ODDS):
        return 3 if result.options.effect == "risk-difference" else 2
    if result.options.effect == STANDARDISED:
        return 2
    # A common effect may be far more precise than the effect that is shown.
    errors = [
        row.se
        for row in result.effects
        if row.analysis == "pooled"
        and row.se
        and row.effect != WIN_ODDS
        and (row.tau2_method != "fe" or result.options.tau2 == "fe")
    ]
    if not errors:
        return max(known, 1)
    # Two significant digits of the smallest standard error of a pooled effect.
    needed = 1 - math.floor(math.log10(min(errors)))
    return int(min(max(known, needed, 0), 6))


def effect_label(result: PoolingResult) -> str:
    """``Mean difference in LV EF, %``."""
    effect = EFFECT_NAMES[result.options.effect]
    name = effect[0].upper() + effect[1:]
    if not result.options.outcome:
        return name
    if result.options.effect in EVENTS:
        return f"{name}, {result.options.outcome}"
    if result.options.effect in (WIN_ODDS, STANDARDISED):
        return f"{name}, {measure_name(result.options.outcome)}"
    joint = "in" if result.options.effect == "mean-difference" else "of"
    return f"{name} {joint} {measure_label(result.options.outcome, result.unit)}"


def unbroken(label: str) -> str:
    """A measure's label whose name and unit stay together where the line is broken."""
    head, joint, rest = label.rpartition(" in ")
    if not joint:
        head, joint, rest = label.rpartition(" of ")
    return head + joint + rest.replace(" ", "\N{NO-BREAK SPACE}") if joint else label


def scaled(row: EffectRow) -> tuple[float | None, float | None, float | None]:
    """Estimate and interval on the scale shown: ratios as ratios."""
    if row.effect in RATIOS:
        return row.exp_estimate, row.exp_ci_low, row.exp_ci_high
    return row.estimate, row.ci_low, row.ci_high


def scaled_prediction(row: EffectRow) -> tuple[float, float] | None:
    """The prediction interval on the scale shown; None where there is none."""
    if row.pi_low is None or row.pi_high is None:
        return None
    if row.effect in RATIOS:
        try:
            low, high = math.exp(row.pi_low), math.exp(row.pi_high)
        except OverflowError:  # three trials, one df: beyond the largest number
            return None
        return (low, high) if low > 0 else None
    return row.pi_low, row.pi_high


def of_arm(result: PoolingResult, arm: str, analysis: str) -> list[EffectRow]:
    """The rows of one arm and analysis, in the file's order; of the harmonised values."""
    return [
        row
        for row in result.effects
        if row.arm == arm and row.analysis == analysis and row.source == "harmonised"
    ]


def headline_of(result: PoolingResult, arm: str) -> EffectRow:
    """The one pooled row of an arm that stands for it: the two-stage one where there is one."""
    return next(row for row in of_arm(result, arm, "pooled") if row.headline)


def one_stage_headline(result: PoolingResult, arm: str) -> EffectRow | None:
    """The headline of the one-stage model, None where there is none."""
    rows = of_arm(result, arm, "pooled")
    return next((row for row in rows if row.headline and row.model == "one-stage"), None)


def _estimate(row: EffectRow, decimals: int) -> str:
    return DASH if row.estimate is None else shown_estimate(*scaled(row), decimals)


def count_text(row: EffectRow, side: str) -> str:
    """A count, ``<10`` where it is too small to be shown, a dash where it would give one back."""
    count: int | None = getattr(row, f"n_{side}")
    return shown_count(count) if count is not None else thin_text(row.note, side)


def thin_text(note: str, name: str) -> str:
    """``<10`` where the note says that the named count is thin, else a dash."""
    found = re.match(r"(?:counts withheld; )?n(<\d+)(?: \(([^)]*)\))?", note)
    if found is None:
        return DASH
    whole_row = found.group(2) is None
    return found.group(1) if whole_row or name in found.group(2).split(", ") else DASH


def trials_table(result: PoolingResult, arm: str) -> Table:
    """Each trial's own effect."""
    decimals = decimals_of(result)
    rows = [
        (
            row.trial,
            count_text(row, "control"),
            count_text(row, "active"),
            _estimate(row, decimals),
            shown(row.se, decimals + 1),
            "" if row.df is None else shown(row.df, 0),
            shown_p(row.p),
            shown(row.weight_percent, 1),
            row.note,
        )
        for row in of_arm(result, arm, "trial")
    ]
    columns = (
        "Trial",
        f"n {result.control}",
        f"n {arm}",
        f"Estimate ({result.options.level:g}% CI)",
        _se_heading(result),
        "df",
        "p",
        "Weight (%)",
        "Note",
    )
    return _without_empty_columns(
        Table(
            title=f"Each trial: {arm} versus {result.control}",
            columns=columns,
            rows=tuple(rows),
            caption=f"{effect_label(result)}. Each trial by its own model, interval from "
            "Student's t with the residual degrees of freedom where they are known.",
        )
    )


def _se_heading(result: PoolingResult) -> str:
    return "SE of log" if result.options.effect in RATIOS else "SE"


def _without_empty_columns(table: Table) -> Table:
    """Leave out columns that say nothing in any row; the first always stays."""
    keep = [
        i
        for i in range(len(table.columns))
        if i == 0 or any(row[i] not in ("", DASH) for row in table.rows)
    ]
    return Table(
        title=table.title,
        columns=tuple(table.columns[i] for i in keep),
        rows=tuple(tuple(row[i] for i in keep) for row in table.rows),
        caption=table.caption,
    )


def law_text(row: EffectRow) -> str:
    """``t(7)``, ``t(6.9)`` or ``z``."""
    if row.df is None:
        return "z"
    return f"t({shown(row.df, 0 if float(row.df).is_integer() else 1)})"


def pooled_name(row: EffectRow) -> str:
    """What a pooled row is: its interval, or the sensitivity analysis it stands for."""
    _, found, words = row.note.partition("sensitivity: ")
    if found:
        words = words.partition(";")[0]
        return words[0].upper() + words[1:].replace("tau2", "τ²")
    if row.note.startswith("Mantel-Haenszel"):
        return "Mantel-Haenszel"
    if row.note.startswith("Cox model stratified"):
        return f"{CI_LABELS[row.ci_method]}, common effect"
    return CI_LABELS[row.ci_method] if (row.k or 0) > 1 else "One trial"


def pooled_table(result: PoolingResult, arm: str) -> Table:
    """The pooled effect by every interval, and the sensitivity analyses."""
    decimals = decimals_of(result)
    rows = []
    for row in of_arm(result, arm, "pooled"):
        limits = scaled_prediction(row)
        rows.append(
            (
                MODEL_NAMES[row.model],
                pooled_name(row)
                + (" (headline)" if row.headline and row.term == "treatment" else ""),
                shown(row.k, 0),
                _estimate(row, decimals),
                shown(row.se, decimals + 1),
                law_text(row),
                shown_p(row.p),
                DASH if limits is None else shown_interval(*limits, decimals),
                DASH if row.tau2 is None else shown(math.sqrt(row.tau2), decimals + 1),
            )
        )
    columns = (
        "Model",
        "Analysis",
        "Trials",
        f"Estimate ({result.options.level:g}% CI)",
        _se_heading(result),
        "Law",
        "p",
        f"{result.options.level:g}% prediction interval",
        "τ of log" if result.options.effect in RATIOS else "τ",
    )
    return Table(
        title=f"Pooled effect: {arm} versus {result.control}",
        columns=columns,
        rows=tuple(rows),
        caption=f"{effect_label(result)}. The headline is the interval named in the methods; "
        "the others are given so that nobody has to take the choice on trust.",
    )


def heterogeneity_table(result: PoolingResult, arm: str) -> Table:
    """tau² by every estimator, with I², H² and the Q-profile limits."""
    decimals = decimals_of(result)
    lines = [row for row in result.heterogeneity if row.arm == arm]
    rows = [
        (
            row.tau2_method.upper() + (" (used)" if row.headline else ""),
            *_tau_cells(row, decimals),
            _with_limits(row.i2_percent, row.i2_low, row.i2_high, 1),
            _with_limits(row.h2, row.h2_low, row.h2_high, 2),
        )
        for row in lines
    ]
    unit = unit_name(result.unit)
    return Table(
        title=f"Heterogeneity between trials: {arm}",
        columns=("Estimator", "τ²", f"τ, {unit}" if unit else "τ", "I², %", "H²"),
        rows=tuple(rows),
        caption=f"{q_text(lines[0])} In brackets: {result.options.level:g}% Q-profile intervals, "
        "which do not depend on the estimator. FE assumes no heterogeneity; its I² and H² are "
        "from Q. I² also rises when measurement noise falls: judge by τ, in the outcome's unit.",
    )


def _tau_cells(row: HeterogeneityRow, decimals: int) -> tuple[str, str]:
    if row.tau2_method == "fe":  # assumed, not estimated
        return DASH, DASH
    return (
        _with_limits(row.tau2, row.tau2_low, row.tau2_high, 2 * decimals),
        _with_limits(row.tau, row.tau_low, row.tau_high, decimals + 1),
    )


def q_text(row: HeterogeneityRow) -> str:
    """Cochran's Q and its test."""
    text = f"Q = {shown(row.q, 2)} on {row.q_df} df, p = {shown_p(row.q_p)}."
    return text.replace("p = <", "p < ") + (f" Note: {row.note}." if row.note else "")


def _with_limits(value: float | None, low: float | None, high: float | None, decimals: int) -> str:
    if value is None or low is None:
        return shown(value, min(decimals, 4))
    return f"{shown(value, min(decimals, 4))} ({shown_interval(low, high, min(decimals, 4))})"


def leave_one_out_table(result: PoolingResult, arm: str) -> Table | None:
    """The headline with each trial left out in turn; None where there are too few."""
    decimals = decimals_of(result)
    rows = [row for row in of_arm(result, arm, "leave-one-out") if row.headline]
    if not rows:
        return None
    return Table(
        title=f"Each trial left out in turn: {arm}",
        columns=("Left out", f"Pooled estimate ({result.options.level:g}% CI)", "τ", "I², %", "p"),
        rows=tuple(
            (
                row.trial,
                _estimate(row, decimals),
                DASH if row.tau2 is None else shown(math.sqrt(row.tau2), decimals + 1),
                shown(row.i2_percent, 1),
                shown_p(row.p),
            )
            for row in rows
        ),
    )


def check_table(result: PoolingResult) -> Table | None:
    """What was checked of the one-stage fits; None where there is none."""
    if not result.checks:
        return None
    decimals = decimals_of(result) + 1
    return Table(
        title="Checks of the one-stage model",
        columns=(
            "Arm",
            "Trials",
            "Criterion",
            "At rest",
            "Starts",
            "Equals two-stage where it must",
            "One-stage less two-stage",
            "Reason",
        ),
        rows=tuple(
            (
                check.arm,
                str(check.k),
                shown(check.criterion, 3),
                "yes" if check.converged else "NO",
                str(check.starts),
                "yes" if check.self_check < 1e-6 else "NO",
                shown(check.difference, decimals),
                check.reason,
            )
            for check in result.checks
        ),
        caption="Criterion: -2 log restricted likelihood of the participants' rows, constants "
        "included. Starts: optima looked into after a scan of 40 values of τ. With the residual "
        "variances of the first stage the model must give the two-stage effect; where the two "
        "differ otherwise, the reason is named.",
    )


# ------------------------------------------------------------------ people


_ARM_COUNTS = {
    "randomised": "Randomised",
    "died": "Died",
    "withdrew": "Withdrew",
    "alive": "Alive",
    "scanned": "Scanned",
    "no_outcome": "No outcome",
    "no_baseline": "No baseline",
    "analysed": "Analysed",
    "events": "Events",
}


def by_arm_table(result: PoolingResult) -> Table:
    """Who was randomised, died, came and was analysed, by trial and arm; means of the baseline."""
    decimals = max(definition(result.options.outcome).decimals or 0, 1)
    rows = [
        (
            row.trial,
            row.arm,
            *(_arm_count(row, name) for name in _ARM_COUNTS),
            shown(row.baseline_analysed, decimals),
            thin_text(row.note, "n_baseline_others")
            if row.n_baseline_others is None
            else shown(row.baseline_others, decimals),
        )
        for row in result.by_arm
    ]
    caption = "Died, withdrew, alive and scanned are at the follow-up."
    if any("deaths not recorded" in row.note for row in result.by_arm):
        caption += f" {DASH}: the trial records no death, so who was alive is not known."
    if any(row.baseline_others is not None for row in result.by_arm):
        caption += " A mean baseline of the others that differs tells who did not come."
    return _without_empty_columns(
        Table(
            title="Participants by arm",
            columns=(
                "Trial",
                "Arm",
                *_ARM_COUNTS.values(),
                "Mean baseline, analysed",
                "Mean baseline, others",
            ),
            rows=tuple(rows),
            caption=caption,
        )
    )


def _arm_count(row: ArmCount, name: str) -> str:
    value = getattr(row, name)
    return shown_count(value) if value is not None else thin_text(row.note, name)


def exclusions_table(result: PoolingResult) -> Table | None:
    """How many participants are not analysed, by reason; None where all are."""
    account = result.accounting
    if account is None or not account.excluded:
        return None
    rows = excluded_reasons(result)
    return Table(
        title="Participants of the table who are not analysed",
        columns=("Reason", "Participants"),
        rows=tuple(rows),
        caption=f"{shown_count(account.participants)} participants in the table = "
        f"{shown_count(account.analysed)} analysed + "
        f"{shown_count(sum(account.excluded.values()))} not analysed, each with one reason "
        "in exclusions.csv.",
    )


def excluded_reasons(result: PoolingResult) -> list[tuple[str, str]]:
    """Each reason with its count as it may be shown, the largest first."""
    account = result.accounting
    if account is None:
        return []
    least = result.options.min_cell
    sentences = {
        item.code: item.sentence for item in result.exclusions if item.stage == "participant"
    }
    gone = account.participants - account.analysed
    told = suppressed_counts(account.excluded, gone, least)
    return [
        (sentences[code], _few_or_count(told[code], count, least))
        for code, count in sorted(account.excluded.items(), key=lambda pair: -pair[1])
    ]


def _few_or_count(told: int | None, count: int, least: int) -> str:
    """The count, ``<10`` for a few, a dash where it would give another back."""
    if told is not None:
        return shown_count(told)
    return f"<{least}" if count < least else DASH


def integrity_tables(result: PoolingResult) -> Iterable[Table]:
    """What wants a look, then what was checked in how many trials."""
    looks = [row for row in result.integrity if row.result == "look"]
    if looks:
        yield Table(
            title="Findings that want a look",
            columns=("Trial", "Finding", "Found", "Checked"),
            rows=tuple(
                (
                    row.trial,
                    row.sentence.partition(" (n<")[0],
                    _finding(row.n_found, row.value, result.options.min_cell),
                    shown_count(row.n_checked),
                )
                for row in looks
            ),
        )
    counts: dict[str, Counter[str]] = {}
    for row in result.integrity:
        counts.setdefault(row.check, Counter())[row.result] += 1
    rows = tuple(
        (check, *(str(found[state]) for state in ("ok", "look", "not-checked")))
        for check, found in counts.items()
        if found["ok"] or found["look"]
    )
    skipped = [check for check, found in counts.items() if not (found["ok"] or found["look"])]
    yield Table(
        title="Checks of the data",
        columns=("Check", "Trials without findings", "Trials to look at", "Trials not checked"),
        rows=rows,
        caption=f"Not possible in any trial, for want of columns: {', '.join(skipped)}."
        if skipped
        else "",
    )


def _finding(found: int | None, value: float | None, least: int) -> str:
    if value is not None:
        return shown(value, 2)
    return f"<{least}" if found is None else shown_count(found)
