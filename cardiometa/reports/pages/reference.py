"""``report.html`` of ``reference-ranges`` and the table that papers print.

The tables and figures of a paper, without individuals: limits by measure, checks, participants,
methods. `paper_table_csv` and `paper_table_html` are the same limits as plain tables: sex and age
down, ethnicity across, lower–upper and n.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    grouped,
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
            table = _LimitsTable([row for row in mine if row.method == method], result)
            rows, svg = table.rows, figures.get((measure, method))
            blocks.append(Html(table.html()))
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
                title = titles.get(method, f"Centiles of {table.label} by age.")
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
_NO_AGE: Final = (None, None, None)


def decimals_of(rows: Iterable[ReferenceLimit]) -> int:
    """Decimals that show a limit to about 1 % of it: none for 142 mL, one for 6.2 L/min.

    Percentages and volumes above 20 are printed without decimals, as papers do.
    """
    known = sorted(abs(r.limit) for r in rows if r.limit is not None)
    middle = known[len(known) // 2] if known else 100.0
    return 0 if middle >= 20 else 1 if middle >= 2 else 2


def _n(row: ReferenceLimit, missing: str = DASH) -> str:
    """The number of participants, ``<10`` where it is small."""
    if row.n is not None:
        return shown_count(row.n)
    return missing if row.below_n is None else f"<{row.below_n}"


def _age_text(age: _Age) -> str:
    return f"{age[2]:g}" if age[2] is not None else band_name(age[0], age[1])


class _LimitsTable:
    """The limits of one measure by one method as printed: sex and age down, ethnicity across."""

    def __init__(self, rows: Sequence[ReferenceLimit], result: ReferenceRanges) -> None:
        first = rows[0]
        self.result, self.measure, self.unit = result, first.measure, first.unit
        self.method = first.method
        self.is_curve = self.method not in (STRATA, META)
        shown = meta_headlines if self.method == META else headlines
        self.rows = list(rows) if self.method == STRATA else shown(rows)
        self.decimals = decimals_of(self.rows)
        found = {row.ethnicity for row in self.rows}
        self.ethnicities = [e for e in (ALL, *ETHNICITIES) if e in found]
        self.groups: dict[tuple[str, _Age, str], list[ReferenceLimit]] = {}
        for row in self.rows:
            key = (row.sex, (row.age_low, row.age_high, row.age), row.ethnicity)
            self.groups.setdefault(key, []).append(row)

    @property
    def label(self) -> str:
        """The measure, and the method but for strata."""
        label = measure_label(self.measure, self.unit)
        return label if self.method == STRATA else f"{label}, {METHOD_NAMES[self.method]}"

    def lines(self) -> list[tuple[str, _Age]]:
        """Sex and age of each line: bands, or a curve's ages, but of groups without a curve."""
        found = dict.fromkeys((sex, age) for sex, age, _ in self.groups)
        sexes = list(dict.fromkeys(sex for sex, _ in found))
        if not any(age[2] is not None for _, age in found):
            return list(found)
        kept = [line for line in found if line[1][2] is not None]
        return sorted(kept, key=lambda line: (sexes.index(line[0]), line[1][2] or 0.0))

    def few_lines(self) -> list[tuple[str, _Age]]:
        """All ages of a sex's curves where there are few, else those at multiples of ten."""
        kept: list[tuple[str, _Age]] = []
        for sex in dict.fromkeys(row.sex for row in self.rows):
            mine = [line for line in self.lines() if line[0] == sex]
            if self.is_curve and len(mine) > _MANY_AGES:
                mine = [line for line in mine if (line[1][2] or 0.0) % 10 == 0] or mine[::2]
            kept += mine or [(sex, _NO_AGE)]
        return kept

    def range_of(self, found: Sequence[ReferenceLimit]) -> str:
        """Lower–upper limit; empty where one is missing."""
        outer = [row.limit for row in found if row.centile != 50]
        return "" if not outer or None in outer else shown_range(outer, self.decimals)

    def of_one_trial(self, row: ReferenceLimit) -> bool:
        """True where all participants of a limit come from one of several trials."""
        single = row.status == "single-trial" or "single-trial" in row.notes
        return single and len(self.result.trials) > 1

    def cell(self, found: Sequence[ReferenceLimit]) -> dict[str, Any]:
        """A group's limits as printed: the range with its marks, each limit's interval, n."""
        first, limits = found[0], self.range_of(found)
        marks = _MARKS["small"] * (first.status in ("small-n", "pooled-thin"))
        marks += _MARKS["one_trial"] * self.of_one_trial(first)
        intervals = [
            f"({shown_range((row.ci_low, row.ci_high), self.decimals)})"
            + _MARKS["moved"] * ("ci-at-extreme" in row.notes)
            for row in found
            if limits and row.centile != 50 and row.ci_low is not None and row.ci_high is not None
        ]
        marks = marks if limits else ""
        return {"limits": limits, "marks": marks, "intervals": intervals, "n": _n(first)}

    def printed(self, lines: Sequence[tuple[str, _Age]], *, fill: bool) -> list[dict[str, Any]]:
        """The lines: name of the sex where it begins, age, a cell or None by ethnicity.

        A curve's n is of all its ages and printed once per group. ``fill``: a group without a
        curve has the same cell at each age.
        """
        counted: set[tuple[str, str]] = set()
        made, before = [], ""
        for sex, age in lines:
            cells: list[dict[str, Any] | None] = []
            for ethnicity in self.ethnicities:
                found = self.groups.get((sex, age, ethnicity))
                if not found and fill:
                    found = self.groups.get((sex, _NO_AGE, ethnicity))
                cell = self.cell(found) if found else None
                if cell and found and found[0].age is not None:
                    cell["n"] = "" if (sex, ethnicity) in counted else cell["n"]
                    counted.add((sex, ethnicity))
                cells.append(cell)
            no_age = self.is_curve and age[2] is None
            name = SEX_NAMES[sex] if sex != before else ""
            made.append({"sex": name, "age": DASH if no_age else _age_text(age), "cells": cells})
            before = sex
        return made

    def facts(self, lines: Sequence[tuple[str, _Age]], *, on_page: bool) -> dict[str, Any]:
        """What the templates show; ``on_page`` with the limits' intervals."""
        rows = self.rows
        unlinked = [ETHNICITY_NAMES[r.ethnicity] for r in rows if UNLINKED in r.notes]
        footnote = _text(
            "footnote",
            brackets=on_page,
            options=self.result.options,
            marks=_MARKS,
            curve=self.is_curve,
            method=self.method,
            kinds={r.kind for r in rows if r.limit is not None},
            statuses={r.status for r in rows},
            notes={note for r in rows for note in r.notes},
            unlinked=", ".join(dict.fromkeys(unlinked)),
            one_trial=any(map(self.of_one_trial, rows)),
            n_withheld=any(r.n is None and r.limit is not None for r in rows),
        )
        return {
            "label": self.label,
            "heads": [ETHNICITY_NAMES[e] for e in self.ethnicities],
            "lines": self.printed(lines, fill=on_page),
            "footnote": footnote,
        }

    def html(self) -> str:
        """The table of the page: lower–upper, the interval of each limit, n."""
        facts = self.facts(self.few_lines(), on_page=True)
        caption = _text("limits_caption", options=self.result.options)
        return environment().get_template("limits.html.j2").render(caption=caption, **facts)


# ------------------------------------------------------------------ the table of a paper


def _tables(result: ReferenceRanges) -> list[_LimitsTable]:
    """The printed table of each measure and method."""
    return [_LimitsTable(rows, result) for rows in grouped(result.rows, "measure method").values()]


def paper_table_csv(result: ReferenceRanges) -> str:
    """A row for each measure, method, sex and age; the range and n of each ethnicity as columns."""
    found = {row.ethnicity for row in result.rows}
    ethnicities = [e for e in (ALL, *ETHNICITIES) if e in found]
    columns = ["measure", "unit", "method", "sex", "age"]
    columns += [name for e in ethnicities for name in (e, f"{e}_n")]
    note = "" if result.options.healthy_only else result.title
    lines = []
    for table in _tables(result):
        for sex, age in table.lines():
            cells: list[str | None] = [table.measure, table.unit, table.method, sex, _age_text(age)]
            for ethnicity in ethnicities:
                group = table.groups.get((sex, age, ethnicity), [])
                n = group[0].n if group else None
                count = str(n) if n is not None else _n(group[0], "") if group else ""
                cells += [table.range_of(group) or None, count or None]
            lines.append((*cells, note))
    return csv_text([*columns, "note"], lines)


def paper_table_html(result: ReferenceRanges) -> str:
    """The same as a page of plain tables, styled cell by cell, which word processors keep."""
    return (
        environment()
        .get_template("table.html.j2")
        .render(
            title=f"{result.title}: {result.name}",
            what=_text("paper_table", result=result, options=result.options),
            tables=[table.facts(table.lines(), on_page=False) for table in _tables(result)],
            provisional=_provisional(result),
            foot=_foot(result),
        )
    )
