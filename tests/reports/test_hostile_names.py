"""Names of trials, arms and modifiers that would run as markup are text on the page."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.kit.pooling_tables import simulate_wide
from tests.kit.report_page import assert_self_contained, find_table
from tests.reports.conftest import OUTCOME, Run, run

EVIL = '<script>alert("1")</script>'
ARM = "<img src=x onerror=alert(1)> & co"


@pytest.fixture(scope="module")
def hostile(folder: Path) -> Run:
    frame = simulate_wide(trials=3, seed=2)
    frame["trial"] = frame["trial"].replace({"T1": EVIL, "T2": "a'b\"c"})
    frame["arm"] = frame["arm"].replace({"active": ARM})
    path = folder / "hostile.csv"
    frame.to_csv(path, index=False)
    asked = ("--control", "control", "--model", "two-stage", "--no-leave-one-out", "--by", "sex")
    return run("pool-trials", path, *OUTCOME, *asked, out=folder / "hostile")


def test_the_page_has_no_script_and_every_name_as_text(hostile):
    page = assert_self_contained(hostile.html)
    assert "<script" not in hostile.html
    assert "<img src=x" not in hostile.html
    assert EVIL in page.text
    assert ARM in page.text
    table = find_table(hostile.html, "Each trial:")
    assert {EVIL, "a'b\"c"} < set(table.column("Trial"))
    assert f"n {ARM}" in table.columns


def test_figures_are_valid_and_carry_the_names(hostile):
    for path in (hostile.out / "figures").glob("*.svg"):
        root = ET.fromstring(path.read_text(encoding="utf-8"))
        assert EVIL in "".join(root.itertext())
        assert not list(root.iter("{http://www.w3.org/2000/svg}script"))


def test_ids_within_the_page_are_unique(hostile):
    ids = assert_self_contained(hostile.html).ids
    assert len(ids) == len(set(ids)) > 20
