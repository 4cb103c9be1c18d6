"""Lines of a measurement on a reader's: estimates against statsmodels, shrinkage, the document."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from cardiometa.errors import InputError
from cardiometa.statistics.measurement_error import (
    KEY,
    ErrorLine,
    MeasureError,
    line_of,
    measurement_error_of,
    partially_pooled,
    shrunken,
)
from tests.kit.evaluations import evaluation_of


def hearts(n: int = 60, *, slope: float = 0.9, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    reader = draw.normal(55, 10, n)
    return 4 + slope * reader + draw.normal(0, 3, n), reader


def lines(k: int = 6, n: int = 30, tau: float = 0.1) -> list[ErrorLine]:
    draw = np.random.default_rng(3)
    found = []
    for trial in range(k):
        model, reader = hearts(n, slope=0.9 + draw.normal(0, tau), seed=trial)
        line = line_of(model, reader, np.arange(n), group_by="trial", group=f"T{trial}")
        assert line is not None
        found.append(line)
    return found


@pytest.mark.parametrize("visits", [1, 3])
def test_a_line_is_that_of_statsmodels(visits: int) -> None:
    model, reader = hearts()
    people = np.arange(60) // visits
    line = line_of(model, reader, people)
    assert line is not None
    fit = sm.OLS(model, sm.add_constant(reader)).fit()
    if visits > 1:
        fit = fit.get_robustcov_results("cluster", groups=people)
    cov = fit.cov_params()
    assert (line.intercept, line.slope) == pytest.approx(tuple(fit.params), rel=1e-10)
    own = (line.var_intercept, line.covariance, line.var_slope)
    assert own == pytest.approx((cov[0, 0], cov[0, 1], cov[1, 1]), rel=1e-8)
    assert line.residual_sd == pytest.approx(np.sqrt(fit.mse_resid))
    assert (line.n_people, line.residual_df) == (60 // visits, 60 // visits - 2)
    bias, variance = line.bias_at(50.0)
    at = np.array([1.0, 50.0])
    assert bias == pytest.approx(at @ fit.params - 50)
    assert variance == pytest.approx(at @ cov @ at, rel=1e-6)


def test_no_line_of_three_participants_or_of_one_value() -> None:
    model, reader = hearts(3)
    assert line_of(model, reader, np.arange(3)) is None
    assert line_of(np.arange(9.0), np.full(9, 55.0), np.arange(9)) is None


def test_trials_are_shrunk_towards_their_mean_by_what_their_hearts_do_not_say() -> None:
    own = lines()
    pooled, between = partially_pooled(own)
    assert between is not None
    assert between.k == 6
    for one, moved in zip(own, pooled, strict=True):
        assert (moved.group, moved.method) == (one.group, "partially-pooled")
        low, high = sorted((one.slope, between.slope))
        assert low <= moved.slope <= high
        assert moved.var_slope <= one.var_slope + 1e-12
        # At the centre, where both are shrunk, the line stays between its own and the mean one.
        centre = between.centre
        low, high = sorted((one.intercept + centre * one.slope, between.intercept))
        assert low - 1e-9 <= moved.intercept + centre * moved.slope <= high + 1e-9
        assert moved.var_intercept * moved.var_slope >= moved.covariance**2
    assert partially_pooled(own[:2]) == ((), None)


def test_shrunken_estimates_of_equal_groups_are_their_mean_and_of_far_ones_their_own() -> None:
    y, v = np.array([1.0, 2.0, 3.0, 4.0]), np.full(4, 9.0)
    values, errors, share, (mean, var_mean, tau2) = shrunken(y, v)
    assert (tau2, mean, var_mean) == pytest.approx((0, 2.5, 9 / 4))
    assert values == pytest.approx(2.5)
    assert share == pytest.approx(1.0)
    assert (errors <= 9).all()
    assert (errors >= 9 / 4).all()
    values, errors, _, _ = shrunken(y * 100, v)
    assert values == pytest.approx(y * 100, abs=0.2)
    assert errors == pytest.approx(9, rel=0.01)


@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_intervals_of_shrunken_estimates_cover(tau: float) -> None:
    """8 groups, 90 % intervals, by simulation: 88 to 99 % over tau and 3 to 15 groups."""
    draw = np.random.default_rng(5)
    within, made = [], []
    for _ in range(250):
        truth = draw.normal(0, tau, 8)
        values, errors, _, _ = shrunken(truth + draw.normal(0, 1, 8), np.ones(8))
        within.append((np.abs(values - truth) <= 1.645 * np.sqrt(errors)).mean())
        made.append(((values - truth) ** 2).mean())
    assert np.mean(within) > 0.88
    assert np.mean(made) < 0.8  # the groups' own means have 1


# ------------------------------------------------------------------ the document


def section(**changes: Any) -> dict[str, Any]:
    model, reader = hearts()
    every = line_of(model, reader, np.arange(60))
    assert every is not None
    own = lines()
    pooled, between = partially_pooled(own)
    measure = MeasureError(
        measure="lv_ef_percent",
        unit="%",
        scope="whole-stack",
        lines=(every, *own, *pooled),
        between_trials=between,
    )
    return {KEY: evaluation_of(measure, **{"cohort": "A", **changes}).document()}


def test_the_section_reads_back_as_it_was_written() -> None:
    document = json.loads(json.dumps(section()))
    found = measurement_error_of(document, "evaluation.json")
    assert {KEY: found.document()} == section()
    measure = found.of("lv_ef_percent")
    assert measure is not None
    assert found.of("lv_mass_g") is None
    assert measure.groups("trial") == tuple(f"T{n}" for n in range(6))
    line, where = measure.of_trial("T2")
    assert (line.method, where) == ("partially-pooled", "trial T2")
    new, where = measure.of_trial("elsewhere")
    between = measure.between_trials
    assert between is not None
    assert (new.slope, where) == (between.slope, "new trial")
    assert new.var_slope == pytest.approx(between.var_slope + between.tau2_slope)
    line, where = replace(measure, between_trials=None).of_trial("elsewhere")
    assert (line.group_by, where) == ("all", "all")


def test_a_section_with_problems_is_refused_with_all_of_them() -> None:
    with pytest.raises(InputError, match="no section measurement_error") as error:
        measurement_error_of({"a": 1}, "evaluation.json")
    assert "evaluate OUT" in error.value.hint
    document = section()
    measure = document[KEY]["measures"][0]
    measure["lines"][0]["slope"] = "0.9"
    measure["lines"][1]["var_slope"] = -1.0
    measure["more"] = 1
    with pytest.raises(InputError) as error:
        measurement_error_of(document, "evaluation.json")
    assert len(error.value.problems) == 3
    assert "not at least 0" in str(error.value.problems)
    document = section()
    document[KEY]["measures"][0]["lines"] = document[KEY]["measures"][0]["lines"][1:]
    with pytest.raises(InputError, match="cannot be used") as error:
        measurement_error_of(document, "evaluation.json")
    assert "no line of all hearts" in str(error.value.problems)
