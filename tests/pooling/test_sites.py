"""Federated pooling: site files give what the rows give, and tell no more than they must."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from cardiometa.cli.main import app
from tests.frozen.runs import draw_nothing
from tests.kit.pooling_tables import simulate_wide

OUTCOME = ["--outcome", "lv_ef_percent", "--baseline", "lv_ef_baseline"]
MODEL = [*OUTCOME, "--adjust", "sex", "--by", "sex,age", "--age-bands", "18,60,61"]


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr(Figure, "savefig", draw_nothing)


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def people(seed=4, trials=6, size=120):
    wide = simulate_wide(trials, seed, people=size, tau=1.5)
    wide["sex"] = np.where(np.random.default_rng(seed).random(len(wide)) < 0.5, "male", "female")
    wide["age_years"] = np.where(wide.index % 2 == 0, 50.0, 70.0) + wide.index % 7
    return wide


def summarise(folder, rows, name, *options):
    table = folder / f"{name}.csv"
    rows.to_csv(table, index=False)
    out = folder / name / "site.json"
    return run("summarise", table, "--out", out, *(options or MODEL)), out


def effects(out):
    table = pd.read_csv(out / "effects.csv", keep_default_na=False)
    key = ["analysis", "model", "term", "trial", "level", "ci_method", "note"]
    return table.set_index(key).sort_index()


def test_files_of_sites_give_what_the_rows_give(tmp_path):
    rows = people()
    first = rows["trial"].isin(["T1", "T3", "T5"])
    files = []
    for name, part in (("north", rows[first]), ("south", rows[~first])):
        done, out = summarise(tmp_path, part, name)
        assert done.exit_code == 0, done.output
        files.append(out)
        text = out.read_text()
        assert not any(person in text for person in part["participant_id"])
        assert str(tmp_path) not in text
    done = run("pool-trials", *files, "--out", tmp_path / "sites")
    assert done.exit_code == 0, done.output
    rows.to_csv(tmp_path / "all.csv", index=False)
    whole = run("pool-trials", tmp_path / "all.csv", "--out", tmp_path / "rows", *MODEL)
    assert whole.exit_code == 0, whole.output
    a, b = effects(tmp_path / "sites"), effects(tmp_path / "rows")
    assert list(a.index) == list(b.index)
    assert {"one-stage", "two-stage"} == set(a.index.get_level_values("model"))
    assert {"interaction", "subgroup", "pooled"} <= set(a.index.get_level_values("analysis"))
    for column in ("estimate", "se", "df", "ci_low", "ci_high", "p", "tau2", "pi_low", "p_holm"):
        x, y = (pd.to_numeric(t[column], errors="coerce").to_numpy() for t in (a, b))
        assert np.isnan(x).tolist() == np.isnan(y).tolist(), column
        assert x == pytest.approx(y, rel=1e-8, abs=1e-8, nan_ok=True), column
    assert (a["n_active"] == b["n_active"]).all()
    # What the files decide cannot be asked for otherwise.
    other = run("pool-trials", *files, "--out", tmp_path / "o", "--outcome", "lv_mass_g")
    assert other.exit_code == 2
    assert "outcome" in other.output


def test_sites_say_which_unadjusted_analyses_their_sums_cannot_give(tmp_path):
    """A replaced baseline has no change; complete baselines are not all who came to follow-up."""
    rows = people(trials=3)
    rows.loc[rows.index[::17], "lv_ef_baseline"] = np.nan
    for option, given, said in (
        ("mean", "follow-up only", "No sensitivity analysis change score"),
        ("complete", "change score", "No sensitivity analysis follow-up only"),
    ):
        model = [*OUTCOME, "--missing-baseline", option]
        done, site = summarise(tmp_path, rows, option, *model)
        assert done.exit_code == 0, done.output
        out = tmp_path / f"s-{option}"
        done = run("pool-trials", site, "--out", out, "--no-leave-one-out", "--verbose")
        assert done.exit_code == 0, done.output
        assert said in " ".join(done.output.split())
        rows.to_csv(tmp_path / "all.csv", index=False)
        whole = tmp_path / f"r-{option}"
        run("pool-trials", tmp_path / "all.csv", "--out", whole, "--no-leave-one-out", *model)
        one, other = (
            table[table["note"].str.contains(given)]
            for table in (pd.read_csv(o / "effects.csv") for o in (tmp_path / f"s-{option}", whole))
        )
        assert len(one) == 2
        assert one["estimate"].to_numpy() == pytest.approx(other["estimate"].to_numpy(), rel=1e-8)
        assert one["se"].to_numpy() == pytest.approx(other["se"].to_numpy(), rel=1e-8)


@pytest.mark.parametrize(
    "model",
    [
        ["--random-effects", "correlated", "--residual", "common", "--ci-one-stage", "wald"],
        ["--random-effects", "intercept", "--residual", "by-trial-and-arm"],
        ["--tau2", "ml", "--ci-one-stage", "satterthwaite"],
    ],
)
def test_one_stage_models_and_several_arms_are_the_same_of_files(tmp_path, model):
    rows = people(trials=5)
    rows["arm"] = np.where(
        (rows["arm"] == "active") & (rows["trial"] > "T2") & (rows.index % 4 < 2),
        "high",
        rows["arm"],
    )
    first = rows["trial"].isin(["T1", "T4"])
    files = [
        summarise(tmp_path, part, name, *OUTCOME)[1]
        for name, part in (("north", rows[first]), ("south", rows[~first]))
    ]
    done = run("pool-trials", *files, "--out", tmp_path / "sites", *model, "--no-leave-one-out")
    assert done.exit_code == 0, done.output
    rows.to_csv(tmp_path / "all.csv", index=False)
    whole = run(
        "pool-trials",
        tmp_path / "all.csv",
        "--out",
        tmp_path / "rows",
        *OUTCOME,
        *model,
        "--no-leave-one-out",
    )
    assert whole.exit_code == 0, whole.output
    a, b = effects(tmp_path / "sites"), effects(tmp_path / "rows")
    assert list(a.index) == list(b.index)
    joint = a[a.index.get_level_values("note").str.contains("all arms in one model")]
    assert set(joint.index.get_level_values("model")) == {"one-stage", "two-stage"}
    for column in ("estimate", "se", "df", "ci_low", "ci_high", "p", "tau2", "pi_low"):
        x, y = (pd.to_numeric(t[column], errors="coerce").to_numpy() for t in (a, b))
        assert x == pytest.approx(y, rel=1e-8, abs=1e-8, nan_ok=True), column


def test_parts_of_one_trial_at_two_sites_merge_exactly(tmp_path):
    rows = people(trials=3)
    half = rows.index % 2 == 0
    files = []
    for name, part in (("a", rows[half]), ("b", rows[~half])):
        done, out = summarise(tmp_path, part, name, *OUTCOME)
        assert done.exit_code == 0, done.output
        files.append(out)
    done = run("pool-trials", *files, "--out", tmp_path / "sites", "--no-leave-one-out")
    assert done.exit_code == 0, done.output
    rows.to_csv(tmp_path / "all.csv", index=False)
    whole = ("pool-trials", tmp_path / "all.csv", "--out", tmp_path / "rows", *OUTCOME)
    assert run(*whole, "--no-leave-one-out").exit_code == 0
    a, b = effects(tmp_path / "sites"), effects(tmp_path / "rows")
    assert a["estimate"].astype(float).to_numpy() == pytest.approx(
        b["estimate"].astype(float).to_numpy(), rel=1e-8
    )


def test_thin_cells_and_what_subtraction_would_tell_are_refused(tmp_path):
    rows = people(trials=3)
    few = rows.index[(rows["trial"] == "T1") & (rows["arm"] == "active")]
    rows = rows.drop(few[6:])
    rows.loc[rows.index[rows["trial"] == "T2"][:5], "sex"] = None
    done, out = summarise(tmp_path, rows, "site", *OUTCOME, "--by", "sex")
    assert done.exit_code == 0, done.output
    document = json.loads(out.read_text())
    assert [item["trial"] for item in document["trials"]] == ["T2", "T3"]
    assert [[t["trial"] for t in m["trials"]] for m in document["modifiers"]] == [["T3"]]
    refused = " ".join(document["refused"])
    assert "T1: fewer than 10 people in active" in refused
    assert "known by subtraction" in refused
    assert "T1" in done.stdout


def test_the_ledger_refuses_a_summary_that_differs_by_a_few_people(tmp_path):
    rows = people(trials=3)
    done, out = summarise(tmp_path, rows, "site", *OUTCOME)
    assert done.exit_code == 0
    before = out.read_bytes()
    again = run("summarise", tmp_path / "site.csv", "--out", out, *OUTCOME, "--overwrite")
    assert again.exit_code == 0
    assert out.read_bytes() == before
    rows.drop(index=3).to_csv(tmp_path / "site.csv", index=False)
    second = out.with_name("second.json")
    done = run("summarise", tmp_path / "site.csv", "--out", second, *OUTCOME)
    assert done.exit_code == 3
    assert "fewer than 10 people" in done.output
    assert not second.exists()
    ledger = (out.parent / "cardiometa-ledger.json").read_text()
    assert not any(person in ledger for person in rows["participant_id"])
    (out.parent / "cardiometa-ledger.json").write_text("{}")
    done = run("summarise", tmp_path / "site.csv", "--out", second, *OUTCOME)
    assert done.exit_code == 3
    assert "not a ledger" in done.output


def test_files_that_do_not_fit_together_or_are_damaged(tmp_path):
    rows = people(trials=4)
    first = rows["trial"].isin(["T1", "T2"])
    a = summarise(tmp_path, rows[first], "a", *OUTCOME)[1]
    b = summarise(tmp_path, rows[~first], "b", *OUTCOME, "--adjust", "sex")[1]
    done = run("pool-trials", a, b, "--out", tmp_path / "out")
    assert done.exit_code == 3
    assert "adjust" in done.output
    document = json.loads(a.read_text())
    document["trials"][0]["arms"]["active"]["cross_products"][0][0] = -1.0
    a.write_text(json.dumps(document))
    done = run("pool-trials", a, "--out", tmp_path / "out")
    assert done.exit_code == 3
    assert "damaged" in done.output
    a.write_text("[]")
    done = run("pool-trials", a, "--out", tmp_path / "out")
    assert done.exit_code == 3
    assert "summarise" in done.output
    assert not (tmp_path / "out").exists()
    done = run("pool-trials", tmp_path / "a.csv", tmp_path / "b.csv", "--out", tmp_path / "out")
    assert done.exit_code == 2
