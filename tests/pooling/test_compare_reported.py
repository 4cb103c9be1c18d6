"""Harmonised against reported values: what must be equal, what must scale, what is refused."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.errors import TableError
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import pool_trials
from cardiometa.statistics.combat import combat
from cardiometa.statistics.meta import pool_estimates, pooled_batch, reml_batch
from tests.kit.pooling_tables import cohort_table, simulate_wide, to_long

OPTIONS = PoolingOptions(
    outcome="lv_ef_percent",
    min_cell=0,
    compare_reported=True,
    leave_one_out=False,
    model="two-stage",
)


def long_rows(seed=5, trials=5):
    return to_long(simulate_wide(trials, seed, people=80, tau=2.0))


def compared(rows, **changes):
    result = pool_trials(cohort_table(rows), replace(OPTIONS, **changes))
    return result, {row.quantity: row for row in result.comparison}


@cache
def equal_values():
    rows = long_rows()
    return compared(rows.assign(reported_lv_ef_percent=rows["lv_ef_percent"]), model="both")


def test_equal_values_give_equal_numbers_without_width():
    result, table = equal_values()
    assert set(table) == {"pooled effect", "standard error", "residual SD", "tau"}
    for row in table.values():
        assert row.reported == row.harmonised
        assert (row.difference, row.difference_low, row.difference_high) == (0, 0, 0)
        assert row.harmonised_low < row.harmonised_high
    harmonised, reported = (
        [r for r in result.effects if r.source == s and r.analysis == "pooled" and r.headline]
        for s in ("harmonised", "reported")
    )
    assert [r.model for r in reported] == [r.model for r in harmonised]
    assert [r.estimate for r in reported] == [r.estimate for r in harmonised]
    assert table["pooled effect"].harmonised == pytest.approx(harmonised[0].estimate)
    assert table["tau"].harmonised ** 2 == pytest.approx(harmonised[0].tau2, rel=1e-6)


def test_a_scale_of_the_core_laboratories_scales_all_and_a_constant_nothing():
    rows = long_rows()
    constant = 5.0 * rows["trial"].str[1:].astype(int)
    _, moved = compared(rows.assign(reported_lv_ef_percent=rows["lv_ef_percent"] + constant))
    _, larger = compared(rows.assign(reported_lv_ef_percent=1.2 * rows["lv_ef_percent"]))
    for quantity, row in moved.items():
        assert row.reported == pytest.approx(row.harmonised, rel=1e-6), quantity
        assert abs(row.difference_high - row.difference_low) < 1e-6
    for quantity, row in larger.items():
        assert row.reported == pytest.approx(1.2 * row.harmonised, rel=1e-6), quantity


def test_noise_of_the_readers_shows_as_residual_sd():
    rows = long_rows()
    noise = np.random.default_rng(2).normal(0, 4, len(rows))
    _, table = compared(rows.assign(reported_lv_ef_percent=rows["lv_ef_percent"] + noise))
    assert table["residual SD"].difference_low > 0
    effect = table["pooled effect"]
    assert effect.difference_low < 0 < effect.difference_high
    # Pairing: the difference is known better than either effect.
    assert (
        effect.difference_high - effect.difference_low < effect.reported_high - effect.reported_low
    )


def test_the_same_people_are_in_both():
    rows = long_rows()
    reported = rows["lv_ef_percent"].mask(rows.index % 7 == 0)
    result, _ = compared(rows.assign(reported_lv_ef_percent=reported))
    n = {
        s: sum(r.n_active for r in result.compared if r.source == s and r.trial)
        for s in ("harmonised", "reported")
    }
    assert n["harmonised"] == n["reported"]
    whole = next(r for r in result.effects if r.analysis == "pooled" and r.headline)
    assert n["reported"] < whole.n_active


def test_refused_without_reported_values():
    rows = long_rows().assign(reported_lv_mass_g=1.0)
    with pytest.raises(TableError, match="reported_lv_ef_percent") as error:
        compared(rows)
    assert "reported_lv_mass_g" in error.value.hint


def test_reml_of_many_equals_reml_of_one():
    draw = np.random.default_rng(3)
    v = draw.uniform(0.2, 3, (60, 6))
    y = draw.normal(0, np.sqrt(v + draw.uniform(0, 3, (60, 1))))
    tau2 = reml_batch(y, v)
    estimate, se = pooled_batch(y, v, tau2)
    for i in range(len(y)):
        one = pool_estimates(y[i], v[i], "reml")
        assert tau2[i] == pytest.approx(one.tau2, rel=1e-6, abs=1e-8)
        assert (estimate[i], se[i]) == pytest.approx((one.estimate, one.se_wald), rel=1e-6)
    assert 5 < (tau2 == 0).sum() < 55


def test_the_command_writes_table_figure_and_section(tmp_path):
    rows = long_rows()
    rows["reported_lv_ef_percent"] = 1.1 * rows["lv_ef_percent"] + 2
    rows.to_csv(tmp_path / "t.csv", index=False)
    done = CliRunner().invoke(
        app,
        [
            "pool-trials",
            str(tmp_path / "t.csv"),
            "--out",
            str(tmp_path / "out"),
            "--outcome",
            "lv_ef_percent",
            "--compare-reported",
            "--no-leave-one-out",
            "--model",
            "two-stage",
            "--verbose",
        ],
    )
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "out" / "compare_reported.csv").set_index("quantity")
    shown = f"{table.loc['residual SD', 'reported']:.3f}"
    assert shown in done.stdout
    assert shown in (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "out" / "figures" / "forest-reported.svg").is_file()
    effects = pd.read_csv(tmp_path / "out" / "effects.csv")
    assert set(effects["source"]) == {"harmonised", "reported"}


# ------------------------------------------------------------------ ComBat


def three_measures(seed=5):
    """Reported values with each laboratory's own factor, of three measures."""
    rows, draw = long_rows(seed), np.random.default_rng(seed)
    factor = 0.8 + 0.1 * rows["trial"].str[1:].astype(int)
    noise = draw.normal(0, 3, len(rows))
    rows["reported_lv_ef_percent"] = factor * (rows["lv_ef_percent"] + noise)
    edv = 180 + draw.normal(0, 30, len(rows))
    return rows.assign(reported_lv_edv_ml=factor * edv, reported_lv_esv_ml=factor * 0.6 * edv)


def lines_of(rows):
    """ComBat's intercept and slope of the outcome by trial, from the definition."""
    names = ["lv_ef_percent", "lv_edv_ml", "lv_esv_ml"]
    values = rows[[f"reported_{name}" for name in names]].to_numpy()
    trials = rows["trial"].to_numpy()
    parts = {name: values[trials == name] for name in sorted(set(trials))}
    fit = combat(
        np.array([len(part) for part in parts.values()]),
        np.array([part.mean(axis=0) for part in parts.values()]),
        np.array([part.var(axis=0) * len(part) for part in parts.values()]),
    )
    return {
        trial: (fit.intercept[place, 0], fit.slope[place, 0]) for place, trial in enumerate(parts)
    }


def test_combat_is_the_analysis_of_the_values_moved_by_its_lines():
    rows = three_measures()
    _, table = compared(rows)
    lines = lines_of(rows)
    moved = rows.assign(
        lv_ef_percent=[
            lines[trial][0] + lines[trial][1] * value
            for trial, value in zip(rows["trial"], rows["reported_lv_ef_percent"], strict=True)
        ]
    )
    again, _ = compared(moved.assign(reported_lv_ef_percent=moved["lv_ef_percent"]))
    row = next(r for r in again.effects if (r.analysis, r.ci_method) == ("pooled", "wald"))
    assert table["pooled effect"].combat == pytest.approx(row.estimate, rel=1e-8)
    assert table["tau"].combat ** 2 == pytest.approx(row.tau2, rel=1e-6)
    assert {row.combat_measures for row in table.values()} == {3}
    for row in table.values():
        assert row.combat_difference == pytest.approx(row.combat - row.harmonised)
        assert row.combat_low < row.combat < row.combat_high


def test_combat_removes_a_scale_and_not_what_cancels():
    rows = long_rows()
    factor = 0.8 + 0.1 * rows["trial"].str[1:].astype(int)
    reported = (factor * rows["lv_ef_percent"]).clip(1, 99)
    _, scaled = compared(rows.assign(reported_lv_ef_percent=reported))
    _, plain = equal_values()
    shift = 3.0 * rows["trial"].str[1:].astype(int)
    _, moved = compared(rows.assign(reported_lv_ef_percent=rows["lv_ef_percent"] + shift))
    assert abs(scaled["residual SD"].reported / scaled["residual SD"].harmonised - 1) > 0.05
    for quantity, row in plain.items():
        # One measure: the trial's scale is its own SD, whatever the laboratory's factor was.
        ratio = row.combat / scaled[quantity].combat
        assert ratio == pytest.approx(plain["residual SD"].combat / scaled["residual SD"].combat)
        assert moved[quantity].combat == pytest.approx(row.combat, rel=1e-9)
        assert row.combat_measures == 1


def test_one_trial_has_nothing_to_harmonise():
    rows = three_measures()
    _, table = compared(rows[rows["trial"] == "T1"])
    assert {row.combat for row in table.values()} == {None}
    assert table["pooled effect"].reported is not None


@pytest.mark.parametrize("fault", ["code", "word", "hole"])
def test_a_measure_that_is_not_whole_is_not_learnt_from(fault):
    rows = three_measures()
    value = {"code": -99.0, "word": "poor quality", "hole": np.nan}[fault]
    column = rows["reported_lv_edv_ml"].astype(object)
    column.iloc[7] = value
    _, table = compared(rows.assign(reported_lv_edv_ml=column))
    assert table["tau"].combat_measures == 2


def test_outcome_and_baseline_of_one_row_are_two_scans_of_one_measure():
    wide = simulate_wide(4, 5, people=60, tau=1.0)
    rows = wide.assign(
        reported_lv_ef_percent=1.1 * wide["lv_ef_percent"],
        reported_lv_ef_baseline=1.1 * wide["lv_ef_baseline"],
    )
    _, table = compared(rows, baseline_column="lv_ef_baseline")
    row = table["pooled effect"]
    assert row.combat_measures == 1
    assert row.combat_low < row.combat < row.combat_high
