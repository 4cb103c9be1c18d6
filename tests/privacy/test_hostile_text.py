"""Text that would run: escaped on pages, figures and in cells of tables; numbers are not."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cardiometa.files import cell, csv_text
from tests.kit.cohorts import people, roster, write
from tests.kit.command_runs import Bench
from tests.kit.in_process import segmented_by
from tests.kit.pooling_tables import simulate_wide
from tests.kit.reference_tables import people_frame
from tests.kit.segmented_out import fake_segment, write_cohort

SCRIPT = "<script>alert('x')</script>"
IMAGE = '"><img src=x onerror=alert(1)>'
FORMULAS = ("=HYPERLINK(1)", "+1+1", "-2+3", "@SUM(A1)", "\tTAB", "\rCR")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(top=tmp_path)


@pytest.fixture(autouse=True)
def known_labels() -> Iterator[None]:
    """The network's place is taken by that of `segmented_out`."""
    with segmented_by(fake_segment):
        yield


def unsafe_cells(folder: Path) -> list[str]:
    """Cells that a spreadsheet would calculate: they start with a sign and are no number."""
    found = []
    for path in sorted(folder.rglob("*.csv")):
        with path.open(newline="", encoding="utf-8") as stream:
            for number, row in enumerate(csv.reader(stream), start=1):
                found += [
                    f"{path.name}, row {number}: {text!r}"
                    for text in row
                    if text.startswith(("=", "+", "-", "@", "\t", "\r")) and not _is_number(text)
                ]
    return found


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?", text) is not None


def running_markup(folder: Path) -> list[str]:
    """Pages and figures with markup that came from a table."""
    found = []
    for path in sorted([*folder.rglob("*.html"), *folder.rglob("*.svg")]):
        text = path.read_text(encoding="utf-8")
        words = ("<script", "<img src=x", "onerror=alert(1)>", "javascript:")
        found += [f"{path.name}: {word}" for word in words if word in text.lower()]
    return found


def numbers_escaped(folder: Path) -> list[str]:
    """Numbers that were taken for formulas."""
    found = []
    for path in sorted(folder.rglob("*.csv")):
        with path.open(newline="", encoding="utf-8") as stream:
            found += [
                f"{path.name}: {text}"
                for row in csv.reader(stream)
                for text in row
                if text.startswith("'") and _is_number(text[1:])
            ]
    return found


def test_segment_escapes_what_a_cohort_holds(bench: Bench) -> None:
    cohort, _ = write_cohort(bench.top / "in", 6)
    text = cohort.read_text().replace('name = "evaluation cohort"', f"name = '''{IMAGE}{SCRIPT}'''")
    rule = f'healthy_rule = """={SCRIPT}"""\ncarry = ["remark", "change"]\nrandomised ='
    text = text.replace("randomised =", rule, 1)
    text += f'\n[[not_obtained]]\ntrial = "OMEGA"\nreason = """={SCRIPT}"""\n'
    cohort.write_text(text)
    rows = people(6, reason_no_scan="")
    for number, row in enumerate(rows):
        row["remark"] = (*FORMULAS[:4], SCRIPT, IMAGE)[number % 6]
        row["change"] = -1.5 - number
        row["ethnicity"] = "white"
    rows[0]["reason_no_scan"] = f"=cmd|{SCRIPT}"
    extra = {**rows[0], "participant_id": "099", "reason_no_scan": f"=cmd|{SCRIPT}"}
    write(bench.top / "in" / "ALPHA" / "participants.csv", roster([*rows, extra]))
    out = bench.top / "seg"
    bench.run("segment", cohort, "--out", out, "--quiet", code=4)
    assert unsafe_cells(out) == []
    assert running_markup(out) == []
    assert numbers_escaped(out) == []
    with (out / "participants.csv").open(newline="") as stream:
        changes = [r["change"] for r in csv.DictReader(stream) if r["trial"] == "ALPHA"]
    assert changes[0] == "-1.5"


@pytest.mark.parametrize("name", [SCRIPT, "=1+1", "-x", "@x", "../x", "a/b", "x\ny"])
def test_such_an_id_is_refused(bench: Bench, name: str) -> None:
    """An id becomes a folder and stands in every table: it must be plain."""
    cohort, _ = write_cohort(bench.top / "in", 6)
    rows = people(6)
    rows[3]["participant_id"] = name
    for row in rows:
        row["ethnicity"] = "white"
    # A line end inside a cell needs its quotes.
    frame = pd.DataFrame(rows)
    frame.to_csv(bench.top / "in" / "ALPHA" / "participants.csv", index=False)
    refused = bench.run("segment", cohort, "--out", bench.top / "seg", code=3)
    assert "cannot be used" in refused.text
    assert not (bench.top / "seg").exists()


def test_statistics_escape_what_a_table_holds(bench: Bench) -> None:
    """Trials, arms, levels, visits, ids and names of columns of a user's own table."""
    frame = simulate_wide(trials=3, people=60)
    names = {"T1": SCRIPT, "T2": "=HYPERLINK(1)", "T3": "@SUM(A1)"}
    frame["trial"] = frame["trial"].map(names)
    frame["participant_id"] = [(*FORMULAS[:4], SCRIPT)[n % 5] + str(n) for n in range(len(frame))]
    frame["arm"] = frame["arm"].map({"control": "control", "active": f"+{IMAGE}"})
    frame["region"] = np.where(np.arange(len(frame)) % 2 == 0, f"-{SCRIPT}", "=west")
    frame.loc[::9, "lv_ef_percent"] = np.nan
    path = bench.top / "own.csv"
    frame.to_csv(path, index=False)
    out = bench.top / "pool"
    common = ("--outcome", "lv_ef_percent", "--baseline", "lv_ef_baseline")
    bench.run("pool-trials", path, *common, "--by", "region", "--out", out)
    site = bench.top / "site.json"
    bench.run("summarise", path, *common, "--out", site)
    bench.run("pool-trials", site, "--out", bench.top / "sites")
    ranges = people_frame(400, 3)
    ranges["trial"] = ranges["trial"].map(
        {"ALPHA": SCRIPT, "BETA": "=B", "GAMMA": "+C", "DELTA": IMAGE}
    )
    ranges["participant_id"] = [f"={n}" for n in range(len(ranges))]
    ranges["healthy"] = True
    ranges.to_csv(bench.top / "ranges.csv", index=False)
    fits = ("--bootstrap", "200", "--measure", "lv_edv_ml", "--by", "sex,age")
    out = bench.top / "ranges"
    bench.run("reference-ranges", bench.top / "ranges.csv", *fits, "--internal", "--out", out)
    bench.run(
        "score", out / "reference_ranges.json", bench.top / "ranges.csv",
        "--out", bench.top / "scored" / "scored.csv", code=(0, 3),
    )  # fmt: skip
    bench.run(
        "adapt", out / "reference_ranges.json", bench.top / "ranges.csv",
        "--out", bench.top / "adapted" / "site.json", "--same-conventions",
    )  # fmt: skip
    for name in ("pool", "sites", "ranges", "scored", "adapted"):
        folder = bench.top / name
        if folder.exists():
            assert unsafe_cells(folder) == [], name
            assert running_markup(folder) == [], name
            assert numbers_escaped(folder) == [], name
    effects = (bench.top / "pool" / "effects.csv").read_text()
    assert "'=HYPERLINK(1)" in effects
    assert "'@SUM(A1)" in effects


@pytest.mark.parametrize("text", [*FORMULAS, "=", "-", "+a", "-1.5x"])
def test_text_of_a_formula_gets_an_apostrophe(text: str) -> None:
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("value", [-1.5, -3, np.float64(-0.25), 1e-300, -0.0])
def test_numbers_are_left_alone(value: float) -> None:
    assert not cell(value).startswith("'")
    assert float(csv_text(["x"], [[value]]).splitlines()[1]) == float(value)


def test_withdrawal_leaves_escaped_cells_escaped(bench: Bench) -> None:
    """Tables of other outputs are read and written again: what was made safe stays so."""
    cohort, _ = write_cohort(bench.top / "in", 6)
    out, ranges = bench.top / "seg", bench.top / "ranges"
    bench.run("segment", cohort, "--out", out, "--quiet", code=4)
    fits = ("--method", "strata", "--bootstrap", "200", "--all", "--use-visit", "baseline")
    fits = (*fits, "--by", "age", "--age-bands", "18")
    bench.run(
        "reference-ranges", out, "--out", ranges, *fits, "--measure", "lv_edv_ml", "--min-n", "10"
    )
    with (ranges / "exclusions.csv").open("a", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerow(
            ["scan", "ALPHA", "006", "x", "code", "'=SUM(1)"]
        )
    bench.run("withdraw", out, "--participant", "ALPHA/005")
    assert "'=SUM(1)" in (ranges / "exclusions.csv").read_text()
    assert unsafe_cells(bench.top / "seg") == unsafe_cells(ranges) == []
