"""``report.html`` of ``evaluate``: agreement, overlap and equivalence by group; no individuals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from operator import itemgetter
from typing import Any, Final

import numpy as np

from ...evaluation.agreement import EF_GRADES
from ...evaluation.groups import ALL, UNSEEN
from ...evaluation.results import EquivalenceRow, EvaluationResult, SliceErrorRow
from ...evaluation.tables import LEVEL, SHRUNKEN, grade_table
from ...manifest import bundled_card, made_by, notice_for, version
from ...privacy.suppression import hidden_counts, suppressed_counts
from ...records import Table
from ..figures.evaluation import (
    GROUP_NAMES,
    PHASE_ORDER,
    STRUCTURE_NAMES,
    group_label,
    headline_phase,
    scope_words,
    shown_of,
)
from ..page import (
    Block,
    Column,
    Notice,
    as_estimate,
    as_number,
    grouped,
    notes_section,
    page_html,
    section,
    table_of,
    where,
    words,
)
from ..style import (
    DASH,
    Drawing,
    abbreviations,
    measure_label,
    measure_name,
    shown,
    shown_count,
    shown_estimate,
    unit_name,
)

_text = partial(words, "evaluation")
_table = partial(table_of, "evaluation")

REFERENCES: Final = {
    "labels": "manual labels",
    "reported": "values that the trials reported",
    None: "repeat visits",
}
_GRADES: Final = {
    "reduced": "Reduced (≤40%)",
    "mildly-reduced": "Mildly reduced (>40 to <50%)",
    "preserved": "Preserved (≥50%)",
}


def evaluation_page(result: EvaluationResult, figures: Mapping[str, Drawing]) -> str:
    """The page as text; ``figures`` by the names of `figures_of`."""

    def drawn(prefix: str) -> list[Drawing]:
        return [figure for name, figure in figures.items() if name.startswith(prefix)]

    options, scans = result.options, result.compared.scans
    participants = len(scans[["trial", "participant_id"]].drop_duplicates())
    counts = Counter(row.result for row in result.equivalence if row.result)
    tests = _text("tests", tests=sum(counts.values()), counts=counts)
    further = drawn("bland_altman_further")
    first = [figure for figure in drawn("bland_altman") if figure not in further]
    overlap = [*drawn("overlap"), _overlap_table(result), *drawn("dice_by_group")]
    groups = [*drawn("groups_"), _shrunken_table(result), _difference_table(result)]
    errors = [
        _slice_table(result),
        _large_table(result),
        *drawn("interval_calibration"),
        _coverage_table(result),
        _line_table(result),
    ]
    return page_html(
        f"Evaluation: {result.name}",
        _text(
            "subtitle",
            reference=REFERENCES[options.against],
            participants=_count(result, participants),
            scans=_count(result, len(scans)),
        ),
        [
            section("Result", "result", *_answer(result), *first),
            section("Overlap", "overlap", *overlap),
            section("Agreement of measures", "agreement", *_agreement_tables(result), *further),
            section("Groups and equivalence", "groups", *groups, intro=tests),
            section("Errors of single scans", "errors", *errors),
            section("Graded ejection fraction", "grades", *_grade_tables(result)),
            section("Scan and rescan", "rescan", _rescan_table(result)),
            section("Scans", "scans", _account(result)),
            notes_section(result.warnings),
            section(
                "Methods",
                "methods",
                *_compared(result),
                _text("methods_intro") if options.against else "",
                _text("methods", options=options).split("\n\n"),
            ),
        ],
        internal=options.internal,
        warnings=result.warnings,
        foot=notice_for(result.model.get("licence", "")),
    )


def _count(result: EvaluationResult, count: int) -> str:
    """A count of participants or scans; a few are suppressed."""
    least = result.options.least
    return f"fewer than {least}" if 0 < count < least else shown_count(count)


# Measures that the first paragraph names.
_HEADLINES: Final = ("lv_ef_percent", "lv_edv_ml", "lv_mass_g", "rv_ef_percent")


def _answer(result: EvaluationResult) -> list[Block]:
    """What a reader asks first: overlap, bias, large errors, the intervals; then the words."""
    overall = {"group_by": ALL, "scans_used": "ok+review"}
    rows = [row for row in where(result.agreement, **overall) if row.loa_lower and row.loa_upper]
    dice = [r for r in where(result.overlap, metric="dice", **overall) if r.mean is not None]
    scope = next(iter([row.scope for row in rows] + [row.scope for row in dice]), "")
    dice = where(dice, scope=scope, phase=headline_phase(dice))
    ef = {"scope": scope, "group_by": ALL, "measure": "lv_ef_percent"}
    withheld = any(
        row.n_people is None and row.bias is None for row in where(result.agreement, group_by=ALL)
    )
    measures = [row.measure for row in result.agreement]
    measures += [row.measure for row in result.repeatability]
    answer = _text(
        "answer",
        reference=REFERENCES[result.options.against],
        dice=dice,
        structures=STRUCTURE_NAMES,
        measures=[r for m in _HEADLINES for r in where(rows, measure=m, scope=scope)],
        large=[r for r in where(result.large_errors, **ef) if r.n_events is not None],
        coverage=[r for r in where(result.coverage, level=LEVEL, **ef) if r.percent is not None],
        rescans=[r for m in _HEADLINES for r in where(result.repeatability, measure=m) if r.sem],
        estimate=shown_of,
        unit=lambda row: "points" if row.unit == "%" else unit_name(row.unit),
    )
    return [
        answer,
        Notice(_text("withheld", options=result.options), "note") if withheld else "",
        _text("differences") if result.agreement else "",
        abbreviations(["LV", "RV", *measures] if result.overlap else measures),
    ]


def _compared(result: EvaluationResult) -> list[Block]:
    """Which model was compared with what."""
    options, conventions = result.options, result.compared.papillary
    facts = {
        "Reference": REFERENCES[options.against],
        "Model": result.model.get("id", "") or DASH,
        "Model SHA-256": result.model.get("sha256", "") or DASH,
    }
    if conventions:
        counts = suppressed_counts(conventions, sum(conventions.values()), options.least)
        facts["Papillary muscles (scans)"] = _text("papillary", counts=counts)
    return [facts]


# ------------------------------------------------------------------ columns


def _participants(result: EvaluationResult, value: str) -> Column:
    """How many; ``n<10`` where a row has no numbers for being of too few, else a dash."""
    least = result.options.least

    def show(n: int | None, number: float | None) -> str:
        suppressed = n is None and number is None and least > 1
        return f"n<{least}" if suppressed else shown_count(n)

    return Column("Participants", f"n_people {value}", show)


def _of(part: int, column: Column) -> Column:
    """The column of one part of rows that are pairs."""
    return Column(column.heading, lambda row: column.cell(row[part]))


def _estimate(heading: str, name: str, decimals: int = 1) -> Column:
    """An `Estimate` with its interval."""
    return Column(heading, name, partial(shown_of, decimals=decimals))


_MEASURE: Final = Column(
    "Measure", lambda row: measure_label(row.measure, row.unit) + scope_words(row.scope)
)
_MEASURE_NAME: Final = Column(
    "Measure", lambda row: measure_name(row.measure) + scope_words(row.scope)
)
_USED: Final = {"ok": "without review", UNSEEN: "not trained on"}
_SCANS: Final = Column("Scans", lambda row: _USED.get(row.scans_used, "all"))
_GROUP: Final = Column("Group", "group_by group", group_label)


# ------------------------------------------------------------------ overlap and agreement


def _overlap_table(result: EvaluationResult) -> Table | None:
    """A line per structure, phase and scans used, the three metrics across."""
    keys = "scope structure phase scans_used"
    lines = grouped(where(result.overlap, group_by=ALL), keys)

    def order(key: tuple[str, str, str, str]) -> tuple[str, int, int, str]:
        scope, structure, phase, used = key
        place = list(STRUCTURE_NAMES).index(structure), PHASE_ORDER.index(phase)
        return scope, *place, "" if used == "ok+review" else used  # all scans come first

    def of(metric: str, column: Column) -> Column:
        return Column(column.heading, lambda line: column.cell(where(line, metric=metric)))

    def mean(heading: str, metric: str, decimals: int) -> Column:
        return of(metric, Column(heading, "mean ci_low ci_high", as_estimate(decimals)))

    columns = (
        Column("Structure", "structure scope", lambda s, c: STRUCTURE_NAMES[s] + scope_words(c)),
        Column("Phase", "phase"),
        Column("Scans", lambda line: _SCANS.cell(line[0])),
        of("dice", _participants(result, "mean")),
        mean("Dice", "dice", 3),
        of("dice", Column("SD", "sd", as_number(3))),
        of("dice", Column("Median", "median", as_number(3))),
        mean("Hausdorff 95, mm", "hd95_mm", 1),
        mean("Mean surface distance, mm", "assd_mm", 2),
    )
    return _table("overlap", columns, (lines[key] for key in sorted(lines, key=order)))


def _agreement_tables(result: EvaluationResult) -> list[Table | None]:
    """Bias and limits of agreement, then the size of the error and reliability."""
    bias = (
        _MEASURE,
        _SCANS,
        _participants(result, "bias"),
        Column("Mean", "mean_reference", as_number()),
        _estimate("Bias", "bias"),
        Column("SD", "sd", as_number()),
        _estimate("Lower limit", "loa_lower"),
        _estimate("Upper limit", "loa_upper"),
        _estimate("Slope", "slope", 3),
    )
    reliability = (
        _MEASURE,
        _SCANS,
        _estimate("Mean absolute error", "mae"),
        Column("RMSE", "rmse", as_number()),
        Column("CoV, %", "cov_percent", as_number()),
        _estimate("ICC(2,1)", "icc", 3),
        _estimate("Lin's concordance", "ccc", 3),
    )
    rows = where(result.agreement, group_by=ALL)
    return [_table("bias", bias, rows), _table("reliability", reliability, rows)]


def _difference_table(result: EvaluationResult) -> Table | None:
    """Bias of each group against that of the others, where there are others."""

    def label(row: EquivalenceRow) -> str:
        structure = row.measure.removeprefix("dice_")
        if structure in STRUCTURE_NAMES:
            return f"Dice, {STRUCTURE_NAMES[structure]}{scope_words(row.scope)}"
        return _MEASURE.cell(row)

    def decimals(row: EquivalenceRow) -> int:
        return 3 if row.measure.startswith("dice_") else 1

    def difference(row: EquivalenceRow) -> str:
        return shown_estimate(row.estimate, row.ci_low, row.ci_high, decimals(row))

    def margin(row: EquivalenceRow) -> str:
        return DASH if row.margin is None else f"± {shown(row.margin, decimals(row))}"

    columns = (
        Column("Measure", label),
        _GROUP,
        Column("Participants", "n_people", shown_count),
        Column("Rest", "n_rest", shown_count),
        Column("Difference", difference),
        Column("Margin", margin),
        Column("Result", lambda row: row.result or row.note),
    )
    return _table("differences", columns, (r for r in result.equivalence if r.n_rest is not None))


def _shrunken_table(result: EvaluationResult) -> Table | None:
    """Bias of each trial and vendor, its own and partially pooled over them."""
    own = {
        (r.measure, r.scope, r.group_by, r.group): r for r in where(result.equivalence, kind="bias")
    }
    pooled = where(result.equivalence, kind="bias, partially pooled")
    rows = [
        (own[r.measure, r.scope, r.group_by, r.group], r) for r in pooled if r.estimate is not None
    ]

    columns = (
        _of(0, _MEASURE),
        _of(0, _GROUP),
        _of(0, Column("Participants", "n_people", shown_count)),
        _of(0, Column("Bias", "estimate ci_low ci_high", as_estimate(1))),
        _of(1, Column("Partially pooled", "estimate ci_low ci_high", as_estimate(1))),
        _of(0, Column("Margin", lambda row: f"± {shown(row.margin)}")),
        _of(1, Column("Result", "result")),
    )
    return _table("shrunken", columns, rows)


# ------------------------------------------------------------------ errors of single scans


def _slice_table(result: EvaluationResult) -> Table | None:
    rows = grouped(where(result.slices, group_by=ALL), "structure phase end")

    def of(error: str, show: Callable[[SliceErrorRow], str]) -> Callable[[Any], str]:
        return lambda line: show(where(line, error=error)[0])

    def scans(row: SliceErrorRow) -> str:
        return row.note or shown_estimate(row.percent, row.ci_low, row.ci_high)

    columns = (
        Column("Structure", "structure", STRUCTURE_NAMES.__getitem__),
        Column("Phase", "phase"),
        Column("End", "end"),
        Column("Scans", "n_scans", shown_count),
        Column("Slices of the reader", "n_reference", shown_count),
        Column("Added slices", of("false-positive", lambda row: shown_count(row.n_slices))),
        Column("Scans with added, %", of("false-positive", scans)),
        Column("Missed slices", of("false-negative", lambda row: shown_count(row.n_slices))),
        Column("Scans with missed, %", of("false-negative", scans)),
    )
    return _table("slices", columns, rows.values())


def _large_table(result: EvaluationResult) -> Table | None:
    columns = (
        _MEASURE_NAME,
        _GROUP,
        Column("Scans", "n_scans", shown_count),
        Column("Error above 10 points", "n_events", shown_count),
        Column("Share, %", lambda r: r.note or shown_estimate(r.percent, r.ci_low, r.ci_high)),
        Column("Of these ok", "n_ok", shown_count),
    )
    rows = [r for r in result.large_errors if r.group_by in (ALL, *SHRUNKEN) and r.n_people]
    return _table("large", columns, rows)


def _coverage_table(result: EvaluationResult) -> Table | None:
    columns = (
        _MEASURE,
        _GROUP,
        Column("Scans", "n_scans", shown_count),
        Column("SD of the model", "mean_sd", as_number()),
        Column("Within 1.96 SD, %", "percent ci_low ci_high", as_estimate(1)),
        Column("Error / SD", "sd_ratio", as_number(2)),
    )
    rows = [r for r in where(result.coverage, level=LEVEL) if r.percent is not None]
    return _table("coverage", columns, rows)


def _line_table(result: EvaluationResult) -> Table | None:
    """The model's value on the reader's: all hearts, then trials, vendors and arms."""
    error = result.error
    rows = [
        (one, line)
        for one in (error.measures if error else ())
        for line in one.lines
        if line.group_by in (ALL, "trial", "vendor", "arm")
    ]

    def estimate(value: float, variance: float, decimals: int) -> str:
        return f"{shown(value, decimals)} ± {shown(math.sqrt(variance), decimals)}"

    columns = (
        _of(0, Column("Measure", "measure unit", measure_label)),
        _of(1, _GROUP),
        _of(1, Column("Participants", "n_people", shown_count)),
        _of(1, Column("Slope ± SE", "slope var_slope", partial(estimate, decimals=3))),
        _of(1, Column("Intercept ± SE", "intercept var_intercept", partial(estimate, decimals=1))),
        _of(1, Column("Residual SD", "residual_sd", as_number())),
        _of(1, Column("By", "method", lambda method: method.replace("-", " "))),
    )
    return _table("lines", columns, rows, error=error)


# ------------------------------------------------------------------ grades, rescans, account


def _grade_tables(result: EvaluationResult) -> list[Table | None]:
    rows = where(result.grades, group_by=ALL)
    columns = (
        _MEASURE_NAME,
        _SCANS,
        _participants(result, "percent_agreement"),
        Column("Same grade, %", "percent_agreement", as_number()),
        _estimate("Kappa", "kappa", 2),
        _estimate("Weighted kappa, linear", "kappa_linear", 2),
        _estimate("Weighted kappa, quadratic", "kappa_quadratic", 2),
    )
    tables = [_table("grades", columns, rows)]
    for row in where(rows, scans_used="ok+review"):
        counts = grade_table(result.compared, row.measure, row.scope)
        if counts is not None and row.n_people is not None:
            name = measure_name(row.measure) + scope_words(row.scope)
            tables.append(_cross_table(counts, name, result.options.least))
    return tables


def _cross_table(counts: np.ndarray, name: str, least: int) -> Table | None:
    flat = [int(n) for n in counts.ravel()]
    hidden = np.array(hidden_counts(flat, sum(flat), least)) & (np.array(flat) > 0)
    cells = np.where(hidden, DASH, [shown_count(n) for n in flat]).reshape(counts.shape)
    names = [_GRADES[grade] for grade in EF_GRADES]
    columns = [Column(head, itemgetter(at)) for at, head in enumerate(["Model", *names])]
    rows = [(grade, *line) for grade, line in zip(names, cells, strict=True)]
    return _table("cross", columns, rows, name=name, hidden=bool(hidden.any()))


def _rescan_table(result: EvaluationResult) -> Table | None:
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
    return _table("rescan", columns, result.repeatability, options=result.options)


def _account(result: EvaluationResult) -> Table | None:
    compared = result.compared
    reasons = Counter(exclusion.code for exclusion in compared.exclusions)
    counts = suppressed_counts(dict(reasons), sum(reasons.values()), result.options.least)
    rows = [
        ("Scans in the output of segment", _count(result, compared.scans_in)),
        *((f"Excluded: {code}", shown_count(counts[code])) for code in sorted(reasons)),
        ("Compared", _count(result, len(compared.scans))),
    ]
    columns = (Column("", itemgetter(0)), Column("Scans", itemgetter(1)))
    return _table("account", columns, rows, options=result.options)


def evaluation_facts(result: EvaluationResult, reference: str, methods: str) -> dict[str, Any]:
    """What CLAIM asks and an evaluation knows; the card's words only for the bundled model."""
    card = bundled_card()
    least, scans = result.options.least, result.compared.scans
    known = card if card["id"] == result.model.get("id") else {}
    people = len(scans[["trial", "participant_id"]].drop_duplicates())
    agreement = where(result.agreement, group_by=ALL, scans_used="ok+review")
    judged = [row for row in result.equivalence if row.group_by != ALL]
    sentences = [
        f"{measure_name(r.measure)} bias {shown_estimate(r.bias.value, r.bias.low, r.bias.high)} "
        f"{r.unit}"
        for r in agreement
        if r.bias is not None
    ]
    return {
        "card": {"intended_use": "", "description": "", "training": {}, "limits": [], **known},
        "model": result.model.get("id", ""),
        "sha256": result.model.get("sha256", ""),
        "licence": result.model.get("licence", ""),
        "reference": reference,
        "methods": methods,
        "trials": sorted(map(str, set(scans["trial"]))),
        "participants": f"fewer than {least}" if people < least else shown_count(people),
        "scans": f"fewer than {least}" if len(scans) < least else shown_count(len(scans)),
        "overlap": bool(result.overlap),
        "grades": result.options.against is not None,
        "groups": sorted({GROUP_NAMES.get(r.group_by, r.group_by) for r in judged}),
        "performance": sentences,
        "version": version(),
        "made": made_by(),
        "trained": _trained(result),
    }


def _trained(result: EvaluationResult) -> str:
    """Whether the model was trained on these participants; empty where that is not known."""
    if not result.compared.training_known:
        return ""
    scans = result.compared.scans
    people = scans.loc[scans["trained_on"], ["trial", "participant_id"]].drop_duplicates()
    if people.empty:
        return "The model's card names none of these participants among its training data."
    least = result.options.least
    count = f"Fewer than {least}" if len(people) < least else shown_count(len(people))
    return f"{count} of these participants are among the model's training data, and marked."
