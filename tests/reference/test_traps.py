"""Bad tables and traps, as a user meets them: what the command answers."""

from __future__ import annotations

import csv

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cardiometa.cli.main import app
from tests.kit.consortium import consortium

BASE = consortium(
    {
        ("ALPHA", "white"): 300,
        ("BETA", "white"): 200,
        ("BETA", "black"): 60,
        ("ALPHA", "chinese"): 50,
    },
    seed=3,
)


def _run(frame, folder, *options):
    path = folder / "people.csv"
    frame.to_csv(path, index=False)
    out = folder / "ranges"
    arguments = ["reference-ranges", str(path), "--out", str(out), "--bootstrap", "200", *options]
    arguments.append("--verbose")  # notes too
    done = CliRunner().invoke(app, arguments)
    # A wide terminal or a narrow one: the words are the same.
    return done.exit_code, " ".join(done.output.split()), out


def _rows(out, name):
    with (out / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _with(column, rows, values):
    frame = BASE.copy()
    frame[column] = frame[column].astype(object)
    frame.loc[rows, column] = values
    return frame


LITRES = BASE.assign(
    lv_edv_ml=np.where(BASE["trial"] == "BETA", BASE["lv_edv_ml"] / 1000, BASE["lv_edv_ml"])
)
SOME_LITRES = _with("lv_edv_ml", slice(0, 20), BASE["lv_edv_ml"][:21] / 1000)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (_with("lv_edv_ml", [5, 9], ["inf", "-inf"]), ("rows 7, 11", "not a number", "'inf'")),
        (_with("lv_edv_ml", [9], -20.0), ("row 11", "impossible: -20", "above 0", "blank")),
        (LITRES, ("in BETA", "85 to 400 mL", "litres")),
        (SOME_LITRES, ("rows 2-22", "among values in mL", "litres")),
        (_with("ethnicity", slice(0, 9), "Caucasian"), ("'Caucasian' (10)", "never guessed")),
        (_with("ethnicity", [3], "../white"), ("'../white' (1)",)),
        (pd.concat([BASE, BASE.head(2)]), ("rows 2, 612", "rows 3, 613", "2 rows of one visit")),
        (
            pd.concat([BASE, BASE.head(1)]).drop(columns="visit"),
            ("ALPHA/P000000", "2 rows", "--use-visit"),
        ),
    ],
    ids=["infinite", "negative", "litres", "some-litres", "unmapped", "path", "twice", "no-visit"],
)
def test_an_unusable_table_is_refused_with_what_where_and_nothing_written(tmp_path, frame, words):
    code, output, out = _run(frame, tmp_path)
    assert code == 3, output
    for word in words:
        assert word in output
    assert not out.exists()


def test_only_the_first_scan_of_a_person_counts(tmp_path):
    later = BASE.head(40).assign(visit="followup_12m", lv_edv_ml=500.0)
    code, _, out = _run(pd.concat([BASE, later]), tmp_path, "--method", "strata")
    assert code == 0
    gone = _rows(out, "exclusions.csv")
    assert {(row["code"], row["visit"]) for row in gone} == {("other-visit", "followup_12m")}
    assert len(gone) == 40
    assert max(float(r["limit"]) for r in _rows(out, "reference_ranges.csv") if r["limit"]) < 400


def test_all_of_one_sex(tmp_path):
    code, output, out = _run(BASE.assign(sex="female"), tmp_path)
    assert code == 0
    assert "too few men for a curve" in output
    rows = _rows(out, "reference_ranges.csv")
    assert not any(r["limit"] for r in rows if r["sex"] == "male")
    assert any(r["limit"] for r in rows if r["sex"] == "female")


def test_one_trial_is_said_and_has_no_trial_effect(tmp_path):
    code, _, out = _run(BASE.assign(trial="ALPHA"), tmp_path, "--method", "lms")
    assert code == 0
    rows = [r for r in _rows(out, "reference_ranges.csv") if r["limit"]]
    assert {r["kind"] for r in rows} == {"population"}
    assert all("single-trial" in (r["status"] + r["note"]) for r in rows)


def test_nobody_has_an_age_or_an_ethnicity(tmp_path):
    frame = BASE.assign(age_years=np.nan, ethnicity=None)
    code, output, out = _run(frame, tmp_path)
    assert code == 0
    assert "no age: the limits are not stratified by age" in output
    assert "no ethnicity" in output
    rows = _rows(out, "reference_ranges.csv")
    assert {(r["sex"], r["age_low"]) for r in rows} == {("male", ""), ("female", "")}


@pytest.mark.parametrize("frame", [BASE.head(3), BASE.assign(lv_edv_ml=150.0)])
def test_three_people_and_a_constant_give_no_limit(tmp_path, frame):
    code, output, out = _run(frame, tmp_path)
    assert code == 0
    assert "without a limit" in output
    assert not any(r["limit"] for r in _rows(out, "reference_ranges.csv"))


@pytest.mark.parametrize("method", ["strata", "lms", "gaussian", "quantile"])
def test_ties_give_their_own_value_as_a_limit(tmp_path, method):
    rng = np.random.default_rng(1)
    ties = rng.choice([120.0, 150.0, 180.0], 860, p=[0.2, 0.6, 0.2])
    frame = consortium({("ALPHA", "white"): 860}, seed=2).assign(lv_edv_ml=ties)
    code, output, out = _run(frame, tmp_path, "--method", method, "--by", "sex")
    assert code == 0, output
    assert "Warning" not in output
    for row in _rows(out, "reference_ranges.csv"):
        if row["centile"] != "50.0" and method in ("strata", "quantile"):
            expected = 120 if row["centile"] == "2.5" else 180
            assert float(row["limit"]) == pytest.approx(expected, abs=1e-6)


def test_names_that_are_no_safe_path_stay_names(tmp_path):
    name = "../../my measure/<x>"
    frame = BASE.rename(columns={"lv_edv_ml": name}).replace(
        {"ALPHA": "../../etc", "BETA": "a/b:*"}
    )
    code, output, out = _run(frame, tmp_path, "--measure", name, "--method", "strata")
    assert code == 0, output
    assert {p.name for p in tmp_path.iterdir()} == {"people.csv", "ranges"}
    assert [p.name for p in (out / "figures").iterdir()] == ["limits_______my_measure__x_.svg"]
    assert "<x>" not in (out / "report.html").read_text(encoding="utf-8")
    assert {r["trial"] for r in _rows(out, "by_trial.csv")} >= {"../../etc", "a/b:*"}


@pytest.mark.parametrize(
    ("method", "code", "words"),
    [
        ("lms", 5, "2 trials: differences between trials"),
        ("quantile", 2, "cannot be combined with --trial-effect random"),
    ],
)
def test_a_random_effect_of_two_trials_is_refused(tmp_path, method, code, words):
    found, output, out = _run(BASE, tmp_path, "--method", method, "--trial-effect", "random")
    assert found == code
    assert words in output
    assert not out.exists()


@pytest.fixture(scope="module")
def odd_trial(tmp_path_factory):
    """Five trials of two ethnicities that do not differ; a sixth, all Chinese, reads 8 % low."""
    sizes = {(f"T{k}", "white"): 400 for k in range(5)}
    sizes |= {(f"T{k}", "black"): 60 for k in range(5)} | {("SING", "chinese"): 400}
    frame = consortium(sizes, trial_effects={"SING": -0.08}, seed=5)
    code, output, out = _run(
        frame, tmp_path_factory.mktemp("odd"), "--age-bands", "18,50", "--at-ages", "30,50,70"
    )
    assert code == 0, output
    return out


def test_an_odd_trial_is_no_ethnic_difference_anywhere(odd_trial):
    of_group = [r for r in _rows(odd_trial, "contrasts.csv") if r["group"] == "chinese"]
    assert len(of_group) == 6
    assert all("no trial has both groups" in r["note"] for r in of_group)
    assert not any(r["difference"] for r in of_group if r["source"] == "within-trial")
    parted = [r for r in _rows(odd_trial, "partition.csv") if "chinese" in r["group_a"]]
    assert any(r["harris_boyd"] == "partition" for r in parted)
    assert all("no trial has both groups" in r["note"] for r in parted)
    for row in _rows(odd_trial, "reference_ranges.csv"):
        if row["ethnicity"] == "chinese" and row["limit"]:
            assert "single-trial" in row["status"] + row["note"]
            if row["method"] == "lms":
                assert "level-of-all" in row["note"]


def test_the_page_claims_no_difference_for_an_odd_trial(odd_trial):
    page = (odd_trial / "report.html").read_text(encoding="utf-8")
    rows = [r for r in page.split("<tr") if "Chinese − White" in r]
    assert len(rows) == 2
    assert all(r.count("–</td>") == 3 for r in rows), rows
    assert "no trial has these participants and others" in page


def test_groups_that_share_trials_are_compared(odd_trial):
    black = [r for r in _rows(odd_trial, "contrasts.csv") if r["group"] == "black"]
    assert len([r for r in black if r["difference"]]) == 6
    assert not any(r["note"] for r in black)
