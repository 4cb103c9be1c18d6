"""Our limits beside published ones: same convention only, margins for both, reasons otherwise."""

from __future__ import annotations

import csv
import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.errors import TableError
from cardiometa.files import canonical_json
from cardiometa.reference.compare_published import compare_limits, hhc2024, published_limits
from cardiometa.reference.model import reference_model
from cardiometa.reference.options import ReferenceOptions
from cardiometa.reference.ranges import reference_ranges
from tests.kit.reference_tables import people_frame, table

MEASURE = "lv_edvi_ml_m2"


@pytest.fixture(scope="module")
def document():
    options = ReferenceOptions(
        measures=(MEASURE,), by=("sex", "ethnicity", "age"), age_bands=(18.0, 40.0, 60.0)
    )
    found = reference_ranges(table(people_frame(2500)), options)
    return json.loads(canonical_json(found.model))


@pytest.fixture(scope="module")
def model(document):
    return reference_model(document, "ref.json")


def _frame(**changes):
    row = {
        "measure": MEASURE,
        "unit": "mL/m2",
        "sex": "male",
        "ethnicity": "all",
        "age_low": "40",
        "age_high": "60",
        "lower": "60",
        "upper": "115",
        "papillary": "blood-pool",
        "bsa_formula": "mosteller",
        "source": "a paper",
        **changes,
    }
    return pd.DataFrame([row], index=[2])


def _one(model, **changes):
    return compare_limits(model, published_limits(_frame(**changes), "p.csv"))[0]


def _ours(model):
    """Our own stratum's limits as text."""
    found = _one(model)
    return found.our_lower, found.our_upper


def test_our_own_limits_are_within_the_margin(model):
    low, high = _ours(model)
    found = _one(model, lower=f"{low:.1f}", upper=f"{high:.1f}", n="500")
    assert (found.method, found.verdict) == ("strata", "within-margin")
    assert abs(found.difference_lower) <= 0.05 + 1e-9
    assert found.below_percent == pytest.approx(2.5, abs=0.3)
    # A rounding beyond the outermost centile known of the group has no share.
    assert found.above_percent is None or found.above_percent == pytest.approx(2.5, abs=0.3)


def test_a_limit_further_off_than_the_margin_differs(model):
    low, high = _ours(model)
    found = _one(model, lower=f"{low:.1f}", upper=f"{high:.1f}", n="500")
    for past, verdict in ((0.9, "within-margin"), (1.1, "differs")):
        moved = low - past * found.margin_lower
        other = _one(model, lower=f"{moved:.3f}", upper=f"{high:.3f}", n="500")
        assert other.verdict == verdict


def test_their_people_widen_the_margin(model):
    few, many, unknown = (_one(model, n=n) for n in ("40", "4000", ""))
    assert few.margin_lower > many.margin_lower > unknown.margin_lower
    assert "their sampling error is unknown" in unknown.note
    sd, z, z_ci = (115 - 60) / 3.919928, 1.959964, 1.644854
    theirs = z_ci * sd * np.sqrt(1 / 40 + z**2 / 80)
    plain = unknown.margin_lower - 0.5
    assert few.margin_lower == pytest.approx(np.hypot(plain, theirs) + 0.5, rel=1e-5)


def test_a_wide_margin_is_inconclusive(model):
    low, high = _ours(model)
    found = _one(model, lower=f"{low:.1f}", upper=f"{high:.1f}", n="12")
    assert found.verdict == "inconclusive"


def test_another_band_is_compared_with_the_curve_at_its_middle(model):
    found = _one(model, age_low="50", age_high="60")
    assert found.method == "lms"
    assert "ours at 55 years" in found.note
    assert found.margin_lower > 0.5
    assert "ours at 65 years" in _one(model, age_low="60", age_high="70").note
    assert _one(model, age_low="60", age_high="").method == "strata"


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"papillary": "myocardium"}, "papillary: theirs myocardium, ours blood-pool"),
        ({"papillary": ""}, "papillary is not stated by them"),
        ({"bsa_formula": "dubois"}, "bsa_formula: theirs dubois, ours mosteller"),
        ({"bsa_formula": ""}, "bsa_formula is not stated by them"),
        ({"ethnicity": "asian-unspecified"}, "no limits for this group"),
        ({"age_low": "0", "age_high": "10"}, "age outside the reference"),
        ({"age_low": "", "age_high": ""}, "the published limits have no age, ours do"),
    ],
)
def test_what_cannot_be_compared_says_why(model, changes, note):
    found = _one(model, **changes)
    assert found.verdict == "not-compared"
    assert found.note.startswith(note)
    assert found.our_lower is None


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"lower": "x"}, "lower is 'x'"),
        ({"lower": "120"}, "lower 120 is not below 115"),
        ({"sex": "X"}, "sex is 'X'"),
        ({"ethnicity": "martian"}, "ethnicity is 'martian'"),
        ({"papillary": "both"}, "papillary is 'both'"),
        ({"unit": "L/m2"}, "the unit of"),
        ({"age_low": "70"}, "age_low 70 is not below 60"),
    ],
)
def test_a_damaged_file_is_refused_with_its_row(changes, what):
    with pytest.raises(TableError) as error:
        published_limits(_frame(**changes), "p.csv")
    assert what in str(error.value.problems[0])
    assert "row 2" in str(error.value.problems[0])


def _transcription():
    columns = ("ethnicity", "sex", "segmentation", "index", "age_band", "metric", "lower", "upper")
    rows = [
        ("White", "F", "smooth", "bsa", "18-29", "LVEDVi", "60", "102"),
        ("South Asian", "M", "smooth", "bsa", "70+", "LVEDVi", "45", "95"),
        ("Mixed/Other", "M", "papillary", "bsa", "50-59", "LVMi", "45", "95"),
        ("White", "M", "smooth", "none", "50-59", "LVEDV", "110", "220"),
    ]
    return pd.DataFrame(rows, columns=columns, index=range(2, 6))


def test_the_transcription_of_hhc():
    rows = hhc2024(_transcription(), "hhc2024.csv")
    first, second, third, last = rows
    assert (first.measure, first.unit, first.sex, first.ethnicity) == (
        MEASURE, "mL/m2", "female", "white",
    )  # fmt: skip
    assert (first.age_low, first.age_high, second.age_low, second.age_high) == (18, 30, 70, None)
    assert (first.papillary, third.papillary) == ("blood-pool", "myocardium")
    assert (first.bsa_formula, last.bsa_formula) == ("mosteller", "")
    assert (second.ethnicity, third.ethnicity) == ("south-asian", "mixed-other")
    assert first.rounding == 0.5
    assert first.n == 3712
    with pytest.raises(TableError):
        hhc2024(_transcription().assign(metric="GLS"), "hhc2024.csv")
    with pytest.raises(TableError):
        hhc2024(_transcription().drop(columns="metric"), "hhc2024.csv")


# ------------------------------------------------------------------ the command


def _run(*arguments):
    return CliRunner().invoke(app, ["verify", *map(str, arguments)])


def test_the_command(document, tmp_path):
    reference, out = tmp_path / "ref.json", tmp_path / "out.csv"
    reference.write_text(json.dumps(document), encoding="utf-8")
    _transcription().to_csv(tmp_path / "hhc2024.csv", index=False)
    found = _run(reference, "--preset", "hhc2024", tmp_path, "--out", out)
    assert found.exit_code == 0, found.output
    assert "Healthy Hearts Consortium 2024" in found.output
    with out.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2  # LVMi and LVEDV are no measures of this reference
    assert _run(reference, "--preset", "hhc2024", tmp_path, "--out", out).exit_code == 2
    _frame().to_csv(tmp_path / "mine.csv", index=False)
    found = _run(reference, "--against", tmp_path / "mine.csv", "--json")
    assert found.exit_code == 0, found.output
    assert sum(json.loads(found.stdout)["counts"].values()) == 1


def test_refusals_of_the_command(document, tmp_path):
    reference = tmp_path / "ref.json"
    reference.write_text(json.dumps(document), encoding="utf-8")
    mine = tmp_path / "mine.csv"
    _frame(papillary="myocardium").to_csv(mine, index=False)
    found = _run(reference, "--against", mine)
    assert found.exit_code == 3
    assert "theirs myocardium, ours blood-pool" in found.output
    _frame(papillary="").to_csv(mine, index=False)
    assert "--same-conventions" in _run(reference, "--against", mine).output
    assert _run(reference, "--against", mine, "--same-conventions").exit_code == 0
    assert _run(reference).exit_code == 2
    assert _run(reference, "--preset", "hhc2024").exit_code == 2
    assert _run(reference, "--preset", "other", tmp_path).exit_code == 2
    assert _run(reference, "--preset", "hhc2024", tmp_path).exit_code == 3
    reference.write_text(json.dumps({**document, "level": 90.0}), encoding="utf-8")
    assert _run(reference, "--against", mine, "--same-conventions").exit_code == 3
