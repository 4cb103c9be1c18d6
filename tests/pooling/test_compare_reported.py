"""Harmonised against reported values: what must be equal, what must scale, what is refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.errors import TableError
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import pool_trials
from cardiometa.statistics.meta import pool_estimates, pooled_batch, reml_batch
from tests.kit.pooling_tables import cohort_table, simulate_wide, to_long

OPTIONS = PoolingOptions(
    outcome="lv_ef_percent", min_cell=0, compare_reported=True, leave_one_out=False
)


def long_rows(seed=5, trials=5):
    return to_long(simulate_wide(trials, seed, people=80, tau=2.0))


def compared(rows, **changes):
    result = pool_trials(cohort_table(rows), replace(OPTIONS, **changes))
    return result, {row.quantity: row for row in result.comparison}


def test_equal_values_give_equal_numbers_without_width():
    rows = long_rows()
    result, table = compared(rows.assign(reported_lv_ef_percent=rows["lv_ef_percent"]))
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
