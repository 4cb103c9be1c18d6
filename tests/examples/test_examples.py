"""The examples run as their pages say."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.cohort.load import load_cohort
from tests.kit.data import shared_data

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_own_table_gives_what_r_gives(tmp_path: Path) -> None:
    """R 4.2.2, metafor 3.8-1, on the same file::

        fit <- function(x) summary(lm(EF_12M ~ I(TRT == "Drug") + EF_BASE + AGE + GENDER, x))
        r <- t(sapply(split(d, d$STUDY), function(x) fit(x)$coef[2, 1:2]))
        rma(r[, 1], sei = r[, 2], method = "REML", test = "adhoc")

    metafor stops its REML steps at 1e-5 in tau2, so the pooled row agrees to about 1e-8.
    """
    folder = EXAMPLES / "own_table"
    out = tmp_path / "effect"
    done = CliRunner().invoke(
        app,
        [
            "pool-trials",
            str(folder / "synthetic_trials.csv"),
            *("--config", str(folder / "columns.toml")),
            *("--adjust", "age,sex", "--out", str(out)),
        ],
    )
    assert done.exit_code == 0, done.output
    with (out / "effects.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    headline = next(r for r in rows if r["analysis"] == "pooled" and r["headline"] == "true")
    wanted = {
        "estimate": 3.3739860737,
        "se": 1.3891496769,
        "ci_low": -0.4829117472,
        "ci_high": 7.2308838946,
        "tau2": 2.6660293721**2,
    }
    for name, value in wanted.items():
        assert float(headline[name]) == pytest.approx(value, rel=1e-6), name
    trials = {r["trial"]: float(r["estimate"]) for r in rows if r["analysis"] == "trial"}
    assert trials["BETA"] == pytest.approx(8.0633984, abs=1e-6)


def _effects(out: Path) -> dict[tuple[str, ...], dict[str, str]]:
    named = ("analysis", "model", "effect", "term", "trial", "level", "ci_method", "note")
    with (out / "effects.csv").open(newline="") as stream:
        return {tuple(row[n] for n in named): row for row in csv.DictReader(stream)}


def _run(*arguments: str | Path) -> None:
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == 0, done.output


def test_files_of_two_sites_pool_as_their_rows_do(tmp_path: Path) -> None:
    folder = EXAMPLES / "own_table"
    plan = ("--config", folder / "columns.toml")
    header, *rows = (folder / "synthetic_trials.csv").read_text().splitlines()
    sites = []
    for name, trials in {"a": ("ALPHA", "BETA", "GAMMA"), "b": ("EPSILON", "ZETA")}.items():
        table, site = tmp_path / f"{name}.csv", tmp_path / f"{name}.json"
        kept = [row for row in rows if row.split(",")[0] in trials]
        table.write_text("\n".join([header, *kept]) + "\n")
        ledger = tmp_path / f"ledger_{name}.json"
        _run("summarise", table, *plan, "--out", site, "--ledger", ledger)
        sites.append(site)
    _run("pool-trials", *sites, "--out", tmp_path / "sums")
    _run("pool-trials", folder / "synthetic_trials.csv", *plan, "--out", tmp_path / "rows")
    sums, whole = _effects(tmp_path / "sums"), _effects(tmp_path / "rows")
    shared = set(sums) & set(whole)
    assert {key[0] for key in shared} >= {"trial", "pooled", "leave-one-out"}
    assert {key[1] for key in shared} >= {"two-stage", "one-stage"}
    for key in shared:
        for number in ("estimate", "se", "ci_low", "ci_high"):
            wanted = float(whole[key][number] or "nan")
            assert float(sums[key][number] or "nan") == pytest.approx(
                wanted, rel=1e-8, nan_ok=True
            ), (key, number)


@pytest.mark.data
def test_the_acdc_cohort_can_be_loaded(tmp_path: Path) -> None:
    script = EXAMPLES / "acdc" / "make_cohort.py"
    source = shared_data() / "acdc"
    subprocess.run([sys.executable, str(script), str(source), str(tmp_path)], check=True)
    cohort = load_cohort(tmp_path / "cohort.toml")
    assert len(cohort.scans) == len(cohort.participants) == 80
    assert len(cohort.trials) == 3
    assert cohort.participants["healthy"].sum() == 16
    assert "reported_lv_edv_ml" in cohort.reported
