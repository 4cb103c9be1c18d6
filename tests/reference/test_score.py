"""Scores of new people: one path from the fitted limits to z, and a reason for every blank."""

from __future__ import annotations

import csv
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.errors import InputError
from cardiometa.files import canonical_json
from cardiometa.reference.model import NewParticipants, reference_model, score_participants
from cardiometa.reference.options import LIMITS, ReferenceOptions, ScoreOptions
from cardiometa.reference.ranges import reference_ranges
from tests.kit.reference_tables import people_frame, table

MEASURE = "lv_edv_ml"


def _document(**options):
    chosen = {"measures": (MEASURE,), "bootstrap": 200, **options}
    found = reference_ranges(table(people_frame(900)), ReferenceOptions(**chosen))
    return json.loads(canonical_json(found.model)), found


@pytest.fixture(scope="module")
def curves():
    return _document(by=("sex", "ethnicity", "age"))


@pytest.fixture(scope="module")
def model(curves):
    return reference_model(curves[0], "ref.json")


def _people(n, **columns):
    text = {
        name: np.array(columns.get(name, [value] * n), dtype=object)
        for name, value in (("sex", "male"), ("ethnicity", "white"))
    }
    conventions = {
        "papillary": "blood-pool",
        "sequence": "bssfp",
        "model_id": "m1",
        "model_sha256": "ab" * 32,
        "bsa_formula": "mosteller",
    }
    return NewParticipants(
        age_years=np.array(columns.get("age_years", [50.0] * n)),
        conventions={
            name: np.array(columns.get(name, [value] * n), dtype=object)
            for name, value in conventions.items()
        },
        **text,
    )


@pytest.mark.parametrize("rule", LIMITS)
def test_a_limit_of_a_stratum_scores_as_its_centile(rule):
    document, found = _document(
        method="strata", limits=rule, by=("sex",), sided="two", outliers="none"
    )
    model = reference_model(document, "ref.json")
    for row in found.rows:
        if row.limit is None or row.ethnicity != "all" or row.centile == 50:
            continue
        people = _people(1, sex=[row.sex])
        scores = score_participants(model, MEASURE, np.array([row.limit]), people, ScoreOptions())
        # EP28's rounded ranks are a person's value, near the interpolated centile.
        tolerance = 0.3 if rule == "nonparametric-ranks" else 1e-6
        if np.isfinite(scores.z[0]):
            assert scores.centile[0] == pytest.approx(row.centile, abs=tolerance)
        else:
            assert rule.startswith("nonparametric")
            assert scores.note[0] in ("below centile 2.5", "above centile 97.5")


def test_a_limit_of_a_curve_scores_as_its_centile(curves, model):
    rows = [r for r in curves[1].rows if r.method == "lms" and r.limit is not None]
    assert len(rows) > 50
    for row in rows:
        people = _people(1, sex=[row.sex], ethnicity=[row.ethnicity], age_years=[row.age])
        found = score_participants(model, MEASURE, np.array([row.limit]), people, ScoreOptions())
        assert found.z[0] == pytest.approx(special.ndtri(row.centile / 100), abs=1e-6)
        (group,) = model.distributions(MEASURE, row.sex, row.ethnicity)
        again = group.distribution.limits(np.array([row.age]), (row.centile,))[0, 0]
        assert again == pytest.approx(row.limit, rel=1e-9)


@settings(deadline=None, max_examples=40)
@given(value=st.floats(20, 600), more=st.floats(0.1, 100), age=st.floats(30, 70))
def test_a_larger_value_never_has_a_smaller_z(model, value, more, age):
    people = _people(2, age_years=[age, age])
    z = score_participants(
        model, MEASURE, np.array([value, value + more]), people, ScoreOptions()
    ).z
    assert z[0] < z[1]


def test_the_curve_goes_before_the_stratum(model):
    assert {group.method for group in model.distributions(MEASURE, "male", "all")} == {"lms"}
    assert {group.method for group in model.groups} == {"lms", "strata"}


@pytest.mark.parametrize(
    ("columns", "value", "note"),
    [
        ({"papillary": ["myocardium"]}, 150.0, "papillary is myocardium, the reference's is blood"),
        ({"papillary": [""]}, 150.0, "papillary is not stated"),
        ({"model_id": ["m2"]}, 150.0, "model_id is m2, the reference's is m1"),
        ({"sex": [""]}, 150.0, "sex unknown"),
        ({"age_years": [np.nan]}, 150.0, "age unknown"),
        ({"age_years": [12.0]}, 150.0, "age outside the reference"),
        ({"age_years": [99.0]}, 150.0, "age outside the reference"),
        ({}, np.nan, "no value"),
        ({}, -3.0, "the distribution of this group has no such value"),
    ],
)
def test_no_number_without_its_reason(model, columns, value, note):
    found = score_participants(
        model, MEASURE, np.array([value]), _people(1, **columns), ScoreOptions()
    )
    assert np.isnan(found.z[0])
    assert np.isnan(found.centile[0])
    assert found.note[0].startswith(note)


def test_an_ethnicity_without_limits_gets_everybodys_and_says_so(model):
    people = _people(2, ethnicity=["asian-unspecified", ""])
    found = score_participants(model, MEASURE, np.array([150.0, 150.0]), people, ScoreOptions())
    assert found.z[0] == found.z[1]
    assert found.note[0].startswith("limits of all participants (none of asian-unspecified)")
    assert found.note[1].startswith("limits of all participants (ethnicity unknown)")
    free = score_participants(
        model, MEASURE, np.full(2, 150.0), people, ScoreOptions(ethnicity="all")
    )
    assert free.z[0] == found.z[0]
    assert "all participants" not in free.note[0]


def test_far_values_keep_their_digits():
    document, _ = _document(method="strata", limits="prediction", by=("sex",))
    model = reference_model(document, "ref.json")
    found = score_participants(model, MEASURE, np.array([1.0, 900.0]), _people(2), ScoreOptions())
    assert np.isfinite(found.z).all()
    assert found.z[0] < -3
    assert found.z[1] > 6


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"format_version": 99},
        {"strata": [{"measure": "x"}]},
        {"curves": [{"family": "lms"}]},
        {"conventions": None},
        {"strata": None},
    ],
)
def test_a_damaged_reference_is_refused(curves, change):
    with pytest.raises(InputError):
        reference_model({**curves[0], **change}, "ref.json")


@pytest.mark.parametrize("document", [None, [], "text", {}])
def test_what_is_no_reference_is_refused(document):
    with pytest.raises(InputError, match="not a reference"):
        reference_model(document, "ref.json")


# ------------------------------------------------------------------ the command


@pytest.fixture(scope="module")
def files(curves, tmp_path_factory):
    folder = tmp_path_factory.mktemp("score")
    (folder / "ref.json").write_text(json.dumps(curves[0]), encoding="utf-8")
    frame = people_frame(40, seed=8)
    frame["memo"] = ["=1+1", "'=1", "-5.20", "001"] * 10
    frame.loc[3, "status"] = "failed"
    frame.to_csv(folder / "new.csv", index=False)
    return folder


def _read(path):
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _run(*arguments):
    return CliRunner().invoke(app, ["score", *map(str, arguments)])


def test_the_table_comes_back_with_its_scores(files, tmp_path):
    out = tmp_path / "scored.csv"
    found = _run(files / "ref.json", files / "new.csv", "--out", out, "--json")
    assert found.exit_code == 0, found.output
    rows, before = _read(out), _read(files / "new.csv")
    assert len(rows) == 40
    new = [f"{MEASURE}_z", f"{MEASURE}_centile", f"{MEASURE}_score_note"]
    assert list(rows[0]) == [*before[0], *new]
    assert [r["participant_id"] for r in rows] == [r["participant_id"] for r in before]
    assert [r["memo"] for r in rows[:4]] == ["'=1+1", "'=1", "-5.2", "001"]
    assert rows[3][new[0]] == ""
    assert rows[3][new[2]] == "the scan failed"
    scored = sum(r[new[0]] != "" for r in rows)
    told = json.loads(found.stdout)
    assert told["scored"][MEASURE] == scored
    assert scored + sum(told["not_scored"][MEASURE].values()) == 40


def test_a_table_that_states_no_convention_is_refused_until_told(files, tmp_path):
    frame = pd.read_csv(files / "new.csv")
    gone = ["papillary", "sequence", "model_id", "model_sha256", "bsa_formula"]
    frame.drop(columns=gone).to_csv(tmp_path / "bare.csv", index=False)
    out = tmp_path / "out.csv"
    found = _run(files / "ref.json", tmp_path / "bare.csv", "--out", out)
    assert found.exit_code == 3
    assert "--same-conventions" in found.output
    assert not out.exists()
    found = _run(files / "ref.json", tmp_path / "bare.csv", "--out", out, "--same-conventions")
    assert found.exit_code == 0
    assert out.exists()


LIES = [
    (lambda ef: ef / 100, "fractions instead of percent", "--accept unit"),
    (lambda ef: ef.where(ef.index != 4, 9999), "9999 appears once", "--missing 9999"),
    (lambda ef: ef.where(ef.index % 9 != 4, -99), "-99 appears", "--missing -99"),
]


@pytest.mark.parametrize(("change", "said", "way_on"), LIES)
def test_values_that_a_measure_cannot_have_are_not_scored(change, said, way_on, tmp_path):
    document, _ = _document(
        measures=("lv_ef_percent",), method="strata", by=("sex",), limits="parametric"
    )
    (tmp_path / "ref.json").write_text(json.dumps(document), encoding="utf-8")
    frame = people_frame(40, seed=8)
    frame["lv_ef_percent"] = change(frame["lv_ef_percent"])
    frame.to_csv(tmp_path / "new.csv", index=False)
    out, arguments = tmp_path / "out.csv", (tmp_path / "ref.json", tmp_path / "new.csv", "--out")
    refused = _run(*arguments, out)
    assert refused.exit_code == 3
    assert said in refused.stderr
    assert way_on in refused.stderr
    assert not out.exists()
    done = _run(*arguments, out, *way_on.split())
    assert done.exit_code == 0, done.output
    rows = _read(out)
    if "--missing" in way_on:
        code = float(way_on.split()[1])
        gone = [r for r in rows if float(r["lv_ef_percent"]) == code]
        assert gone
        assert {(r["lv_ef_percent_z"], r["lv_ef_percent_score_note"]) for r in gone} == {
            ("", "no value")
        }
        assert sum(r["lv_ef_percent_z"] != "" for r in rows) == len(rows) - len(gone)
    else:
        assert "warning: Accepted, unit" in done.stderr
        assert all(float(r["lv_ef_percent_z"]) < -5 for r in rows)


def test_a_column_that_is_not_scored_never_refuses(files, tmp_path):
    frame = pd.read_csv(files / "new.csv").assign(lv_ef_percent=-99)
    frame.to_csv(tmp_path / "new.csv", index=False)
    found = _run(files / "ref.json", tmp_path / "new.csv", "--out", tmp_path / "out.csv")
    assert found.exit_code == 0, found.output


def test_refusals_of_the_command(files, tmp_path):
    out = tmp_path / "out.csv"
    assert _run(files / "new.csv", files / "new.csv", "--out", out).exit_code == 3
    reference, new = files / "ref.json", files / "new.csv"
    assert _run(reference, new, "--out", out, "--measure", "lv_mass_g").exit_code == 3
    assert _run(reference, new, "--out", tmp_path / "out.xlsx").exit_code == 2
    assert _run(reference, new, "--out", out, "--kind", "mean").exit_code == 2
    assert _run(reference, new, "--out", new, "--overwrite").exit_code == 2
    assert not out.exists()
    assert _run(reference, new, "--out", out).exit_code == 0
    assert _run(reference, new, "--out", out).exit_code == 2
    assert _run(reference, out, "--out", tmp_path / "again.csv").exit_code == 3
