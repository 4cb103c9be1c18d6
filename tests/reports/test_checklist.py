"""The checklists: every item once, filled from the result, the rest for the author."""

from __future__ import annotations

import io

import pytest

from cardiometa.reports.checklist import AUTHOR, _rows
from tests.kit.report_page import assert_self_contained, read_tables


def items_of(html):
    """The number of each item and what is entered for it."""
    assert_self_contained(html)
    (table,) = read_tables(html)
    return {row[0]: row[3] for row in table.rows}


def test_prisma_ipd_of_a_pooled_analysis(pooled):
    items = items_of((pooled.out / "checklist_prisma_ipd.html").read_text("utf-8"))
    numbers = [*map(str, range(1, 28)), "A1", "A2", "A3", "A4"]
    assert sorted(items) == sorted(numbers)
    headline = pooled.rows("effects.csv", analysis="pooled", headline="true")[0]
    assert f"{float(headline['estimate']):.2f}".replace("-", "−") in items["21"]
    assert "Two-stage analysis." in items["14"]
    assert {items[n] for n in ("1", "8", "12", "27")} == {AUTHOR}
    docx = pytest.importorskip("docx")
    found = docx.Document(
        io.BytesIO((pooled.out / "checklist_prisma_ipd.docx").read_bytes())
    ).tables[0]
    cells = {row.cells[0].text: row.cells[3].text for row in found.rows[1:]}
    assert cells == {number: " ".join(text.split()) for number, text in items.items()}


def test_claim_of_an_evaluation(evaluated):
    items = items_of((evaluated.out / "checklist_claim.html").read_text("utf-8"))
    assert list(items) == [str(n) for n in range(1, 45)]
    bias = evaluated.row(
        "agreement.csv", measure="lv_ef_percent", group_by="all", scans_used="ok+review"
    )
    assert f"LV EF bias {float(bias['bias']):.1f} (".replace("-", "−") in items["37"]
    assert items["44"] == AUTHOR


def test_a_bar_or_a_line_in_a_name_does_not_part_the_item():
    facts = dict.fromkeys(
        ("plan", "departures", "account", "aggregate", "adjust", "by", "regression", "checked",
         "small_study", "sensitivity", "prespecified", "has_table1", "findings", "flow"), ""
    )  # fmt: skip
    words = {"found": ["a | b\nc"], "heterogeneity": [], "methods": "m", "effect": "e"}
    rows = _rows("prisma_ipd", {**facts, **words, "endpoint": "x\n|y"})
    assert len(rows) == 31
    assert rows[1][3] == "a b c"
    assert "x y" in rows[10][3]
