"""One table in the forms that people send: text of any kind, spreadsheets, statistics programs."""

from __future__ import annotations

import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

import pandas as pd
import pyreadstat

_XLSX = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"


def write_text_table(
    frame: pd.DataFrame,
    path: Path,
    *,
    separator: str = ",",
    decimal: str = ".",
    encoding: str = "utf-8",
    missing: str = "",
    newline: str = "\n",
) -> Path:
    text = frame.to_csv(
        index=False, sep=separator, decimal=decimal, na_rep=missing, lineterminator=newline
    )
    path.write_bytes(text.encode(encoding))
    return path


def write_xlsx(sheets: dict[str, list[list[object]]], path: Path) -> Path:
    """A workbook with inline text: the least that a spreadsheet program reads."""
    names = "".join(
        f'<sheet name="{escape(name)}" sheetId="{n}" r:id="r{n}"/>'
        for n, name in enumerate(sheets, 1)
    )
    links = "".join(
        f'<Relationship Id="r{n}" Type="{_RELATIONS}/worksheet" Target="worksheets/s{n}.xml"/>'
        for n in range(1, len(sheets) + 1)
    )
    kinds = "".join(
        f'<Override PartName="/xl/worksheets/s{n}.xml" ContentType="application/'
        'vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/>'
        for n in range(1, len(sheets) + 1)
    )
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="rels" ContentType='
        '"application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Override PartName="/xl/workbook.xml" ContentType="application/'
        f'vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>{kinds}</Types>',
        "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="a" '
        f'Type="{_RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{_XLSX}" xmlns:r="{_RELATIONS}"><sheets>{names}'
        "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">{links}'
        "</Relationships>",
    }
    for number, rows in enumerate(sheets.values(), 1):
        body = "".join(f"<row>{''.join(map(_xlsx_cell, row))}</row>" for row in rows)
        parts[f"xl/worksheets/s{number}.xml"] = (
            f'<worksheet xmlns="{_XLSX}"><sheetData>{body}</sheetData></worksheet>'
        )
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, '<?xml version="1.0" encoding="UTF-8"?>' + text)
    return path


def _xlsx_cell(value: object) -> str:
    if _is_blank(value):
        return "<c/>"
    if isinstance(value, str):
        return f'<c t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'
    return f"<c><v>{float(str(value))!r}</v></c>"


def write_ods(rows: list[list[object]], path: Path) -> Path:
    """A sheet of OpenDocument."""
    space = "urn:oasis:names:tc:opendocument:xmlns"
    body = "".join(
        f"<table:table-row>{''.join(map(_ods_cell, row))}</table:table-row>" for row in rows
    )
    text = (
        f'<office:document-content xmlns:office="{space}:office:1.0" '
        f'xmlns:table="{space}:table:1.0" xmlns:text="{space}:text:1.0">'
        "<office:body><office:spreadsheet>"
        f'<table:table table:name="Sheet1">{body}</table:table>'
        "</office:spreadsheet></office:body></office:document-content>"
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr(
            "META-INF/manifest.xml",
            f'<manifest:manifest xmlns:manifest="{space}:manifest:1.0"/>',
        )
        archive.writestr("content.xml", '<?xml version="1.0" encoding="UTF-8"?>' + text)
    return path


def _ods_cell(value: object) -> str:
    if _is_blank(value):
        return "<table:table-cell/>"
    if isinstance(value, str):
        return (
            '<table:table-cell office:value-type="string"><text:p>'
            f"{escape(value)}</text:p></table:table-cell>"
        )
    return f'<table:table-cell office:value-type="float" office:value="{value!r}"/>'


def _is_blank(value: object) -> bool:
    return value is None or value == "" or bool(pd.isna(value))  # type: ignore[call-overload]


def cells_of(frame: pd.DataFrame) -> list[list[object]]:
    """The header and the rows as plain Python values."""
    return [list(frame.columns), *(list(row) for row in frame.astype(object).to_numpy().tolist())]


def write_table(frame: pd.DataFrame, path: Path, missing: str = "") -> Path:
    """``frame`` in the form that the ending says; ``missing`` marks blanks where cells are text."""
    kind = path.suffix
    if kind in (".csv", ".tsv"):
        return write_text_table(
            frame, path, separator="\t" if kind == ".tsv" else ",", missing=missing
        )
    if kind == ".xlsx":
        return write_xlsx({"Sheet1": cells_of(frame)}, path)
    if kind == ".ods":
        return write_ods(cells_of(frame), path)
    if kind == ".parquet":
        frame.to_parquet(path, index=False)
    elif kind == ".xpt":
        pyreadstat.write_xport(frame, str(path), file_format_version=8)
    else:
        write = {".sav": pyreadstat.write_sav, ".dta": pyreadstat.write_dta}[kind]
        write(frame, str(path))
    return path
