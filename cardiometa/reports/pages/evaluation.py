"""``report.html`` of ``evaluate``: agreement, overlap and equivalence by group; no individuals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from ...evaluation.agreement import EF_GRADES
from ...evaluation.results import EquivalenceRow, EvaluationResult
from ...evaluation.tables import ALL, grade_table
from ...manifest import notice_for
from ...privacy.suppression import hidden_counts, suppressed_counts
from ...records import Figure, Table
from ..figures.evaluation import PHASE_ORDER, STRUCTURE_NAMES, group_label, scope_words
from ..page import (
    Block,
    Bullets,
    Column,
    Facts,
    Notice,
    Paragraph,
    as_estimate,
    as_number,
    make_table,
    notes_section,
    page_html,
    section,
    words,
)
from ..style import DASH, abbreviations, measure_label, measure_name, shown, shown_count

_text = partial(words, "evaluation")

_REFERENCE: Final = {
    "labels": "manual labels",
    "reported": "values that the trials reported",
    None: "repeat visits",
}
_GRADES: Final = {
    "reduced": "Reduced (≤40%)",
    "mildly-reduced": "Mildly reduced (>40 to <50%)",
    "preserved": "Preserved (≥50%)",
}


def evaluation_page(result: EvaluationResult, figures: Mapping[str, Figure]) -> str:
    """The page as text; ``figures`` by the names of `figures_of`."""

    def drawn(prefix: str) -> list[Figure]:
        return [figure for name, figure in figures.items() if name.startswith(prefix)]

    options, scans = result.options, result.compared.scans
    participants = len(scans[["trial", "participant_id"]].drop_duplicates())
    overlap: list[Block] = []
    agreement: list[Block] = []
    groups: list[Block] = []
    if result.overlap:
        overlap = [*drawn("overlap"), _overlap_table(result), *drawn("dice_by_group")]
    if result.agreement:
        agreement = [_bias_table(result), _reliability_table(result), *drawn("bland_altman")]
        counts = Counter(row.result for row in result.equivalence if row.result)
        tests = Paragraph(_text("tests", tests=sum(counts.values()), counts=counts))
        groups = [tests, *drawn("groups_"), _difference_table(result)]
    intro = [Paragraph(_text("methods_intro"))] if options.against else []
    methods = tuple(_text("methods", options=options).split("\n\n"))
    return page_html(
        f"Evaluation: {result.name}",
        _text(
            "subtitle",
            reference=_REFERENCE[options.against],
            participants=_count(result, participants),
            scans=_count(result, len(scans)),
        ),
        [
            section("Overview", "overview", *_overview(result)),
            section("Overlap", "overlap", *overlap),
            section("Agreement of measures", "agreement", *agreement),
            section("Groups and equivalence", "groups", *groups),
            section("Graded ejection fraction", "grades", *_grade_tables(result)),
            section("Scan and rescan", "rescan", _rescan_table(result)),
            section("Scans", "scans", _account(result)),
            notes_section(result.warnings),
            section("Methods", "methods", *intro, Bullets(methods)),
        ],
        internal=options.internal,
        warnings=result.warnings,
        foot=notice_for(result.model.get("id", "").split(", ")),
    )


def _count(result: EvaluationResult, count: int) -> str:
    """A count of participants or scans; a few are suppressed."""
    least = result.options.least
    return f"fewer than {least}" if 0 < count < least else shown_count(count)


def _overview(result: EvaluationResult) -> list[Block]:
    facts = [
        ("Reference", _REFERENCE[result.options.against]),
        ("Model", result.model.get("id", "") or DASH),
        ("Model SHA-256", result.model.get("sha256", "") or DASH),
    ]
    conventions = result.compared.papillary
    if conventions:
        total = sum(conventions.values())
        counts = suppressed_counts(conventions, total, result.options.least)
        facts.append(("Papillary muscles (scans)", _text("papillary", counts=counts)))
    blocks: list[Block] = [Facts(tuple(facts))]
    if result.agreement:
        blocks.append(Paragraph(_text("differences")))
    rows = (row for row in result.agreement if row.group_by == ALL)
    if any(row.n_people is None and row.bias is None for row in rows):
        blocks.append(Notice(_text("withheld", options=result.options), "note"))
    measures = [row.measure for row in result.agreement]
    measures += [row.measure for row in result.repeatability]
    named = abbreviations(["LV", "RV", *measures] if result.overlap else measures)
    return [*blocks, Paragraph(named)] if named else blocks


# ------------------------------------------------------------------ columns


def _participants(result: EvaluationResult, value: str) -> Column:
    """How many; ``n<10`` where a row has no numbers for being of too few, else a dash."""
    least = result.options.least

    def show(n: int | None, number: float | None) -> str:
        suppressed = n is None and number is None and least > 1
        return f"n<{least}" if suppressed else shown_count(n)

    return Column("Participants", f"n_people {value}", show)


def _estimate(heading: str, name: str, decimals: int = 1) -> Column:
    """An `Estimate` with its interval."""
    show = as_estimate(decimals)
    return Column(heading, name, lambda e: DASH if e is None else show(e.value, e.low, e.high))


_MEASURE: Final = Column(
    "Measure", lambda row: measure_label(row.measure, row.unit) + scope_words(row.scope)
)
_SCANS: Final = Column("Scans", lambda row: "without review" if row.scans_used == "ok" else "all")


# ------------------------------------------------------------------ overlap and agreement


def _overlap_table(result: EvaluationResult) -> Table:
    """A line per structure, phase and scans used, the three metrics across."""
    lines: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    for row in result.overlap:
        if row.group_by == ALL:
            key = (row.scope, row.structure, row.phase, row.scans_used)
            lines.setdefault(key, {})[row.metric] = row

    def order(key: tuple[str, str, str, str]) -> tuple[str, int, int, str]:
        scope, structure, phase, used = key
        place = list(STRUCTURE_NAMES).index(structure), PHASE_ORDER.index(phase)
        return scope, *place, "" if used == "ok+review" else used  # all scans come first

    def of(metric: str, column: Column) -> Column:
        return Column(column.heading, lambda line: column.cell(line[metric]))

    def mean(heading: str, metric: str, decimals: int) -> Column:
        return of(metric, Column(heading, "mean ci_low ci_high", as_estimate(decimals)))

    columns = (
        Column(
            "Structure",
            lambda line: STRUCTURE_NAMES[line["dice"].structure] + scope_words(line["dice"].scope),
        ),
        of("dice", Column("Phase", "phase")),
        of("dice", _SCANS),
        of("dice", _participants(result, "mean")),
        mean("Dice", "dice", 3),
        of("dice", Column("SD", "sd", as_number(3))),
        of("dice", Column("Median", "median", as_number(3))),
        mean("Hausdorff 95, mm", "hd95_mm", 1),
        mean("Mean surface distance, mm", "assd_mm", 2),
    )
    title = "Overlap with the reader's labels: mean (95% interval)."
    rows = [lines[key] for key in sorted(lines, key=order)]
    return make_table(title, columns, rows, _text("table_overlap"))


def _bias_table(result: EvaluationResult) -> Table:
    columns = (
        _MEASURE,
        _SCANS,
        _participants(result, "bias"),
        Column("Mean", "mean_reference", as_number()),
        _estimate("Bias", "bias"),
        Column("SD", "sd", as_number()),
        _estimate("Lower limit", "loa_lower"),
        _estimate("Upper limit", "loa_upper"),
    )
    rows = [row for row in result.agreement if row.group_by == ALL]
    title = "Bias and limits of agreement, model minus reference (95% intervals)."
    return make_table(title, columns, rows, _text("table_bias"))


def _reliability_table(result: EvaluationResult) -> Table:
    columns = (
        _MEASURE,
        _SCANS,
        _estimate("Mean absolute error", "mae"),
        Column("RMSE", "rmse", as_number()),
        Column("CoV, %", "cov_percent", as_number()),
        _estimate("ICC(2,1)", "icc", 3),
        _estimate("Lin's concordance", "ccc", 3),
    )
    rows = [row for row in result.agreement if row.group_by == ALL]
    title = "Size of the error, and reliability (95% intervals)."
    return make_table(title, columns, rows, _text("table_reliability"))


def _difference_table(result: EvaluationResult) -> Table:
    """Bias of each group against that of the others, where there are others."""

    def label(row: EquivalenceRow) -> str:
        structure = row.measure.removeprefix("dice_")
        if structure in STRUCTURE_NAMES:
            return f"Dice, {STRUCTURE_NAMES[structure]}{scope_words(row.scope)}"
        return str(_MEASURE.cell(row))

    def by_measure(show: Callable[[int, EquivalenceRow], str]) -> Callable[[Any], str]:
        """With the decimals of the measure."""
        return lambda row: show(3 if row.measure.startswith("dice_") else 1, row)

    columns = (
        Column("Measure", label),
        Column("Group", "group_by group", group_label),
        Column("Participants", "n_people", shown_count),
        Column("Rest", "n_rest", shown_count),
        Column(
            "Difference",
            by_measure(lambda d, row: as_estimate(d)(row.estimate, row.ci_low, row.ci_high)),
        ),
        Column(
            "Margin",
            by_measure(lambda d, r: DASH if r.margin is None else f"± {shown(r.margin, d)}"),
        ),
        Column("Result", lambda row: row.result or row.note),
    )
    rows = [row for row in result.equivalence if row.n_rest is not None]
    title = "Difference in bias between a group and the rest (90% intervals)."
    return make_table(title, columns, rows, _text("table_differences"))


# ------------------------------------------------------------------ grades, rescans, account


def _grade_tables(result: EvaluationResult) -> list[Table]:
    rows = [row for row in result.grades if row.group_by == ALL]
    if not rows:
        return []
    columns = (
        Column("Measure", lambda row: measure_name(row.measure) + scope_words(row.scope)),
        _SCANS,
        _participants(result, "percent_agreement"),
        Column("Same grade, %", "percent_agreement", as_number()),
        _estimate("Kappa", "kappa", 2),
        _estimate("Weighted kappa, linear", "kappa_linear", 2),
        _estimate("Weighted kappa, quadratic", "kappa_quadratic", 2),
    )
    title = "Agreement of graded ejection fraction (95% intervals)."
    tables = [make_table(title, columns, rows, _text("table_grades"))]
    for row in rows:
        if row.scans_used == "ok+review" and row.n_people is not None:
            counts = grade_table(result.compared, row.measure, row.scope)
            if counts is not None:
                name = measure_name(row.measure) + scope_words(row.scope)
                tables.append(_cross_table(counts, name, result.options.least))
    return tables


def _cross_table(counts: np.ndarray, name: str, least: int) -> Table:
    flat = [int(n) for n in counts.ravel()]
    hidden = np.array(hidden_counts(flat, sum(flat), least)) & (np.array(flat) > 0)
    cells = np.where(hidden, DASH, [shown_count(n) for n in flat]).reshape(counts.shape)
    grades = [_GRADES[grade] for grade in EF_GRADES]

    def cell(row: Sequence[str], at: int) -> str:
        return str(row[at])

    columns = [Column(grade, partial(cell, at=at)) for at, grade in enumerate(["Model", *grades])]
    title = f"{name}: scans by the model's grade (rows) and the reference's (columns)."
    rows = [(grade, *line) for grade, line in zip(grades, cells, strict=True)]
    return make_table(title, columns, rows, _text("table_cross", hidden=bool(hidden.any())))


def _rescan_table(result: EvaluationResult) -> Table | None:
    if not result.repeatability or result.options.repeat_visits is None:
        return None
    first, second = result.options.repeat_visits
    columns = (
        Column("Measure", "measure unit", measure_label),
        Column("By", "source"),
        Column("Participants", lambda row: row.note or shown_count(row.n_people)),
        Column("Mean", "mean", as_number()),
        _estimate("Second − first", "bias"),
        Column("CoV, %", "cov_percent", as_number()),
        _estimate("SEM", "sem"),
        _estimate("Smallest detectable change", "sdc"),
        _estimate("ICC(2,1)", "icc", 2),
    )
    title = f"Scan and rescan: {first} and {second} (95% intervals)."
    return make_table(title, columns, result.repeatability, _text("table_rescan"))


def _account(result: EvaluationResult) -> Table:
    compared = result.compared
    reasons = Counter(exclusion.code for exclusion in compared.exclusions)
    counts = suppressed_counts(dict(reasons), sum(reasons.values()), result.options.least)
    rows = [
        ("Scans in the output of segment", _count(result, compared.scans_in)),
        *((f"Excluded: {code}", shown_count(counts[code])) for code in sorted(reasons)),
        ("Compared", _count(result, len(compared.scans))),
    ]
    columns = (Column("", lambda row: row[0]), Column("Scans", lambda row: row[1]))
    return make_table("Flow of scans.", columns, rows, _text("table_account"))
