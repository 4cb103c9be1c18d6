"""``report.html`` of ``reference-ranges``: the tables and figures of a paper, nobody in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Final

from ...records import ETHNICITIES, Figure
from ...reference.results import ReferenceLimit
from ..figures.reference_curves import METHOD_NAMES, curve_caption, headlines
from ..figures.reference_strata import ALL, ETHNICITY_NAMES, SEX_NAMES, band_name
from ..page import Block, Bullets, Facts, Html, Notice, Paragraph, Section, page_html
from ..style import ABBREVIATIONS, DASH, MINUS, measure_label, measure_name, shown, shown_count
from .reference_checks import check_blocks, outlier_blocks, review_blocks
from .reference_meta import META, meta_blocks, meta_headlines
from .reference_table import MOVED, PROVISIONAL, footnote, marks
from .reference_text import accounting_table, convention_facts, methods_text

if TYPE_CHECKING:
    from ...reference.results import ReferenceRanges


STRATA: Final = "strata"
_MANY_AGES: Final = 8


def reference_page(result: ReferenceRanges, figures: Mapping[tuple[str, str], str]) -> str:
    """The page as text; ``figures`` maps each measure and method to the SVG of its limits."""
    options = result.options
    sections = [_overview(result)]
    sections += [
        _measure_section(result, m, figures, f"limits-{number}")
        for number, m in enumerate(result.measures, start=1)
    ]
    sections.append(Section("Checks of the limits", "checks", check_blocks(result)))
    sections.append(_people_section(result))
    sections.append(Section("Methods", "methods", _methods(result)))
    notices: list[str] = []
    if not options.healthy_only:
        notices.append(
            "Population distribution, not a reference interval: nobody was selected for being "
            "healthy (--all)."
        )
    if "ethnicity" in result.by:
        notices.append(PROVISIONAL)
    return page_html(
        f"{result.title}: {result.name}",
        _subtitle(result),
        sections,
        internal=options.internal,
        notices=(*notices, *result.warnings),
    )


def _subtitle(result: ReferenceRanges) -> str:
    options = result.options
    what = "distribution" if not options.healthy_only else "reference interval"
    level = f"Central {options.level:g}%" if options.sided == "two" else f"{options.level:g}%"
    side = "" if options.sided == "two" else f" ({options.sided} limit alone)"
    trials = len(result.trials)
    return (
        f"{level} {what}{side} with {options.ci_level:g}% confidence intervals · "
        f"{shown_count(result.participants)} people · {trials} trial{'s' if trials != 1 else ''}"
    )


def _overview(result: ReferenceRanges) -> Section:
    cells = {(r.measure, r.method, r.sex, r.ethnicity, r.age_low) for r in result.rows}
    empty = {
        (r.measure, r.method, r.sex, r.ethnicity, r.age_low)
        for r in result.rows
        if r.status == "suppressed"
    }
    without = f"{shown_count(len(empty))} of {shown_count(len(cells))}"
    if empty:
        without += (
            f": fewer than {result.options.smallest_n} people, or a limit that would be one "
            "person's"
        )
    blocks: list[Block] = [
        Facts(
            (
                ("Measures", ", ".join(measure_name(m) for m in result.measures)),
                ("Trials", ", ".join(result.trials)),
                ("Stratified by", ", ".join(result.by) or "nothing"),
                *convention_facts(result),
                ("Groups without a limit", without),
            )
        ),
        Paragraph(_what_intervals_say(result)),
        Paragraph(ABBREVIATIONS),
    ]
    return Section("Overview", "overview", tuple(blocks))


def _what_intervals_say(result: ReferenceRanges) -> str:
    said = (
        "The reference interval holds the stated share of people. The confidence interval of each "
        "limit says how well these people determine that limit"
    )
    if len(result.trials) == 1:
        return f"{said}."
    if STRATA not in result.methods:
        return f"{said}; how trials enter it stands in the methods."
    curves = (
        " Those of curves with a random trial effect count these differences in."
        if any(row.kind == "marginal" for row in result.rows)
        else ""
    )
    return (
        f"{said}. In age bands it is the sampling error within these trials and leaves out the "
        f"differences between trials, which stand in the checks below.{curves}"
    )


# ------------------------------------------------------------------ one measure


def _measure_section(
    result: ReferenceRanges, measure: str, figures: Mapping[tuple[str, str], str], anchor: str
) -> Section:
    mine = [row for row in result.rows if row.measure == measure]
    blocks: list[Block] = []
    for method in dict.fromkeys(row.method for row in mine):
        rows = [row for row in mine if row.method == method]
        svg = figures.get((measure, method))
        if method == STRATA:
            blocks += _strata_blocks(rows, result, svg or "")
        elif method == META:
            label = f"{measure_label(measure, rows[0].unit)}, meta-analytic range"
            table = Html(_limits_table(meta_headlines(rows), label, result))
            blocks += meta_blocks(rows, result, svg, table)
        else:
            blocks += _curve_blocks(rows, result, svg)
    label = measure_label(measure, mine[0].unit) if mine else measure_name(measure)
    if not blocks:
        blocks.append(Paragraph("No limits: see the notes at the top of the page."))
    return Section(label, anchor, tuple(blocks))


def _curve_blocks(
    rows: Sequence[ReferenceLimit], result: ReferenceRanges, svg: str | None
) -> list[Block]:
    """The curves' table at every other printed age, and the centile figure."""
    label = measure_label(rows[0].measure, rows[0].unit)
    shown_rows = headlines(rows)
    name = f"{label}, {METHOD_NAMES[rows[0].method]}"
    blocks: list[Block] = [Html(_limits_table(shown_rows, name, result))]
    if svg is not None:
        blocks.append(
            Figure(
                title=f"Centiles of {name} by age.",
                caption=curve_caption(
                    rows, result.options.ci_level, internal=result.options.internal
                ),
                svg=svg,
            )
        )
    return blocks


def _strata_blocks(
    rows: Sequence[ReferenceLimit], result: ReferenceRanges, svg: str
) -> list[Block]:
    label = measure_label(rows[0].measure, rows[0].unit)
    level = f"{result.options.ci_level:g}%"
    figure = Figure(
        title=f"Limits of {label} by age." if "age" in result.by else f"Limits of {label}.",
        caption=(
            f"Marks: limits; bars: their {level} confidence intervals; grey field and dashed line: "
            "interval and median of everybody in the age band. Groups without a limit leave a gap."
        ),
        svg=svg,
    )
    return [Html(_limits_table(rows, label, result)), figure]


def _limits_table(rows: Sequence[ReferenceLimit], label: str, result: ReferenceRanges) -> str:
    """Sex and age band down, ethnicity across: lower–upper, the CI of each limit, n."""
    shown_ethnicities = [e for e in (ALL, *ETHNICITIES) if any(r.ethnicity == e for r in rows)]
    decimals, many = decimals_of(rows), len(result.trials) > 1
    curve = rows[0].method not in (STRATA, META)
    cells: dict[tuple[str, float | None, str], list[ReferenceLimit]] = {}
    for row in rows:
        at = row.age if curve else row.age_low
        cells.setdefault((row.sex, at, row.ethnicity), []).append(row)
    lines: list[str] = []
    told: set[tuple[str, str]] = set()
    for sex in dict.fromkeys(row.sex for row in rows):
        mine = [r for r in rows if r.sex == sex]
        bands = _shown_ages(mine) if curve else _bands(mine)
        for number, band in enumerate(bands):
            name = escape(SEX_NAMES[sex]) if number == 0 else ""
            style = ' style="border-top:.8px solid var(--rule)"' if number == 0 and lines else ""
            found = ""
            for e in shown_ethnicities:
                key = (sex, band[0], e)
                cell = _cell_at(cells, key, decimals, many=many, tell_n=(sex, e) not in told)
                told |= {(sex, e)} if key in cells else set()
                found += f'<td class="num">{cell}</td>'
            lines.append(
                f'<tr{style}><td class="txt"><b>{name}</b></td>'
                f'<td class="txt" style="white-space:nowrap">'
                f"{escape(_age_name(band, curve=curve))}</td>"
                f"{found}</tr>"
            )
    heads = "".join(
        f'<th scope="col" class="num">{escape(ETHNICITY_NAMES[e])}</th>' for e in shown_ethnicities
    )
    return (
        f'<figure class="table"><figcaption><b>{escape(label)}.</b> '
        f"{escape(_caption(result))}</figcaption>"
        f'<div class="scroll" tabindex="0" role="region" aria-label="Limits of {escape(label)}">'
        '<table style="width:100%"><thead><tr><th scope="col">Sex</th>'
        f'<th scope="col">Age, years</th>{heads}</tr>'
        f"</thead><tbody>{''.join(lines)}</tbody></table></div>"
        f'<p class="caption">{escape(footnote(rows, result, brackets=True))}</p></figure>'
    )


def _bands(rows: Sequence[ReferenceLimit]) -> list[tuple[float | None, float | None]]:
    return list(dict.fromkeys((r.age_low, r.age_high) for r in rows))


def _shown_ages(rows: Sequence[ReferenceLimit]) -> list[tuple[float | None, float | None]]:
    """Every age of the curve where there are few, else those at whole tens."""
    ages = sorted({r.age for r in rows if r.age is not None})
    if len(ages) > _MANY_AGES:
        ages = [age for age in ages if age % 10 == 0] or ages[::2]
    return [(age, None) for age in ages] or [(None, None)]


def _age_name(band: tuple[float | None, float | None], *, curve: bool) -> str:
    if not curve:
        return band_name(*band)
    return DASH if band[0] is None else f"{band[0]:g}"


def _cell_at(
    cells: Mapping[tuple[str, float | None, str], list[ReferenceLimit]],
    key: tuple[str, float | None, str],
    decimals: int,
    *,
    many: bool,
    tell_n: bool,
) -> str:
    """The cell, or that of the whole group where a curve has none at any age.

    A curve's n is that of all its ages: ``tell_n`` at the first age alone.
    """
    sex, _, ethnicity = key
    found = cells.get(key) or cells.get((sex, None, ethnicity))
    if not found:
        return DASH
    text = _cell(found, decimals, many=many)
    if found[0].age is not None and not tell_n:
        text = text.rpartition("<br>")[0]
    return text


def _caption(result: ReferenceRanges) -> str:
    options = result.options
    what = "Reference interval" if options.healthy_only else "Population distribution"
    parts = {"two": "lower to upper limit", "lower": "lower limit", "upper": "upper limit"}
    return (
        f"{what} ({parts[options.sided]}); in brackets the {options.ci_level:g}% confidence "
        "interval of each limit; n people."
    )


def _cell(rows: Sequence[ReferenceLimit], decimals: int, *, many: bool) -> str:
    first = rows[0]
    n = f"n {shown_count(first.n)}" if first.n is not None else f"n {_hidden_n(first)}"
    outer = [r for r in rows if r.centile != 50]
    if any(r.limit is None for r in outer):
        return f'{DASH}<br><span class="caption">{n}</span>'
    values = [shown(r.limit, decimals) for r in outer]
    joined = (" to " if any(MINUS in v for v in values) else "–").join(values)
    lines = [f"<b>{joined}</b>{marks(first, many=many)}"]
    for row in outer:
        if row.ci_low is not None and row.ci_high is not None:
            low, high = shown(row.ci_low, decimals), shown(row.ci_high, decimals)
            dash = " to " if MINUS in low + high else "–"
            moved = MOVED if "ci-at-extreme" in row.notes else ""
            lines.append(f'<span class="caption">({low}{dash}{high}){moved}</span>')
    lines.append(f'<span class="caption">{n}</span>')
    return "<br>".join(lines)


def _hidden_n(row: ReferenceLimit) -> str:
    return DASH if row.below_n is None else escape(f"<{row.below_n}")


def decimals_of(rows: Iterable[ReferenceLimit]) -> int:
    """Decimals that show a limit to about 1 % of it: none for 142 mL, one for 6.2 L/min.

    Percentages and volumes above 20 are printed whole, as papers do.
    """
    known = sorted(abs(r.limit) for r in rows if r.limit is not None)
    middle = known[len(known) // 2] if known else 100.0
    return 0 if middle >= 20 else 1 if middle >= 2 else 2


# ------------------------------------------------------------------ people and methods


def _people_section(result: ReferenceRanges) -> Section:
    blocks: list[Block] = [accounting_table(result)]
    visits = ", ".join(f"{name} ({_people(n, result)})" for name, n in result.visits)
    if visits:
        blocks.append(Paragraph(f"Visits used: {visits}."))
    blocks += review_blocks(result)
    blocks += outlier_blocks(result)
    return Section("People", "people", tuple(blocks))


def _people(n: int, result: ReferenceRanges) -> str:
    few = result.options.min_cell
    return f"fewer than {few}" if n < few else shown_count(n)


def _methods(result: ReferenceRanges) -> tuple[Block, ...]:
    blocks: list[Block] = [Paragraph(methods_text(result))]
    if "ethnicity" in result.by:
        blocks.append(Notice(PROVISIONAL, "note"))
    blocks.append(
        Bullets(
            (
                "Reference interval: where a stated share of people lies.",
                "Confidence interval of a limit: how well the limit is known.",
                "Neither is the confidence interval of a mean.",
                "Neither says where the mean of a new trial would lie.",
            )
        )
    )
    return tuple(blocks)
