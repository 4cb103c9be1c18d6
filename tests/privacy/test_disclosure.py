"""Attacks on released tables: one heart's value, or the size of a hidden group, by arithmetic.

Each attack is first shown to work on what the program would print without its guard (with
``--internal``, or from the raw numbers), so that its failure afterwards means something.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cardiometa.privacy.suppression import is_disclosive
from tests.kit.command_runs import Bench
from tests.kit.pooling_tables import simulate_wide
from tests.kit.reference_tables import people_frame


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(top=tmp_path)


def table(bench: Bench, frame: pd.DataFrame, name: str = "table.csv") -> Path:
    path = bench.top / name
    frame.to_csv(path, index=False)
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def number(text: str) -> float | None:
    return float(text) if text else None


# ------------------------------------------------------------------ reference ranges


def moments(rows: list[dict[str, str]], **where: str) -> tuple[int | None, float, float] | None:
    """n, mean and SD of a group from its printed parametric limits, as anybody can work out."""
    mine = [r for r in rows if all(r[k] == v for k, v in where.items())]
    limits = {float(r["centile"]): number(r["limit"]) for r in mine}
    if not mine or any(v is None for v in limits.values()):
        return None
    low, middle, high = (limits[c] for c in (2.5, 50.0, 97.5))
    assert low is not None
    assert middle is not None
    assert high is not None
    n = int(float(mine[0]["n"])) if mine[0]["n"] else None
    return n, middle, (high - low) / (2 * 1.959963984540054)


def one_left_over(
    whole: tuple[int | None, float, float], part: tuple[int | None, float, float]
) -> list[float]:
    """The value of the one person by whom ``whole`` is larger than ``part``, where one fits.

    The size of the part may be withheld: each is tried, and the SDs tell which one is right.
    """
    n, mean, sd = whole
    sizes = range(2, 400) if n is None else [n]
    found = []
    for size in sizes:
        x = size * mean - (size - 1) * part[1]
        squares = (size - 2) * part[2] ** 2 + (size - 1) * part[1] ** 2 + x**2 - size * mean**2
        if math.isclose(squares, (size - 1) * sd**2, rel_tol=1e-9):
            found.append(x)
    return found


RANGES = ("--limits", "parametric", "--method", "strata", "--min-n", "40", "--all")


def a_stranger(seed: int = 4) -> tuple[pd.DataFrame, float]:
    """Men of one age band: 100 white in two trials, and one black man in the first."""
    frame = people_frame(400, seed).head(101).reset_index(drop=True)
    frame["sex"], frame["age_years"], frame["ethnicity"] = "male", 45.5, "white"
    frame["trial"] = ["ALPHA", "BETA"] * 50 + ["ALPHA"]
    frame.loc[100, "ethnicity"] = "black"
    frame["participant_id"] = [f"ZQID{n:04}" for n in range(101)]
    return frame, float(frame.loc[100, "lv_edv_ml"])


@pytest.mark.parametrize("internal", [True, False])
def test_all_less_the_groups_is_nobodys_value(bench: Bench, internal: bool) -> None:
    frame, secret = a_stranger()
    out = bench.top / "out"
    more = ("--internal", "--min-cell", "1") if internal else ()
    bench.run(
        "reference-ranges", table(bench, frame), "--out", out, *RANGES, *more,
        "--measure", "lv_edv_ml", "--by", "sex,ethnicity,age",
    )  # fmt: skip
    rows = rows_of(out / "reference_ranges.csv")
    whole = moments(rows, sex="male", ethnicity="all", age_low="40.0")
    white = moments(rows, sex="male", ethnicity="white", age_low="40.0")
    found = one_left_over(whole, white) if whole and white else []
    assert any(math.isclose(x, secret, rel_tol=1e-6) for x in found) == internal
    if internal:
        return
    # The portable model, the partition tests and the page hold no more than the table.
    model = json.loads((out / "reference_ranges.json").read_text())
    means = [s["score"]["mean"] for s in model["strata"] if s["score"].get("mean") is not None]
    for row in rows_of(out / "partition.csv"):
        means += [m for m in (number(row["mean_a"]), number(row["mean_b"])) if m is not None]
    values = np.array(means)
    for a, b in itertools.permutations(values, 2):
        assert not math.isclose(101 * a - 100 * b, secret, rel_tol=1e-6)
    assert white is not None
    assert "limits-withheld" in (out / "reference_ranges.csv").read_text()


@pytest.mark.parametrize("internal", [True, False])
def test_the_pool_less_a_trial_is_nobodys_value(bench: Bench, internal: bool) -> None:
    """A trial that gave one person: what is left without it would give that person's value."""
    frame, _ = a_stranger(5)
    frame["ethnicity"] = "white"
    frame.loc[100, "trial"] = "OMEGA"
    secret = float(frame.loc[100, "lv_edv_ml"])
    out = bench.top / "out"
    more = ("--internal", "--min-cell", "1") if internal else ()
    bench.run(
        "reference-ranges", table(bench, frame), "--out", out, *RANGES, *more,
        "--measure", "lv_edv_ml", "--by", "sex,age",
    )  # fmt: skip
    whole = moments(rows_of(out / "reference_ranges.csv"), sex="male", age_low="40.0")
    assert whole is not None
    by_trial = rows_of(out / "by_trial.csv")
    left = {
        r["trial"]: {
            float(q["centile"]): number(q["limit_without"])
            for q in by_trial
            if q["trial"] == r["trial"]
        }
        for r in by_trial
    }
    spans = {
        end: {float(q["centile"]): number(q[end]) for q in by_trial}
        for end in ("span_low", "span_high")
    }
    found: list[float] = []
    for limits in (*left.values(), *spans.values()):
        if all(limits.get(c) is not None for c in (2.5, 50.0, 97.5)):
            sd = (limits[97.5] - limits[2.5]) / (2 * 1.959963984540054)
            found += one_left_over(whole, (None, limits[50.0], sd))
    # Two middles may be one of each span: the mean alone, whatever the SD.
    found += [101 * whole[1] - 100 * m for m in (s[50.0] for s in spans.values()) if m is not None]
    assert any(math.isclose(x, secret, rel_tol=1e-6) for x in found) == internal


def test_pages_for_release_hold_nobody(bench: Bench) -> None:
    """No id, no row of a person, no mark for each person, no smallest and largest value."""
    frame = people_frame(900, 7)
    frame["participant_id"] = [f"ZQID{n:04}" for n in range(len(frame))]
    out = bench.top / "out"
    bench.run(
        "reference-ranges", table(bench, frame), "--out", out, "--measure", "lv_edv_ml",
        "--bootstrap", "200",
    )  # fmt: skip
    values = frame.loc[frame["healthy"], "lv_edv_ml"].to_numpy()
    ends = [repr(float(v)) for v in (values.min(), values.max())]
    for path in sorted(out.rglob("*")):
        if not path.is_file() or path.name == "exclusions.csv":
            continue
        text = path.read_text()
        assert "ZQID" not in text, path.name
        for end in ends:
            assert end not in text, path.name


def test_figures_draw_no_people(bench: Bench) -> None:
    """A drawing of curves and limits has as many coordinates for three times the people."""
    counts = []
    for size in (700, 2100):
        frame = people_frame(size, 7).assign(healthy=True)
        out = bench.top / str(size)
        bench.run(
            "reference-ranges", table(bench, frame), "--out", out, "--measure", "lv_edv_ml",
            "--bootstrap", "200", "--by", "sex,age",
        )  # fmt: skip
        drawn = {
            p.name: len(re.findall(r"[\d.]+ [\d.]+", p.read_text())) for p in out.glob("figures/*")
        }
        counts.append(drawn)
    few, many = counts
    assert few.keys() == many.keys()
    assert list(few) == ["limits_lv_edv_ml.svg"]
    for name, number_of in many.items():
        assert number_of < 1.3 * few[name], name


def test_thin_groups_have_no_curve_and_no_count(bench: Bench) -> None:
    """Three people of a group: no curve line, no row, no n, and no n by difference."""
    frame = people_frame(900, 8)
    frame["healthy"] = True
    frame.loc[frame["ethnicity"] == "chinese", "ethnicity"] = "white"
    frame["ethnicity"] = frame["ethnicity"].fillna("white")
    frame.loc[[3, 70, 200], "ethnicity"] = "chinese"
    out = bench.top / "out"
    bench.run(
        "reference-ranges", table(bench, frame), "--out", out, "--measure", "lv_edv_ml",
        "--bootstrap", "200", "--method", "lms",
    )  # fmt: skip
    rows = rows_of(out / "reference_ranges.csv")
    assert not any(r["ethnicity"] == "chinese" and r["limit"] for r in rows)
    for sex in ("male", "female"):
        counts = {r["ethnicity"]: number(r["n"]) for r in rows if r["sex"] == sex}
        assert counts.get("chinese") is None
        known = [v for k, v in counts.items() if k not in ("all", "chinese") and v is not None]
        if counts.get("all") is not None and len(known) == len(counts) - 2:
            assert not 0 < counts["all"] - sum(known) < 10
    model = json.loads((out / "reference_ranges.json").read_text())
    assert "chinese" not in json.dumps(model["curves"])


# ------------------------------------------------------------------ pooled trials


def cohort() -> pd.DataFrame:
    """Five trials with few deaths, withdrawals and missing values in each arm."""
    frame = simulate_wide(trials=5, people=60)
    draw = np.random.default_rng(2)
    frame["participant_id"] = [f"ZQID{n:05}" for n in range(len(frame))]
    frame["death_day"] = np.where(draw.random(len(frame)) < 0.06, 100.0, np.nan)
    gone = (draw.random(len(frame)) < 0.05) & frame["death_day"].isna()
    frame["withdrawal_day"] = np.where(gone, 50.0, np.nan)
    lost = draw.random(len(frame)) < 0.04
    frame.loc[frame["death_day"].notna() | gone | lost, "lv_ef_percent"] = np.nan
    frame.loc[draw.random(len(frame)) < 0.03, "lv_ef_baseline"] = np.nan
    return frame


# Sums that hold in each row; ``rest`` parts are not printed at all.
SUMS = (
    ("randomised", "died", "alive"),
    ("randomised", "no_outcome", "paired", "followup_only"),
    ("randomised", "no_baseline", "paired", "baseline_only"),
)


def worked_out(row: dict[str, str]) -> dict[str, int]:
    """Hidden counts that the printed ones of a row give back, by the sums that must hold."""
    known = {k: int(float(v)) for k, v in row.items() if k in {n for s in SUMS for n in s} and v}
    told: dict[str, int] = {}
    for _ in range(4):
        for total, *parts in SUMS:
            hidden = [name for name in (total, *parts) if name not in known]
            if len(hidden) != 1:
                continue
            (name,) = hidden
            value = (
                sum(known[p] for p in parts)
                if name == total
                else known[total] - sum(known[p] for p in parts if p != name)
            )
            known[name] = told[name] = value
    return told


def test_counts_by_arm_give_no_hidden_count_back(bench: Bench) -> None:
    frame = cohort()
    out = bench.top / "out"
    bench.run(
        "pool-trials", table(bench, frame), "--outcome", "lv_ef_percent", "--baseline",
        "lv_ef_baseline", "--by", "sex", "--out", out,
    )  # fmt: skip
    rows = rows_of(out / "participants_by_arm.csv")
    assert len(rows) == 10
    for row in rows:
        for name, value in worked_out(row).items():
            assert not 0 < value < 10, (row["trial"], row["arm"], name, value)
        # Who died stands in no difference either, and no mean is of a few people.
        if row["alive"] and row["randomised"]:
            assert not 0 < int(row["randomised"]) - int(row["alive"]) < 10
        if not row["n_baseline_others"]:
            assert not row["baseline_others"]
    for path in sorted(out.rglob("*")):
        if path.suffix in (".docx", ".png") or path.name == "exclusions.csv":
            continue
        if path.is_file():
            assert "ZQID" not in path.read_text(), path.name


def test_counts_of_exclusions_close_without_the_small_ones(bench: Bench) -> None:
    """The print-out and the page name reasons; the few of one reason are not told, nor implied."""
    frame = cohort()
    out = bench.top / "out"
    done = bench.run(
        "pool-trials", table(bench, frame), "--outcome", "lv_ef_percent", "--baseline",
        "lv_ef_baseline", "--out", out, "--json",
    )  # fmt: skip
    document = json.loads(done.text[done.text.index("{") : done.text.rindex("}") + 1])
    account = document["accounting"]
    counts = list(account["excluded"].values())
    gone = account["participants"] - account["analysed"]
    rest = gone - sum(n for n in counts if n is not None)
    assert rest == 0 or rest >= 10
    assert not any(n is not None and 0 < n < 10 for n in counts)


def least_squares(rows: list[dict[str, str]], trials: list[str]) -> list[float]:
    """What the pooled effect, less the trials that are shown, leaves for the one that is not.

    Weights are 1/(SE² + τ²), as the table says; the hidden weight is what the pooled SE lacks.
    """
    shown = {r["trial"]: r for r in rows if r["analysis"] == "trial" and r["estimate"] and r["se"]}
    found = []
    for pooled in rows:
        mine = pooled["analysis"] == "pooled" and pooled["model"] == "two-stage"
        if not mine or pooled["ci_method"] != "wald" or not pooled["se"] or not pooled["tau2"]:
            continue
        tau2, whole = float(pooled["tau2"]), 1 / float(pooled["se"]) ** 2
        weights = {t: 1 / (float(r["se"]) ** 2 + tau2) for t, r in shown.items()}
        rest = whole - sum(weights.values())
        total = sum(w * float(shown[t]["estimate"]) for t, w in weights.items())
        if len(shown) == len(trials) - 1 and rest > 0:
            found.append((whole * float(pooled["estimate"]) - total) / rest)
    left = [r for r in rows if r["analysis"] == "leave-one-out" and r["estimate"]]
    # What is left without it must not stand there.
    return found + [math.nan for r in left if r["trial"] not in shown]


@pytest.mark.parametrize("internal", [True, False])
def test_the_pooled_effect_less_the_others_is_no_thin_trial(bench: Bench, internal: bool) -> None:
    frame = simulate_wide(trials=5, people=60)
    few = frame[frame["trial"] == "T3"].groupby("arm").head(4).index
    frame = frame[(frame["trial"] != "T3") | frame.index.isin(few)]
    path = table(bench, frame)
    common = ("--outcome", "lv_ef_percent", "--effect", "follow-up", "--model", "two-stage")
    out = bench.top / "out"
    more = ("--min-cell", "1") if internal else ()
    bench.run("pool-trials", path, *common, *more, "--out", out)
    rows = rows_of(out / "effects.csv")
    thin = frame[frame["trial"] == "T3"].groupby("arm")["lv_ef_percent"].mean()
    secret = thin["active"] - thin["control"]
    if internal:
        # Shown to be enough: leave its row away, and the pooled row gives it back.
        rows = [r for r in rows if not (r["trial"] == "T3" and r["analysis"] == "trial")]
    found = least_squares(rows, ["T1", "T2", "T3", "T4", "T5"])
    back = any(math.isclose(x, secret, rel_tol=1e-4) for x in found) or any(map(math.isnan, found))
    assert back == internal


# ------------------------------------------------------------------ sums of a site


def summarise(bench: Bench, frame: pd.DataFrame, name: str, *more: str, code: int = 0) -> dict:
    path = bench.top / f"{name}.json"
    done = bench.run(
        "summarise", table(bench, frame, f"{name}.csv"), "--outcome", "lv_ef_percent",
        "--baseline", "lv_ef_baseline", "--out", path, *more, code=code,
    )  # fmt: skip
    return json.loads(path.read_text()) if code == 0 else {"text": done.text}


def sums_of(document: dict, arm: str) -> tuple[int, np.ndarray, list[str]]:
    """n and the sums of each column of an arm, as its mean times n."""
    (trial,) = document["trials"]
    part = trial["arms"][arm]
    return part["n"], np.array(part["means"]) * part["n"], trial["columns"]


def one_trial(people: int = 120) -> pd.DataFrame:
    frame = simulate_wide(trials=1, people=people).reset_index(drop=True)
    frame["arm"] = ["active", "control"] * (len(frame) // 2)
    frame["sex"] = ["male", "male", "female", "female"] * (len(frame) // 4)
    return frame


def test_n_less_one_is_refused(bench: Bench) -> None:
    """The same people but one; and the file that would have been written gives the heart."""
    frame = one_trial()
    secret = float(frame.loc[0, "lv_ef_percent"])
    one = summarise(bench, frame, "a")
    apart = ("--ledger", str(bench.top / "other.json"))
    two = summarise(bench, frame.drop(index=0), "b", *apart)
    found = sums_of(one, "active")[1] - sums_of(two, "active")[1]
    assert any(math.isclose(x, secret, rel_tol=1e-6) for x in found)
    refused = summarise(bench, frame.drop(index=0), "c", code=3)
    assert "fewer than 10 people" in refused["text"]
    assert not (bench.top / "c.json").exists()


def test_everybody_less_the_women_less_the_other_men_is_refused(bench: Bench) -> None:
    """Three files of which no two differ by a few people, and together give one heart."""
    frame = one_trial()
    women, men = frame[frame["sex"] == "female"], frame[frame["sex"] == "male"].drop(index=0)
    secret = float(frame.loc[0, "lv_ef_percent"])
    parts = {"all": frame, "women": women, "men": men}
    own = [
        summarise(bench, part, f"own-{name}", "--ledger", str(bench.top / f"{name}.ledger"))
        for name, part in parts.items()
    ]
    sums = [sums_of(document, "active")[1] for document in own]
    found = sums[0] - sums[1] - sums[2]
    assert any(math.isclose(x, secret, rel_tol=1e-6) for x in found)
    summarise(bench, frame, "all")
    summarise(bench, women, "women")
    refused = summarise(bench, men, "men", code=3)
    assert "together with the earlier summaries" in refused["text"]
    # All the men are what is known already: nothing new is told.
    summarise(bench, frame[frame["sex"] == "male"], "all-men")


def test_what_several_sets_tell_is_what_linear_algebra_says() -> None:
    whole, third = frozenset(range(60)), frozenset(range(20))
    assert not is_disclosive([whole, third], 10)
    assert is_disclosive([whole, frozenset(range(55))], 10)
    assert not is_disclosive([whole, frozenset(range(50))], 10)
    halves = [frozenset(range(0, 60, 2)), frozenset(range(1, 59, 2))]
    assert not is_disclosive(halves, 10)
    assert is_disclosive([whole, *halves], 10)
    # Overlaps of a few alone are no leak: nothing isolates them.
    assert not is_disclosive([frozenset(range(33)), frozenset(range(30, 60))], 10)
    assert is_disclosive([frozenset(range(33)), frozenset(range(30, 60)), whole], 10)
    # Two classes that only come together: three and four people, of seven in all.
    seven = frozenset(range(53))
    assert is_disclosive([whole, seven, frozenset(range(20, 57))], 10)


def test_an_unknown_ledger_is_said(bench: Bench) -> None:
    frame = one_trial()
    path = bench.top / "x.json"
    done = bench.run(
        "summarise", table(bench, frame), "--outcome", "lv_ef_percent", "--baseline",
        "lv_ef_baseline", "--out", path,
    )  # fmt: skip
    assert "A new ledger was begun" in done.text
