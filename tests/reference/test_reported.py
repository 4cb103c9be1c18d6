"""Widths of intervals from reported, ComBat and harmonised values, by sums done another way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import cardiometa as cm
from cardiometa.cli.main import app
from cardiometa.errors import TableError
from cardiometa.reports.style import shown_estimate
from cardiometa.statistics.combat import combat
from tests.kit.reference_tables import people_frame

OPTIONS: dict[str, Any] = {
    "measure": ["lv_edv_ml"],
    "by": ["sex", "age"],
    "method": "strata",
    "bootstrap": 200,
    "compare_reported": True,
}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Reported volumes with a bias and a scale of each trial, and noise."""
    found = people_frame(1500)
    rng = np.random.default_rng(2)
    trial = found["trial"].map({"ALPHA": 0, "BETA": 1, "GAMMA": 2, "DELTA": 3}).to_numpy()
    bias, scale = np.array([0.0, 25, -15, 10])[trial], np.array([1.0, 1.2, 0.85, 1.1])[trial]
    noise = rng.normal(0, 12, len(found))
    found["reported_lv_edv_ml"] = bias + scale * found["lv_edv_ml"] + noise
    found.loc[found.index[::50], "reported_lv_edv_ml"] = np.nan
    return found


def width(values: pd.Series) -> float:
    """Type 6 by pandas' interpolation of ranks p(n + 1), or z·SD below 120."""
    if len(values) < 120:
        return 2 * 1.959963984540054 * float(values.std())
    ordered = np.sort(values.to_numpy())
    low, high = (
        np.interp(p * (len(ordered) + 1), np.arange(1, len(ordered) + 1), ordered)
        for p in (0.025, 0.975)
    )
    return float(high - low)


def test_widths_are_those_of_the_values_in_each_group(frame: pd.DataFrame) -> None:
    result = cm.reference_ranges(frame, **OPTIONS).result
    rows = {(r.sex, r.age_low): r for r in result.reported_widths}
    used = frame[frame["healthy"] & frame["reported_lv_edv_ml"].notna()]
    used = used[used["age_years"] >= 18].sort_values(["trial", "participant_id"])
    bands = pd.cut(used["age_years"], [18, 30, 40, 50, 60, 70, 999], right=False, labels=False)
    groups = used.groupby([used["sex"], bands])
    kept = groups["lv_edv_ml"].transform("size") >= 40
    used = used[kept]
    parts = [part["reported_lv_edv_ml"] for _, part in used.groupby("trial")]
    line = combat(
        np.array([len(p) for p in parts], dtype=float),
        np.array([[p.mean()] for p in parts]),
        np.array([[((p - p.mean()) ** 2).sum()] for p in parts]),
    )
    place = np.searchsorted(sorted(set(used["trial"])), used["trial"])
    used = used.assign(
        combat=line.intercept[place, 0] + line.slope[place, 0] * used["reported_lv_edv_ml"]
    )
    lows = np.array([18, 30, 40, 50, 60, 70])
    columns = {"harmonised": "lv_edv_ml", "reported": "reported_lv_edv_ml", "combat": "combat"}
    seen: dict[str, list[tuple[int, float]]] = {}
    for (sex, band), part in used.groupby([used["sex"], bands[kept]]):
        row = rows[sex, lows[band]]
        for name, column in columns.items():
            assert getattr(row, name) == pytest.approx(width(part[column]), rel=1e-9)
        assert row.difference == pytest.approx(row.reported - row.harmonised)
        assert row.difference_low < row.difference < row.difference_high
        seen.setdefault(sex, []).append((len(part), row.combat))
    for sex, found in seen.items():
        n, widths = np.array(found).T
        assert rows[sex, None].combat == pytest.approx(float(n @ widths / n.sum()))
        # Bias and scale of trials widen the reported interval; ComBat takes most of that out.
        assert rows[sex, None].difference_low > 0
        assert rows[sex, None].combat < rows[sex, None].reported
    assert {r.combat_measures for r in rows.values()} == {1}


def test_one_trial_has_no_combat_and_a_table_without_reported_values_is_refused(
    frame: pd.DataFrame,
) -> None:
    alone = cm.reference_ranges(frame[frame["trial"] == "ALPHA"], **OPTIONS).result
    assert {row.combat for row in alone.reported_widths} == {None}
    with pytest.raises(TableError, match="--compare-reported needs reported values"):
        cm.reference_ranges(people_frame(300), **OPTIONS)


def test_the_page_shows_what_the_csv_has(frame: pd.DataFrame, tmp_path: Any) -> None:
    frame.to_csv(tmp_path / "mine.csv", index=False)
    arguments = ["reference-ranges", str(tmp_path / "mine.csv"), "--out", str(tmp_path / "out")]
    arguments += ["--measure", "lv_edv_ml", "--method", "strata", "--bootstrap", "200"]
    result = CliRunner().invoke(app, [*arguments, "--compare-reported"])
    assert result.exit_code == 0, result.output
    rows = pd.read_csv(tmp_path / "out" / "compare_reported.csv")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for row in rows[rows["age_low"].isna()].itertuples():
        for name in ("reported", "combat", "harmonised", "difference", "combat_difference"):
            cells = (getattr(row, f"{name}{end}") for end in ("", "_low", "_high"))
            assert shown_estimate(*cells, 0) in page
