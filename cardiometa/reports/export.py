"""Tables of a paper as Word, Excel and LaTeX files, and scripts that repeat the pooling elsewhere.

The files contain what the page shows, as text: the numbers are rounded there already. Equal tables
give equal bytes. python-docx and openpyxl (extra ``export``) are imported when they are needed.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib.util import find_spec

from ..errors import UsageError
from ..measurement.measures import definition
from ..pooling.options import PoolingOptions
from ..privacy.characteristics import UNKNOWN, Characteristic
from ..records import Table
from .figures.reference import ETHNICITY_NAMES
from .page import CONTROL, column_classes, environment, words
from .style import DASH, measure_label, measure_name, shown, shown_count, shown_interval

_LIBRARIES: Mapping[str, tuple[str, str]] = {
    "docx": ("docx", "python-docx"),
    "xlsx": ("openpyxl", "openpyxl"),
}
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the date of every part of a file: equal tables, equal bytes


def need_export(formats: Sequence[str]) -> None:
    """UsageError where a library of these formats is not installed."""
    if "analysis" in formats:
        raise UsageError("--export analysis is an option of pool-trials alone.")
    wanted = [_LIBRARIES[name] for name in formats if name in _LIBRARIES]
    absent = [package for module, package in wanted if find_spec(module) is None]
    if absent:
        raise UsageError(
            f"--export {','.join(formats)} needs {' and '.join(absent)}, which is not installed.",
            hint="pip install 'cardiometa[export]'; tex needs nothing.",
        )


def export_files(
    tables: Sequence[Table | None], formats: Sequence[str], title: str, notice: str
) -> dict[str, bytes | str]:
    """``tables.docx``, ``tables.xlsx`` and ``tables.tex``; empty tables are left out."""
    present = [table for table in tables if table is not None and table.rows]
    makers: Mapping[str, Callable[..., bytes | str]] = {"docx": _docx, "xlsx": _xlsx, "tex": _tex}
    return {f"tables.{name}": makers[name](present, title, notice) for name in formats}


def export_names() -> list[str]:
    """Every file that `export_files` may write."""
    return ["tables.docx", "tables.xlsx", "tables.tex"]


def _plain(text: str) -> str:
    """A cell on one line, without spaces that are not broken and signs that XML cannot have."""
    return re.sub(r"[\s\u202f\u00a0]+", " ", CONTROL.sub("\ufffd", text)).strip()


def _is_left(table: Table) -> list[bool]:
    return ["num" not in kind for kind in column_classes(table)]


# ------------------------------------------------------------------ table 1

_ABREAST = 8  # groups beside each other in one table
_UNITS = {"age_years": "years", "height_cm": "cm", "weight_kg": "kg", "bmi_kg_m2": "kg/m2"}


def baseline_tables(rows: Sequence[Characteristic], group: str) -> list[Table]:
    """Table 1 of a paper, all trials first, in parts of at most 8 columns; none without rows.

    ``group`` is what a trial's groups are: ``arm`` or ``sex``.
    """
    cells: dict[tuple[str, str], dict[tuple[str, str, str], str]] = {}
    forms = {row.variable: row.shown for row in rows if row.shown}
    sizes: dict[tuple[str, str], str] = {}
    for row in sorted(rows, key=lambda row: row.trial != ""):
        found = cells.setdefault((row.trial, row.group), {})
        sizes.setdefault((row.trial, row.group), shown_count(row.n))
        if row.n is not None:
            sizes[row.trial, row.group] = shown_count(row.n)
        found[row.variable, row.level, ""] = _characteristic(row)
        if row.shown in ("mean", "median"):
            hidden = f"<{row.note[2:]}" if row.note.startswith("n<") else DASH
            found[row.variable, "", "missing"] = hidden if row.missing is None else str(row.missing)
    named = {name for key in cells.values() for name in key}
    variables = list(dict.fromkeys(row.variable for row in rows))
    lines = sorted(
        (line for line in named if forms.get(line[0]) != "count" or line[1]),
        key=lambda line: (variables.index(line[0]), line[2], line[1] == UNKNOWN, line[1]),
    )
    lines = [
        line
        for line in lines
        if not line[2] or any(found.get(line, "0") not in ("0", DASH) for found in cells.values())
    ]
    parts = [list(cells)[at : at + _ABREAST] for at in range(0, len(cells), _ABREAST)]
    return [
        Table(
            title=words("export", "baseline_title", group=group, more=number > 0),
            columns=(
                "Characteristic",
                *(f"{trial or 'All trials'}, {name}" for trial, name in part),
            ),
            rows=(
                ("Participants", *(sizes[one] for one in part)),
                *(
                    (_line_name(line, forms), *(cells[one].get(line, DASH) for one in part))
                    for line in lines
                ),
            ),
            caption=words("export", "baseline_caption", forms=set(forms.values())),
        )
        for number, part in enumerate(parts)
    ]


def _characteristic(row: Characteristic) -> str:
    """``61.4 (9.2)``, ``138 (76 to 240)`` or ``10 (50.0%)``; what is too small to be shown."""
    decimals = definition(row.variable).decimals
    decimals = 1 if decimals is None else decimals
    if row.mean is None and row.count is None:
        return f"<{row.note[2:]}" if row.note.startswith("n<") and row.n is not None else DASH
    if row.shown == "count":
        return f"{shown_count(row.count)} ({shown(row.percent)}%)"
    if row.shown == "median":
        return f"{shown(row.median, decimals)} ({shown_interval(row.q1, row.q3, decimals)})"
    return f"{shown(row.mean, decimals)} ({shown(row.sd, decimals)})"


def _line_name(line: tuple[str, str, str], forms: Mapping[str, str]) -> str:
    variable, level, missing = line
    label = measure_label(variable, _UNITS.get(variable) or definition(variable).unit)
    if missing:
        return f"{measure_name(variable)} missing, n"
    if level:
        return f"{label}: {ETHNICITY_NAMES.get(level, level)}, n (%)"
    kind = {"mean": "mean (SD)", "median": "median (quartiles)"}.get(forms.get(variable, ""), "")
    return f"{label}: {kind}" if kind else label


# ------------------------------------------------------------------ Word and Excel


def _docx(tables: Sequence[Table], title: str, notice: str) -> bytes:
    from docx import Document
    from docx.enum.text import WD_ALIGN_PARAGRAPH
    from docx.oxml import OxmlElement
    from docx.oxml.ns import qn
    from docx.shared import Cm, Pt, RGBColor

    document = Document()
    document.core_properties.title = _plain(title)
    document.core_properties.author = "cardiometa"
    for name, size in (("Normal", 10), ("Heading 1", 14)):
        style = document.styles[name]
        style.font.name, style.font.size = "Times New Roman", Pt(size)
        style.font.color.rgb = RGBColor(0, 0, 0)
        for script in ("ascii", "hAnsi"):  # a font of the theme would win
            style.element.rPr.rFonts.attrib.pop(qn(f"w:{script}Theme"), None)
    page = document.sections[0]
    page.page_width, page.page_height = Cm(21.0), Cm(29.7)
    page.left_margin = page.right_margin = page.top_margin = page.bottom_margin = Cm(2.0)
    document.add_heading(_plain(title), level=1)
    for number, table in enumerate(tables, 1):
        heading = document.add_paragraph()
        heading.paragraph_format.keep_with_next = True
        heading.add_run(f"Table {number}. ").bold = True
        heading.add_run(_plain(table.title))
        # Lines above and below the heading and at the end, as journals print tables.
        grid = document.add_table(rows=1, cols=len(table.columns), style="Light Shading")
        # The heading is bold; no bold names and no bands of grey.
        look = grid._tbl.tblPr.find(qn("w:tblLook"))  # noqa: SLF001 - python-docx has no other way
        for part, value in {"val": "0620", "firstColumn": "0", "noHBand": "1"}.items():
            look.set(qn(f"w:{part}"), value)
        grid.autofit = False
        left, widths = _is_left(table), list(map(Cm, _column_widths(table)))
        for column, width in zip(grid.columns, widths, strict=True):
            column.width = width
        for row in (table.columns, *table.rows):
            line = grid.rows[0] if row is table.columns else grid.add_row()
            if row is table.columns or max(map(len, row)) < 300:  # a longer one may go on overleaf
                line._tr.get_or_add_trPr().append(OxmlElement("w:cantSplit"))  # noqa: SLF001
            for cell, text, is_left, width in zip(line.cells, row, left, widths, strict=True):
                cell.width = width
                paragraph = cell.paragraphs[0]
                paragraph.add_run(_plain(text)).font.size = Pt(8)
                if not is_left:
                    paragraph.alignment = WD_ALIGN_PARAGRAPH.RIGHT
        grid.rows[0]._tr.get_or_add_trPr().append(OxmlElement("w:tblHeader"))  # noqa: SLF001
        document.add_paragraph(_plain(table.caption)).paragraph_format.space_before = Pt(3)
    document.add_paragraph(notice)
    buffer = io.BytesIO()
    document.save(buffer)
    return _undated(buffer.getvalue())


def _column_widths(table: Table) -> list[float]:
    """Centimetres of 17: room for each word and number, the rest by the length of the cells."""
    least, wish = [], []
    for is_left, heading, *cells in zip(_is_left(table), table.columns, *table.rows, strict=True):
        texts = list(map(_plain, cells))
        words = [*heading.split(), *(" ".join(texts).split() if is_left else texts)]
        least.append(0.45 + 0.165 * min(max(map(len, words), default=1), 24))
        wish.append(0.14 * min(max(map(len, texts), default=1), 90))
    spare = max(17.0 - sum(least), 0.0)
    share = min(1.0, spare / sum(wish))
    widths = [low + share * more for low, more in zip(least, wish, strict=True)]
    return [min(1.0, 17.0 / sum(widths)) * width for width in widths]


def _xlsx(tables: Sequence[Table], title: str, notice: str) -> bytes:
    from openpyxl import Workbook
    from openpyxl.styles import Alignment, Font

    book = Workbook()
    book.remove(book.active)
    book.properties.title, book.properties.creator = title, "cardiometa"
    book.properties.created = book.properties.modified = datetime(*_LONG_AGO)  # noqa: DTZ001 - none
    for number, table in enumerate(tables, 1):
        name = _plain(re.sub(r"[\[\]:*?/\\']", " ", table.title))
        sheet = book.create_sheet(f"{number} {name}"[:31].strip())
        left = _is_left(table)
        for at, row in enumerate((table.columns, *table.rows), 1):
            for column, (text, is_left) in enumerate(zip(row, left, strict=True), 1):
                cell = sheet.cell(row=at, column=column)
                shown = _plain(text)
                if shown.isascii() and shown.isdigit() and at > 1 and not is_left:
                    cell.value = int(shown)
                else:
                    cell.value, cell.data_type = shown, "s"  # never a formula, whatever it says
                cell.font = Font(bold=at == 1)
                cell.alignment = Alignment(horizontal="left" if is_left else "right")
        for column, cells in enumerate(zip(table.columns, *table.rows, strict=True), 1):
            letter = sheet.cell(row=1, column=column).column_letter
            sheet.column_dimensions[letter].width = min(60, 2 + max(map(len, cells)))
        foot = len(table.rows) + 3
        for line, text in enumerate((table.title, table.caption, notice)):
            cell = sheet.cell(row=foot + line, column=1)
            cell.value, cell.data_type = _plain(text), "s"
        sheet.freeze_panes = "A2"
    if not tables:
        book.create_sheet("no tables")
    buffer = io.BytesIO()
    book.save(buffer)
    return _undated(buffer.getvalue())


def _undated(data: bytes) -> bytes:
    """An Office file whose parts have one date, without the time of saving."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            part = old.read(name)
            if name == "docProps/core.xml":
                part = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", b"1980-01-01T00:00:00Z", part)
            info = zipfile.ZipInfo(name, _LONG_AGO)
            info.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(info, part)
    return buffer.getvalue()


# ------------------------------------------------------------------ LaTeX

_TEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "τ": r"$\tau$",
    "χ": r"$\chi$",
    "²": "$^2$",
    "<": "$<$",
    ">": "$>$",
    "·": r"$\cdot$",
}


def _tex_text(text: str) -> str:
    return "".join(_TEX.get(sign, sign) for sign in _plain(text))


def _tex(tables: Sequence[Table], title: str, notice: str) -> str:
    r"""Tables for ``\input`` into a document with booktabs and longtable."""
    lines = [f"% {_plain(title)}", r"% \usepackage{booktabs,longtable}", f"% {_plain(notice)}"]
    for table in tables:
        columns = "".join("l" if is_left else "r" for is_left in _is_left(table))
        heads = " & ".join(map(_tex_text, table.columns)) + r" \\"
        lines += ["", rf"\begin{{longtable}}{{@{{}}{columns}@{{}}}}"]
        lines += [rf"\caption{{{_tex_text(table.title)}}}\\", r"\toprule", heads, r"\midrule"]
        lines += [r"\endfirsthead", r"\toprule", heads, r"\midrule", r"\endhead"]
        lines += [" & ".join(map(_tex_text, row)) + r" \\" for row in table.rows]
        lines += [r"\bottomrule", r"\end{longtable}"]
        if table.caption:
            lines.append(rf"\noindent{{\footnotesize {_tex_text(table.caption)}\par}}")
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------ scripts

SCRIPTS = ("pooling.R", "pooling.do")
INTERNAL = ("internal/analysis_table.csv", "internal/analysis.R", "internal/analysis.do")
# Of the estimators of tau2: the names of metafor and of Stata's meta (absent: none).
_STATA = {"reml": "reml", "ml": "mle", "dl": "dlaird", "pm": "ebayes", "eb": "ebayes"}
_STATA |= {"he": "hedges", "hs": "hschmidt", "sj": "sjonkman"}
_STATA_SE = {"hksj": " se(khartung)", "hksj-truncated": " se(khartung, truncated)"}


def scripts(options: PoolingOptions, control: str | None = None) -> dict[str, bytes | str]:
    """``pooling.R`` and ``pooling.do`` for the options of a pooling; no participant is in them.

    With ``control``, the reference arm, those that begin with the participants' rows (`INTERNAL`).
    """
    level = f"{options.level:g}"
    model = "fixed"
    if options.tau2 in _STATA:
        model = f"random({_STATA[options.tau2]}){_STATA_SE.get(options.headline_ci, '')}"
        model += f" predinterval({level})"
    less = "1" if options.pi_df == "k-1" else "2"
    quoted = (control or "").replace("\\", r"\\").replace('"', r"\"")
    facts = {"level": level, "pi_less": less, "model": model, "control": quoted}
    names = SCRIPTS if control is None else INTERNAL[1:]
    found = (environment().get_template(f"pooling_{kind}.txt.j2") for kind in ("r", "do"))
    texts = (one.render(facts, rows=control is not None) for one in found)
    return dict(zip(names, texts, strict=True))
