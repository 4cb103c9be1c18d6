"""Values far from all others are kept and said, in limits, contrasts and scores."""

from __future__ import annotations

import csv
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.errors import TableError
from cardiometa.records import severity
from cardiometa.reference.meta import summary_ranges, summary_rows
from cardiometa.reference.options import ReferenceOptions
from cardiometa.reference.ranges import reference_ranges
from cardiometa.reference.results import EXTREME_KEPT
from cardiometa.statistics.basis_functions import choose_powers
from tests.frozen.runs import draw_nothing
from tests.kit.reference_tables import people_frame, table

MEASURE = "lv_ef_percent"


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Drawing takes half the time of a run, and no test here looks at a figure."""
    monkeypatch.setattr(Figure, "savefig", draw_nothing)


def _ranges(frame, **options):
    chosen = {"bootstrap": 200, "measures": (MEASURE,), "by": ("sex",), "method": "strata"}
    return reference_ranges(table(frame), ReferenceOptions(**{**chosen, **options}))


@pytest.fixture(scope="module")
def frame():
    return people_frame(600)


@pytest.mark.parametrize("value", [9999.0, 250.0, -300.0])
def test_limits_and_contrasts_say_that_a_far_value_is_kept(frame, value):
    first = frame.index[(frame["sex"] == "male") & frame["healthy"]][0]
    changed = frame.copy()
    changed.loc[first, MEASURE] = value
    found = _ranges(changed)
    men = [EXTREME_KEPT in row.notes for row in found.rows if row.sex == "male"]
    women = [EXTREME_KEPT in row.notes for row in found.rows if row.sex == "female"]
    assert all(men)
    assert not any(women)
    of_all = [row for row in found.contrasts if row.source == "ignoring-trials"]
    assert all(EXTREME_KEPT in row.notes for row in of_all)
    said = [text for text in found.warnings if "far from all others" in text]
    assert list(map(severity, said)) == ["serious"]
    without = _ranges(changed, outliers="tukey")
    assert not any(EXTREME_KEPT in row.notes for row in without.rows)


def test_a_value_that_may_be_a_heart_is_a_note(frame):
    first = frame.index[(frame["sex"] == "male") & frame["healthy"]][0]
    changed = frame.copy()
    changed.loc[first, MEASURE] = 98.0
    said = [text for text in _ranges(changed).warnings if "far from all others" in text]
    assert list(map(severity, said)) == ["note"]


def test_ordinary_outliers_are_not_worth_a_note(frame):
    found = _ranges(frame)
    assert found.accounts[0].outliers > 0
    assert not any(EXTREME_KEPT in row.notes for row in (*found.rows, *found.contrasts))


def _score(tmp_path, frame, values, *options):
    frame.to_csv(tmp_path / "people.csv", index=False)
    new = frame.head(len(values)).assign(**{MEASURE: values})
    new.to_csv(tmp_path / "new.csv", index=False)
    ranges, scores = tmp_path / "ranges", tmp_path / "scores.csv"
    for arguments in (
        ["reference-ranges", str(tmp_path / "people.csv"), "--out", str(ranges), *options],
        ["score", str(ranges / "reference_ranges.json"), str(tmp_path / "new.csv")],
    ):
        last = ["--out", str(scores)] if arguments[0] == "score" else []
        done = CliRunner().invoke(app, [*arguments, *last])
        assert done.exit_code == 0, done.output
    with scores.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream)), " ".join(done.output.split())


@pytest.mark.parametrize("method", ["strata", "lms", "gaussian"])
def test_a_score_beyond_5_asks_for_a_look(tmp_path, frame, method):
    values = [62.0, 3.0, 20.0]
    options = ("--method", method, "--measure", MEASURE, "--by", "sex", "--limits", "parametric")
    rows, output = _score(tmp_path, frame, values, *options)
    beyond = [abs(float(row[f"{MEASURE}_z"])) > 5 for row in rows]
    assert beyond == [False, True, True]
    assert ["|z| > 5" in row[f"{MEASURE}_score_note"] for row in rows] == beyond
    assert "2 rows have |z| > 5" in output


def test_score_makes_the_indices_that_the_table_does_not_have(tmp_path, frame):
    rng = np.random.default_rng(1)
    sized = frame.drop(columns=["lv_edvi_ml_m2", "bsa_formula"])
    sized = sized.assign(height_cm=rng.normal(172, 8, 600), weight_kg=rng.normal(75, 9, 600))
    rows, _ = _score(tmp_path, sized, [60.0] * 40, "--method", "strata")
    z = [float(row["lv_edvi_ml_m2_z"]) for row in rows if row["lv_edvi_ml_m2_z"]]
    assert len(z) > 20
    assert abs(np.mean(z)) < 0.6


# ------------------------------------------------------------------ summaries around 0


def _summaries(means, sds, measure="ef_change"):
    rows = {"trial": [f"S{i}" for i in range(len(means))], "measure": measure, "n": 60}
    return pd.DataFrame({**rows, "mean": means, "sd": sds})


@pytest.mark.parametrize(
    ("means", "sds"),
    [
        ([-0.3, -0.6, 0.5, 0.2, 0.01, -1.1], [1.6, 1.5, 1.2, 1.5, 1.4, 1.7]),
        ([0.001, 0.5, -0.4, 0.2, 0.3], [1.0] * 5),
        ([1e-9, -1e-9, 2e-9, 0.0, 3e-9], [2.0, 2.1, 1.9, 2.0, 2.2]),
    ],
)
def test_means_near_zero_are_scaled_by_the_sd(means, sds):
    rows = summary_rows(_summaries(means, sds), "s.csv")
    options = ReferenceOptions(method="meta", healthy_only=False, bootstrap=200)
    found = summary_ranges(rows, options, name="s", sha256="0")
    assert all(row.limit is not None for row in found.rows)


@pytest.mark.parametrize(
    ("means", "sds", "rows"),
    [
        ([150.0, 145.0, 0.152, 155.0], [30.0, 28.0, 0.03, 31.0], 1),  # litres
        ([62.0, 0.6, 60.0, 61.0], [6.0, 0.06, 5.5, 6.2], 1),  # fractions
        ([80.0, 76.0, 79.0, 0.081], [40.0, 38.0, 41.0, 0.04], 1),  # litres, an SD of half the mean
        ([1.2, 1.1, 1.3, 40.0], [0.5, 0.5, 0.4, 0.6], 3),  # no hearts but one
    ],
)
def test_another_unit_is_still_refused(means, sds, rows):
    with pytest.raises(TableError) as caught:
        summary_rows(_summaries(means, sds, "lv_edv_ml"), "s.csv")
    assert len(caught.value.problems) == rows
    assert "another unit" in str(caught.value.problems[0])


# ------------------------------------------------------------------ the SD's power


def _spread(slope, power, n, seed):
    """Scaled absolute residuals whose SD is constant, a line or a power of age/50."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(20, 80, n) / 50
    sd = 12 + slope * (x**power if power else np.log(x))
    return x, math.sqrt(math.pi / 2) * np.abs(rng.normal(0, sd))


@pytest.mark.parametrize("seed", range(8))
def test_a_power_of_the_sd_needs_a_line_that_is_needed_and_does_not_do(seed):
    for slope, power in ((0.0, 1), (8.0, 1), (10.0, -2), (10.0, 0)):
        x, y = _spread(slope, power, 400, seed)
        found = choose_powers(x, y, np.ones((len(x), 1)), degree=1)
        d, best = found.deviances, min(found.deviances, key=found.deviances.get)
        line = d[()] - d[1.0,] > 3.841458820694124  # chi² of one degree at 5 %
        bent = d[1.0,] - d[best] > 3.841458820694124
        assert found.powers == (() if not line else best if bent else (1.0,))


def test_a_line_of_the_sd_is_rarely_taken_for_a_power():
    chosen = []
    for seed in range(200):
        x, y = _spread(8.0, 1, 600, seed)
        chosen.append(choose_powers(x, y, np.ones((len(x), 1)), degree=1).powers)
    assert sum(powers not in ((), (1.0,)) for powers in chosen) <= 20
    x, y = _spread(30.0, -2, 3000, 1)
    assert choose_powers(x, y, np.ones((len(x), 1)), degree=1).powers not in ((), (1.0,))
