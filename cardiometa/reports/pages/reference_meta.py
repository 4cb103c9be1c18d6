"""What the page says of a meta-analytic range: its table, what it is made of, how it was made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ...records import Figure, Table
from ...reference.results import CONSTANT_TRIAL, TINY_TRIALS, ReferenceLimit
from ..figures.reference_strata import ALL, ETHNICITY_NAMES, SEX_NAMES, band_name
from ..page import Block, Html
from ..style import DASH, measure_label, shown, shown_count, shown_interval

if TYPE_CHECKING:
    from ...reference.results import MetaEstimate, ReferenceRanges


META: Final = "meta"
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


def meta_headlines(rows: Sequence[ReferenceLimit]) -> list[ReferenceLimit]:
    """Of each group the rows of the first rule, marginal where there are any."""
    best: dict[tuple[object, ...], tuple[str, str]] = {}
    for row in rows:  # in the order of the rules, the marginal kind first
        best.setdefault(_group(row), (row.limits, row.kind))
    return [row for row in rows if best[_group(row)] == (row.limits, row.kind)]


def _group(row: ReferenceLimit | MetaEstimate) -> tuple[object, ...]:
    return (row.sex, row.ethnicity, row.age_low, row.age_high)


def meta_blocks(
    rows: Sequence[ReferenceLimit], result: ReferenceRanges, svg: str | None, table: Html
) -> list[Block]:
    """The table of the headline (made by the page), the figure, every rule, and the estimates."""
    label = measure_label(rows[0].measure, rows[0].unit)
    blocks: list[Block] = [table]
    if svg:
        blocks.append(
            Figure(
                title=f"Meta-analytic limits of {label}.",
                caption=f"Marks: limits; bars: their {result.options.ci_level:g}% confidence "
                "intervals. Groups without a limit leave a gap.",
                svg=svg,
            )
        )
    mine = [e for e in result.meta if e.measure == rows[0].measure and e.ethnicity == ALL]
    if mine:
        blocks += [_every_rule(rows, result, label), _estimates(mine, label, result)]
    return blocks


def _place(row: ReferenceLimit | MetaEstimate) -> tuple[str, str]:
    return SEX_NAMES[row.sex], band_name(row.age_low, row.age_high)


def _every_rule(rows: Sequence[ReferenceLimit], result: ReferenceRanges, label: str) -> Table:
    groups: dict[tuple[object, ...], list[ReferenceLimit]] = {}
    for row in rows:
        if row.ethnicity == ALL and row.limit is not None and row.centile != 50:
            groups.setdefault((*_group(row), row.limits, row.kind), []).append(row)
    lines = []
    for mine in groups.values():
        first = mine[0]
        lines.append(
            (
                *_place(first),
                _RULES[first.limits],
                _KINDS[first.kind],
                *(f"{shown(r.limit)} ({shown_interval(r.ci_low, r.ci_high)})" for r in mine),
            )
        )
    centiles = [f"Centile {c:g}" for c in result.options.centiles if c != 50]
    return Table(
        title=f"{label}: limits by every rule, everybody.",
        columns=("Sex", "Age, years", "Rule", "For a person of", *centiles),
        rows=tuple(lines),
        caption=f"In brackets the {result.options.ci_level:g}% confidence interval of the limit.",
    )


def _estimates(mine: Sequence[MetaEstimate], label: str, result: ReferenceRanges) -> Table:
    rows = []
    for e in mine:
        interval = f" ({shown_interval(e.tau_low, e.tau_high)})" if e.tau_low is not None else ""
        rows.append(
            (
                *_place(e),
                _RULES[e.meta],
                shown_count(e.n_trials),
                shown_count(e.n) if e.n is not None else DASH,
                shown(e.mean),
                shown(e.sigma),
                DASH if e.tau is None else shown(e.tau) + interval,
                DASH if e.tau_share is None else shown(e.tau_share, 2),
            )
        )
    return Table(
        title=f"{label}: what the limits are made of, everybody.",
        columns=(
            "Sex",
            "Age, years",
            "Rule",
            "Trials",
            "n",
            "Mean",
            "SD within trials",
            "SD between trials (tau)",
            "tau/total",
        ),
        rows=tuple(rows),
        caption=(
            f"tau with its {result.options.ci_level:g}% Q-profile interval; tau/total: its share "
            "of the SD of a person of a new trial, √(tau² + sigma²). "
            f"{DASH}: too few trials to say how trials differ."
            + (" All of them are of natural logarithms." if _of_logs(mine) else "")
        ),
    )


def _of_logs(rows: Sequence[MetaEstimate]) -> bool:
    return any("log" in e.notes for e in rows)


def meta_sentences(result: ReferenceRanges) -> str:
    """How the ranges were made."""
    options = result.options
    left_out = any({CONSTANT_TRIAL, TINY_TRIALS} & set(e.notes) for e in result.meta)
    skewed = any("asymmetric" in r.notes for r in result.rows if r.method == META)
    names = [ETHNICITY_NAMES[e] for e in dict.fromkeys(r.ethnicity for r in result.rows)]
    how = (
        "Meta-analytic ranges (Siegel, Murad and Chu 2021) from each trial's number, mean and SD "
        f"({', '.join(names)}). Random effects: mean and tau² by REML with variances s²/n, sigma² "
        "pooled over trials; limits mean ± z√(tau² + sigma²) for a person of a new trial, mean ± "
        "z·sigma for one of an average trial. Empirical: mean weighted by people, tau² the "
        "weighted variance of the trials' means."
    )
    intervals = (
        f"The {options.ci_level:g}% confidence intervals are by parametric bootstrap of the "
        "trials in the form of generalised pivots (Iyer, Wang and Mathew 2004; for tau² "
        f"Q-profile's pivot; {options.bootstrap} draws, seed {options.seed})."
    )
    few = (
        "Groups of fewer than 5 trials have no limits for a new trial: theirs are of the average "
        "of these trials, mean weighted by people, and of their mixture (Cao et al. 2021). "
        f"Groups with fewer than {options.smallest_n} people have no limit."
    )
    parts = [how, intervals, few]
    if _of_logs(result.meta):
        parts.append(
            "Everything was made of natural logarithms and the limits transformed back; a trial "
            "known by its mean and SD alone was taken for log-normal."
        )
    if left_out:
        parts.append("Trials of fewer than 10 people in a group, or without spread, were left out.")
    if skewed:
        parts.append(
            "Some groups are skewed (note asymmetric), and these limits take people for normal: "
            "compare them with the strata or the curves."
        )
    return " ".join(parts)
