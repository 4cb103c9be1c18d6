"""The page and the figures: names of bands, decimals, escaping, what stands on them."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from cardiometa.commands.reference_ranges import figure_names, render
from cardiometa.reference.options import ReferenceOptions
from cardiometa.reference.ranges import reference_ranges
from cardiometa.reports.figures.reference import band_name, limits_figure
from cardiometa.reports.pages.reference import decimals_of, reference_page
from tests.kit.reference_tables import people_frame, table

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
OPTIONS = ReferenceOptions(bootstrap=200, measures=("lv_edv_ml",), method="strata")


@pytest.fixture(scope="module")
def result():
    return reference_ranges(table(people_frame()), OPTIONS)


@pytest.mark.parametrize(
    ("low", "high", "name"),
    [
        (18.0, 30.0, "18–29"),
        (70.0, None, "≥70"),
        (17.5, 30.0, "17.5 to <30"),
        (None, None, "All ages"),
    ],
)
def test_band_names(low, high, name):
    assert band_name(low, high) == name


def test_every_limit_stands_in_the_table_as_a_rounding(result):
    page = str(render(result)["report.html"])
    table_text = page[page.index('id="limits-1"') : page.index('id="checks"')]
    given = {}
    for row in result.rows:
        given.setdefault((row.sex, row.ethnicity, row.age_low), []).append(row)
    shown = re.findall(r"<b>(\d+)–(\d+)</b>", table_text)
    wanted = [
        (f"{rows[0].limit:.0f}", f"{rows[-1].limit:.0f}")
        for rows in given.values()
        if rows[0].limit is not None
    ]
    assert sorted(shown) == sorted(wanted)
    assert len(wanted) > 12


def test_figure_says_the_limits_of_everybody(result):
    svg = limits_figure(result.rows, population_title="of everybody").svg
    for text in ("Men", "Women", "White", "Age, years", "LV EDV, mL", "of everybody"):
        assert text in svg
    assert limits_figure(result.rows, population_title="of everybody").svg == svg


def test_decimals(result):
    rows = result.rows[:3]
    assert decimals_of(rows) == 0
    assert decimals_of([replace(r, limit=5.1) for r in rows]) == 1
    assert decimals_of([replace(r, limit=0.42) for r in rows]) == 2
    assert decimals_of([replace(r, limit=None) for r in rows]) == 0


def test_names_of_the_users_own_are_escaped_and_safe():
    name = "<i>x</i> & / y"
    frame = people_frame(300).assign(trial="<script>1</script>")
    frame[name] = frame["lv_edv_ml"]
    result = reference_ranges(
        table(frame), replace(OPTIONS, measures=(name,), by=("sex",), healthy_rule="<u>none</u>")
    )
    files = render(result)
    page = str(files["report.html"])
    for raw in ("<i>x", "<script", "<u>"):
        assert raw not in page
    assert "&lt;i&gt;x" in page
    assert "figures/limits__i_x__i______y.svg" in files


def test_figure_names_do_not_collide():
    assert figure_names(("a b", "a_b", "A_B")) == {
        "a b": "figures/limits_a_b.svg",
        "a_b": "figures/limits_a_b_2.svg",
        "A_B": "figures/limits_A_B_3.svg",
    }


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_twenty_measures_print_on_twelve_sheets(result, tmp_path):
    """Four ethnicities by sex and six age bands; the figure of one measure stands for all."""
    measures = tuple(f"lv_measure_{number}_ml" for number in range(20))
    per_measure = ("rows", "calibration", "by_trial", "accounts")
    changes = {
        name: tuple(replace(row, measure=m) for m in measures for row in getattr(result, name))
        for name in per_measure
    }
    svg = limits_figure(result.rows).svg
    page = reference_page(
        replace(result, measures=measures, **changes), dict.fromkeys(measures, svg)
    )
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    asked = ("--headless", "--no-sandbox", "--disable-gpu", f"--print-to-pdf={tmp_path}/page.pdf")
    command = [str(CHROMIUM), *asked, (tmp_path / "page.html").as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    sheets = re.findall(rb"/Type\s*/Page\b", (tmp_path / "page.pdf").read_bytes())
    assert 8 < len(sheets) <= 12
