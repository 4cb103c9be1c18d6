"""``report.html`` of ``reference-ranges`` and the table that papers print.

The tables and figures of a paper, without individuals: limits by measure, checks, participants,
methods. `paper_table_csv` and `paper_table_html` are the same limits as plain tables: sex and age
down, ethnicity across, lower–upper and n.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from ...files import csv_text
from ...manifest import notice_for
from ...privacy.suppression import hidden_counts
from ...records import SeriousWarning, Table
from ...reference.results import (
    CONSTANT_TRIAL,
    MAY_BE_TRIALS,
    TINY_TRIALS,
    UNLINKED,
    Account,
    Calibration,
    Contrast,
    ErrorAdjustedLimit,
    Outlier,
    PartitionTest,
    ReferenceLimit,
    ReferenceRanges,
    ReportedWidth,
    TrialLimit,
)
from ..export import baseline_tables
from ..figures.reference import (
    ALL,
    ETHNICITY_NAMES,
    META,
    METHOD_NAMES,
    SEX_NAMES,
    STRATA,
    band_name,
    error_figure,
    error_groups,
    ethnicities_of,
    has_gap,
    headlines,
    meta_headlines,
    typical_ages,
    worm_figure,
)
from ..page import (
    Block,
    Column,
    Html,
    Notice,
    Section,
    as_estimate,
    as_number,
    environment,
    grouped,
    notes_section,
    page_html,
    section,
    table_of,
    where,
    words,
)
from ..style import (
    COMPARED,
    DASH,
    MINUS,
    Drawing,
    abbreviations,
    measure_label,
    measure_name,
    shown,
    shown_count,
    shown_estimate,
    shown_interval,
    shown_range,
    unit_name,
)

TABLE_CSV: Final = "table.csv"
TABLE_HTML: Final = "table.html"
_MARKS: Final = {"small": "†", "one_trial": "‡", "moved": "§"}
_MANY_AGES: Final = 8
_CONVENTIONS: Final = {
    "papillary": "Papillary muscles",
    "sequence": "Sequence",
    "model_id": "Segmentation model",
    "model_sha256": "Its SHA-256",
    "model_licence": "Licence of its weights",
    "bsa_formula": "Body surface area",
    "reported_papillary": "Papillary muscles in reported values",
    "vendor": "Vendors",
    "field_strength_t": "Field strength, T",
}
_text = partial(words, "reference")


def methods_text(result: ReferenceRanges) -> str:
    """Paragraphs for a paper's methods, with what was really used."""
    by_method = [
        _methods(result, f"methods_{m if m in (STRATA, META) else 'curves'}", method=m)
        for m in result.methods
    ]
    return "\n\n".join([_methods(result, "methods"), *by_method, _methods(result, "methods_end")])


def reference_page(result: ReferenceRanges, figures: Mapping[str, str]) -> str:
    """The page as text; ``figures`` maps each measure to the SVG of its limits."""
    provisional = _provisional(result)
    notices = [_text("population")] if not result.options.healthy_only else []
    by_meta = [
        table
        for measure in result.measures
        for table in (rules_table(measure, result), estimates_table(measure, result))
    ]
    other = [row for row in result.table1 if row.variable not in result.measures]
    return page_html(
        f"{result.title}: {result.name}",
        _text("subtitle", result=result, options=result.options),
        [
            section("Result", "result", *result_blocks(result, figures)),
            section("Overview", "overview", *_overview(result)),
            *_measures(result, figures),
            section("Harmonised and reported values", "reported", reported_table(result)),
            section("The model's error", "error", *error_blocks(result)),
            section(
                "Checks of the limits",
                "checks",
                calibration_table(result),
                trial_influence_table(result),
            ),
            section(
                "Participants",
                "participants",
                *baseline_tables(other, "sex"),
                account_table(result),
                _text("visits", result=result) if result.visits else "",
                review_block(result),
            ),
            notes_section(result.warnings),
            section(
                "Methods",
                "methods",
                methods_text(result),
                Notice(provisional, "note") if provisional else "",
                _text("interpretation", result=result).split("\n\n"),
            ),
            section(
                "Appendix: further checks",
                "further-checks",
                *by_meta,
                *outlier_tables(result),
                *fit_blocks(result),
                partition_table(result),
                contrast_table(result, "sex"),
                contrast_table(result, "ethnicity"),
                _text("files", result=result),
                appendix=True,
            ),
        ],
        internal=result.options.internal,
        warnings=(
            *map(SeriousWarning, (*notices, *([provisional] if provisional else []))),
            *result.warnings,
        ),
        foot=_foot(result),
    )


def _provisional(result: ReferenceRanges) -> str:
    """What limits by ethnicity depend on where a model measured the hearts; else empty."""
    by_model = result.conventions.get("model_sha256") or result.conventions.get("model_id")
    return _text("provisional") if "ethnicity" in result.by and by_model else ""


def _foot(result: ReferenceRanges) -> str:
    return notice_for("; ".join(result.conventions.get("model_licence", ())))


def _overview(result: ReferenceRanges) -> list[Block]:
    options = result.options

    def cells(rows: Iterable[ReferenceLimit]) -> int:
        return len({(r.measure, r.method, r.sex, r.ethnicity, r.age_low) for r in rows})

    empty = cells(where(result.rows, status="suppressed"))
    facts = {
        "Trials": ", ".join(result.trials),
        "Stratified by": ", ".join(result.by) or "nothing",
    }
    facts |= {
        _CONVENTIONS[name]: ", ".join(values)
        for name, values in result.conventions.items()
        if values and name in _CONVENTIONS
    }
    for name, counts in result.scanners.items():
        parts = [
            f"{value} ({f'<{options.min_cell}' if n < options.min_cell else shown_count(n)})"
            for value, n in counts.items()
        ]
        facts[_CONVENTIONS[name]] = ", ".join(parts)
    missing = [_CONVENTIONS[n] for n in ("papillary", "sequence") if n not in result.conventions]
    if missing:
        facts["Not stated in the table"] = ", ".join(missing)
    if options.healthy_only:
        facts["Healthy"] = options.healthy_rule or "as in column healthy of the table"
    facts["Groups without a limit"] = _text(
        "empty_groups", empty=empty, cells=cells(result.rows), options=options
    )
    marginal = bool(where(result.rows, kind="marginal"))
    return [
        facts,
        _text("intervals", result=result, marginal=marginal),
        abbreviations(result.measures),
    ]


def result_blocks(result: ReferenceRanges, figures: Mapping[str, str]) -> list[Block | None]:
    """The page's answer: the range of each measure in one group, and the first one's figure.

    All ethnicities, by the first method; of age bands the one with most participants, of curves
    the age nearest 50.
    """
    lines = list[str]()
    for measure in result.measures:
        mine = where(result.rows, measure=measure, ethnicity=ALL)
        every = where(mine, method=mine[0].method) if mine else []
        outer = (r for r in _headlines_of(every) if r.centile != 50)
        # A group with one limit withheld has no range.
        groups = grouped(outer, "sex age_low age_high age").values()
        shown_rows = [r for group in groups for r in group if None not in {g.limit for g in group}]
        found = []
        for sex in dict.fromkeys(row.sex for row in shown_rows):
            best = typical_ages(where(shown_rows, sex=sex))
            who = ", ".join((SEX_NAMES[sex].lower(), *_years(best[0])))
            numbers = shown_range((row.limit for row in best), decimals_of(every))
            found.append(f"{numbers} ({who})")
        if found:
            lines.append(f"{measure_label(measure, mine[0].unit)}: {'; '.join(found)}")
    text = _text("result", result=result, options=result.options) if lines else ""
    return [text, lines, *(_drawing(result, name, figures) for name in list(figures)[:1])]


def _drawing(result: ReferenceRanges, measure: str, figures: Mapping[str, str]) -> Drawing:
    """A measure's figure; the caption of the first is that of all."""
    (first, *_), lines = figures, result.curve_lines
    unit = where(result.rows, measure=measure)[0].unit
    title, _, caption = _text(
        "limits_figure",
        measure=measure_label(measure, unit),
        result=result,
        options=result.options,
        curves=METHOD_NAMES[lines[0].method] if lines else "",
        bands=bool({STRATA, META} & set(result.methods)),
        kinds={row.kind for row in result.rows if row.limit is not None},
        thin=any(line.thin for line in lines),
        missing=any(row.limit is None for row in result.rows),
        gap=any(map(has_gap, lines)),
        several=len({row.ethnicity for row in result.rows}) > 1,
    ).partition("\n\n")
    return Drawing(title=title, caption=caption if measure == first else "", svg=figures[measure])


def _headlines_of(rows: Sequence[ReferenceLimit]) -> list[ReferenceLimit]:
    """Of one method's rows those to show."""
    return meta_headlines(rows) if rows and rows[0].method == META else headlines(rows)


def _measures(result: ReferenceRanges, figures: Mapping[str, str]) -> Iterable[Section]:
    """A section for each measure: the table of its limits and its figure, but of the first.

    Where there are strata and curves the table is that of the strata; the curves' is in the files.
    What is the same for all tables is under the first.
    """
    tables = {
        measure: _LimitsTable(next(iter(grouped(rows, "method").values())), result)
        for (measure,), rows in grouped(result.rows, "measure").items()
    }
    facts = {m: table.facts(table.few_lines(), fill=True) for m, table in tables.items()}
    note = _text("limits_caption", options=result.options)
    note += " " + _footnote(list(tables.values()), facts.values(), on_page=True)
    first_table, template = "", environment().get_template("limits.html.j2")
    for number, measure in enumerate(result.measures, start=1):
        blocks: list[Block] = []
        if measure in facts:
            html = template.render(footnote=note, first=first_table, **facts[measure])
            blocks, note = [Html(html)], ""
            first_table = first_table or f"limits-{number}"
        if measure in list(figures)[1:]:
            blocks.append(_drawing(result, measure, figures))
        label = facts[measure]["label"] if measure in facts else measure_name(measure)
        yield section(label, f"limits-{number}", *(blocks or [_text("no_limits")]))


def _methods(result: ReferenceRanges, block: str, **facts: Any) -> str:
    return _text(
        block,
        result=result,
        options=result.options,
        ethnicities=[ETHNICITY_NAMES[e] for e in ethnicities_of(result.rows)],
        logs=any("log" in e.notes for e in result.meta),
        left_out=any({CONSTANT_TRIAL, TINY_TRIALS} & set(e.notes) for e in result.meta),
        skewed=any("asymmetric" in r.notes for r in where(result.rows, method=META)),
        **facts,
    )


# ------------------------------------------------------------------ tables of limits


_Age = tuple[float | None, float | None, float | None]  # of a band, or a curve's age
_NO_AGE: Final = (None, None, None)


def decimals_of(rows: Iterable[ReferenceLimit | ErrorAdjustedLimit]) -> int:
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
        self.result, self.method = result, rows[0].method
        self.measure, self.unit = rows[0].measure, rows[0].unit
        self.is_curve = self.method not in (STRATA, META)
        self.rows = list(rows) if self.method == STRATA else _headlines_of(rows)
        self.decimals = decimals_of(self.rows)
        self.ethnicities = ethnicities_of(self.rows)
        groups = grouped(self.rows, "sex age_low age_high age ethnicity")
        self.groups: dict[tuple[str, _Age, str], list[ReferenceLimit]] = {
            (sex, tuple(age), ethnicity): rows for (sex, *age, ethnicity), rows in groups.items()
        }

    @property
    def label(self) -> str:
        """The measure, and the method but for strata."""
        label = measure_label(self.measure, self.unit)
        return label if self.method == STRATA else f"{label}, {METHOD_NAMES[self.method]}"

    def lines(self) -> list[tuple[str, _Age]]:
        """Sex and age of each line: bands, or a curve's ages, but of groups without a curve."""
        found = list(dict.fromkeys((sex, age) for sex, age, _ in self.groups))
        sexes = list(dict.fromkeys(sex for sex, _ in found))
        kept = [line for line in found if line[1][2] is not None] or found
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

    def facts(self, lines: Sequence[tuple[str, _Age]], *, fill: bool) -> dict[str, Any]:
        """What the templates show; ``fill`` as in `printed`."""
        heads = [ETHNICITY_NAMES[e] for e in self.ethnicities]
        return {"label": self.label, "heads": heads, "lines": self.printed(lines, fill=fill)}


def _footnote(
    tables: Sequence[_LimitsTable], printed: Iterable[Mapping[str, Any]], *, on_page: bool
) -> str:
    """What the marks and dashes in these tables mean; ``on_page`` with the limits' intervals."""
    rows = [row for table in tables for row in table.rows]
    cells = [cell for facts in printed for line in facts["lines"] for cell in line["cells"]]
    # Curves are in the figure, also where the table is that of the strata.
    drawn = tables[0].result.rows if on_page and tables else rows
    unlinked = [ETHNICITY_NAMES[r.ethnicity] for r in drawn if UNLINKED in r.notes]
    return (
        _text(
            "footnote",
            brackets=on_page,
            empty=any(not (cell and cell["limits"]) for cell in cells),
            options=tables[0].result.options,
            marks=_MARKS,
            curve=tables[0].is_curve,
            method=tables[0].method,
            kinds={r.kind for r in rows if r.limit is not None},
            statuses={r.status for r in rows},
            notes={note for r in rows for note in r.notes},
            unlinked=", ".join(dict.fromkeys(unlinked)),
            one_trial=any(table.of_one_trial(row) for table in tables for row in table.rows),
            n_withheld=any(r.n is None and r.limit is not None for r in rows),
        )
        if tables
        else ""
    )


# ------------------------------------------------------------------ the table of a paper


def _tables(result: ReferenceRanges) -> list[_LimitsTable]:
    """The printed table of each measure and method."""
    return [_LimitsTable(rows, result) for rows in grouped(result.rows, "measure method").values()]


def paper_table_csv(result: ReferenceRanges) -> str:
    """A row for each measure, method, sex and age; the range and n of each ethnicity as columns."""
    ethnicities = ethnicities_of(result.rows)
    columns = ["measure", "unit", "method", "sex", "age"]
    columns += [name for e in ethnicities for name in (e, f"{e}_n")]
    note = "" if result.options.healthy_only else result.title
    lines = []
    for table in _tables(result):
        for sex, age in table.lines():
            cells: list[str | None] = [table.measure, table.unit, table.method, sex, _age_text(age)]
            for ethnicity in ethnicities:
                group = table.groups.get((sex, age, ethnicity), [])
                count = _n(group[0], "").replace("\u202f", "") if group else ""
                cells += [table.range_of(group) or None, count or None]
            lines.append((*cells, note))
    return csv_text([*columns, "note"], lines)


def paper_table_html(result: ReferenceRanges) -> str:
    """The same as a page of plain tables, styled cell by cell, which word processors keep."""
    printed = []
    for table in _tables(result):
        facts = table.facts(table.lines(), fill=False)
        printed.append({**facts, "footnote": _footnote([table], [facts], on_page=False)})
    return (
        environment()
        .get_template("table.html.j2")
        .render(
            title=f"{result.title}: {result.name}",
            what=_text("paper_table", result=result, options=result.options),
            tables=printed,
            provisional=_provisional(result),
            foot=_foot(result),
        )
    )


_MOST_OUTLIERS: Final = 500
_WORMS_SHOWN: Final = 6
_MOST_SHOWN: Final = 6  # groups in a table of the worst
_REASONS: Final = {
    "failed": "segmentation failed",
    "very-few-phases": "fewer than 12 phases",
    "review": "for review",
    "healthy-unknown": "not known to be healthy",
    "not-healthy": "not healthy",
    "other-visit": "another scan of the participant used",
    "sex-unknown": "sex unknown",
    "age-unknown": "age unknown",
    "age-below-bands": "below the first age band",
    "no-value": "no value",
    "outlier": "outlier",
}
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

_MEASURE: Final = Column("Measure", "measure", measure_name)
_MEASURE_UNIT: Final = Column("Measure", "measure unit", measure_label)
_METHOD: Final = Column("Method", "method", METHOD_NAMES.__getitem__)
_SEX: Final = Column("Sex", "sex", SEX_NAMES.__getitem__)
_AGE: Final = Column("Age, years", "age_low age_high", band_name)
_N: Final = Column("n", "n", shown_count)


def _table(
    result: ReferenceRanges, name: str, columns: Sequence[Column], rows: Iterable[Any], **facts: Any
) -> Table | None:
    """The table with title and caption ``table_NAME`` of the template; None without rows."""
    facts |= {"result": result, "options": result.options}
    return table_of("reference", name, columns, rows, **facts)


def _small_count(n: int, min_cell: int) -> str:
    return "0" if n == 0 else f"<{min_cell}" if n < min_cell else shown_count(n)


# ------------------------------------------------------------------ participants


def account_table(result: ReferenceRanges) -> Table | None:
    """Rows of the table in, each reason, rows used: closes for each measure."""
    few = result.options.min_cell
    codes = [c for c in _REASONS if any(c in a.excluded for a in result.accounts)]
    codes += sorted({c for a in result.accounts for c in a.excluded} - set(codes))

    def excluded(accounts: Sequence[Account], code: str) -> str:
        account = accounts[0]
        counts = [account.excluded.get(name, 0) for name in codes]
        hidden = hidden_counts(counts, account.rows_in - account.analysed, few)
        n = account.excluded.get(code, 0)
        return DASH if n >= few and hidden[codes.index(code)] else _small_count(n, few)

    alike: dict[str, list[Account]] = {}
    for account in result.accounts:
        alike.setdefault(str(replace(account, measure="", outliers=None)), []).append(account)

    def measures(accounts: Sequence[Account]) -> str:
        names = [measure_name(account.measure) for account in accounts]
        return f"All {len(names)}" if len(alike) == 1 < len(names) else ", ".join(names)

    columns = [
        Column("Measure", measures),
        Column("Rows", "rows_in", shown_count),
        *(
            Column(_REASONS.get(code, code).capitalize(), partial(excluded, code=code))
            for code in codes
        ),
        Column("Analysed", "analysed", shown_count),
    ]
    if "ethnicity" in result.by:
        unknown = partial(_small_count, min_cell=few)
        columns.append(Column("of them, ethnicity unknown", "ethnicity_unknown", unknown))
    return _table(result, "account", columns, alike.values())


def review_block(result: ReferenceRanges) -> Block | None:
    """What became of the scans marked for review."""
    if result.options.status == "ok":
        return _text("review_left_out")
    if result.without_review is None:
        return None
    if not result.without_review:
        return Notice(_text("review_nothing_left"))
    few, n = result.options.min_cell, result.review_rows
    return _text("review_count", count=f"fewer than {few}" if n < few else shown_count(n))


def outlier_tables(result: ReferenceRanges) -> list[Table | None]:
    """How many values lie beyond the fences; on an internal page also which."""
    options, few = result.options, result.options.min_cell
    if options.outliers == "none":
        return []

    def percent(account: Account) -> str:
        n = account.outliers or 0
        return DASH if n < few else shown(100 * n / max(account.analysed, 1), 2)

    def group(row: Outlier) -> str:
        return f"{SEX_NAMES[row.sex]}, {band_name(row.age_low, row.age_high)}"

    counts = (
        _MEASURE,
        Column("Outliers", lambda account: _small_count(account.outliers or 0, few)),
        Column("% of participants", percent),
    )
    columns = (
        _MEASURE,
        Column("Trial", "trial"),
        Column("Participant", "participant_id"),
        Column("Visit", "visit"),
        Column("Value", "value", as_number()),
        Column("Fences", "fence_low fence_high", shown_interval),
        Column("Rule", "rule"),
        Column("Group", group),
    )
    shown_rows = result.outliers[:_MOST_OUTLIERS] if options.internal else ()
    return [
        _table(result, "outliers", counts, result.accounts),
        _table(result, "outlier_list", columns, shown_rows, most=_MOST_OUTLIERS),
    ]


# ------------------------------------------------------------------ calibration and fit


def calibration_table(result: ReferenceRanges) -> Table | None:
    """Shares outside the limits: all, by age third, and of the trial furthest off."""
    groups = grouped(where(result.calibration, ethnicity=ALL), "measure method sex")

    def shares(row: Calibration) -> str:
        sides = (row.below_percent, row.above_percent)
        return " / ".join(shown(side) for side in sides if side is not None) or DASH

    def joined(group: Sequence[Calibration], check: str) -> str:
        return " · ".join(map(shares, where(group, check=check))) or DASH

    def distance(row: Calibration) -> float:
        pairs = (
            (row.below_percent, row.expected_below_percent),
            (row.above_percent, row.expected_above_percent),
        )
        known = [abs(a - b) for a, b in pairs if a is not None and b is not None]
        return max(known, default=-1)

    def furthest(group: Sequence[Calibration]) -> str:
        usable = [row for row in where(group, check="left-out-trial") if distance(row) >= 0]
        worst = max(usable, key=distance, default=None)
        return DASH if worst is None else f"{worst.group}: {shares(worst)}"

    def n(group: Sequence[Calibration]) -> str:
        return next((shown_count(row.n) for row in where(group, check="fitted")), DASH)

    shown_groups = sorted(groups.values(), key=lambda g: -max(map(distance, g)))[:_MOST_SHOWN]
    columns = (
        _MEASURE,
        _METHOD,
        _SEX,
        Column("n", n),
        Column("All", partial(joined, check="fitted")),
        Column("Youngest · middle · oldest third", partial(joined, check="age-third")),
        Column("Left-out trial furthest off", furthest),
    )
    facts = {"most": len(shown_groups), "more": len(groups) > _MOST_SHOWN}
    return _table(result, "calibration", columns, shown_groups, empty=("", DASH), **facts)


def fit_blocks(result: ReferenceRanges) -> list[Block | None]:
    """Q statistics and worm plots of the curves, where there are any."""
    columns = (
        _MEASURE,
        _METHOD,
        _SEX,
        _N,
        Column("Age groups", "groups", shown_count),
        *(
            Column(name.capitalize(), f"p_{name}", lambda p: "<0.001" if p < 0.001 else shown(p, 3))
            for name in ("mean", "variance", "skewness", "kurtosis")
        ),
    )
    blocks: list[Block | None] = [_table(result, "q", columns, result.q_statistics)]
    plots = list(grouped(result.worm_plots, "measure method").values())
    for worms in plots[:_WORMS_SHOWN]:
        title = f"Worm plots of {measure_name(worms[0].measure)}, {METHOD_NAMES[worms[0].method]}"
        figure = worm_figure(worms)
        caption = _text("figure_worms")
        blocks.append(replace(figure, title=f"{title}, by age third", caption=caption))
    return blocks


# ------------------------------------------------------------------ harmonised and reported


def reported_table(result: ReferenceRanges) -> Table | None:
    """Widths of the intervals from each source: of a sex, and of its groups where it has one."""
    several = {(row.measure, row.sex) for row in result.reported_widths if row.age_low is None}
    rows = [
        row
        for row in result.reported_widths
        if row.age_low is None or (row.measure, row.sex) not in several
    ]

    def width(row: ReportedWidth, name: str) -> str:
        value, low, high = (getattr(row, f"{name}{end}") for end in ("", "_low", "_high"))
        return shown_estimate(value, low, high, 0 if row.harmonised >= 20 else 1)

    columns = (
        _MEASURE_UNIT,
        _SEX,
        _N,
        *(Column(head, partial(width, name=name)) for head, name in COMPARED.items()),
    )
    measures = {row.combat_measures for row in rows} - {None}
    return _table(result, "reported", columns, rows, empty=("", DASH), measures=measures)


# ------------------------------------------------------------------ the measurement's error


def error_sentence(result: ReferenceRanges) -> str:
    """The true limits of the first measure as a paper states them; empty without any."""
    groups = error_groups(result.error_adjusted)
    groups = [group for group in groups if group[0].measure == groups[0][0].measure]
    if not groups:
        return ""
    decimals = decimals_of(groups[0])
    return _text(
        "error_sentence",
        result=result,
        options=result.options,
        measure=measure_name(groups[0][0].measure),
        unit=unit_name(groups[0][0].unit),
        share=shown(groups[0][0].error_share_percent, 0),
        groups=[
            {
                "name": ", ".join((SEX_NAMES[group[0].sex].lower(), *_years(group[0]))),
                "true": shown_range((row.true_limit for row in group), decimals),
                "measured": shown_range((row.limit for row in group), decimals),
            }
            for group in groups
        ],
    )


def _years(row: ErrorAdjustedLimit | ReferenceLimit) -> tuple[str, ...]:
    """The age of a band or of a curve's limit, where it has one."""
    if row.age is None and row.age_low is None:
        return ()
    return (f"{_age_text((row.age_low, row.age_high, row.age))} years",)


def error_blocks(result: ReferenceRanges) -> list[Block | None]:
    """Sentence, figure and tables of the limits of true values."""
    groups = error_groups(result.error_adjusted)
    if not groups:
        return []
    figure = error_figure(groups)
    return [
        error_sentence(result),
        replace(figure, caption=_text("figure_error", options=result.options)),
        error_table(result, groups),
        error_groups_table(result),
    ]


def error_table(
    result: ReferenceRanges, groups: Sequence[Sequence[ErrorAdjustedLimit]]
) -> Table | None:
    """The limits of `error_groups` as measured and of true values."""
    level = f"{result.options.ci_level:g}% CI"

    def limits(group: Sequence[ErrorAdjustedLimit], name: str) -> str:
        return " · ".join(shown(getattr(row, name), decimals_of(group)) for row in group)

    def true_limits(group: Sequence[ErrorAdjustedLimit]) -> str:
        return " · ".join(
            shown_estimate(r.true_limit, r.true_ci_low, r.true_ci_high, decimals_of(group))
            for r in group
        )

    columns = (
        _MEASURE_UNIT,
        _SEX,
        Column("Age, years", "age_low age_high age", lambda *age: _age_text(age)),
        Column("Measured", lambda g: limits(g, "limit")),
        Column(f"True ({level})", true_limits),
        Column("Error, SD", lambda g: shown(g[-1].error_sd, 1 + decimals_of(g))),
        Column("% of variance", "error_share_percent", as_number(1)),
        Column(
            "Bias", lambda g: " · ".join(shown(row.bias, 1) for row in g if row.bias is not None)
        ),
        Column("Hearts evaluated", "n_hearts", shown_count),
    )
    return _table(result, "error", columns, groups, empty=("", DASH))


def error_groups_table(result: ReferenceRanges) -> Table | None:
    """The differences between groups and the error that would undo them."""
    compared = grouped(
        (row for row in result.error_adjusted if row.versus and row.centile != 50),
        "measure sex ethnicity versus",
    )

    def names(sex: str, ethnicity: str, versus: str) -> str:
        if ethnicity == ALL:
            return f"Women {MINUS} men"
        who = f"{ETHNICITY_NAMES[ethnicity]} {MINUS} {ETHNICITY_NAMES[versus]}"
        return who if sex == ALL else f"{who}, {SEX_NAMES[sex].lower()}"

    def least(group: Sequence[ErrorAdjustedLimit]) -> str:
        known = [row.error_to_zero for row in group if row.error_to_zero is not None]
        return shown(min(known, key=abs, default=None), 1 + decimals_of(group))

    def evaluated(group: Sequence[ErrorAdjustedLimit]) -> str:
        known = [row for row in group if row.evaluated_difference is not None]
        if not known:
            return DASH
        row = max(known, key=lambda row: abs(row.evaluated_difference or 0.0))
        return shown_estimate(
            row.evaluated_difference, row.evaluated_low, row.evaluated_high, 1 + decimals_of(group)
        )

    differences = (
        _MEASURE_UNIT,
        Column("Groups", "sex ethnicity versus", names),
        Column("Limits", lambda g: shown_count(len(g))),
        Column("that differ", lambda g: shown_count(sum(r.error_to_zero is not None for r in g))),
        Column("Least error that undoes one", least),
        Column("Error as evaluated", evaluated),
    )
    return _table(result, "error_groups", differences, compared.values(), empty=("", DASH))


# ------------------------------------------------------------------ one trial's influence


def trial_influence_table(result: ReferenceRanges) -> Table | None:
    """For each limit the age band in which leaving out one trial moves it most."""
    if len(result.trials) < 2:
        return None
    used = where(result.rows, method=STRATA)
    for measure in result.measures if META in result.methods else ():
        used += meta_headlines(where(result.rows, measure=measure))
    limits = {(r.measure, r.sex, r.ethnicity, r.age_low, r.centile): r.limit for r in used}

    def pooled(row: TrialLimit) -> float | None:
        return limits[row.measure, row.sex, row.ethnicity, row.age_low, row.centile]

    def distance(row: TrialLimit) -> float:
        return abs((row.limit_without or 0.0) - (pooled(row) or 0.0))

    def shown_as(row: TrialLimit, number: float | None) -> str:
        return shown(number, 2 if abs(pooled(row) or 0.0) < 20 else 1)

    known = [
        row
        for row in where(result.by_trial, ethnicity=ALL)
        if row.centile != 50 and row.limit_without is not None and pooled(row) is not None
    ]
    moved = sorted(
        (max(group, key=distance) for group in grouped(known, "measure sex centile").values()),
        key=lambda row: -distance(row) / abs(pooled(row) or 1.0),
    )
    facts = {"most": _MOST_SHOWN, "more": len(moved) > _MOST_SHOWN}
    columns = (
        _MEASURE_UNIT,
        _SEX,
        _AGE,
        Column("Limit", "centile", lambda centile: "lower" if centile < 50 else "upper"),
        Column("All trials", lambda row: shown_as(row, pooled(row))),
        Column("Without", "trial"),
        Column("Limit then", lambda row: shown_as(row, row.limit_without)),
    )
    return _table(result, "trial_influence", columns, moved[:_MOST_SHOWN], **facts)


# ------------------------------------------------------------------ partition and contrasts


def partition_table(result: ReferenceRanges) -> Table | None:
    """In how many groups two sexes or ethnicities differ enough for limits of their own."""

    def comparison(test: PartitionTest) -> str:
        if test.factor == "sex":
            return "Men, women"
        return f"{ETHNICITY_NAMES[test.group_a]}, {ETHNICITY_NAMES[test.group_b]}"

    def cell(measure: str, name: str) -> str:
        tests = [
            t
            for t in where(result.partition, measure=measure)
            if comparison(t) == name and t.harris_boyd and MAY_BE_TRIALS not in t.notes
        ]
        parted, lahti = (len(where(tests, **{m: "partition"})) for m in ("harris_boyd", "lahti"))
        return f"{parted} · {lahti} of {len(tests)}" if tests else DASH

    columns = (
        Column("Measure", measure_name),
        *(
            Column(name, partial(cell, name=name))
            for name in dict.fromkeys(map(comparison, result.partition))
        ),
    )
    return _table(result, "partition", columns, result.measures if result.partition else ())


def contrast_table(result: ReferenceRanges, factor: str) -> Table | None:
    """Differences of means within trials, between trials and ignoring trials."""
    rows = where(result.contrasts, factor=factor)
    groups = grouped(rows, "measure sex group versus")
    sources = {
        "within-trial": "Within trials",
        "between-trial": "Between trials",
        "ignoring-trials": "Ignoring trials",
    }
    if len(result.trials) == 1:
        sources = {"ignoring-trials": "Difference"}
    names = SEX_NAMES if factor == "sex" else ETHNICITY_NAMES

    def compared(group: str, versus: str) -> str:
        other = names[versus].lower() if factor == "sex" else names[versus]
        return f"{names[group]} {MINUS} {other}"

    def difference(group: Sequence[Contrast], source: str) -> str:
        (row,) = where(group, source=source)
        if row.difference is None or MAY_BE_TRIALS in row.notes:
            return DASH
        return shown_estimate(row.difference, row.ci_low, row.ci_high)

    columns = (
        _MEASURE_UNIT,
        Column("Groups", "group versus", compared),
        *(() if factor == "sex" else (_SEX,)),
        *(Column(name, partial(difference, source=source)) for source, name in sources.items()),
    )
    known = [
        group
        for group in groups.values()
        if any(row.difference is not None for row in group if row.source in sources)
    ]
    adjusted = any(row.adjusted_for for row in rows)
    return _table(result, "contrasts", columns, known, factor=factor, adjusted=adjusted)


# ------------------------------------------------------------------ meta-analytic ranges


def rules_table(measure: str, result: ReferenceRanges) -> Table | None:
    """The limits of a measure by every rule and kind, all ethnicities together."""
    rows = where(result.rows, measure=measure, method=META, ethnicity=ALL)
    outer = grouped((r for r in rows if r.centile != 50), "sex age_low age_high limits kind")
    known = [g for g in outer.values() if any(r.limit is not None for r in g)]
    centiles = [c for c in result.options.centiles if c != 50]

    def limit(group: Sequence[ReferenceLimit], at: int) -> str:
        return shown_estimate(group[at].limit, group[at].ci_low, group[at].ci_high)

    columns = (
        _SEX,
        _AGE,
        Column("Rule", "limits", _RULES.__getitem__),
        Column("For a participant of", "kind", _KINDS.__getitem__),
        *(Column(f"Centile {c:g}", partial(limit, at=at)) for at, c in enumerate(centiles)),
    )
    label = measure_label(measure, rows[0].unit) if rows else ""
    return _table(result, "rules", columns, known, label=label)


def estimates_table(measure: str, result: ReferenceRanges) -> Table | None:
    """Mean and SD within and between trials behind the meta-analytic limits."""
    rows = where(result.meta, measure=measure, ethnicity=ALL)
    columns = (
        _SEX,
        _AGE,
        Column("Rule", "meta", _RULES.__getitem__),
        Column("Trials", "n_trials", shown_count),
        _N,
        Column("Mean", "mean", as_number()),
        Column("SD within trials", "sigma", as_number()),
        Column("SD between trials (tau)", "tau tau_low tau_high", as_estimate()),
        Column("tau/total", "tau_share", as_number(2)),
    )
    logs = any("log" in row.notes for row in rows)
    label = measure_label(measure, rows[0].unit) if rows else ""
    return _table(result, "estimates", columns, rows, label=label, logs=logs)
