"""``--method meta``: people and summaries alike, few trials told so, bad input refused."""

from __future__ import annotations

import csv
import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.errors import EstimationError, TableError, UsageError
from cardiometa.reference.meta import summary_ranges, summary_rows
from cardiometa.reference.options import ReferenceOptions
from cardiometa.reference.ranges import reference_ranges
from cardiometa.reports.pages.reference import result_blocks, rules_table
from tests.kit.reference_tables import people_frame, table

TRIALS = ("A", "B", "C", "D", "E", "F")
HEADLINE = ("frequentist", "marginal")
SHIFT = dict(zip(TRIALS, (-9.0, -4.0, 0.0, 2.0, 5.0, 11.0), strict=True))


def _people(trials=TRIALS, n=1800, seed=4):
    frame = people_frame(n, seed)
    rng = np.random.default_rng(seed)
    frame["trial"] = rng.choice(trials, n)
    frame["healthy"] = True
    frame["lv_edv_ml"] += frame["trial"].map(SHIFT)
    return frame[frame["ethnicity"].notna()].reset_index(drop=True)


def _summaries(frame, keys=("trial", "sex", "ethnicity"), measure="lv_edv_ml"):
    rows = frame.groupby(list(keys))[measure].agg(n="size", mean="mean", sd="std").reset_index()
    rows.insert(1, "measure", measure)
    return rows.astype(str)


def _options(**changes):
    return ReferenceOptions(
        **{"method": "meta", "by": ("sex", "ethnicity"), "bootstrap": 300, **changes}
    )


def _of_people(frame, **changes):
    options = _options(measures=("lv_edv_ml",), outliers="none", **changes)
    return reference_ranges(table(frame), options)


def _of_summaries(rows, **changes):
    options = _options(healthy_rule="volunteers", **changes)
    return summary_ranges(summary_rows(rows, "s.csv"), options, name="s", sha256="0" * 64)


def test_summaries_give_what_the_people_give():
    frame = _people()
    people, summaries = _of_people(frame), _of_summaries(_summaries(frame))
    assert len(people.rows) == len(summaries.rows) > 100
    for a, b in zip(people.rows, summaries.rows, strict=True):
        assert (a.sex, a.ethnicity, a.limits, a.kind, a.centile, a.status) == (
            b.sex, b.ethnicity, b.limits, b.kind, b.centile, b.status,
        )  # fmt: skip
        for name in ("limit", "ci_low", "ci_high"):
            one, other = getattr(a, name), getattr(b, name)
            assert (one is None) == (other is None)
            assert one is None or one == pytest.approx(other, rel=1e-9)
    for a, b in zip(people.meta, summaries.meta, strict=True):
        assert (a.tau, a.tau_low, a.tau_share) == pytest.approx((b.tau, b.tau_low, b.tau_share))


def test_a_factor_left_out_joins_its_groups():
    frame = _people()
    joined = _of_summaries(_summaries(frame), by=("sex",))
    direct = _of_summaries(_summaries(frame, ("trial", "sex")), by=("sex",))
    for a, b in zip(joined.rows, direct.rows, strict=True):
        assert a.ethnicity == "all"
        assert a.limit == pytest.approx(b.limit, rel=1e-9)


def test_logarithms_are_the_plain_ranges_of_the_logarithms_transformed_back():
    frame = _people()
    on_logs = _of_people(frame, limits="log")
    plain = _of_people(frame.assign(lv_edv_ml=np.log(frame["lv_edv_ml"]) + 10))
    seen = 0
    for a, b in zip(on_logs.rows, plain.rows, strict=True):
        if b.limit is not None:
            seen += 1
            for name in ("limit", "ci_low", "ci_high"):
                value = getattr(b, name) - 10
                assert np.log(getattr(a, name)) == pytest.approx(value, rel=1e-9)
            assert "log" in a.note.split("; ")
    assert seen > 20
    score = on_logs.model["strata"][0]["score"]
    assert score["family"] == "log-normal"
    for a, b in zip(on_logs.by_trial, plain.by_trial, strict=True):
        assert (a.limit is None) == (b.limit is None)
        if a.limit is not None:
            assert np.log(a.limit) == pytest.approx(b.limit - 10, rel=1e-9)
            assert a.limits == "log"


@pytest.mark.parametrize("limits", [None, "log"])
def test_people_outside_are_counted_with_and_without_their_trial(limits):
    frame = _people()
    result = _of_people(frame, limits=limits, by=("sex",))
    rows = {(c.sex, c.check, c.group): c for c in result.calibration}
    assert {c.method for c in result.calibration} == {"meta"}
    for sex in ("male", "female"):
        mine = frame[frame["sex"] == sex]
        limit = {
            r.centile: r.limit
            for r in result.rows
            if (r.sex, r.kind, r.limits) == (sex, "marginal", "frequentist")
        }
        fitted = rows[sex, "fitted", "all"]
        assert fitted.n == len(mine)
        share = 100 * (mine["lv_edv_ml"] < limit[2.5]).mean()
        assert fitted.below_percent == pytest.approx(share, rel=1e-12)
        of_trial = mine[mine["trial"] == "F"]["lv_edv_ml"]
        without = next(
            t.limit_without
            for t in result.by_trial
            if (t.sex, t.trial, t.centile) == (sex, "F", 97.5)
        )
        above = rows[sex, "left-out-trial", "F"].above_percent
        assert above == pytest.approx(100 * (of_trial > without).mean(), rel=1e-12)


def test_summaries_of_log_normal_people_give_their_limits():
    # The moments of a log-normal law with mean 5 and SD 0.3 of the logarithms.
    mean = np.exp(5 + 0.3**2 / 2)
    sd = mean * np.sqrt(np.expm1(0.3**2))
    rows = pd.DataFrame(
        {"trial": list("ABCDEF"), "measure": "lv_edv_ml", "n": 200, "mean": mean, "sd": sd}
    ).astype(str)
    result = _of_summaries(rows, by=(), limits="log")
    for row in result.rows:
        z = {2.5: -1.959963984540054, 50.0: 0.0, 97.5: 1.959963984540054}[row.centile]
        assert np.log(row.limit) == pytest.approx(5 + 0.3 * z, rel=1e-9)
        assert row.ci_low < row.limit < row.ci_high
    strain = rows.assign(measure="lv_gcs_percent", mean="-20", sd="3")
    with pytest.raises(TableError, match="positive means"):
        _of_summaries(strain, by=(), limits="log")
    with pytest.raises(UsageError, match="--method meta cannot be combined with --limits robust"):
        _options(limits="robust")


def test_six_trials_have_marginal_limits_outside_the_conditional_ones():
    found = _of_people(_people())
    mine = {
        (r.kind, r.centile): r.limit
        for r in found.rows
        if (r.sex, r.ethnicity, r.limits) == ("male", "all", "frequentist")
    }
    assert mine["marginal", 2.5] < mine["conditional", 2.5]
    assert mine["marginal", 97.5] > mine["conditional", 97.5]
    tau = [m for m in found.meta if (m.sex, m.ethnicity, m.meta) == ("male", "all", "frequentist")]
    assert 2 < tau[0].tau < 15
    assert tau[0].tau_share == pytest.approx(
        tau[0].tau / np.hypot(tau[0].tau, tau[0].sigma), rel=1e-12
    )
    span = [t for t in found.by_trial if (t.sex, t.ethnicity, t.centile) == ("male", "all", 2.5)]
    assert len(span) == 6
    assert span[0].span_low < mine["marginal", 2.5] < span[0].span_high


def test_three_trials_have_no_limit_of_a_new_one():
    found = _of_people(_people(("A", "C", "F")))
    everybody = [r for r in found.rows if r.ethnicity == "all"]
    assert {(r.limits, r.kind) for r in everybody} == {
        ("frequentist", "conditional"),
        ("empirical", "conditional"),
        ("mixture", "population"),
    }
    assert all("k<5" in r.note for r in everybody)
    assert {m.tau for m in found.meta} == {None}
    with pytest.raises(EstimationError, match="fewer than 5"):
        _of_people(_people(("A", "C", "F")), trial_effect="random")


def test_one_trial_and_trials_ignored():
    one = _of_people(_people(("A",)))
    assert {r.kind for r in one.rows if r.limit is not None} == {"population"}
    assert {r.status for r in one.rows if r.limit is not None and r.n and r.n >= 120} == {
        "single-trial"
    }
    ignored = _of_people(_people(), trial_effect="none", limits=None)
    values = _people().query("sex == 'male'")["lv_edv_ml"]
    upper = next(
        r.limit for r in ignored.rows if (r.sex, r.ethnicity, r.centile) == ("male", "all", 97.5)
    )
    assert upper == pytest.approx(values.mean() + 1.959964 * values.std(), rel=1e-6)


def test_tiny_trials_are_left_out_and_said():
    frame = _people()
    tiny = frame.head(6).assign(trial="TINY", lv_edv_ml=[900.0, 901, 902, 903, 904, 905])
    tiny["participant_id"] = [f"T{i}" for i in range(6)]
    tiny["sex"] = "male"
    with_tiny = _of_people(pd.concat([frame, tiny]))
    plain = _of_people(frame)
    pick = [r for r in with_tiny.rows if (r.sex, r.ethnicity, r.centile) == ("male", "all", 97.5)]
    same = [r for r in plain.rows if (r.sex, r.ethnicity, r.centile) == ("male", "all", 97.5)]
    assert pick[0].limit == pytest.approx(same[0].limit, rel=1e-12)
    assert "trials of fewer than 10 left out" in pick[0].note
    # The six people must not be told by subtraction.
    assert pick[0].n is None


def test_a_trial_of_one_value_is_left_out():
    frame = _people()
    frame.loc[frame["trial"] == "B", "lv_edv_ml"] = 150.0
    found = _of_people(frame)
    everybody = [r for r in found.rows if r.ethnicity == "all"]
    assert {r.n_trials for r in everybody} == {5}
    assert all("without spread" in r.note for r in everybody)


def _rows(**changes):
    rows = {
        "trial": ["A", "B", "C", "D", "E"],
        "measure": ["lv_edv_ml"] * 5,
        "sex": ["M", "male", "m", "Male", "male"],
        "n": ["100", "80", "120", "60", "90"],
        "mean": ["150", "155", "148", "160", "152"],
        "sd": ["30", "28", "32", "31", "29"],
        **changes,
    }
    return pd.DataFrame(rows, index=range(2, 7))


def test_plain_summaries():
    found = _of_summaries(_rows(), by=None)
    assert found.by == ("sex",)
    assert found.participants == 450
    assert {r.sex for r in found.rows} == {"male"}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"n": ["100", "80", "x", "60", "90"]}, "row 4: n is 'x'"),
        ({"n": ["100", "80.5", "1", "60", "90"]}, "row 4: n is 1"),
        ({"sd": ["30", "0", "32", "-1", "29"]}, "row 5: sd is -1"),
        ({"sd": ["30", "", "32", "31", "29"]}, "row 3: sd is empty"),
        ({"mean": ["150", "0.155", "148", "160", "152"]}, "another unit"),
        ({"mean": ["150", "inf", "148", "160", "152"]}, "not a number"),
        ({"trial": ["A", "A", "C", "D", "E"]}, "2 rows of lv_edv_ml for one group"),
        ({"sex": ["M", "X", "m", "M", "M"]}, "row 3: sex is 'X'"),
        ({"ethnicity": ["white", "asian", "", "all", "white"]}, "row 3: ethnicity is 'asian'"),
        ({"age_low": ["30"] * 5, "age_high": ["20", "40", "40", "40", "40"]}, "row 2: age_low 30"),
        (
            {"trial": list("AABCD"), "age_low": ["18", "18", "", "18", "18"]}
            | {"age_high": ["40", "60", "", "40", ""]},
            "s.csv, A: the age bands of lv_edv_ml overlap",
        ),
        (
            {"measure": ["lv_ef_percent"] * 5, "mean": ["0.61"] * 5, "sd": ["0.06"] * 5},
            "mean 0.61 of lv_ef_percent is not between 5 and 85 %: another unit?",
        ),
    ],
)
def test_bad_summaries_are_refused_with_the_row(changes, what):
    with pytest.raises(TableError) as error:
        summary_rows(_rows(**changes), "s.csv")
    assert what in " ".join(map(str, error.value.problems))


def test_a_standard_error_in_the_place_of_an_sd_is_asked_about():
    found = _of_summaries(_rows(sd=["30", "3.1", "32", "31", "29"]), by=None)
    assert any("standard error" in w and "B" in w for w in found.warnings)


def test_trials_without_rows_of_a_sex_are_named():
    found = _of_summaries(_rows(sex=["all", "male", "m", "M", "M"]), by=None)
    assert "A: no rows by sex, so not used. --by without sex uses them." in found.warnings


def test_a_limit_withheld_alone_leaves_the_other_in_its_column():
    means, sds = ["30", "50", "70", "90", "60"], ["25"] * 5
    found = _of_summaries(_rows(measure=["lv_esv_ml"] * 5, mean=means, sd=sds), by=None)
    lower, _, upper = (r.limit for r in found.rows if (r.limits, r.kind) == HEADLINE)
    assert lower is None
    shown = rules_table("lv_esv_ml", found)
    first = shown.rows[0][shown.columns.index("Centile 2.5") :]
    assert first[0] == "–"
    assert first[1].startswith(f"{upper:.1f} (")
    assert result_blocks(found, {})[1] == []


def test_nobody_said_who_is_healthy():
    with pytest.raises(TableError, match="healthy"):
        summary_ranges(summary_rows(_rows(), "s"), _options(by=None), name="s", sha256="")
    found = summary_ranges(
        summary_rows(_rows(), "s"), _options(by=None, healthy_only=False), name="s", sha256=""
    )
    assert found.title.startswith("Population distribution")
    assert all("not a reference interval" in r.note for r in found.rows)


# ------------------------------------------------------------------ the command


def _run(*arguments):
    return CliRunner().invoke(app, ["reference-ranges", *map(str, arguments)])


def test_the_command_from_summaries(tmp_path):
    path, out = tmp_path / "sums.csv", tmp_path / "out"
    _summaries(_people()).to_csv(path, index=False)
    assert _run(path, "--out", out).exit_code == 2
    assert _run(path, "--out", out, "--method", "meta").exit_code == 3
    assert not out.exists()
    options = ("--method", "meta", "--healthy-rule", "volunteers", "--bootstrap", 200)
    found = _run(path, "--out", out, *options, "--json")
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["people"] > 1000
    with (out / "meta.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["meta"] for row in rows} == {"frequentist", "empirical"}
    page = (out / "report.html").read_text(encoding="utf-8")
    for text in ("meta-analytic range", "Siegel, Murad and Chu", "tau/total", "volunteers"):
        assert text in page
    assert _run(path, "--out", out, *options, "--meta", "bayes").exit_code == 2


def test_the_command_from_people_and_a_score(tmp_path):
    path, out = tmp_path / "people.csv", tmp_path / "out"
    _people().to_csv(path, index=False)
    options = ("--method", "meta", "--measure", "lv_edv_ml", "--bootstrap", 200)
    found = _run(path, "--out", out, *options, "--by", "sex", "--meta", "empirical")
    assert found.exit_code == 0, found.output
    assert (out / "figures" / "limits_lv_edv_ml.svg").is_file()
    scored = CliRunner().invoke(
        app,
        ["score", str(out / "reference_ranges.json"), str(path), "--out", str(tmp_path / "s.csv")],
    )
    assert scored.exit_code == 0, scored.output
    z = pd.read_csv(tmp_path / "s.csv")["lv_edv_ml_z"]
    assert abs(z.mean()) < 0.15
    assert 0.85 < z.std() < 1.1
