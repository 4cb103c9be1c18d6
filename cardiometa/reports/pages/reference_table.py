"""The marks of a printed limit and the notes that explain them, for the page and the table.

The table that papers print: sex and age down, ethnicity across, lower–upper and n.

Once as CSV, once as a plain page whose tables can be copied into a word processor as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ...reference.results import UNLINKED, ReferenceLimit
from ..figures.reference_curves import KIND_NOTES
from ..figures.reference_strata import ETHNICITY_NAMES
from ..style import DASH
from .reference_meta import META

if TYPE_CHECKING:
    from ...reference.results import ReferenceRanges
from html import escape
from typing import TYPE_CHECKING

from ...files import csv_text
from ...manifest import RESEARCH_USE
from ...records import ETHNICITIES
from ..figures.reference_curves import METHOD_NAMES, headlines
from ..figures.reference_strata import ALL, SEX_NAMES, band_name
from ..style import MINUS, measure_label, shown, shown_count
from .reference_meta import meta_headlines

if TYPE_CHECKING:
    from ...reference.results import ReferenceRanges


SMALL: Final = "†"
ONE_TRIAL: Final = "‡"
MOVED: Final = "§"
PROVISIONAL: Final = (
    "Limits by ethnicity are provisional: the model's own error may differ between groups, and "
    "until it has been measured against readers in each of them a difference between groups may be "
    "a difference of the measurement."
)


def marks(row: ReferenceLimit, *, many: bool) -> str:
    """The marks behind a group's limits; ``many``: the table is of more than one trial."""
    return SMALL * (row.status in ("small-n", "pooled-thin")) + ONE_TRIAL * (
        many and _one_trial(row)
    )


def footnote(rows: Sequence[ReferenceLimit], result: ReferenceRanges, *, brackets: bool) -> str:
    """What the table's dashes and marks mean; ``brackets``: it shows the limits' intervals."""
    options = result.options
    curve = rows[0].method not in ("strata", META)
    why = (
        "no such people at that age, or too few"
        if curve
        else f"fewer than {options.smallest_n} people"
    )
    notes = [f"{DASH}: {why}."]
    kinds = {r.kind for r in rows if r.limit is not None}
    if kinds & {"marginal", "conditional"}:
        notes.append(KIND_NOTES["marginal" if "marginal" in kinds else "conditional"])
    if {"marginal", "conditional"} <= kinds:
        notes.append("Groups of fewer than five trials have those of the average of their trials.")
    if any(r.status == "pooled-thin" for r in rows):
        notes.append(
            f"{SMALL} fewer than {options.min_n} people, or too few for a curve of their own: the "
            "age shape is that of all ethnicities, the level is drawn to theirs."
        )
    if any(UNLINKED in r.notes for r in rows):
        names = ", ".join(
            dict.fromkeys(ETHNICITY_NAMES[r.ethnicity] for r in rows if UNLINKED in r.notes)
        )
        notes.append(
            f"{names}: no trial has these people beside others, so that nothing tells them from "
            "their trials; they are given the level of all."
        )
    if any(r.status == "small-n" for r in rows):
        robust = options.limits is None and rows[0].method == "strata"
        how = "robust limits (Horn) with a bootstrap interval" if robust else ""
        few = f"{SMALL} fewer than 120 people"
        notes.append(f"{few}: {how}." if how else f"{few}.")
    if any(_one_trial(r) for r in rows) and len(result.trials) > 1:
        notes.append(f"{ONE_TRIAL} all from one trial: a difference may be its scanner's.")
    if brackets and any("ci-at-extreme" in r.notes for r in rows):
        notes.append(
            f"{MOVED} the interval ends at the smallest or largest value; that end was moved "
            "outward to a round number, so that nobody's value is shown."
        )
    if any("limits-withheld" in r.notes for r in rows):
        notes.append(
            "Limits of all ethnicities that, beside those of the groups, would tell the values of "
            "a few people are not given."
        )
    if any("limit-at-extreme" in r.notes for r in rows):
        notes.append("Limits that would be nearly one person's value are not given.")
    if brackets and any("no-rank-interval" in r.notes for r in rows):
        notes.append("Too few people for a rank interval where the brackets are missing.")
    if any(r.n is None and r.limit is not None for r in rows):
        notes.append(f"n {DASH}: withheld, since it would reveal a group of a few people.")
    also = "The centre" if brackets else "The limits' confidence intervals, the centre"
    notes.append(f"{also} and all digits are in reference_ranges.csv.")
    return " ".join(notes)


def _one_trial(row: ReferenceLimit) -> bool:
    return row.status == "single-trial" or "single-trial" in row.notes


TABLE_CSV: Final = "table.csv"
TABLE_HTML: Final = "table.html"
_CONVENTIONS: Final = {
    "papillary": "papillary muscles",
    "bsa_formula": "body surface area by",
    "sequence": "sequence",
    "model_id": "segmentation model",
}
_Age = tuple[float | None, float | None, float | None]
_RULE: Final = "border-top:1px solid black"
_CELL: Final = "padding:1pt 5pt;text-align:center;vertical-align:top;white-space:nowrap"


def paper_table_csv(result: ReferenceRanges) -> str:
    """A row for each measure, method, sex and age; the range and n of each ethnicity as columns."""
    shown_ethnicities = _ethnicities(result.rows)
    columns = ["measure", "unit", "method", "sex", "age"]
    for ethnicity in shown_ethnicities:
        columns += [ethnicity, f"{ethnicity}_n"]
    columns.append("note")
    note = "" if result.options.healthy_only else result.title
    lines = []
    for measure, method in _tables(result):
        rows = _rows(result, measure, method)
        decimals = _decimals(rows)
        for sex, age in _lines(rows):
            cells: list[str | None] = [measure, rows[0].unit, method, sex, _age_text(age)]
            for ethnicity in shown_ethnicities:
                found = _found(rows, sex, age, ethnicity)
                cells += [_range(found, decimals), _n(found)]
            lines.append((*cells, note))
    return csv_text(columns, lines)


def paper_table_html(result: ReferenceRanges) -> str:
    """The same as a page of plain tables, styled cell by cell, which word processors keep."""
    tables = [_html_table(result, measure, method) for measure, method in _tables(result)]
    title = escape(f"{result.title}: {result.name}")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{title}</title></head>\n"
        "<body style=\"font-family:'Times New Roman',serif;font-size:10pt;margin:2em\">\n"
        f'<p style="font-size:12pt"><b>{title}</b></p>\n<p>{escape(_what(result))}</p>\n'
        + "\n".join(tables)
        + (f"\n<p>{escape(PROVISIONAL)}</p>" if "ethnicity" in result.by else "")
        + f"\n<p>{escape(RESEARCH_USE)}</p>\n</body></html>\n"
    )


def _what(result: ReferenceRanges) -> str:
    options = result.options
    what = "Reference interval" if options.healthy_only else "Population distribution"
    side = {
        "two": f"central {options.level:g}%, lower to upper limit",
        "lower": f"lower limit of {options.level:g}%",
        "upper": f"upper limit of {options.level:g}%",
    }[options.sided]
    conventions = "; ".join(
        f"{_CONVENTIONS[name]} {', '.join(values)}"
        for name, values in result.conventions.items()
        if name in _CONVENTIONS
    )
    said = f" Conventions: {conventions}." if conventions else ""
    return (
        f"{what} ({side}) and number of people; {len(result.trials)} "
        f"trial{'s' * (len(result.trials) != 1)}.{said}"
    )


# ------------------------------------------------------------------ what stands where


def _tables(result: ReferenceRanges) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row.measure, row.method) for row in result.rows))


def _rows(result: ReferenceRanges, measure: str, method: str) -> list[ReferenceLimit]:
    rows = [row for row in result.rows if (row.measure, row.method) == (measure, method)]
    if method == META:
        return meta_headlines(rows)
    return rows if method == "strata" else headlines(rows)


def _ethnicities(rows: Sequence[ReferenceLimit]) -> list[str]:
    met = {row.ethnicity for row in rows}
    return [e for e in (ALL, *ETHNICITIES) if e in met]


def _lines(rows: Sequence[ReferenceLimit]) -> list[tuple[str, _Age]]:
    """Sex and age of each line: bands, or a curve's ages; a group without a curve has no line."""
    met = dict.fromkeys((row.sex, (row.age_low, row.age_high, row.age)) for row in rows)
    curve = any(row.age is not None for row in rows)
    kept = [key for key in met if not curve or key[1][2] is not None]
    order = {sex: number for number, sex in enumerate(dict.fromkeys(row.sex for row in rows))}
    return sorted(kept, key=lambda k: (order[k[0]], k[1][2] or 0.0)) if curve else kept


def _found(
    rows: Sequence[ReferenceLimit], sex: str, age: _Age, ethnicity: str
) -> list[ReferenceLimit]:
    return [
        row
        for row in rows
        if (row.sex, row.ethnicity) == (sex, ethnicity)
        and (row.age_low, row.age_high, row.age) == age
    ]


def _age_text(age: _Age) -> str:
    return f"{age[2]:g}" if age[2] is not None else band_name(age[0], age[1])


def _range(found: Sequence[ReferenceLimit], decimals: int) -> str | None:
    outer = [row.limit for row in found if row.centile != 50]
    if not outer or any(limit is None for limit in outer):
        return None
    values = [shown(limit, decimals) for limit in outer]
    return (" to " if any(MINUS in v for v in values) else "–").join(values)


def _n(found: Sequence[ReferenceLimit]) -> str | None:
    if not found:
        return None
    if found[0].n is not None:
        return str(found[0].n)
    return None if found[0].below_n is None else f"<{found[0].below_n}"


def _decimals(rows: Sequence[ReferenceLimit]) -> int:
    known = sorted(abs(row.limit) for row in rows if row.limit is not None)
    middle = known[len(known) // 2] if known else 100.0
    return 0 if middle >= 20 else 1 if middle >= 2 else 2


# ------------------------------------------------------------------ one table


def _html_table(result: ReferenceRanges, measure: str, method: str) -> str:
    rows = _rows(result, measure, method)
    decimals, shown_ethnicities = _decimals(rows), _ethnicities(rows)
    label = measure_label(measure, rows[0].unit)
    heads = "".join(
        f'<th style="{_CELL};{_RULE};border-bottom:1px solid black">{escape(name)}</th>'
        for name in ("Sex", "Age, years", *(ETHNICITY_NAMES[e] for e in shown_ethnicities))
    )
    body, before = [], None
    counted: set[tuple[str, str]] = set()
    for sex, age in _lines(rows):
        rule = f";{_RULE}" if before not in (None, sex) else ""
        cells = [SEX_NAMES[sex] if sex != before else "", _age_text(age)]
        before = sex
        for ethnicity in shown_ethnicities:
            found = _found(rows, sex, age, ethnicity)
            # A curve's n is of all its ages: it is told once.
            n = None if (sex, ethnicity) in counted else _n(found)
            if n is not None and age[2] is not None:
                counted.add((sex, ethnicity))
            count = "" if n is None else f" ({shown_count(int(n)) if n.isdigit() else n})"
            limits = _range(found, decimals)
            sign = marks(found[0], many=len(result.trials) > 1) if limits else ""
            cells.append(f"{limits or DASH}{sign}{count}" if found else DASH)
        tds = "".join(f'<td style="{_CELL}{rule}">{escape(cell)}</td>' for cell in cells)
        body.append(f"<tr>{tds}</tr>")
    by = "" if method == "strata" else f", {METHOD_NAMES.get(method, 'meta-analytic range')}"
    return (
        f"<p><b>{escape(label + by)}.</b> Lower–upper limit (n).</p>\n"
        '<table style="border-collapse:collapse;border-bottom:1px solid black">\n'
        f"<tr>{heads}</tr>\n" + "\n".join(body) + "\n</table>\n"
        f'<p style="font-size:9pt">{escape(footnote(rows, result, brackets=False))}</p>'
    )
