"""Tables of what single trials do to the pooled effect, and of what trials differ in."""

from __future__ import annotations

import math

from ...pooling.options import RATIOS
from ...pooling.results import InfluenceRow, PoolingResult, RegressionRow, SplineRow
from ...records import Table
from ..style import DASH, measure_name, shown, shown_estimate
from .pooling_tables import CI_LABELS, decimals_of, effect_label, shown_p

_TAU2_MODELS = {"one": "one τ²", "separate": "separate τ²", "": ""}


def influence_table(result: PoolingResult, arm: str) -> Table | None:
    """What each trial does to the pooled effect; None below three trials."""
    rows = [row for row in result.influence if row.arm == arm]
    if not rows:
        return None
    decimals = decimals_of(result) + 1
    return Table(
        title=f"Influence of each trial: {arm}",
        columns=(
            "Trial",
            "Studentised residual",
            "DFFITS",
            "Cook's distance",
            "Covariance ratio",
            "τ without it",
            "Q without it",
            "Hat",
            "DFBETAS",
            "Influential",
        ),
        rows=tuple(_influence_cells(row, decimals) for row in rows),
        caption="Each trial left out in turn, of the model with Wald tests (Viechtbauer & Cheung "
        "2010). Influential: |DFFITS| above 3/√(k − 1), Cook's distance beyond the median of χ² "
        "with 1 df, hat above 3/k, or |DFBETAS| above 1. An influential trial is one to look at, "
        "not one to leave out.",
    )


def _influence_cells(row: InfluenceRow, decimals: int) -> tuple[str, ...]:
    tau = None if row.tau2_deleted is None else math.sqrt(row.tau2_deleted)
    state = row.note if row.influential is None else "yes" if row.influential else "no"
    return (
        row.trial,
        shown(row.rstudent, 2),
        shown(row.dffits, 2),
        shown(row.cook_d, 2),
        shown(row.cov_ratio, 2),
        shown(tau, decimals),
        shown(row.q_deleted, 1),
        shown(row.hat, 3),
        shown(row.dfbetas, 2),
        state,
    )


def slopes_table(result: PoolingResult, arm: str) -> Table | None:
    """The meta-regressions on numbers; None without any."""
    decimals = decimals_of(result)
    rows = [row for row in result.regression if row.arm == arm and row.kind == "slope"]
    if not rows:
        return None
    of_log = " of log" if result.options.effect in RATIOS else ""
    return Table(
        title=f"Meta-regression: {arm} versus {result.control}",
        columns=(
            "Covariate",
            "Change",
            "Analysis",
            "Trials",
            f"{'Ratio' if of_log else 'Slope'} ({result.options.level:g}% CI)",
            f"SE{of_log}",
            "p",
            f"τ{of_log} (without)",
            "R², %",
            "I², %",
            "Residual Q",
        ),
        rows=tuple(
            (
                measure_name(row.covariate),
                row.level,
                CI_LABELS[row.ci_method] + " (headline)" * row.headline,
                str(row.k),
                estimate_of(row, decimals),
                shown(row.se, decimals + 1),
                shown_p(row.p),
                _tau_both(row, decimals + 1),
                shown(row.r2_percent, 0),
                shown(row.i2_percent, 0),
                f"{shown(row.q, 1)} ({row.q_df} df), p {_equals(row.q_p)}",
            )
            for row in rows
        ),
        caption=f"{effect_label(result)}. Between trials: ecological, nothing can be read about "
        "people from it. One covariate at a time. R²: the share of τ² that the covariate "
        "explains, poorly known with few trials.",
    )


def groups_table(result: PoolingResult, arm: str) -> Table | None:
    """The pooled effects of groups of trials by both models of tau²; None without any."""
    decimals = decimals_of(result)
    rows = [
        row
        for row in result.regression
        if row.arm == arm and row.kind != "slope" and (row.headline or row.k == 1)
    ]
    if not rows:
        return None
    of_log = " of log" if result.options.effect in RATIOS else ""
    return Table(
        title=f"Groups of trials: {arm} versus {result.control}",
        columns=(
            "Covariate",
            "Trials with",
            "Model",
            "Trials",
            f"Effect ({result.options.level:g}% CI)",
            f"τ{of_log}",
            "I², %",
            "Test of difference",
            "R², %",
        ),
        rows=tuple(
            (
                row.covariate,
                row.level if row.kind == "level" else "difference",
                _TAU2_MODELS[row.tau2_model],
                str(row.k),
                estimate_of(row, decimals) if row.kind == "level" else DASH,
                DASH if row.tau2 is None else shown(math.sqrt(row.tau2), decimals + 1),
                shown(row.i2_percent, 0),
                test_text(row) if row.kind == "difference" else _why_nothing(row),
                shown(row.r2_percent, 0),
            )
            for row in rows
        ),
        caption=f"{effect_label(result)}. Between trials: ecological. With separate τ² each group "
        "is pooled alone and the groups are compared by Wald's test; with one τ² all are in one "
        "model. Where groups have few trials, read the model with one τ².",
    )


def _why_nothing(row: RegressionRow) -> str:
    return row.note if row.estimate is None else DASH


def estimate_of(row: RegressionRow, decimals: int) -> str:
    """Estimate and interval; ratios as ratios."""
    if row.estimate is None:
        return DASH
    if row.effect in RATIOS:
        return shown_estimate(row.exp_estimate, row.exp_ci_low, row.exp_ci_high, decimals)
    return shown_estimate(row.estimate, row.ci_low, row.ci_high, decimals)


def _equals(p: float | None) -> str:
    text = shown_p(p)
    return text.replace("<", "< ") if text.startswith("<") else f"= {text}"


def _tau_both(row: RegressionRow, decimals: int) -> str:
    if row.tau2 is None or row.tau2_without is None or row.tau2_method == "fe":
        return DASH
    return (
        f"{shown(math.sqrt(row.tau2), decimals)} ({shown(math.sqrt(row.tau2_without), decimals)})"
    )


def test_text(row: RegressionRow | SplineRow) -> str:
    """``F(1, 10) = 4.2, p = 0.07`` or ``χ²(1) = 4.2, p = 0.04``."""
    law = f"χ²({row.test_df})" if row.df is None else f"F({row.test_df}, {shown(row.df, 0)})"
    return f"{law} = {shown(row.test, 2)}, p {_equals(row.p)}"


def regression_sentences(result: PoolingResult, arm: str) -> list[str]:
    """One sentence a covariate, as a results section says it."""
    decimals = decimals_of(result)
    found = []
    for row in result.regression:
        if row.arm != arm or not row.headline or (row.kind == "level"):
            continue
        name = measure_name(row.covariate)
        r2 = "" if row.r2_percent is None else f"; R² {shown(row.r2_percent, 0)}%"
        if row.kind == "slope":
            found.append(
                f"Meta-regression on {name}, {arm} (ecological): {row.level} "
                f"{estimate_of(row, decimals)}, p {_equals(row.p)}; {row.k} trials{r2}."
            )
        else:
            found.append(
                f"Groups of trials by {name}, {arm} (ecological; {_TAU2_MODELS[row.tau2_model]}): "
                f"{test_text(row)}; {row.k} trials{r2}."
            )
    return found


def spline_table(result: PoolingResult, arm: str) -> Table | None:
    """The tests of the curves, and the difference from the reference at a few values."""
    decimals = decimals_of(result)
    rows = []
    for row in _spline_shown(result, arm):
        where = f"at {row.value:g}" if row.kind == "curve" and row.value is not None else row.level
        rows.append(
            (
                measure_name(row.covariate),
                where,
                str(row.k),
                spline_estimate(row, decimals) if row.kind == "curve" else DASH,
                test_text(row) if row.kind == "test" else "",
                row.note,
            )
        )
    if not rows:
        return None
    keep = 6 if any(cells[-1] for cells in rows) else 5
    columns = (
        "Modifier",
        "Test, or value",
        "Trials",
        f"Against the reference ({result.options.level:g}% CI)",
        "Test",
        "Note",
    )
    first = next(row for row in result.spline if row.arm == arm)
    return Table(
        title=f"Effect over numbers by splines, within trials: {arm} versus {result.control}",
        columns=columns[:keep],
        rows=tuple(cells[:keep] for cells in rows),
        caption=f"{effect_label(result)}. Restricted cubic splines with knots common to all trials "
        f"({first.covariate}: {first.knots.replace(';', ', ')}). Overall: the effect is the same "
        "at all values; non-linear: it changes in a straight line. All values of the curve are in "
        "spline.csv.",
    )


def _spline_shown(result: PoolingResult, arm: str) -> list[SplineRow]:
    """Both tests of each covariate, then every tenth point of its curve."""
    found: list[SplineRow] = []
    mine = [row for row in result.spline if row.arm == arm]
    for name in dict.fromkeys(row.covariate for row in mine):
        own = [row for row in mine if row.covariate == name]
        found += [row for row in own if row.kind == "test"]
        found += [row for row in own if row.kind == "curve"][::10]
    return found


def spline_estimate(row: SplineRow, decimals: int) -> str:
    """Estimate and interval; ratios as ratios."""
    if row.effect in RATIOS:
        return shown_estimate(row.exp_estimate, row.exp_ci_low, row.exp_ci_high, decimals)
    return shown_estimate(row.estimate, row.ci_low, row.ci_high, decimals)
