"""Tables as Word, Excel and LaTeX files, and the scripts that pool again."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.errors import UsageError
from cardiometa.pooling.options import PoolingOptions
from cardiometa.records import Table
from cardiometa.reports.export import export_files, need_export, scripts

OWN = Path(__file__).resolve().parents[2] / "examples" / "own_table"
TABLE = Table(
    title="Effects: all/any",
    columns=("Trial", "n", "Estimate (95% CI)", "Note"),
    rows=(
        ("=A1+1", "12", "3.4 (−0.5 to 7.2)", "50 % & τ² < 1_0"),
        ("B", "7", "1.0 (0.1 to 2.0)", ""),
    ),
    caption="A caption.",
)


def made(name: str, *tables: Table | None) -> bytes | str:
    return export_files(tables or (TABLE,), (name,), "A title", "Research use only.")[
        f"tables.{name}"
    ]


def test_word_has_every_cell_and_equal_tables_are_equal_bytes() -> None:
    docx = pytest.importorskip("docx")
    data = made("docx", TABLE, None, Table(title="empty", columns=("a",), rows=()))
    assert isinstance(data, bytes)
    assert data == made("docx")
    document = docx.Document(io.BytesIO(data))
    (grid,) = document.tables
    cells = [tuple(cell.text for cell in row.cells) for row in grid.rows]
    assert cells == [TABLE.columns, *TABLE.rows]
    text = [paragraph.text for paragraph in document.paragraphs]
    assert text[0] == "A title"
    assert {"Table 1. Effects: all/any", "A caption.", "Research use only."} <= set(text)


def test_a_cell_of_excel_is_never_a_formula_and_counts_are_numbers() -> None:
    openpyxl = pytest.importorskip("openpyxl")
    data = made("xlsx")
    assert isinstance(data, bytes)
    assert data == made("xlsx")
    sheet = openpyxl.load_workbook(io.BytesIO(data)).worksheets[0]
    assert sheet.title == "1 Effects all any"
    assert [cell.value for cell in sheet[1]] == list(TABLE.columns)
    assert (sheet["A2"].value, sheet["A2"].data_type) == ("=A1+1", "s")
    assert (sheet["B2"].value, sheet["B3"].value) == (12, 7)
    assert sheet["C2"].value == "3.4 (−0.5 to 7.2)"


def test_latex_escapes_what_it_would_read_as_commands() -> None:
    text = made("tex")
    assert isinstance(text, str)
    assert r"50 \% \& $\tau$$^2$ $<$ 1\_0 \\" in text
    assert r"3.4 ($-$0.5 to 7.2)" in text
    assert text.count(r"\begin{longtable}{@{}lrrl@{}}") == 1


def test_what_is_missing_is_said_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "docx", None)
    with pytest.raises(UsageError, match="--export docx,tex needs python-docx"):
        need_export(("docx", "tex"))
    need_export(("tex",))


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "effect"
    table, plan = OWN / "synthetic_trials.csv", OWN / "columns.toml"
    call = ["pool-trials", table, "--config", plan, "--out", out, "--adjust", "age,sex"]
    call += ["--export", "tex,analysis", "--quiet"]
    done = CliRunner().invoke(app, [str(word) for word in call])
    assert done.exit_code == 0, done.output
    assert "internal/ has a row for each analysed participant" in done.stderr
    return out


def test_the_tables_of_a_pooling_are_those_of_its_page(pooled: Path) -> None:
    text, page = (pooled / "tables.tex").read_text(), (pooled / "report.html").read_text()
    for title in ("Participants by arm", "Each trial", "Pooled effect", "Heterogeneity"):
        assert rf"\caption{{{title}" in text
        assert title in page
    assert "HKSJ, truncated (headline)" in text


def test_r_pools_the_same(pooled: Path, tmp_path: Path) -> None:
    rscript = shutil.which("Rscript")
    asked = [rscript or "", "-e", "library(metafor)"]
    if rscript is None or subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip("needs R with metafor")
    folder = shutil.copytree(pooled, tmp_path / "effect")
    call = [rscript, "pooling.R"]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("cardiometa") == 5
    # From the participants' rows: also the estimate and the SE of each of the five trials.
    rows = [*call[:1], "analysis.R"]
    own = subprocess.run(rows, cwd=folder / "internal", capture_output=True, text=True, check=False)
    assert own.returncode == 0, own.stderr
    assert own.stdout.count("cardiometa") == 15
    effects = (folder / "effects.csv").read_text()
    rows = [row for row in csv.DictReader(io.StringIO(effects)) if row["analysis"] == "pooled"]
    estimate = next(row["estimate"] for row in rows if row["headline"] == "true")
    (folder / "effects.csv").write_text(effects.replace(estimate, str(float(estimate) + 0.01)))
    wrong = subprocess.run(call, cwd=folder, capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert "metafor and cardiometa differ" in wrong.stderr


def test_the_rows_have_no_ids_and_are_in_no_list_of_what_is_shared(pooled: Path) -> None:
    table, effects = (
        list(csv.DictReader(io.StringIO((pooled / name).read_text())))
        for name in ("internal/analysis_table.csv", "effects.csv")
    )
    headline = next(r for r in effects if r["analysis"] == "pooled" and r["headline"] == "true")
    assert len(table) == int(headline["n_control"]) + int(headline["n_active"])
    assert list(table[0])[:3] == ["trial", "arm", "outcome"]
    assert not any("A0001" in cell for row in table for cell in row.values())
    assert "internal/" not in (pooled / "ro-crate-metadata.json").read_text()
    assert "internal/ has a row for each" in (pooled / "report.html").read_text()
    refused = CliRunner().invoke(
        app,
        [
            "reference-ranges",
            str(OWN / "synthetic_trials.csv"),
            "--out",
            "x",
            "--export",
            "analysis",
        ],
    )
    assert refused.exit_code == 2


def test_stata_is_asked_for_the_same_model() -> None:
    def asked(**options: object) -> str:
        made = scripts(PoolingOptions.of({"outcome": "x", **options}))["pooling.do"]
        assert isinstance(made, str)
        return next(line.strip() for line in made.splitlines() if "meta summarize" in line)

    assert asked() == "meta summarize, random(reml) se(khartung, truncated) predinterval(95)"
    assert (
        asked(tau2="dl", ci="wald", level=90) == "meta summarize, random(dlaird) predinterval(90)"
    )
    assert asked(tau2="fe") == "meta summarize, fixed"
