"""Runs whose pages several tests read, made once for the session."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cardiometa.cli.main import app
from tests.kit.pooling_tables import simulate_wide
from tests.kit.reference_tables import people_frame
from tests.kit.segmented_out import make_out


@dataclass(frozen=True)
class Run:
    """An output folder: its page, its tables and its figures."""

    out: Path
    printed: str

    @property
    def html(self) -> str:
        return (self.out / "report.html").read_text(encoding="utf-8")

    def rows(self, name: str, **cells: str) -> list[dict[str, str]]:
        """Rows of a CSV file, those with these cells."""
        with (self.out / name).open(newline="", encoding="utf-8") as stream:
            found = list(csv.DictReader(stream))
        return [row for row in found if all(row[k] == v for k, v in cells.items())]

    def row(self, name: str, **cells: str) -> dict[str, str]:
        (found,) = self.rows(name, **cells)
        return found

    def svg(self, name: str) -> str:
        return (self.out / "figures" / f"{name}.svg").read_text(encoding="utf-8")


def run(*arguments: object, out: Path) -> Run:
    done = CliRunner().invoke(app, [*map(str, arguments), "--out", str(out)])
    assert done.exit_code == 0, (done.output, done.exception)
    return Run(out=out, printed=done.output)


def trials_frame() -> pd.DataFrame:
    """Twelve trials with a trial-level covariate, a region and rows marked for review."""
    frame = simulate_wide(trials=12, seed=4, people=44)
    draw = np.random.default_rng(5)
    number = frame["trial"].str[1:].astype(int)
    frame["year"] = 2000 + number
    frame["region"] = np.where(number % 2 == 0, "north", "south")
    frame["status"] = np.where(draw.random(len(frame)) < 0.05, "review", "ok")
    frame["reported_lv_ef_percent"] = frame["lv_ef_percent"] + draw.normal(1, 3, len(frame))
    frame["reported_lv_ef_baseline"] = frame["lv_ef_baseline"] + draw.normal(1, 3, len(frame))
    # The first trial's controls are fewer than the smallest cell.
    few = frame[(frame["trial"] == "T1") & (frame["arm"] == "control")].index[8:]
    frame = frame.drop(index=few)
    missing = frame[frame["trial"].isin(["T2", "T3"])].index[:14]
    frame.loc[missing, "lv_ef_percent"] = np.nan
    return frame


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


OUTCOME = ("--outcome", "lv_ef_percent", "--baseline", "lv_ef_baseline")


@pytest.fixture(scope="session")
def pooled(folder: Path) -> Run:
    """A pooled analysis with modifiers, a spline, meta-regressions and both models."""
    path = folder / "trials.csv"
    trials_frame().to_csv(path, index=False)
    asked = ("--by", "sex,age_years", "--spline", "3", "--meta-regression", "year,region")
    return run("pool-trials", path, *OUTCOME, *asked, "-v", out=folder / "pooled")


@pytest.fixture(scope="session")
def compared(folder: Path) -> Run:
    """Harmonised and reported values of four trials."""
    frame = trials_frame()
    path = folder / "reported.csv"
    frame[frame["trial"].isin(["T4", "T5", "T6", "T7"])].to_csv(path, index=False)
    asked = ("--compare-reported", "--model", "two-stage", "--no-leave-one-out")
    return run("pool-trials", path, *OUTCOME, *asked, out=folder / "compared")


@pytest.fixture(scope="session")
def events(folder: Path) -> Run:
    """An odds ratio of five trials."""
    frame = simulate_wide(trials=5, seed=8, people=90)
    draw = np.random.default_rng(9)
    chance = np.where(frame["arm"] == "active", 0.22, 0.35)
    frame["mace"] = (draw.random(len(frame)) < chance).astype(int)
    path = folder / "events.csv"
    frame.drop(columns=["lv_ef_baseline", "lv_ef_percent"]).to_csv(path, index=False)
    asked = ("--outcome", "mace", "--effect", "odds-ratio")
    return run("pool-trials", path, *asked, out=folder / "events")


@pytest.fixture(scope="session")
def arms(folder: Path) -> Run:
    """Four trials with two active arms."""
    frame = simulate_wide(trials=4, seed=12, people=60)
    second = (frame["arm"] == "active") & (np.random.default_rng(3).random(len(frame)) < 0.5)
    path = folder / "arms.csv"
    frame.assign(arm=frame["arm"].mask(second, "high dose")).to_csv(path, index=False)
    asked = ("--control", "control", "--by", "sex", "--model", "two-stage")
    return run("pool-trials", path, *OUTCOME, *asked, out=folder / "arms")


@pytest.fixture(scope="session")
def ranges(folder: Path) -> Run:
    """Reference ranges by age bands of two measures."""
    path = folder / "people.csv"
    people_frame(900).to_csv(path, index=False)
    measures = ("--measure", "lv_edv_ml", "--measure", "lv_ef_percent")
    asked = ("--method", "strata", "--bootstrap", 200, "--healthy-rule", "volunteers")
    return run("reference-ranges", path, *measures, *asked, out=folder / "ranges")


@pytest.fixture(scope="session")
def curves(folder: Path) -> Run:
    """Reference curves over age of one measure, by sex."""
    path = folder / "adults.csv"
    people_frame(700, seed=5).to_csv(path, index=False)
    asked = ("--method", "linear", "--by", "sex,age", "--healthy-rule", "volunteers")
    return run("reference-ranges", path, "--measure", "lv_edv_ml", *asked, out=folder / "curves")


@pytest.fixture(scope="session")
def segmented(folder: Path) -> tuple[Path, Path]:
    """An output of segment and the folder of its labels."""
    made = folder / "made"
    made.mkdir()
    out, _, labels = make_out(made)
    return out, labels


@pytest.fixture(scope="session")
def evaluated(folder: Path, segmented: tuple[Path, Path]) -> Run:
    """An evaluation against labels, as it may be released."""
    out, labels = segmented
    asked = ("--against", "labels", "--labels", labels, "--bootstrap", 200)
    return run("evaluate", out, *asked, out=folder / "evaluated")
