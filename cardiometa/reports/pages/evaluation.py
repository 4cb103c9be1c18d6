"""Words of an evaluation's figures and tables.

The methods of an evaluation as a paper would state them.

``report.html`` of ``evaluate``: agreement, overlap and equivalence by group; nobody in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...evaluation.overlap import CONTOURED
from ..figures.reference_strata import ETHNICITY_NAMES, SEX_NAMES
from ..page import Block, Bullets, Paragraph

if TYPE_CHECKING:
    from ...evaluation.results import EvaluationResult
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...evaluation.agreement import EF_GRADES
from ...evaluation.tables import ALL, grade_table
from ...privacy.suppression import hidden_counts, suppressed_counts
from ...records import Figure, Table
from ..page import Facts, Notice, Section, page_html
from ..style import (
    ABBREVIATIONS,
    DASH,
    measure_label,
    measure_name,
    shown,
    shown_count,
    shown_estimate,
    shown_interval,
)

if TYPE_CHECKING:
    from ...evaluation.results import AgreementRow, EquivalenceRow, EvaluationResult


STRUCTURE_NAMES: Final = {
    "lv_cavity": "LV cavity",
    "lv_myocardium": "LV myocardium",
    "rv_cavity": "RV cavity",
}
PHASE_ORDER: Final = ("ED", "ES", "ED+ES", "other")
GROUP_NAMES: Final = {
    "all": "",
    "sex": "sex",
    "age_band": "age, years",
    "ethnicity": "ethnicity",
    "vendor": "vendor",
    "field_strength": "field strength",
    "trial": "trial",
}


def group_label(by: str, name: str) -> str:
    """A group as a line of a figure or table."""
    if by == "all":
        return "All"
    if by == "sex":
        return SEX_NAMES.get(name, name)
    if by == "ethnicity":
        return ETHNICITY_NAMES.get(name, name)
    if by == "age_band":
        return f"{name.replace('-', '–')} years"
    return name


def scope_words(scope: str) -> str:
    """What part of the heart was compared, where it is not the whole stack."""
    return ", contoured slices" if scope == CONTOURED else ""


GRADE_NAMES: Final = {
    "reduced": "Reduced (≤40%)",
    "mildly-reduced": "Mildly reduced (>40 to <50%)",
    "preserved": "Preserved (≥50%)",
}
_OVERLAP: Final = (
    "Overlap: Dice; Hausdorff 95 is the larger of the two directed 95th percentiles; the mean "
    "surface distance pools both surfaces. Distances are three-dimensional between voxel centres, "
    "slice distance included; a structure one slice longer in one mask is a slice distance away "
    "there. Labels are compared at the reader's frame where the labels tell it, else at the "
    "model's own ED and ES (column frame_source)."
)
_VOLUMES: Final = (
    "Measures of whole stacks: the model's own measures against slice summation of the reader's "
    "labels (mass at 1.05 g/mL). Where a cine has more than ED and ES, the RV is taken at the LV's "
    "phases. Of contour lists both are summed over the contoured slices alone, at the reader's "
    "frames; their volumes are polygon areas."
)
_LIMITS: Final = (
    "Bias: mean difference (people's mean differences where somebody has several scans) with t "
    "interval. Limits of agreement: bias ± 1.96 SD, each by itself with an exact interval (Carkeet "
    "2015); with several scans a person, SD from variances between and within people (Bland & "
    "Altman 2007) and intervals by variance recovery (Zou 2013)."
)
_RELIABILITY: Final = (
    "ICC(2,1), absolute agreement (McGraw & Wong 1996); Lin's concordance (1989, 2000); "
    "within-person CoV by the root-mean-square method; Cohen's kappa with the intervals of Fleiss, "
    "Cohen & Everitt 1969. With several scans a person these intervals are bootstrapped over "
    "people."
)
_EQUIVALENCE: Final = (
    "Equivalence: two one-sided tests at 5%, that is a 90% interval inside ± margin; a group "
    "against the rest by Welch's t. Margins stand before the comparison: by default what a second "
    "scan of the same heart changes (Grothues 2002 and 2004), for ejection fractions 3 points "
    "(after Suinesiaputra 2015)."
)
_RESCAN: Final = (
    "Scan and rescan: SEM is the within-person SD √(Σd²/2n) with its chi-square interval, the "
    "smallest detectable change 1.96 √2 SEM, CoV the root-mean-square one."
)


def methods(result: EvaluationResult) -> tuple[Block, ...]:
    """What was done, with its sources."""
    options = result.options
    items: list[str] = []
    if options.against == "labels":
        items += [_OVERLAP, _VOLUMES]
    if options.against is not None:
        items += [_LIMITS, _RELIABILITY, _EQUIVALENCE]
    if options.repeat_visits is not None:
        items.append(_RESCAN)
    items.append(
        f"Bootstrap: percentile intervals, {options.bootstrap} samples of people, seed "
        f"{options.seed}."
    )
    if not options.internal:
        items.append(
            f"Groups of fewer than {options.min_cell} people are withheld, and with them the "
            "smallest other group where they could be had by difference."
        )
    return (
        Paragraph(
            "Scans for review are used, and each headline is also given without them; scans that "
            "failed are excluded with that reason."
        ),
        Bullets(tuple(items)),
    )


_REFERENCE: Final = {
    "labels": "manual labels",
    "reported": "values that the trials reported",
    None: "repeat visits",
}


def evaluation_page(result: EvaluationResult, figures: Mapping[str, Figure]) -> str:
    """The page as text; ``figures`` by the names of `figures_of`."""
    sections = [_overview(result)]
    if result.overlap:
        sections.append(Section("Overlap", "overlap", tuple(_overlap(result, figures))))
    if result.agreement:
        sections.append(Section("Agreement of measures", "agreement", _agreement(result, figures)))
        sections.append(Section("Groups and equivalence", "groups", _groups(result, figures)))
    if result.grades:
        sections.append(Section("Graded ejection fraction", "grades", _grades(result)))
    if result.repeatability:
        sections.append(Section("Scan and rescan", "rescan", (_rescans(result),)))
    sections.append(Section("Scans", "scans", (_account(result),)))
    sections.append(Section("Methods", "methods", methods(result)))
    against = _REFERENCE[result.options.against]
    return page_html(
        f"Evaluation: {result.name}",
        f"Model against {against} · {_count(result, _people(result))} people · "
        f"{_count(result, len(result.compared.scans))} scans compared",
        sections,
        internal=result.options.internal,
        notices=result.warnings,
    )


def _people(result: EvaluationResult) -> int:
    scans = result.compared.scans
    return len(scans[["trial", "participant_id"]].drop_duplicates())


def _count(result: EvaluationResult, count: int) -> str:
    """A count of people or scans, without telling a few."""
    least = result.options.least
    return f"fewer than {least}" if 0 < count < least else shown_count(count)


def _overview(result: EvaluationResult) -> Section:
    blocks: list[Block] = [
        Facts(
            (
                ("Reference", _REFERENCE[result.options.against]),
                ("Model", result.model.get("id", "") or DASH),
                ("Model SHA-256", result.model.get("sha256", "") or DASH),
                *_papillary(result),
            )
        )
    ]
    if result.agreement:
        blocks.append(
            Paragraph(
                "Differences are model minus reference. Bias and limits of agreement say how far "
                "one scan's value may be from the reference; the reference is one reading, with "
                "an error of its own."
            )
        )
    if any(_nothing(row) for row in result.agreement):
        blocks.append(
            Notice(
                f"Fewer than {result.options.least} people: numbers are withheld. With --internal "
                "they are given, for the holder of the cohort alone.",
                "note",
            )
        )
    blocks.append(Paragraph(ABBREVIATIONS))
    return Section("Overview", "overview", tuple(blocks))


def _nothing(row: AgreementRow) -> bool:
    return row.group_by == ALL and row.note.startswith("n<")


def _papillary(result: EvaluationResult) -> tuple[tuple[str, str], ...]:
    """The convention of reported values, and a word where it is not the model's."""
    counts = result.compared.papillary
    if not counts:
        return ()
    total = sum(counts.values())
    told = suppressed_counts(counts, total, result.options.least)
    words = "; ".join(
        f"{name} {DASH if count is None else shown_count(count)}" for name, count in told.items()
    )
    return (("Papillary muscles (scans)", f"{words}. The model counts them as blood pool."),)


# ------------------------------------------------------------------ overlap


def _overlap(result: EvaluationResult, figures: Mapping[str, Figure]) -> list[Block]:
    blocks: list[Block] = [f for name, f in figures.items() if name.startswith("overlap")]
    blocks.append(_overlap_table(result))
    blocks += [f for name, f in figures.items() if name.startswith("dice_by_group")]
    return blocks


def _overlap_table(result: EvaluationResult) -> Table:
    rows = []
    found = {
        (r.scope, r.structure, r.phase, r.scans_used, r.metric): r
        for r in result.overlap
        if r.group_by == ALL
    }
    lines = dict.fromkeys(key[:4] for key in found)
    for scope, structure, phase, used in sorted(lines, key=_line_order):
        dice, hd95, assd = (
            found[scope, structure, phase, used, metric]
            for metric in ("dice", "hd95_mm", "assd_mm")
        )
        name = STRUCTURE_NAMES[structure] + scope_words(scope)
        rows.append(
            (
                name,
                phase,
                "without review" if used == "ok" else "all",
                dice.note if dice.note.startswith("n<") else shown_count(dice.n_people),
                shown_estimate(dice.mean, dice.ci_low, dice.ci_high, 3) if dice.mean else DASH,
                shown(dice.sd, 3),
                shown(dice.median, 3),
                shown_estimate(hd95.mean, hd95.ci_low, hd95.ci_high) if hd95.mean else DASH,
                shown_estimate(assd.mean, assd.ci_low, assd.ci_high, 2) if assd.mean else DASH,
            )
        )
    return Table(
        title="Overlap with the reader's labels: mean (95% interval).",
        columns=(
            "Structure",
            "Phase",
            "Scans",
            "People",
            "Dice",
            "SD",
            "Median",
            "Hausdorff 95, mm",
            "Mean surface distance, mm",
        ),
        rows=tuple(rows),
        caption="Intervals: bootstrap over people. A structure in one mask alone has Dice 0 and "
        "no distance; in neither it has no value. All groups are in overlap_summary.csv.",
    )


def _line_order(line: tuple[str, str, str, str]) -> tuple[str, int, int, str]:
    scope, structure, phase, used = line
    # "ok+review" stands before "ok".
    order = list(STRUCTURE_NAMES).index(structure), PHASE_ORDER.index(phase)
    return scope, *order, "" if used == "ok+review" else used


# ------------------------------------------------------------------ agreement


def _agreement(result: EvaluationResult, figures: Mapping[str, Figure]) -> tuple[Block, ...]:
    rows = [r for r in result.agreement if r.group_by == ALL]
    blocks: list[Block] = [_bias_table(rows), _reliability_table(rows)]
    blocks += [f for name, f in figures.items() if name.startswith("bland_altman")]
    return tuple(blocks)


def _label(row: AgreementRow | EquivalenceRow) -> str:
    return measure_label(row.measure, row.unit) + scope_words(row.scope)


def _used(row: AgreementRow) -> str:
    return "without review" if row.scans_used == "ok" else "all"


def _told(row: AgreementRow) -> str:
    return row.note if row.note.startswith("n<") else shown_count(row.n_people)


def _bias_table(rows: Sequence[AgreementRow]) -> Table:
    return Table(
        title="Bias and limits of agreement, model minus reference (95% intervals).",
        columns=(
            "Measure",
            "Scans",
            "People",
            "Mean",
            "Bias",
            "SD",
            "Lower limit",
            "Upper limit",
        ),
        rows=tuple(
            (
                _label(row),
                _used(row),
                _told(row),
                shown(row.mean_reference),
                _estimate(row.bias, row.bias_low, row.bias_high),
                shown(row.sd),
                _estimate(row.loa_lower, row.loa_lower_low, row.loa_lower_high),
                _estimate(row.loa_upper, row.loa_upper_low, row.loa_upper_high),
            )
            for row in rows
        ),
        caption="Mean: of the reference. Limits of agreement hold 95% of the differences.",
    )


def _estimate(value: float | None, low: float | None, high: float | None, digits: int = 1) -> str:
    if value is None:
        return DASH
    return shown(value, digits) if low is None else shown_estimate(value, low, high, digits)


def _reliability_table(rows: Sequence[AgreementRow]) -> Table:
    return Table(
        title="Size of the error, and reliability (95% intervals).",
        columns=(
            "Measure",
            "Scans",
            "Mean absolute error",
            "RMSE",
            "CoV, %",
            "ICC(2,1)",
            "Lin's concordance",
        ),
        rows=tuple(
            (
                _label(row),
                _used(row),
                _estimate(row.mae, row.mae_low, row.mae_high),
                shown(row.rmse),
                shown(row.cov_percent),
                _estimate(row.icc, row.icc_low, row.icc_high, 3),
                _estimate(row.ccc, row.ccc_low, row.ccc_high, 3),
            )
            for row in rows
        ),
        caption="CoV: within-person coefficient of variation. ICC and concordance depend on how "
        "much people differ from each other.",
    )


# ------------------------------------------------------------------ groups


def _groups(result: EvaluationResult, figures: Mapping[str, Figure]) -> tuple[Block, ...]:
    tested = [r for r in result.equivalence if r.result]
    counts = Counter(r.result for r in tested)
    blocks: list[Block] = [
        Paragraph(
            f"{len(tested)} tests of equivalence were made: {counts['equivalent']} equivalent, "
            f"{counts['not shown']} not shown, {counts['different beyond margin']} different "
            "beyond the margin. Each is at 5% for itself; “not shown” means that these people "
            "are too few, or the bias too large, to tell. Harmonised error that differs between "
            "groups biases comparisons of these groups."
        )
    ]
    blocks += [f for name, f in figures.items() if name.startswith("groups_")]
    differences = [r for r in result.equivalence if r.kind != "bias"]
    blocks.append(
        Table(
            title="Difference in bias between a group and the rest (90% intervals).",
            columns=("Measure", "Group", "People", "Rest", "Difference", "Margin", "Result"),
            rows=tuple(
                (
                    _tested_label(r),
                    group_label(r.group_by, r.group),
                    shown_count(r.n_people),
                    shown_count(r.n_rest),
                    _estimate(r.estimate, r.ci_low, r.ci_high, _digits(r)),
                    f"± {shown(r.margin, _digits(r))}" if r.margin is not None else DASH,
                    r.result or r.note,
                )
                for r in differences
                if r.note != "no rest"
            ),
            caption="Equivalent: the interval lies inside the margin. Groups of too few people "
            "are left out; all rows are in equivalence.csv.",
        )
    )
    return tuple(blocks)


def _tested_label(row: EquivalenceRow) -> str:
    structure = row.measure.removeprefix("dice_")
    if structure in STRUCTURE_NAMES:
        return f"Dice, {STRUCTURE_NAMES[structure]}{scope_words(row.scope)}"
    return _label(row)


def _digits(row: EquivalenceRow) -> int:
    return 3 if row.measure.startswith("dice_") else 1


# ------------------------------------------------------------------ grades


def _grades(result: EvaluationResult) -> tuple[Block, ...]:
    rows = [r for r in result.grades if r.group_by == ALL]
    blocks: list[Block] = [
        Table(
            title="Agreement of graded ejection fraction (95% intervals).",
            columns=(
                "Measure",
                "Scans",
                "People",
                "Same grade, %",
                "Kappa",
                "Weighted kappa, linear",
                "Weighted kappa, quadratic",
            ),
            rows=tuple(
                (
                    measure_name(r.measure) + scope_words(r.scope),
                    "without review" if r.scans_used == "ok" else "all",
                    r.note if r.note.startswith("n<") else shown_count(r.n_people),
                    shown(r.percent_agreement),
                    _estimate(r.kappa, r.kappa_low, r.kappa_high, 2),
                    _estimate(r.kappa_linear, r.kappa_linear_low, r.kappa_linear_high, 2),
                    _estimate(r.kappa_quadratic, r.kappa_quadratic_low, r.kappa_quadratic_high, 2),
                )
                for r in rows
            ),
            caption="Grades of the universal definition of heart failure (2021): reduced up to "
            "40%, mildly reduced above 40 and below 50%, preserved from 50%.",
        )
    ]
    for row in rows:
        if row.scans_used == "ok+review" and row.n_people is not None:
            counts = grade_table(result.compared, row.measure, row.scope)
            if counts is not None:
                name = measure_name(row.measure) + scope_words(row.scope)
                blocks.append(_cross_table(counts, name, result.options.least))
    return tuple(blocks)


def _cross_table(counts: np.ndarray, name: str, least: int) -> Table:
    flat = [int(n) for n in counts.ravel()]
    hidden = np.array(hidden_counts(flat, sum(flat), least)) & (np.array(flat) > 0)
    rows = tuple(
        (
            GRADE_NAMES[EF_GRADES[i]],
            *(
                DASH if hidden[i * len(counts) + j] else shown_count(int(counts[i, j]))
                for j in range(len(counts))
            ),
        )
        for i in range(len(counts))
    )
    return Table(
        title=f"{name}: scans by the model's grade (rows) and the reference's (columns).",
        columns=("Model", *(GRADE_NAMES[g] for g in EF_GRADES)),
        rows=rows,
        caption=f"{DASH}: withheld, since it is or would reveal a group of a few people."
        if hidden.any()
        else "",
    )


# ------------------------------------------------------------------ rescans, account


def _rescans(result: EvaluationResult) -> Table:
    assert result.options.repeat_visits is not None
    first, second = result.options.repeat_visits
    return Table(
        title=f"Scan and rescan: {first} and {second} (95% intervals).",
        columns=(
            "Measure",
            "By",
            "People",
            "Mean",
            "Second − first",
            "CoV, %",
            "SEM",
            "Smallest detectable change",
            "ICC(2,1)",
        ),
        rows=tuple(
            (
                measure_label(r.measure, r.unit),
                r.source,
                r.note or shown_count(r.n_people),
                shown(r.mean),
                _estimate(r.bias, r.bias_low, r.bias_high),
                shown(r.cov_percent),
                _estimate(r.sem, r.sem_low, r.sem_high),
                shown(r.sdc) + (f" ({shown_interval(r.sdc_low, r.sdc_high)})" if r.sdc else ""),
                _estimate(r.icc, r.icc_low, r.icc_high, 2),
            )
            for r in result.repeatability
        ),
        caption="SEM: within-person SD. Smallest detectable change: 1.96 √2 SEM.",
    )


def _account(result: EvaluationResult) -> Table:
    compared = result.compared
    reasons = Counter(e.code for e in compared.exclusions)
    gone = sum(reasons.values())
    told = suppressed_counts(dict(reasons), gone, result.options.least)
    rows = [
        ("Scans in the output of segment", _count(result, compared.scans_in)),
        *((f"Excluded: {code}", shown_count(told[code])) for code in sorted(reasons)),
        ("Compared", _count(result, len(compared.scans))),
    ]
    return Table(
        title="Account of the scans.",
        columns=("", "Scans"),
        rows=tuple(rows),
        caption="Each excluded scan with its reason is in exclusions.csv. That file, overlap.csv "
        "and pairs.csv have a row a scan: they are for the holder of the cohort.",
    )
