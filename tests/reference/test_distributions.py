"""The choice of the distribution: BCT and BCPE curves, their comparison, and what is said of it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import special

from cardiometa.commands.reference_ranges import render
from cardiometa.errors import InputError, TableError, UsageError
from cardiometa.files import canonical_json
from cardiometa.records import severity
from cardiometa.reference.model import NewParticipants, reference_model, score_participants
from cardiometa.reference.options import ReferenceOptions, ScoreOptions
from cardiometa.reference.ranges import reference_ranges
from cardiometa.statistics.box_cox_tails import TAILS, tail_centile
from tests.kit.consortium import consortium, true_parameters
from tests.kit.reference_tables import table

SIX = tuple("ABCDEF")
OPTIONS = ReferenceOptions(by=("sex",), measures=("lv_edv_ml",))
HEAVY = float(np.log(3.5))


def _heavy(n, seed=1):
    """Students' t on 3.5 degrees of freedom behind the kit's M, S and L; trials differ."""
    rng = np.random.default_rng(seed + 100)
    effects = dict(zip(SIX, (-0.06, -0.03, 0.0, 0.01, 0.03, 0.05), strict=True))
    frame = consortium({(t, "white"): n for t in SIX}, seed=seed)
    age, sex = frame["age_years"].to_numpy(), frame["sex"].to_numpy()
    log_m, s, ell = true_parameters(age, sex)
    log_m = log_m + frame["trial"].map(effects).to_numpy()
    place = np.exp(log_m), s / 1.3, np.full(len(s), ell)
    frame["lv_edv_ml"] = tail_centile(TAILS["bct"], rng.random(len(frame)), *place, HEAVY)
    return frame


@cache
def _ranges(method, n=250):
    return reference_ranges(table(_heavy(n)), replace(OPTIONS, method=method))


def _skewed(n=1500):
    frame = consortium({("ALPHA", "white"): n}, seed=2)
    z = np.random.default_rng(3).standard_normal(n)
    frame["lv_edv_ml"] = 100 * np.exp(0.45 * z)
    return frame


def test_heavy_tails_are_found_and_lms_is_said_to_be_wrong():
    rows = {(r.sex, r.distribution): r for r in _ranges("lms").distributions}
    assert len(rows) == 8
    for sex in ("male", "female"):
        assert rows[sex, "bct"].bic_difference < 10
        assert 2.3 < rows[sex, "bct"].tail < 5.5
        assert rows[sex, "lms"].chosen
        assert rows[sex, "lms"].bic_difference > 20
        assert rows[sex, "gaussian"].bic_difference > rows[sex, "lms"].bic_difference
        assert rows[sex, "lms"].worm_largest > rows[sex, "bct"].worm_largest
        assert rows[sex, "lms"].aic - rows[sex, "bct"].aic > 20
    serious = [w for w in _ranges("lms").warnings if severity(w) == "serious"]
    assert any("Use --method bc" in w for w in serious)


def test_limits_of_heavy_tails_are_near_the_truth_and_say_nothing_serious():
    result = _ranges("bct")
    assert not [w for w in result.warnings if "does not fit" in w]
    rows = [r for r in result.rows if r.kind == "conditional" and 25 <= r.age <= 75]
    errors, held = [], []
    for row in rows:
        log_m, s, ell = true_parameters(row.age, row.sex)
        place = np.array(row.centile / 100), np.exp(log_m), np.array(s / 1.3), np.array(ell)
        truth = float(tail_centile(TAILS["bct"], *place, HEAVY))
        errors.append(abs(row.limit / truth - 1))
        held.append(row.ci_low <= truth <= row.ci_high)
    assert max(errors) < 0.1
    assert np.mean(held) > 0.7
    for row in result.calibration:
        if row.check == "fitted":
            assert row.below_percent == pytest.approx(2.5, abs=1.2)
            assert row.above_percent == pytest.approx(2.5, abs=1.2)
    assert {c.check for c in result.calibration} == {"fitted", "age-third", "left-out-trial"}
    assert {r.kind for r in result.rows} == {"marginal", "conditional"}


def test_a_normal_distribution_on_skewed_values_is_a_serious_warning():
    result = reference_ranges(table(_skewed()), replace(OPTIONS, method="gaussian"))
    serious = [w for w in result.warnings if severity(w) == "serious"]
    assert sum("the normal distribution does not fit" in w for w in serious) == 2
    rows = {r.distribution: r for r in result.distributions if r.sex == "male"}
    assert rows["gaussian"].chosen
    assert rows["gaussian"].limit_difference_percent > 15
    assert rows["gaussian"].below_percent_middle == 0
    assert rows["gaussian"].above_percent_middle > 4
    # One SD and a line assume it too.
    line = reference_ranges(table(_skewed()), replace(OPTIONS, method="linear"))
    assert any("the normal distribution does not fit" in w for w in line.warnings)


def test_the_right_distribution_is_not_warned_of_and_quantiles_have_none():
    frame = consortium({("ALPHA", "white"): 1200}, seed=4)
    result = reference_ranges(table(frame), replace(OPTIONS, method="lms"))
    assert not [w for w in result.warnings if "does not fit" in w]
    assert len(result.distributions) == 8
    rows = reference_ranges(table(frame), replace(OPTIONS, method="quantile", bootstrap=200))
    assert rows.distributions == ()
    assert "distributions.csv" not in render(rows)


@pytest.mark.parametrize("method", ["bct", "bcpe"])
def test_the_portable_model_scores_what_was_printed(method):
    result = _ranges(method)
    model = reference_model(json.loads(canonical_json(result.model)), "reference")
    rows = [r for r in result.rows if r.kind == "marginal" and r.sex == "female"]
    participants = NewParticipants(
        sex=np.full(len(rows), "female"),
        ethnicity=np.full(len(rows), ""),
        age_years=np.array([r.age for r in rows]),
        conventions={},
    )
    values = np.array([r.limit for r in rows])
    options = ScoreOptions(same_conventions=True)
    scores = score_participants(model, "lv_edv_ml", values, participants, options)
    wanted = special.ndtri(np.array([r.centile for r in rows]) / 100)
    assert scores.z == pytest.approx(wanted, abs=1e-6)


def test_the_table_is_a_file_and_the_page_says_which():
    files = render(_ranges("lms"))
    assert str(files["distributions.csv"]).count("\n") == 9
    page = str(files["report.html"])
    assert page.index("does not fit") < page.index("how each distribution fits (AIC")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda f: f.pop(), "log_tail"),
        (lambda f: f[-1].update(coefficients=[900.0]), "log_tail"),
        (lambda f: f[-1].update(coefficients=[1.0, 2.0]), "log_tail"),
    ],
)
def test_a_damaged_tail_is_refused(change, what):
    document = json.loads(canonical_json(_ranges("bct").model))
    change(document["curves"][0]["functions"])
    with pytest.raises(InputError) as caught:
        reference_model(document, "reference")
    assert what in str(caught.value) + str(caught.value.problems)


def test_values_at_zero_and_unknown_methods_are_refused():
    frame = _skewed(200)
    frame.loc[:2, "lv_edv_ml"] = -1.0
    with pytest.raises(TableError, match="--method bct needs positive values"):
        reference_ranges(table(frame), replace(OPTIONS, method="bct"))
    with pytest.raises(UsageError, match="bcct is not known"):
        ReferenceOptions(method="bcct")
