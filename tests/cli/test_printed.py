"""What the commands print of a result: lines of tables, and what follows from it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cardiometa.cli import evaluate, outputs, reference_ranges
from cardiometa.records import SeriousWarning


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("COLUMNS", "200")

    def lines() -> list[str]:
        return capsys.readouterr().err.splitlines()

    return lines


def limit(**changes: object) -> SimpleNamespace:
    facts = {
        "measure": "lv_edv_ml",
        "method": "strata",
        "limits": "robust",
        "kind": "population",
        "sex": "female",
        "ethnicity": "all",
        "age_low": 40.0,
        "age_high": 50.0,
        "age": None,
        "n": 120,
        "centile": 2.5,
        "limit": 91.234,
        "status": "ok",
    }
    return SimpleNamespace(**{**facts, **changes})


def ranges(rows: list[SimpleNamespace], **changes: object) -> SimpleNamespace:
    facts = {"rows": rows, "title": "Reference ranges", "participants": 240, "trials": ("A", "B")}
    return SimpleNamespace(**{**facts, "warnings": (), "error_adjusted": (), **changes})


PAIR = [limit(), limit(centile=50, limit=140.0), limit(centile=97.5, limit=189.96)]


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        (PAIR, ("lv_edv_ml", "strata", "female", "40-50", "120", "91.23 to 190", "ok")),
        ([limit(age_high=None)], ("lv_edv_ml", "strata", "female", "40-", "120", "91.23", "ok")),
        (
            [limit(age_low=None, n=None)],
            ("lv_edv_ml", "strata", "female", "all", "few", "91.23", "ok"),
        ),
        (
            [limit(age=45.0, method="lms")],
            ("lv_edv_ml", "lms", "female", "45", "120", "91.23", "ok"),
        ),
        (
            [limit(method="meta", limits="empirical")],
            ("lv_edv_ml", "empirical", "female", "40-50", "120", "91.23", "ok"),
        ),
    ],
)
def test_a_line_of_limits(rows: list[SimpleNamespace], wanted: tuple[str, ...]) -> None:
    assert reference_ranges._range_line(rows) == wanted


def test_a_limit_that_is_withheld_leaves_a_dash() -> None:
    rows = [limit(limit=None, status="suppressed"), limit(centile=97.5)]
    assert reference_ranges._range_line(rows)[-2:] == ("-", "suppressed")


def test_the_headline_of_ranges(printed: Any) -> None:
    black = [limit(ethnicity="black", limit=None, status="suppressed")]
    marginal = [limit(kind="marginal", age=50.0), limit(kind="conditional", age=50.0)]
    result = ranges([*PAIR, *black, *marginal], warnings=("A note.", SeriousWarning("B")))
    reference_ranges._show_ranges(result, Path("out"), quiet=False, most=12)
    lines = printed()
    table = [line for line in lines if line.startswith("lv_edv_ml")]
    assert len(table) == 2  # one of the band, one of the marginal curve
    assert "240 participants of 2 trials; 1 groups without a limit (the notes say why)" in lines
    assert "1 note: see the report, or --verbose" in lines
    assert f"limits: {Path('out/reference_ranges.csv')}" in lines
    # Without marginal limits the conditional ones are shown.
    reference_ranges._show_ranges(ranges(marginal[1:]), Path("out"), quiet=False, most=None)
    assert [line for line in printed() if line.startswith("lv_edv_ml")]
    reference_ranges._show_ranges(result, Path("out"), quiet=True, most=12)
    assert printed() == []


def test_more_groups_than_a_screen_are_counted(printed: Any) -> None:
    rows = [limit(age_low=float(age), age_high=age + 1.0) for age in range(20, 40)]
    reference_ranges._show_ranges(ranges(rows, trials=("A",)), Path("o"), quiet=False, most=12)
    lines = printed()
    assert "… and 8 more groups in the table, or --verbose" in lines
    assert any("participants of 1 trial;" in line for line in lines)


def comparison(**changes: object) -> SimpleNamespace:
    facts = {"measure": "lv_edv_ml", "sex": "male", "ethnicity": "white", "age_low": 40.0}
    numbers = {"age_high": None, "lower": 95.0, "upper": 210.5, "our_lower": 96.04}
    ours = {"our_upper": 208.0, "difference_lower": 1.04, "difference_upper": -2.5}
    rest = {"margin_lower": 4.0, "margin_upper": 6.25, "verdict": "equivalent", "source": "paper"}
    return SimpleNamespace(**{**facts, **numbers, **ours, **rest, **changes})


def test_a_line_of_a_comparison() -> None:
    assert reference_ranges._comparison_line(comparison()) == (
        "lv_edv_ml",
        "male white 40-",
        "95-210.5",
        "96.0-208.0",
        "+1.0 ±4.0",
        "-2.5 ±6.2",
        "equivalent",
    )
    lacking = comparison(our_lower=None, difference_lower=None, difference_upper=None)
    assert reference_ranges._comparison_line(lacking)[3:6] == ("-", "-", "-")


def test_a_comparison_says_what_was_not_compared(printed: Any) -> None:
    rows = [comparison(), comparison(verdict="not-compared", source="")]
    found = SimpleNamespace(
        rows=rows,
        counts=lambda: {"not-compared": 1, "equivalent": 1},
        reasons=lambda: {"another convention": 1},
        notice="population distribution",
    )
    reference_ranges._show_comparison(found, Path("c.csv"), quiet=False)
    lines = printed()
    assert "2 published intervals: 1 equivalent, 1 not-compared" in lines
    assert "not compared: 1, another convention" in lines
    assert "source: paper (second hand: confirm in the paper)" in lines
    assert "note: the reference is a population distribution." in lines
    assert lines[-1] == "comparison: c.csv"
    assert sum(line.startswith("lv_edv_ml") for line in lines) == 1


SHOWN = {
    "command": "segment",
    "state": "complete",
    "version": "1.0",
    "finished": "",
    "record_sha256": "ab",
    "options": {"bsa": "mosteller", "trials": ["A", "B"], "internal": False, "least": None},
    "inputs": {"b": "22", "a": "11"},
    "model": {"id": "m1"},
    "libraries": {},
    "counts": {"scans": {"ok": 3, "failed": 1}, "trials": {}},
    "withdrawn": 1,
    "stale": "",
    "inside": ["pooled", "ranges"],
}


def test_the_description_of_an_output() -> None:
    lines = outputs._text(SHOWN, Path("out")).splitlines()
    assert lines == [
        "out: output of `segment`, complete",
        "  made by    cardiometa 1.0, time unknown",
        "  options    bsa mosteller, trials A,B, internal false",
        "  input      a 11",
        "  input      b 22",
        "  model      id m1",
        "  scans      ok 3, failed 1",
        "  contains   pooled, ranges",
        "  withdrawn  1 participant erased",
        "  record     sha256 ab",
    ]
    outdated = {**SHOWN, "stale": "a participant withdrew", "withdrawn": 2}
    text = outputs._text(outdated, Path("out"))
    assert "2 participants erased" in text
    assert text.endswith("OUTDATED   a participant withdrew")


@pytest.mark.parametrize(
    ("done", "wanted", "erased"),
    [
        ({"mode": "erased", "scans_removed": 1}, "2 erased, 1 scan removed", True),
        ({"mode": "erased"}, "2 erased, 0 scans removed", True),
        ({"mode": "no-new-data"}, "2 marked: their rows stay, nothing new is added", False),
    ],
)
def test_what_a_withdrawal_did(printed: Any, done: Any, wanted: str, erased: bool) -> None:
    facts = {"people": 2, "already_withdrawn": 1, "scans_removed": 0, "tables_made_again": False}
    outputs._show_withdrawn({**facts, "marked_stale": ["pooled"], **done}, Path("out"), quiet=False)
    lines = printed()
    assert lines[:3] == [
        wanted,
        "1 withdrawn before",
        "out has no tables until its `segment` run is complete",
    ]
    assert lines[3] == "outdated until computed again, with rows of the participants: pooled"
    assert any(line.startswith("Not erased:") for line in lines) is erased


def test_numbers_of_an_evaluation() -> None:
    assert (evaluate._cell(None), evaluate._cell(0.1234, 3)) == ("-", "0.123")
    estimate = SimpleNamespace(value=1.26, low=-0.5)
    assert evaluate._of(estimate) == "1.3"
    assert evaluate._of(estimate, "{0.low:.2f}") == "-0.50"
    assert (evaluate._of(None), evaluate._of(False)) == ("-", "-")
