"""``reference-ranges`` as a user runs it: a table in, files and an exit code out."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys

import pandas as pd
import pytest
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.files import record_columns
from cardiometa.reference.results import ReferenceLimit
from tests.kit.reference_tables import people_frame

FILES = {
    "reference_ranges.csv",
    "reference_ranges.json",
    "reference_ranges_without_review.csv",
    "by_trial.csv",
    "partition.csv",
    "contrasts.csv",
    "table.csv",
    "table.html",
    "calibration.csv",
    "exclusions.csv",
    "methods.txt",
    "ro-crate-metadata.json",
    "references.bib",
    "report.html",
    "table1.csv",
    "cardiometa.json",
}
COLUMNS = (
    "measure, unit, method, limits, kind, sex, ethnicity, age_low, age_high, age, n, n_trials, "
    "centile, limit, ci_low, ci_high, ci_level, status, note"
)


@pytest.fixture(scope="module")
def csv_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "mine.csv"
    people_frame(700).to_csv(path, index=False)
    return path


def _run(*arguments):
    # Fewer samples than the default: no test here is about an interval.
    arguments = [*map(str, arguments), "--bootstrap", "200"]
    return CliRunner().invoke(app, ["reference-ranges", *arguments])


def _read(path):
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _hashes(out):
    return {
        p.relative_to(out).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in out.rglob("*")
        if p.is_file() and p.name != "cardiometa.json"
    }


def test_a_plain_table(csv_path, tmp_path):
    out = tmp_path / "out"
    options = ("--measure", "lv_edv_ml")
    found = _run(csv_path, "--out", out, *options)
    assert found.exit_code == 0, found.output
    names = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert names == FILES | {
        "distributions.csv",
        "figures/limits_lv_edv_ml.svg",
    }
    rows = _read(out / "reference_ranges.csv")
    assert ", ".join(rows[0]) == COLUMNS
    assert list(rows[0]) == record_columns(ReferenceLimit)
    assert rows[0]["unit"] == "mL"
    assert {row["method"] for row in rows} == {"strata", "lms"}
    assert (rows[0]["age"], float(rows[0]["age_low"])) == ("", 18)
    page = (out / "report.html").read_text(encoding="utf-8")
    for text in (
        "Research use only",
        "provisional",
        "Reference ranges: mine",
        "blood-pool",
        "LV EDV, mL",
    ):
        assert text in page
    assert "<script" not in page
    record = json.loads((out / "cardiometa.json").read_text(encoding="utf-8"))
    assert record["inputs"]["table"] == hashlib.sha256(csv_path.read_bytes()).hexdigest()
    assert record["model"] == {"id": "m1", "sha256": "ab" * 32}
    before = _hashes(out)
    assert _run(csv_path, "--out", out, *options).exit_code == 0
    assert _hashes(out) == before


def test_other_options_need_overwrite_and_leave_nothing_behind(csv_path, tmp_path):
    out = tmp_path / "out"
    first = ("--measure", "lv_edv_ml", "--by", "sex", "--internal", "--method", "strata")
    assert _run(csv_path, "--out", out, *first).exit_code == 0
    assert (out / "outliers.csv").exists()
    second = ("--measure", "lv_ef_percent", "--by", "sex", "--method", "strata")
    refused = _run(csv_path, "--out", out, *second)
    assert refused.exit_code == 2
    assert "--overwrite" in refused.output
    assert (out / "figures" / "limits_lv_edv_ml.svg").exists()
    assert _run(csv_path, "--out", out, *second, "--overwrite").exit_code == 0
    assert not (out / "outliers.csv").exists()
    assert [p.name for p in (out / "figures").iterdir()] == ["limits_lv_ef_percent.svg"]


def test_json_is_all_that_stdout_holds(csv_path, tmp_path):
    found = _run(
        csv_path, "--out", tmp_path / "o", "--measure", "lv_edv_ml", "--by", "sex", "--json"
    )
    document = json.loads(found.stdout)
    assert {row["sex"] for row in document["limits"]} == {"male", "female"}
    assert document["accounting"][0]["rows_in"] == 700


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--method", "gamlss"), 2, "Use one of strata"),
        (("--limits", "gamlss"), 2, "Use one of nonparametric"),
        (("--at-ages", "20,old"), 2, "--at-ages"),
        (("--method", "quantile", "--trial-effect", "random"), 2, "fixed"),
        (("--method", "lms", "--trial-effect", "random"), 5, "4 trials"),
        (("--method", "lms", "--at-ages", "3"), 3, "observed"),
        (("--by", "sex,shoes"), 2, "--by shoes"),
        (("--age-bands", "18,x"), 2, "--age-bands"),
        (("--age-bands", "30,18"), 2, "must increase"),
        (("--level", "5"), 2, "--level 5"),
        (("--sided", "left"), 2, "two, lower, upper"),
        (("--measure", "nope"), 3, "nope"),
        (("--use-visit", "never"), 3, "Visits here: baseline"),
        (("--trial", "nowhere"), 3, "nowhere"),
    ],
)
def test_wrong_use_and_unusable_input(csv_path, tmp_path, arguments, code, words):
    out = tmp_path / "out"
    found = _run(csv_path, "--out", out, *arguments)
    assert found.exit_code == code, found.output
    assert words in found.output
    assert "Traceback" not in found.output
    assert not out.exists()


def test_no_healthy_value(tmp_path):
    path = tmp_path / "t.csv"
    people_frame(300).drop(columns="healthy").to_csv(path, index=False)
    refused = _run(path, "--out", tmp_path / "a")
    assert refused.exit_code == 3
    assert "--all" in refused.output
    found = _run(path, "--out", tmp_path / "b", "--all", "--by", "sex", "--measure", "lv_edv_ml")
    assert found.exit_code == 0
    page = (tmp_path / "b" / "report.html").read_text(encoding="utf-8")
    assert "<h1>Population distribution, not a reference interval: t</h1>" in page


def test_mixed_conventions(tmp_path):
    frame = people_frame(300)
    frame.loc[:50, "papillary"] = "myocardium"
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    found = _run(path, "--out", tmp_path / "o")
    assert found.exit_code == 3
    assert "papillary = myocardium" in found.output
    assert not (tmp_path / "o").exists()


def test_own_names_codes_and_a_measure_of_the_users_own(tmp_path):
    frame = people_frame(400)[["participant_id", "lv_edv_ml", "age_years", "sex", "healthy"]]
    frame = frame.rename(columns={"participant_id": "SUBJ", "age_years": "AGE", "sex": "SEX"})
    frame["SEX"] = frame["SEX"].map({"male": "M", "female": "F"})
    frame["strain"] = frame["lv_edv_ml"] / 10 - 35
    path = tmp_path / "own.tsv"
    frame.drop(columns="lv_edv_ml").to_csv(path, sep="\t", index=False)
    columns = ("--participant", "SUBJ", "--age", "AGE", "--sex", "SEX", "--measure", "strain")
    found = _run(path, "--out", tmp_path / "o", *columns, "--limits", "parametric")
    assert found.exit_code == 0, found.output
    rows = _read(tmp_path / "o" / "reference_ranges.csv")
    assert {row["measure"] for row in rows} == {"strain"}
    assert {row["ethnicity"] for row in rows} == {"all"}
    assert {row["status"] for row in rows} <= {"single-trial", "small-n", "suppressed"}


def test_plan_and_its_departures(csv_path, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text('measure = ["lv_edv_ml"]\nby = ["sex"]\nci-level = 95\n', encoding="utf-8")
    out = tmp_path / "o"
    found = _run(csv_path, "--out", out, "--config", plan, "--ci-level", "80")
    assert found.exit_code == 0, found.output
    assert "departure from the plan: ci_level: planned 95, used 80.0" in found.output
    record = json.loads((out / "cardiometa.json").read_text(encoding="utf-8"))
    assert record["options"]["ci_level"] == 80
    assert record["options"]["plan_sha256"] == hashlib.sha256(plan.read_bytes()).hexdigest()
    assert {row["ci_level"] for row in _read(out / "reference_ranges.csv")} == {"80.0"}


def test_needs_no_images(csv_path, tmp_path):
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'pydicom', 'nibabel', 'gdcm'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from cardiometa.cli.main import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", code, "reference-ranges", str(csv_path)]
    options = ["--out", str(tmp_path / "o"), "--measure", "lv_edv_ml", "--by", "sex", "--quiet"]
    options += ["--bootstrap", "200"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("columns", ["empty", "absent"])
def test_everybody_without_sex_and_age(tmp_path, columns):
    """A cohort of images alone, such as ACDC: the limits are of all, and the output says why."""
    rows = pd.DataFrame(
        {
            "trial": "ACDC",
            "participant_id": [f"{n:03d}" for n in range(1, 131)],
            "visit": "baseline",
            "status": "ok",
            "lv_edv_ml": [100 + n * 0.7 for n in range(130)],
        }
    )
    if columns == "empty":
        rows = rows.assign(age_years="", sex="", ethnicity="", healthy="")
    path = tmp_path / "measurements.csv"
    rows.to_csv(path, index=False)
    out = tmp_path / "out"
    done = _run(path, "--out", out, "--all", "--verbose")
    assert done.exit_code == 0, done.output
    limits = pd.read_csv(out / "reference_ranges.csv", dtype=str, keep_default_na=False)
    assert set(limits["sex"]) == {"all"}
    assert set(limits["age_low"]) == {""}
    assert set(limits["n"]) == {"130"}
    page = (out / "report.html").read_text()
    for factor in ("sex", "age"):
        said = f"The table has no {factor}: the limits are not stratified by {factor}."
        assert said in done.output
        assert said in page
    assert "opulation distribution, not a reference interval" in page
