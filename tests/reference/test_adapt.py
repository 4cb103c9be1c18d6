"""A reference adapted to a site: the shift it finds, what it refuses, and that the file scores."""

from __future__ import annotations

import copy
import json
from functools import cache

import numpy as np
import pytest
from scipy import integrate, special
from typer.testing import CliRunner

import cardiometa as cm
from cardiometa.cli.main import app
from cardiometa.cohort import analysis_table, read_table
from cardiometa.cohort.models import TableOptions
from cardiometa.commands.apply_reference import run_adapt
from cardiometa.errors import InputError, TableError, UsageError
from cardiometa.files import canonical_json
from cardiometa.records import severity
from cardiometa.reference.adapt import adapt_reference
from cardiometa.reference.curves.shift import Shift, fit_shift, shrink_shift
from cardiometa.reference.model import NewParticipants, reference_model, score_participants
from cardiometa.reference.options import AdaptOptions, ReferenceOptions, ScoreOptions
from cardiometa.reference.ranges import reference_ranges
from tests.kit.consortium import consortium
from tests.kit.reference_tables import table

SIX = tuple("ABCDEF")
EFFECTS = dict(zip(SIX, (-0.06, -0.03, 0.0, 0.01, 0.03, 0.05), strict=True))
MEASURE = "lv_edv_ml"


@cache
def _text(method="lms", trials=6):
    sizes = {(t, "white"): 200 for t in SIX[:trials]}
    frame = consortium(sizes, trial_effects=EFFECTS, seed=3)
    options = ReferenceOptions(method=method, by=("sex",), measures=(MEASURE,))
    return canonical_json(reference_ranges(table(frame), options).model)


def _document(method="lms", trials=6):
    return json.loads(_text(method, trials))


def _site(n=60, level=0.08, stretch=1.0, seed=9):
    frame = consortium({("SITE", "white"): n}, trial_effects={"SITE": level}, seed=seed)
    middle = frame.groupby("sex")[MEASURE].transform("median")
    frame[MEASURE] = middle + stretch * (frame[MEASURE] - middle)
    return frame


def _adapt(document, frame, *, same=True):
    values = {MEASURE: frame[MEASURE].to_numpy()}
    who = NewParticipants.of(frame)
    return adapt_reference(
        document, "ref", who, values, same_conventions=same, by_name=True, site="SITE"
    )


def _scores(document, frame, kind="marginal"):
    model = reference_model(json.loads(canonical_json(document)), "adapted")
    who, values = NewParticipants.of(frame), frame[MEASURE].to_numpy()
    options = ScoreOptions(kind=kind, same_conventions=True)
    return score_participants(model, MEASURE, values, who, options)


@pytest.mark.parametrize("method", ["lms", "bct", "gaussian", "linear"])
def test_the_site_is_centred_and_the_file_scores(method):
    document = _document(method)
    new, (found,), _ = _adapt(document, _site())
    assert 50 <= found.n <= 60  # those at ages that the reference has
    before = _scores(document, _site(400, seed=10), "conditional").z
    scores = _scores(new, _site(400, seed=10))
    assert np.nanmean(before) > 0.3
    assert abs(np.nanmean(scores.z)) < 0.25
    notes = set(scores.note[np.isfinite(scores.z)])
    assert notes == {"limits of all participants (none of white)"}
    assert 0 < found.kept_location < 1
    assert found.location_low < found.location < found.location_high
    assert found.location_unit == ("percent" if method in ("lms", "bct", "bcpe") else "mL")
    assert 0.1 < found.miscalibration < found.miscalibration_high < 6
    assert {(c["kind"], c["tau"]) for c in new["curves"]} == {("population", 0.0)}
    assert new["strata"] == []
    for curve in new["curves"]:
        printed = curve["printed"]
        assert np.all(np.array(printed["ci_low"]) < np.array(printed["ci_high"]))


def test_a_wider_site_gets_wider_limits():
    _, (wide,), _ = _adapt(_document(), _site(100, level=0.0, stretch=1.3))
    _, (same,), _ = _adapt(_document(), _site(100, level=0.0))
    assert wide.spread_ratio > 1.08
    assert wide.spread_ratio > same.spread_ratio * 1.05
    assert abs(same.location) < 4


def test_few_controls_are_shrunk_more_than_many():
    _, (few,), _ = _adapt(_document(), _site(30))
    _, (many,), _ = _adapt(_document(), _site(300))
    assert few.kept_location < many.kept_location
    assert few.kept_spread < many.kept_spread
    assert few.miscalibration > many.miscalibration
    assert many.location == pytest.approx(100 * np.expm1(0.08), abs=3)


def test_shifts_are_those_of_a_normal_distribution():
    """Against the closed form; many trials: shrinkage by n·prior/(n·prior + variance)."""
    rng = np.random.default_rng(1)
    y = 10 + rng.standard_normal(50) * 2
    eta = np.stack([np.full(50, 9.0), np.full(50, np.log(2.0))])
    own = fit_shift("normal", eta, y)
    assert own.estimate[0] == pytest.approx(y.mean() - 9, rel=1e-9)
    assert np.exp(own.estimate[1]) == pytest.approx(y.std() / 2, rel=1e-9)
    shift, kept = shrink_shift(own, np.array([0.3, 1e-9]), 1e6, np.zeros(2))
    share = 50 * 0.3 / (50 * 0.3 + y.var())
    assert kept[0] == pytest.approx(share, rel=1e-4)
    assert shift.estimate[0] == pytest.approx(share * (y.mean() - 9), rel=1e-4)
    assert shift.covariance[0, 0] == pytest.approx(0.3 * (1 - share), rel=1e-4)


def test_shrinkage_is_the_posterior_by_numerical_integration():
    """Six trials whose own shifts are given: scipy's quadrature over tau of each of two shifts."""
    own = Shift(estimate=np.array([0.06, -0.2]), covariance=np.diag([4e-4, 5e-3]))
    between, error, k = np.array([0.0012, 0.006]), np.array([2e-4, 3e-3]), 6
    shift, kept = shrink_shift(own, between, k, error)
    for i in range(2):
        t = between[i] + error[i]
        squares = t * (k - 1 - t / between[i])
        x, v = own.estimate[i], own.covariance[i, i]

        def moment(power, squares=squares, x=x, v=v, e=error[i]):
            def density(tau):
                t, prior = tau**2 + e, tau**2 * (1 + 1 / k)
                data = t ** (-(k - 1) / 2) * np.exp(-squares / (2 * t))
                site = np.exp(-(x**2) / (2 * (v + prior))) / np.sqrt(v + prior)
                mean, variance = x * prior / (v + prior), v * prior / (v + prior)
                return data * site * (1.0, mean, variance + mean**2)[power]

            return integrate.quad(density, 0, 3, points=(0.02, 0.05, 0.1, 0.3), limit=500)[0]

        given = between[i] * (1 + 1 / k)
        assert kept[i] == pytest.approx(given / (given + v))
        assert shift.estimate[i] == pytest.approx(kept[i] * x)
        square = (moment(2) - 2 * shift.estimate[i] * moment(1)) / moment(0) + shift.estimate[
            i
        ] ** 2
        assert shift.covariance[i, i] == pytest.approx(square, rel=4e-3)


def test_controls_like_the_reference_leave_it():
    document = _document()
    model = reference_model(document, "ref")
    curve = model.distributions(MEASURE, "male", "all", "conditional")[0].distribution
    z = special.ndtri((np.arange(60) + 0.5) / 60)
    ages = np.tile(np.linspace(25, 75, 10), 6)
    y = [
        float(curve.limits(np.array([a]), (100 * special.ndtr(v),))[0, 0])
        for a, v in zip(ages, z, strict=True)
    ]
    frame = _site(60).assign(age_years=ages, sex="male", lv_edv_ml=y)
    _, (found,), warnings = _adapt(document, frame)
    assert abs(found.location) < 1
    assert found.spread_ratio == pytest.approx(1, abs=0.03)
    assert not [w for w in warnings if severity(w) == "serious"]


def _two_measures(document):
    """The document with a second measure of the same curves, and values of both."""
    others = json.loads(canonical_json(document["curves"]).replace(MEASURE, "lv_mass_g"))
    document["curves"] += others
    values = _site()[MEASURE].to_numpy()
    return document, {MEASURE: values, "lv_mass_g": values}


def test_few_trials_give_no_shrinkage_and_say_so_once():
    document, values = _two_measures(_document(trials=3))
    _, found, warnings = adapt_reference(
        document, "ref", NewParticipants.of(_site()), values,
        same_conventions=True, by_name=True, site="SITE",
    )  # fmt: skip
    assert {(one.kept_location, one.kept_spread) for one in found} == {(1.0, 1.0)}
    (said,) = (w for w in warnings if "not shrunk" in w)
    assert severity(said) == "serious"
    assert said.startswith(f"{MEASURE}, lv_mass_g: the reference does not state")


def test_a_narrow_range_of_ages_and_unlike_sexes_are_warned_of():
    frame = _site(80)
    young = frame.assign(age_years=np.linspace(40, 55, 80))
    assert any("ages cover" in w for w in _adapt(_document(), young)[2])
    frame.loc[frame["sex"] == "male", MEASURE] *= 1.25
    said = _adapt(_document(), frame)[2]
    assert any("men and women" in w for w in said)
    assert not any("|z| > 5" in w for w in said)
    frame.loc[0, MEASURE] = 600.0
    assert any("|z| > 5" in w for w in _adapt(_document(), frame)[2])


def test_too_few_controls_are_refused_with_their_reasons():
    frame = _site(40)
    frame.loc[:19, "age_years"] = np.nan
    with pytest.raises(TableError) as caught:
        _adapt(_document(), frame)
    what = str(caught.value.problems[0].what)
    assert "controls can be used, and 25 are needed" in what
    assert "20 rows: age unknown" in what


def test_a_measure_that_lacks_controls_is_left_out_or_refused_by_name():
    document, values = _two_measures(_document())
    values["lv_mass_g"] = np.full(60, np.nan)
    who = NewParticipants.of(_site())
    new, found, warnings = adapt_reference(
        document, "ref", who, values, same_conventions=True, by_name=False, site="SITE"
    )
    assert [one.measure for one in found] == [MEASURE]
    assert {curve["measure"] for curve in new["curves"]} == {MEASURE}
    assert any("lv_mass_g is left out: 0 controls" in w for w in warnings)
    with pytest.raises(TableError):
        adapt_reference(
            document, "ref", who, values, same_conventions=True, by_name=True, site="SITE"
        )


def test_another_convention_or_model_is_refused_as_score_does():
    frame = _site().assign(papillary="myocardium")
    with pytest.raises(TableError) as caught:
        _adapt(_document(), frame, same=False)
    assert "papillary is myocardium" in str(caught.value.problems[0].what)


def test_quantile_curves_and_damaged_files_are_refused():
    document = _document()
    for curve in document["curves"]:
        curve["between_trials"] = {"trials": 6, "location_sd": 0.0, "log_spread_sd": 0.1}
    with pytest.raises(InputError):
        reference_model(document, "ref")
    only_strata = {**_document(), "curves": []}
    with pytest.raises(TableError):
        _adapt(only_strata, _site())
    document = copy.deepcopy(_document())
    document["format"] = "other"
    with pytest.raises(InputError, match="not a reference"):
        _adapt(document, _site())


# ------------------------------------------------------------------ the command


@pytest.fixture
def files(tmp_path):
    (tmp_path / "ref.json").write_text(_text(), encoding="utf-8")
    _site().drop(columns="status").to_csv(tmp_path / "controls.csv", index=False)
    return tmp_path


def _run_adapt(folder, out="site.json", options=None, **more):
    options = options or AdaptOptions(same_conventions=True)
    paths = (folder / "ref.json", folder / "controls.csv", folder / out)
    return run_adapt(*paths, options, TableOptions(), **more)


def test_the_command_writes_a_reference_that_scores(files):
    def run(*words):
        paths = (str(files / w) if w.endswith((".json", ".csv")) else w for w in words)
        return CliRunner().invoke(app, list(paths))

    words = ("adapt", "ref.json", "controls.csv", "--out", "site.json", "--same-conventions")
    done = run(*words)
    assert done.exit_code == 0, done.output
    assert "level moved" in done.output
    again = run("score", "site.json", "controls.csv", "--out", "z.csv", "--same-conventions")
    assert again.exit_code == 0, again.output
    assert f"{MEASURE}_z" in (files / "z.csv").read_text(encoding="utf-8")
    assert run(*words).exit_code == 2  # exists
    last = run(*words, "--overwrite", "--json")
    assert json.loads(last.stdout)["measures"][0]["n"] >= 50


def test_from_python_it_is_the_command_s_file_and_the_table_is_read_once(files, monkeypatch):
    read, readings = analysis_table.read_raw, []
    monkeypatch.setattr(
        analysis_table, "read_raw", lambda *given: readings.append(given) or read(*given)
    )
    monkeypatch.setattr(read_table, "read_raw", readings.append)
    outcome = _run_adapt(files)
    assert len(readings) == 1
    reference = cm.read_reference(files / "ref.json")
    adapted = reference.adapt(files / "controls.csv", same_conventions=True)
    assert adapted.to_json(files / "two.json").read_bytes() == (files / "site.json").read_bytes()
    assert (adapted.moved["location"].tolist(), adapted.warnings) == (
        [one.location for one in outcome.measures],
        outcome.warnings,
    )
    monkeypatch.undo()
    scores = adapted.score(_site(), same_conventions=True)[f"{MEASURE}_z"]
    assert abs(scores.mean()) < 0.25
    other = files / "other.json"
    other.write_text(canonical_json({**_document(), "format": "other"}), encoding="utf-8")
    with pytest.raises(InputError, match="not a reference"):
        cm.read_reference(other)


def test_controls_of_all_ages_of_the_reference_count(files):
    document = _document("linear")
    for curve in document["curves"]:
        curve |= {"age_low": 10.0, "observed_ages": [[10.0, 80.0]]}
    (files / "ref.json").write_text(canonical_json(document), encoding="utf-8")
    frame = _site().drop(columns=["status", "ethnicity"])
    frame.loc[:19, "age_years"] = 16.5  # younger than the first band of reference-ranges
    frame.to_csv(files / "controls.csv", index=False)
    found = _run_adapt(files)
    assert found.measures[0].n >= 55
    assert not any("stratified" in w for w in found.warnings)


def test_wrong_use_is_refused(files):
    with pytest.raises(UsageError, match=r"not a \.json"):
        _run_adapt(files, out="site.csv")
    with pytest.raises(UsageError, match="is the input file"):
        _run_adapt(files, out="ref.json", overwrite=True)
    with pytest.raises(TableError) as caught:
        _run_adapt(files, options=AdaptOptions(measures=("lv_mass_g",)))
    assert "no such measure" in str(caught.value.problems)
    _site().drop(columns="healthy").to_csv(files / "controls.csv", index=False)
    with pytest.raises(TableError, match="healthy") as caught:
        _run_adapt(files)
    assert "--healthy-rule" in caught.value.hint
    assert "--all" not in caught.value.hint
    sick = _site().assign(healthy=False)
    sick.to_csv(files / "controls.csv", index=False)
    with pytest.raises(TableError, match="healthy"):
        _run_adapt(files)
    assert not (files / "site.json").exists()
