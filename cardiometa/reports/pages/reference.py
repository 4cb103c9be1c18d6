"""``report.html`` of ``reference-ranges`` and the table that papers print.

The tables and figures of a paper, without individuals: limits by measure, checks, participants,
methods. `paper_table_csv` and `paper_table_html` are the same limits as plain tables: sex and age
down, ethnicity across, lower–upper and n.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from ...files import csv_text
from ...manifest import notice_for
from ...records import ETHNICITIES, Figure
from ...reference.results import (
    CONSTANT_TRIAL,
    TINY_TRIALS,
    UNLINKED,
    ReferenceLimit,
    ReferenceRanges,
)
from ..figures.reference import (
    ALL,
    ETHNICITY_NAMES,
    META,
    METHOD_NAMES,
    SEX_NAMES,
    STRATA,
    band_name,
    has_gap,
    headlines,
    meta_headlines,
)
from ..page import (
    Block,
    Bullets,
    Facts,
    Html,
    Notice,
    Paragraph,
    environment,
    notes_section,
    page_html,
    section,
    words,
)
from ..style import DASH, abbreviations, measure_label, measure_name, shown_count, shown_range
from . import reference_tables as tables

TABLE_CSV: Final = "table.csv"
TABLE_HTML: Final = "table.html"
_MARKS: Final = {"small": "†", "one_trial": "‡", "moved": "§"}
_MANY_AGES: Final = 8
_CONVENTIONS: Final = {
    "papillary": "Papillary muscles",
    "sequence": "Sequence",
    "model_id": "Segmentation model",
    "model_sha256": "Its SHA-256",
    "bsa_formula": "Body surface area",
    "reported_papillary": "Papillary muscles in reported values",
    "vendor": "Vendors",
    "field_strength_t": "Field strength, T",
}
_text = partial(words, "reference")


def reference_page(result: ReferenceRanges, figures: Mapping[tuple[str, str], str]) -> str:
    """The page as text; ``figures`` maps each measure and method to the SVG of its limits."""
    provisional = _provisional(result)
    notices = [_text("population")] if not result.options.healthy_only else []
    facts = _method_facts(result)
    methods = "\n\n".join(
        [_text("methods", **facts)]
        + [
            _text(f"methods_{m if m in (STRATA, META) else 'curves'}", method=m, **facts)
            for m in result.methods
        ]
        + [_text("methods_end", **facts)]
    )
    return page_html(
        f"{result.title}: {result.name}",
        _text("subtitle", result=result, options=result.options),
        [
            section("Overview", "overview", *_overview(result)),
            *(
                section(label, f"limits-{number}", *blocks)
                for number, (label, blocks) in enumerate(_measures(result, figures), start=1)
            ),
            section(
                "Checks of the limits",
                "checks",
                tables.calibration_table(result),
                *tables.fit_blocks(result),
                tables.trial_influence_table(result),
                tables.partition_table(result),
                tables.contrast_table(result, "sex"),
                tables.contrast_table(result, "ethnicity"),
                tables.indexing_table(result),
            ),
            section(
                "Participants",
                "participants",
                tables.account_table(result),
                Paragraph(_text("visits", result=result)) if result.visits else None,
                tables.review_block(result),
                *tables.outlier_tables(result),
            ),
            notes_section(result.warnings),
            section(
                "Methods",
                "methods",
                Paragraph(methods),
                Notice(provisional, "note") if provisional else None,
                Bullets(tuple(_text("interpretation", result=result).split("\n\n"))),
            ),
        ],
        internal=result.options.internal,
        notices=(*notices, *([provisional] if provisional else [])),
        warnings=result.warnings,
        foot=_foot(result),
    )


def _provisional(result: ReferenceRanges) -> str:
    """What limits by ethnicity depend on where a model measured the hearts; else empty."""
    by_model = result.conventions.get("model_sha256") or result.conventions.get("model_id")
    return _text("provisional") if "ethnicity" in result.by and by_model else ""


def _foot(result: ReferenceRanges) -> str:
    return notice_for(result.conventions.get("model_id", ()))


def _overview(result: ReferenceRanges) -> list[Block]:
    options = result.options

    def cells(rows: Iterable[ReferenceLimit]) -> int:
        return len({(r.measure, r.method, r.sex, r.ethnicity, r.age_low) for r in rows})

    empty = cells(r for r in result.rows if r.status == "suppressed")
    facts = {"empty": empty, "cells": cells(result.rows), "options": options}
    conventions = [
        (_CONVENTIONS[name], ", ".join(values))
        for name, values in result.conventions.items()
        if values and name in _CONVENTIONS
    ]
    for name, counts in result.scanners.items():
        parts = [
            f"{value} ({f'<{options.min_cell}' if n < options.min_cell else shown_count(n)})"
            for value, n in counts.items()
        ]
        conventions.append((_CONVENTIONS[name], ", ".join(parts)))
    missing = [_CONVENTIONS[n] for n in ("papillary", "sequence") if n not in result.conventions]
    if missing:
        conventions.append(("Not stated in the table", ", ".join(missing)))
    if options.healthy_only:
        conventions.append(("Healthy", options.healthy_rule or "as in column healthy of the table"))
    marginal = any(row.kind == "marginal" for row in result.rows)
    return [
        Facts(
            (
                ("Measures", ", ".join(measure_name(m) for m in result.measures)),
                ("Trials", ", ".join(result.trials)),
                ("Stratified by", ", ".join(result.by) or "nothing"),
                *conventions,
                ("Groups without a limit", _text("empty_groups", **facts)),
            )
        ),
        Paragraph(_text("intervals", result=result, marginal=marginal)),
        Paragraph(abbreviations(result.measures)),
    ]


def _measures(
    result: ReferenceRanges, figures: Mapping[tuple[str, str], str]
) -> Iterable[tuple[str, list[Block]]]:
    """Title and blocks of each measure: by method the table of limits and its figure."""
    for measure in result.measures:
        mine = [row for row in result.rows if row.measure == measure]
        label = measure_label(measure, mine[0].unit) if mine else measure_name(measure)
        blocks: list[Block] = []
        for method in dict.fromkeys(row.method for row in mine):
            rows = _printed([row for row in mine if row.method == method])
            svg = figures.get((measure, method))
            name = _with_method(label, method)
            blocks.append(Html(_limits_html(rows, name, result)))
            if svg:
                kinds = {row.kind for row in rows if row.limit is not None}
                facts = {
                    "options": result.options,
                    "method": method,
                    "kinds": kinds,
                    "thin": any(row.status == "pooled-thin" for row in rows),
                    "missing": any(row.limit is None for row in rows),
                    "gap": any(
                        has_gap(line)
                        for line in result.curve_lines
                        if (line.measure, line.method) == (measure, method)
                    ),
                }
                titles = {
                    STRATA: f"Limits of {label}{' by age' if 'age' in result.by else ''}.",
                    META: f"Meta-analytic limits of {label}.",
                }
                title = titles.get(method, f"Centiles of {name} by age.")
                blocks.append(Figure(title=title, caption=_text("limits_figure", **facts), svg=svg))
            if method == META and any(
                (e.measure, e.ethnicity) == (measure, ALL) for e in result.meta
            ):
                every = [row for row in mine if row.method == META]
                blocks += [
                    tables.rules_table(every, result),
                    tables.estimates_table(measure, label, result),
                ]
        yield label, blocks or [Paragraph(_text("no_limits"))]


# ------------------------------------------------------------------ methods


def _method_facts(result: ReferenceRanges) -> dict[str, Any]:
    ethnicities = dict.fromkeys(row.ethnicity for row in result.rows)
    return {
        "result": result,
        "options": result.options,
        "ethnicities": [ETHNICITY_NAMES[e] for e in ethnicities],
        "logs": any("log" in e.notes for e in result.meta),
        "left_out": any({CONSTANT_TRIAL, TINY_TRIALS} & set(e.notes) for e in result.meta),
        "skewed": any("asymmetric" in r.notes for r in result.rows if r.method == META),
    }


# ------------------------------------------------------------------ tables of limits


_Age = tuple[float | None, float | None, float | None]  # of a band, or a curve's age


@dataclass(frozen=True)
class _Cell:
    """A group's limits as printed: the range with its marks, each limit's interval, n."""

    limits: str
    marks: str
    intervals: tuple[str, ...]
    n: str


def _with_method(label: str, method: str) -> str:
    return label if method == STRATA else f"{label}, {METHOD_NAMES[method]}"


def _printed(rows: Sequence[ReferenceLimit]) -> list[ReferenceLimit]:
    """Of each group the rows that the tables show."""
    if not rows or rows[0].method == STRATA:
        return list(rows)
    return meta_headlines(rows) if rows[0].method == META else headlines(rows)


def _is_curve(rows: Sequence[ReferenceLimit]) -> bool:
    return rows[0].method not in (STRATA, META)


def _ethnicities(rows: Sequence[ReferenceLimit]) -> list[str]:
    found = {row.ethnicity for row in rows}
    return [e for e in (ALL, *ETHNICITIES) if e in found]


def _by_group(
    rows: Sequence[ReferenceLimit],
) -> dict[tuple[str, _Age, str], list[ReferenceLimit]]:
    groups: dict[tuple[str, _Age, str], list[ReferenceLimit]] = {}
    for row in rows:
        age = (row.age_low, row.age_high, row.age)
        groups.setdefault((row.sex, age, row.ethnicity), []).append(row)
    return groups


def _lines(rows: Sequence[ReferenceLimit]) -> list[tuple[str, _Age]]:
    """Sex and age of each line: bands, or a curve's ages; a group without a curve has no line."""
    found = dict.fromkeys((row.sex, (row.age_low, row.age_high, row.age)) for row in rows)
    if not any(row.age is not None for row in rows):
        return list(found)
    sexes = list(dict.fromkeys(row.sex for row in rows))
    kept = [key for key in found if key[1][2] is not None]
    return sorted(kept, key=lambda key: (sexes.index(key[0]), key[1][2] or 0.0))


def _few_ages(
    rows: Sequence[ReferenceLimit], lines: list[tuple[str, _Age]]
) -> list[tuple[str, _Age]]:
    """All ages of a sex's curves where there are few, else those at multiples of ten."""
    kept: list[tuple[str, _Age]] = []
    for sex in dict.fromkeys(row.sex for row in rows):
        mine = [line for line in lines if line[0] == sex]
        if _is_curve(rows) and len(mine) > _MANY_AGES:
            tens = [line for line in mine if (line[1][2] or 0.0) % 10 == 0]
            mine = tens or mine[::2]
        kept += mine or [(sex, (None, None, None))]
    return kept


def _age_text(age: _Age) -> str:
    return f"{age[2]:g}" if age[2] is not None else band_name(age[0], age[1])


def decimals_of(rows: Iterable[ReferenceLimit]) -> int:
    """Decimals that show a limit to about 1 % of it: none for 142 mL, one for 6.2 L/min.

    Percentages and volumes above 20 are printed without decimals, as papers do.
    """
    known = sorted(abs(r.limit) for r in rows if r.limit is not None)
    middle = known[len(known) // 2] if known else 100.0
    return 0 if middle >= 20 else 1 if middle >= 2 else 2


def _range(found: Sequence[ReferenceLimit], decimals: int) -> str:
    """Lower–upper limit; empty where one is missing."""
    outer = [row.limit for row in found if row.centile != 50]
    return "" if not outer or None in outer else shown_range(outer, decimals)


def _n(row: ReferenceLimit, missing: str = DASH) -> str:
    """The number of participants, ``<10`` where it is small."""
    if row.n is not None:
        return shown_count(row.n)
    return missing if row.below_n is None else f"<{row.below_n}"


def _of_one_trial(row: ReferenceLimit) -> bool:
    return row.status == "single-trial" or "single-trial" in row.notes


def _cell(found: Sequence[ReferenceLimit], decimals: int, result: ReferenceRanges) -> _Cell:
    first = found[0]
    limits = _range(found, decimals)
    marks = _MARKS["small"] * (first.status in ("small-n", "pooled-thin"))
    marks += _MARKS["one_trial"] * (len(result.trials) > 1 and _of_one_trial(first))
    intervals = tuple(
        f"({shown_range((row.ci_low, row.ci_high), decimals)})"
        + _MARKS["moved"] * ("ci-at-extreme" in row.notes)
        for row in found
        if limits and row.centile != 50 and row.ci_low is not None and row.ci_high is not None
    )
    return _Cell(limits, marks if limits else "", intervals, _n(first))


def _footnote(rows: Sequence[ReferenceLimit], result: ReferenceRanges, *, brackets: bool) -> str:
    """What the table's dashes and marks mean; ``brackets``: it shows the limits' intervals."""
    unlinked = [ETHNICITY_NAMES[r.ethnicity] for r in rows if UNLINKED in r.notes]
    return _text(
        "footnote",
        brackets=brackets,
        options=result.options,
        marks=_MARKS,
        curve=_is_curve(rows),
        method=rows[0].method,
        kinds={r.kind for r in rows if r.limit is not None},
        statuses={r.status for r in rows},
        notes={note for r in rows for note in r.notes},
        unlinked=", ".join(dict.fromkeys(unlinked)),
        one_trial=len(result.trials) > 1 and any(map(_of_one_trial, rows)),
        n_withheld=any(r.n is None and r.limit is not None for r in rows),
    )


def _table_lines(
    rows: Sequence[ReferenceLimit],
    lines: Sequence[tuple[str, _Age]],
    result: ReferenceRanges,
    *,
    fill: bool,
) -> list[dict[str, Any]]:
    """The lines of a table: name of the sex where it begins, age, a cell or None by ethnicity.

    A curve's n is of all its ages and printed once per group. ``fill``: a group without a curve
    has the same cell at each age.
    """
    groups, decimals = _by_group(rows), decimals_of(rows)
    counted: set[tuple[str, str]] = set()
    made, before = [], ""
    for sex, age in lines:
        cells: list[_Cell | None] = []
        for ethnicity in _ethnicities(rows):
            found = groups.get((sex, age, ethnicity))
            if not found and fill:
                found = groups.get((sex, (None, None, None), ethnicity))
            cell = _cell(found, decimals, result) if found else None
            if cell is not None and found and found[0].age is not None:
                if (sex, ethnicity) in counted:
                    cell = _Cell(cell.limits, cell.marks, cell.intervals, "")
                counted.add((sex, ethnicity))
            cells.append(cell)
        no_age = _is_curve(rows) and age[2] is None
        made.append(
            {
                "sex": SEX_NAMES[sex] if sex != before else "",
                "age": DASH if no_age else _age_text(age),
                "cells": cells,
            }
        )
        before = sex
    return made


def _limits_html(rows: Sequence[ReferenceLimit], label: str, result: ReferenceRanges) -> str:
    """Sex and age band down, ethnicity across: lower–upper, the CI of each limit, n."""
    lines = _few_ages(rows, _lines(rows))
    return (
        environment()
        .get_template("limits.html.j2")
        .render(
            label=label,
            heads=[ETHNICITY_NAMES[e] for e in _ethnicities(rows)],
            lines=_table_lines(rows, lines, result, fill=True),
            caption=_text("limits_caption", options=result.options),
            footnote=_footnote(rows, result, brackets=True),
        )
    )


# ------------------------------------------------------------------ the table of a paper


def _tables(result: ReferenceRanges) -> list[list[ReferenceLimit]]:
    """The printed rows of each measure and method."""
    keys = dict.fromkeys((row.measure, row.method) for row in result.rows)
    return [_printed([r for r in result.rows if (r.measure, r.method) == key]) for key in keys]


def paper_table_csv(result: ReferenceRanges) -> str:
    """A row for each measure, method, sex and age; the range and n of each ethnicity as columns."""
    ethnicities = _ethnicities(result.rows)
    columns = ["measure", "unit", "method", "sex", "age"]
    columns += [name for e in ethnicities for name in (e, f"{e}_n")]
    note = "" if result.options.healthy_only else result.title
    lines = []
    for rows in _tables(result):
        first, groups, decimals = rows[0], _by_group(rows), decimals_of(rows)
        for sex, age in _lines(rows):
            cells: list[str | None] = [first.measure, first.unit, first.method, sex, _age_text(age)]
            for ethnicity in ethnicities:
                found = groups.get((sex, age, ethnicity), [])
                n = found[0].n if found else None
                count = str(n) if n is not None else _n(found[0], "") if found else ""
                cells += [_range(found, decimals) or None, count or None]
            lines.append((*cells, note))
    return csv_text([*columns, "note"], lines)


def paper_table_html(result: ReferenceRanges) -> str:
    """The same as a page of plain tables, styled cell by cell, which word processors keep."""
    made = [
        {
            "label": _with_method(measure_label(rows[0].measure, rows[0].unit), rows[0].method),
            "heads": [ETHNICITY_NAMES[e] for e in _ethnicities(rows)],
            "lines": _table_lines(rows, _lines(rows), result, fill=False),
            "footnote": _footnote(rows, result, brackets=False),
        }
        for rows in _tables(result)
    ]
    return (
        environment()
        .get_template("table.html.j2")
        .render(
            title=f"{result.title}: {result.name}",
            what=_text("paper_table", result=result, options=result.options),
            tables=made,
            provisional=_provisional(result),
            foot=_foot(result),
        )
    )
