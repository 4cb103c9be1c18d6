"""Rows of an evaluation: groups, suppression, scans for review, formulas and oracles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cardiometa.errors import InputError
from cardiometa.evaluation import tables
from cardiometa.evaluation.agreement import flat, kappa_values
from cardiometa.evaluation.groups import GROUPINGS, add_group_columns, groups_of
from cardiometa.evaluation.options import EvaluationOptions
from cardiometa.evaluation.overlap import SliceCounts
from cardiometa.evaluation.results import Compared
from cardiometa.evaluation.tables import BOTH_PHASES, evaluate, grade_table, rate_rows
from cardiometa.privacy.suppression import suppress_groups

IDENTITY = (
    *("trial", "participant_id", "visit", "status", "arm", "trained_on"),
    *GROUPINGS[:-1],
)


def shown(make: Callable[..., Iterable[Any]]) -> Callable[..., Iterator[SimpleNamespace]]:
    """Rows as they are written: small counts suppressed, a field for each column."""

    def rows(*arguments: Any) -> Iterator[SimpleNamespace]:
        for row in suppress_groups(make(*arguments), arguments[-1].least):
            yield SimpleNamespace(**flat(type(row), row))

    return rows


agreement_rows = shown(tables.agreement_rows)
equivalence_rows = shown(tables.equivalence_rows)
grade_rows = shown(tables.grade_rows)
overlap_rows = shown(tables.overlap_rows)
repeatability_rows = shown(tables.repeatability_rows)


def options(**more: Any) -> EvaluationOptions:
    return EvaluationOptions(**{"against": "labels", "bootstrap": 50, **more})


def scans(n: int = 40, *, visits: int = 1, women: int = 20) -> pd.DataFrame:
    """``n`` participants of two trials with ``visits`` scans each."""
    number = np.repeat(np.arange(n), visits)
    rows = pd.DataFrame(
        {
            "trial": np.where(number % 2 == 0, "A", "B"),
            "participant_id": number.astype(str),
            "visit": np.tile([f"v{i}" for i in range(visits)], n),
            "status": "ok",
            "sex": np.where(number < women, "female", "male"),
            "age_years": 20.0 + number,
            "vendor": "SIEMENS",
            "field_strength_t": 1.5,
            "trained_on": False,
        }
    )
    return add_group_columns(rows, (18.0, 30.0, 40.0, 50.0))


def compared(rows: pd.DataFrame, *, seed: int = 1, bias: float = 2.0) -> Compared:
    """EF of every scan by both methods, and its overlap in ED and ES."""
    draw = np.random.default_rng(seed)
    reference = draw.uniform(30, 65, len(rows))
    pairs = pd.DataFrame(
        {
            "scan": np.arange(len(rows)),
            "measure": "lv_ef_percent",
            "scope": "whole-stack",
            "model": reference + bias + draw.normal(0, 3, len(rows)),
            "reference": reference,
            "model_sd": np.nan,
        }
    )
    parts = [
        pd.DataFrame(
            {
                "scan": np.arange(len(rows)),
                "phase": phase,
                "structure": "lv_cavity",
                "scope": "whole-stack",
                "dice": draw.uniform(0.8, 0.98, len(rows)),
                "hd95_mm": draw.uniform(2, 9, len(rows)),
                "assd_mm": draw.uniform(0.5, 2, len(rows)),
            }
        )
        for phase in ("ED", "ES")
    ]
    return Compared(
        scans=rows[list(IDENTITY)].reset_index(drop=True),
        pairs=pairs,
        overlaps=pd.concat(parts, ignore_index=True),
        slices=pd.DataFrame(columns=["scan", *(f.name for f in fields(SliceCounts))]),
        exclusions=(),
        scans_in=len(rows),
    )


def by_group(rows: Any) -> dict[tuple[str, str, str], Any]:
    return {(r.group_by, r.group, getattr(r, "scans_used", "")): r for r in rows}


# ------------------------------------------------------------------ groups


def test_groups_are_listed_in_the_contract_order_and_ages_by_age() -> None:
    found = [(g.by, g.name) for g in groups_of(scans(60))]
    assert found[0] == ("all", "all")
    assert [name for by, name in found if by == "age_band"] == ["18-29", "30-39", "40-49", "50+"]
    assert [name for by, name in found if by == "field_strength"] == ["1.5 T"]
    assert [name for by, name in found if by == "trial"] == ["A", "B"]
    assert ("ethnicity", "white") not in found  # unknown: no column


def test_age_bands_with_fractions_say_their_ends() -> None:
    rows = pd.DataFrame({"trial": "A", "participant_id": ["1", "2"], "age_years": [18.0, 5.0]})
    assert list(add_group_columns(rows, (17.5, 30.0))["age_band"]) == ["17.5-<30", "<17.5"]


def test_a_participant_with_many_scans_is_counted_once() -> None:
    every = next(groups_of(scans(20, visits=3)))
    assert (every.participants, int(every.mask.sum())) == (20, 60)


def hidden(rows: pd.DataFrame, least: int) -> dict[tuple[str, str], str]:
    """Why each group's numbers are not shown."""
    found = list(agreement_rows(compared(rows), options(min_cell=least)))
    assert all(row.bias is None for row in found if row.note)
    return {(row.group_by, row.group): row.note for row in found}


def test_the_complement_of_a_small_group_is_hidden_too() -> None:
    found = hidden(scans(40, women=4), 10)
    assert found["sex", "female"] == "n<10"
    assert found["sex", "male"] == "counts withheld"
    assert found["trial", "A"] == ""


def test_everything_of_too_few_participants_is_hidden() -> None:
    assert set(hidden(scans(8), 10).values()) == {"n<10"}
    assert hidden(scans(8), 1)["all", "all"] == ""


# ------------------------------------------------------------------ agreement


def test_agreement_is_the_plain_formula() -> None:
    data = compared(scans(40))
    row = next(agreement_rows(data, options()))
    difference = (data.pairs["model"] - data.pairs["reference"]).to_numpy()
    assert row.n_people == row.n_scans == 40
    assert row.bias == pytest.approx(difference.mean(), rel=1e-12)
    assert row.sd == pytest.approx(difference.std(ddof=1), rel=1e-12)
    assert row.mae == pytest.approx(np.abs(difference).mean(), rel=1e-12)
    assert row.rmse == pytest.approx(np.sqrt((difference**2).mean()), rel=1e-12)
    assert row.loa_upper is not None
    assert row.loa_lower is not None
    assert row.loa_upper - row.loa_lower == pytest.approx(2 * 1.959963984540054 * row.sd)
    assert row.mae_low is not None
    assert row.mae_high is not None
    assert row.mae_low < row.mae < row.mae_high


def test_slope_is_that_of_ordinary_least_squares() -> None:
    api = pytest.importorskip("statsmodels.api")
    data = compared(scans(40))
    row = next(agreement_rows(data, options()))
    model, reference = data.pairs["model"], data.pairs["reference"]
    fit = api.OLS(model - reference, api.add_constant((model + reference) / 2)).fit()
    low, high = fit.conf_int(0.05).iloc[1]
    assert (row.slope, row.slope_low, row.slope_high) == pytest.approx(
        (fit.params.iloc[1], low, high), rel=1e-9
    )


def test_swapping_the_methods_turns_the_bias_round_and_keeps_reliability() -> None:
    data = compared(scans(40))
    swapped = data.pairs.rename(columns={"model": "reference", "reference": "model"})
    other = Compared(**{**{f.name: getattr(data, f.name) for f in fields(data)}, "pairs": swapped})
    one, two = (next(agreement_rows(d, options())) for d in (data, other))
    assert two.bias == pytest.approx(-one.bias)
    assert (two.loa_lower, two.loa_upper) == pytest.approx((-one.loa_upper, -one.loa_lower))
    for name in ("icc", "icc_low", "icc_high", "ccc", "mae", "rmse", "cov_percent"):
        assert getattr(two, name) == pytest.approx(getattr(one, name)), name


def test_a_hidden_group_has_its_identity_and_nothing_else() -> None:
    rows = by_group(agreement_rows(compared(scans(40, women=4)), options()))
    for name in ("female", "male"):
        hidden = vars(rows["sex", name, "ok+review"])
        numbers = {k: v for k, v in hidden.items() if isinstance(v, float | int)}
        assert set(numbers) == {"ci_level"}
        assert hidden["note"]


def test_scans_for_review_are_left_out_in_a_second_row_without_giving_counts_away() -> None:
    rows = scans(40)
    rows.loc[:3, "status"] = "review"
    found = by_group(agreement_rows(compared(rows), options()))
    settled = found["all", "all", "ok"]
    # 36 of 40: the four others could be counted by subtraction.
    assert (settled.n_people, settled.n_scans, settled.note) == (None, None, "counts withheld")
    assert settled.bias is not None
    every = by_group(agreement_rows(compared(rows), options(internal=True)))["all", "all", "ok"]
    assert (every.n_people, every.n_scans, every.note) == (36, 36, "")
    assert every.bias == settled.bias


def test_bootstraps_do_not_depend_on_the_order_of_the_tables() -> None:
    data = compared(scans(30, visits=2))
    one = next(agreement_rows(data, options()))
    again = next(agreement_rows(data, options()))
    other = next(agreement_rows(data, options(seed=2)))
    assert one == again
    assert one.reliability_ci == "bootstrap over participants"
    assert (one.icc_low, one.mae_low) != (other.icc_low, other.mae_low)
    assert one.icc == other.icc


def test_two_participants_have_a_bias_and_no_limits() -> None:
    row = next(agreement_rows(compared(scans(2)), options(internal=True)))
    assert row.bias is not None
    assert (row.sd, row.loa_lower, row.loa_method) == (None, None, "")
    assert row.note == "too few for an interval"


# ------------------------------------------------------------------ grades


def test_weights_reward_nearby_grades() -> None:
    near, far = np.eye(3) * 10, np.eye(3) * 10
    near[0, 1] = far[0, 2] = 6.0
    assert kappa_values(near, "none") == pytest.approx(kappa_values(near.T, "none"))
    for weights in ("linear", "quadratic"):
        value, other = kappa_values(near, weights), kappa_values(far, weights)  # type: ignore[arg-type]
        assert value > other
    # By hand: two of ten scans are half a disagreement each; by chance 0.42 would be.
    table = np.array([[4.0, 2, 0], [0, 2, 0], [0, 0, 2]])
    assert kappa_values(table, "linear") == pytest.approx(1 - 0.1 / 0.42)


def test_grade_rows_agree_with_their_table() -> None:
    data = compared(scans(40))
    row = next(grade_rows(data, options()))
    table = grade_table(data, "lv_ef_percent", "whole-stack")
    assert table is not None
    assert table.sum() == row.n_scans == 40
    assert row.percent_agreement == pytest.approx(100 * np.trace(table) / 40)
    assert row.kappa == pytest.approx(kappa_values(table, "none"))
    assert row.kappa_ci == "fleiss-cohen-everitt-1969"
    assert grade_table(data, "rv_ef_percent", "whole-stack") is None


def test_kappas_of_repeated_scans_are_bootstrapped() -> None:
    row = next(grade_rows(compared(scans(30, visits=2)), options()))
    assert row.kappa_ci == "bootstrap over participants"
    assert None not in (row.kappa, row.kappa_low, row.kappa_high)


# ------------------------------------------------------------------ overlap


def test_overlap_of_both_phases_is_the_mean_of_each_scan() -> None:
    data = compared(scans(40))
    rows = [r for r in overlap_rows(data, options()) if r.group_by == "all" and r.metric == "dice"]
    assert [r.phase for r in rows] == ["ED", "ES", BOTH_PHASES]
    mean = data.overlaps.groupby("scan")["dice"].mean()
    assert rows[2].mean == pytest.approx(mean.mean(), rel=1e-12)
    assert rows[2].sd == pytest.approx(mean.std(), rel=1e-12)
    assert rows[2].median == pytest.approx(mean.median(), rel=1e-12)


def test_missing_distances_are_counted_only_where_many() -> None:
    data = compared(scans(40))
    overlaps = data.overlaps.copy()
    overlaps.loc[:3, "hd95_mm"] = np.nan
    values = {f.name: getattr(data, f.name) for f in fields(data)}
    data = Compared(**{**values, "overlaps": overlaps})
    rows = [r for r in overlap_rows(data, options()) if (r.group_by, r.phase) == ("all", "ED")]
    distance = next(r for r in rows if r.metric == "hd95_mm")
    assert (distance.n_scans, distance.n_without) == (36, None)
    internal = [r for r in overlap_rows(data, options(internal=True)) if r.metric == "hd95_mm"]
    assert internal[0].n_without == 4


# ------------------------------------------------------------------ equivalence


def test_a_group_with_another_bias_differs_from_the_rest() -> None:
    data = compared(scans(40), bias=0.0)
    pairs = data.pairs.copy()
    pairs.loc[:19, "model"] += 30.0
    values = {f.name: getattr(data, f.name) for f in fields(data)}
    found = list(equivalence_rows(Compared(**{**values, "pairs": pairs}), options()))
    women = next(r for r in found if r.group == "female" and r.kind != "bias")
    assert women.result == "different beyond margin"
    assert women.estimate == pytest.approx(30, abs=3)
    assert (women.n_people, women.n_rest, women.margin) == (20, 20, 3.0)
    alone = next(r for r in found if r.group == "SIEMENS" and r.kind != "bias")
    assert (alone.note, alone.estimate) == ("no rest", None)


def test_dice_is_compared_between_groups_where_it_has_a_margin() -> None:
    data = compared(scans(40))
    assert not [r for r in equivalence_rows(data, options()) if r.measure.startswith("dice")]
    found = [
        r
        for r in equivalence_rows(data, options(margin=("dice=0.5",)))
        if r.measure == "dice_lv_cavity"
    ]
    assert {r.kind for r in found} == {"difference from the rest"}
    assert {r.result for r in found if r.group_by == "sex"} == {"equivalent"}
    assert all(r.group_by != "all" for r in found)


# ------------------------------------------------------------------ repeat visits and rates


def test_repeat_visits_pair_the_scans_of_one_participant() -> None:
    rows = scans(20, visits=2)
    draw = np.random.default_rng(4)
    measurements = rows.assign(lv_ef_percent=draw.uniform(40, 60, 40))
    chosen = options(against=None, repeat_visits=("v0", "v1"))
    found = list(repeatability_rows(measurements, compared(rows), chosen))
    assert [r.source for r in found] == ["model", "reference"]
    first, second = (
        measurements.loc[measurements["visit"] == v, "lv_ef_percent"].to_numpy()
        for v in ("v0", "v1")
    )
    assert found[0].bias == pytest.approx((second - first).mean())
    assert found[0].sem == pytest.approx(np.sqrt(((second - first) ** 2).mean() / 2))
    hidden = list(
        repeatability_rows(
            measurements,
            compared(rows),
            options(against=None, repeat_visits=("v0", "v1"), min_cell=30),
        )
    )
    assert {(r.n_people, r.bias, r.note) for r in hidden} == {(None, None, "n<30")}


def test_visits_that_no_participant_has_are_an_error() -> None:
    rows = scans(5)
    chosen = options(against=None, repeat_visits=("v0", "v9"))
    with pytest.raises(InputError, match="v0 and v9"):
        evaluate("c", {}, rows.assign(lv_ef_percent=50.0), compared(rows), chosen)


def test_nothing_compared_is_an_error_that_counts_the_reasons() -> None:
    empty = scans(4).iloc[:0]
    with pytest.raises(InputError, match="None of the 0 scans"):
        evaluate("c", {}, empty, compared(empty), options())


def test_scopes_are_never_pooled_and_several_models_are_named() -> None:
    rows = scans(30)
    data = compared(rows)
    pairs = data.pairs.copy()
    pairs.loc[:14, "scope"] = "contoured-slices"
    values = {f.name: getattr(data, f.name) for f in fields(data)}
    data = Compared(**{**values, "pairs": pairs})
    result = evaluate("c", {"sha256": "a, b"}, rows, data, options())
    assert len(result.warnings) == 2
    every = [r for r in result.agreement if r.group_by == "all"]
    assert [(r.scope, r.n_people) for r in every] == [("contoured-slices", 15), ("whole-stack", 15)]


def test_few_events_are_not_shown() -> None:
    rows = pd.DataFrame(
        {
            "trial": "A",
            "participant_id": [str(n) for n in range(30)],
            "event": [True] * 4 + [False] * 26,
        }
    )
    found = list(rate_rows(rows, "failure", "all", 10))
    assert [(r.group_by, r.note) for r in found] == [("all", "events<10")]
    assert (found[0].n_people, found[0].n_events, found[0].percent) == (30, None, None)
    assert rate_rows(rows, "failure", "all", 1)[0].percent == pytest.approx(100 * 4 / 30)
    assert not list(rate_rows(rows.iloc[:0], "failure", "all", 1))
