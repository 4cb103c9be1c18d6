"""The command as a user runs it: files, exit codes, a second run, nothing written on refusal."""

import json
import re
from html import unescape
from importlib.util import find_spec

import pandas as pd
import pytest
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.files import canonical_json, sha256_file
from cardiometa.pooling.results import EffectRow, columns_of
from tests.kit.pooling_tables import simulate_wide, to_long

FILES = {
    "cardiometa.json",
    "checklist_prisma_ipd.html",
    *(["checklist_prisma_ipd.docx"] if find_spec("docx") else []),
    "delta_adjusted.csv",
    "effects.csv",
    "exclusions.csv",
    "heterogeneity.csv",
    "influence.csv",
    "integrity.csv",
    "methods.txt",
    "ro-crate-metadata.json",
    "participants_by_arm.csv",
    "pooling.R",
    "pooling.do",
    "references.bib",
    "report.html",
    "table1.csv",
    "figures/forest.png",
    "figures/forest.svg",
}


OTHER_TAU2 = ("--outcome", "lv_ef_percent", "--tau2", "dl")
TWO_STAGE = ("--model", "two-stage", "--no-leave-one-out")


def run(*arguments):
    return CliRunner().invoke(app, ["pool-trials", *map(str, arguments)])


def files_below(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def long_csv(tmp_path):
    wide = simulate_wide(4, people=50)
    wide.loc[wide.index % 11 == 0, "lv_ef_percent"] = None
    path = tmp_path / "long.csv"
    to_long(wide).to_csv(path, index=False)
    return path


def test_all_files_are_there_and_agree(tmp_path, long_csv):
    out = tmp_path / "out"
    done = run(long_csv, "--out", out, "--outcome", "lv_ef_percent", "--adjust", "age,sex")
    assert done.exit_code == 0, done.output
    assert files_below(out) == FILES
    effects = pd.read_csv(out / "effects.csv", dtype=str)
    assert tuple(effects.columns) == columns_of(EffectRow)
    row = effects[(effects["analysis"] == "pooled") & effects["headline"].eq("true")].iloc[0]
    shown = f"{float(row['estimate']):.2f}"
    page = (out / "report.html").read_text()
    assert shown in done.stdout
    assert shown in page
    assert shown in (out / "figures" / "forest.svg").read_text()
    assert "Research use only" in page
    loaded = re.findall(r'(?:src|href)="([^"#][^"]*)"', page)
    assert [link for link in loaded if not link.startswith("data:")] == []
    record = json.loads((out / "cardiometa.json").read_text())
    assert record["command"] == "pool-trials"
    assert record["inputs"]["table"] == sha256_file(long_csv)
    assert str(tmp_path) not in (out / "cardiometa.json").read_text()
    table = pd.read_csv(long_csv)
    out_rows = pd.read_csv(out / "exclusions.csv")
    analysed = int(row["n_control"]) + int(row["n_active"])
    assert analysed + len(out_rows) == table.groupby("trial")["participant_id"].nunique().sum()


def test_a_second_run_gives_the_same_bytes_and_other_options_are_refused(tmp_path, long_csv):
    out = tmp_path / "out"
    assert run(long_csv, "--out", out, "--outcome", "lv_ef_percent", *TWO_STAGE).exit_code == 0
    kept = FILES - {"cardiometa.json", "influence.csv"}
    before = {name: (out / name).read_bytes() for name in kept}
    assert run(long_csv, "--out", out, "--outcome", "lv_ef_percent", *TWO_STAGE).exit_code == 0
    assert before == {name: (out / name).read_bytes() for name in before}
    other = run(long_csv, "--out", out, *OTHER_TAU2, *TWO_STAGE)
    assert other.exit_code == 2
    assert "tau2" in other.stderr
    again = run(long_csv, "--out", out, *OTHER_TAU2, "--overwrite", *TWO_STAGE)
    assert again.exit_code == 0
    assert (out / "effects.csv").read_bytes() != before["effects.csv"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--outcome", "lv_ef_percent", "--ci-one-stage", "z"], 2, "kenward-roger"),
        (["--outcome", "lv_ef_percent", "--residual", "none"], 2, "by-trial-and-arm"),
        (["--outcome", "lv_ef_percent", "--model", "three"], 2, "two-stage"),
        (["--outcome", "lv_ef_percent", "--by", "diabetes"], 3, "--by"),
        ([], 2, "--outcome"),
        (["--outcome", "lvef"], 3, "lvef"),
        (["--outcome", "lv_ef_percent", "--adjust", "diabetes"], 3, "diabetes"),
        (["--outcome", "lv_ef_percent", "--control", "placebo"], 3, "active, control"),
        (["--outcome", "lv_ef_percent", "--baseline-visit", "before"], 3, "called 'before'"),
        (["--outcome", "lv_ef_percent", "--status", "good"], 2, "all, ok"),
    ],
)
def test_refusals_say_what_to_do_and_write_nothing(tmp_path, long_csv, arguments, code, words):
    done = run(long_csv, "--out", tmp_path / "out", *arguments)
    assert done.exit_code == code, done.output
    assert words in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "out").exists()


def test_a_usual_name_of_the_arm_is_recognised_and_another_asked_for(tmp_path, long_csv):
    rows = pd.read_csv(long_csv)
    words = ("--out", tmp_path / "usual", "--outcome", "lv_ef_percent", *TWO_STAGE)
    rows.rename(columns={"arm": "Treatment"}).to_csv(tmp_path / "u.csv", index=False)
    usual = run(tmp_path / "u.csv", *words)
    assert usual.exit_code == 0, usual.output
    assert "arm = Treatment" in usual.stderr
    assert "arm = Treatment" not in run(tmp_path / "u.csv", *words, "--overwrite", "--quiet").stderr
    rows.rename(columns={"arm": "rx"}).to_csv(tmp_path / "t.csv", index=False)
    done = run(
        tmp_path / "t.csv", "--out", tmp_path / "out", "--outcome", "lv_ef_percent", *TWO_STAGE
    )
    assert done.exit_code == 3
    assert "no column arm" in done.stderr
    named = run(
        tmp_path / "t.csv",
        "--out",
        tmp_path / "out",
        "--outcome",
        "lv_ef_percent",
        "--arm",
        "rx",
        *TWO_STAGE,
    )
    assert named.exit_code == 0


def test_no_estimate_is_exit_5(tmp_path):
    wide = simulate_wide(2).assign(lv_ef_percent=60.0)
    wide.to_csv(tmp_path / "flat.csv", index=False)
    done = run(
        tmp_path / "flat.csv",
        "--out",
        tmp_path / "out",
        "--outcome",
        "lv_ef_percent",
        "--baseline",
        "lv_ef_baseline",
        *TWO_STAGE,
    )
    assert done.exit_code == 5
    assert "does not vary" in done.stderr


def test_the_out_folder_of_segment_brings_its_roster(tmp_path, long_csv):
    folder = tmp_path / "segmented"
    folder.mkdir()
    rows = pd.read_csv(long_csv, dtype=str)
    rows.assign(status="ok").to_csv(folder / "measurements.csv", index=False)
    people = rows.drop_duplicates(["trial", "participant_id"])
    people = people[["trial", "participant_id", "arm"]]
    never = pd.DataFrame({"trial": ["T1"] * 12, "arm": ["active"] * 12})
    never["participant_id"] = [f"never-{i}" for i in range(12)]
    roster = pd.concat([people, never]).assign(randomised="true", death_day="")
    roster.loc[roster["participant_id"] == "never-0", "death_day"] = "90"
    roster.to_csv(folder / "participants.csv", index=False)
    record = {"command": "segment", "options": {"cohort": "demo"}}
    (folder / "cardiometa.json").write_text(canonical_json(record))
    out = tmp_path / "out"
    done = run(folder, "--out", out, "--outcome", "lv_ef_percent", "--min-cell", "0", *TWO_STAGE)
    assert done.exit_code == 0, done.output
    counts = pd.read_csv(out / "participants_by_arm.csv").set_index(["trial", "arm"])
    active = counts.loc[("T1", "active")]
    assert active["randomised"] - active["scanned"] >= 12
    assert active["randomised"] - active["alive"] == 1
    codes = pd.read_csv(out / "exclusions.csv").groupby("participant_id")["code"].first()
    never = codes[codes.index.str.startswith("never")]
    assert never["never-0"] == "died"
    assert set(never.drop("never-0")) == {"no-followup"}
    record = json.loads((out / "cardiometa.json").read_text())
    assert set(record["inputs"]) == {"table", "participants"}


def test_codes_are_mapped_by_the_config(tmp_path, long_csv):
    rows = pd.read_csv(long_csv)
    rows["arm"] = rows["arm"].replace({"control": "Placebo", "active": "Drug 10 mg"})
    rows.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "plan.toml").write_text(
        'outcome = "lv_ef_percent"\nadjust = ["age", "sex"]\n'
        '[columns.arm]\ncolumn = "arm"\n'
        'map = { Placebo = "control", "Drug 10 mg" = "active" }\n'
    )
    done = run(
        tmp_path / "t.csv",
        "--out",
        tmp_path / "o",
        "--config",
        tmp_path / "plan.toml",
        "--json",
        *TWO_STAGE,
    )
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert {row["arm"] for row in result["effects"]} == {"active"}
    assert result["options"]["adjust"] == ["age", "sex"]
    departed = run(
        tmp_path / "t.csv",
        "--out",
        tmp_path / "o2",
        "--config",
        tmp_path / "plan.toml",
        "--adjust",
        "age",
        *TWO_STAGE,
    )
    assert "departure from the plan: adjust" in departed.stderr
    assert "age,sex" in (tmp_path / "o2" / "report.html").read_text()


def test_several_arms_have_a_figure_each(tmp_path, long_csv):
    rows = pd.read_csv(long_csv)
    changed = rows["arm"].eq("active") & rows["participant_id"].str[-1].isin(list("02468"))
    rows.loc[changed, "arm"] = "High dose/20 mg"
    rows.to_csv(tmp_path / "t.csv", index=False)
    out = tmp_path / "out"
    done = run(tmp_path / "t.csv", "--out", out, "--outcome", "lv_ef_percent", *TWO_STAGE)
    assert done.exit_code == 0, done.output
    names = {name for name in files_below(out) if name.startswith("figures")}
    assert {"figures/forest-active.svg", "figures/forest-high-dose-20-mg.png"} <= names
    assert "pooled one by one" in (out / "report.html").read_text()
    again = run(long_csv, "--out", out, *OTHER_TAU2, "--overwrite", *TWO_STAGE)
    assert again.exit_code == 0
    figures = {name for name in files_below(out) if name.startswith("figures")}
    assert figures == {"figures/forest.svg", "figures/forest.png"}


def test_a_table_of_summaries(tmp_path):
    (tmp_path / "s.csv").write_text(
        "trial,estimate,se,n\nA,-0.2,0.1,200\nB,-0.4,0.2,90\nC,0.1,0.2,80\n"
    )
    out = tmp_path / "out"
    done = run(tmp_path / "s.csv", "--out", out, "--effect", "hazard-ratio")
    assert done.exit_code == 0, done.output
    effects = pd.read_csv(out / "effects.csv")
    assert effects["exp_estimate"].notna().all()
    assert not (out / "exclusions.csv").exists()
    both = run(tmp_path / "s.csv", "--out", tmp_path / "o2", "--also-summaries", tmp_path / "s.csv")
    assert both.exit_code == 2


def test_json_tells_no_count_of_a_few(tmp_path):
    wide = simulate_wide(2, people=50)
    wide.loc[:3, "lv_ef_percent"] = None
    wide.loc[4:16, "arm"] = None
    path = tmp_path / "wide.csv"
    wide.to_csv(path, index=False)
    arguments = ("--outcome", "lv_ef_percent", "--baseline", "lv_ef_baseline", "--json", *TWO_STAGE)
    done = run(path, "--out", tmp_path / "out", *arguments)
    assert done.exit_code == 0, done.output
    # 13 without an arm and 4 without the outcome: 13 beside the total would tell the 4.
    told = json.loads(done.stdout)["accounting"]
    assert told == {
        "participants": 110,
        "analysed": 93,
        "excluded": {"no-arm": None, "no-outcome": None},
    }


def page_text(out):
    """The page's words before its references, thin spaces as spaces."""
    html, *_ = (out / "report.html").read_text().split('<section id="references">')
    words = re.sub(r"<[^>]+>", " ", html)
    return re.sub(r"\s+", " ", unescape(words))


def test_the_flow_has_who_was_sought_provided_left_out_and_analysed(tmp_path):
    long = to_long(simulate_wide(4, people=50))
    people = long.drop_duplicates(["trial", "participant_id"])
    gone = set(people["participant_id"][:25])
    seg = tmp_path / "seg"
    seg.mkdir()
    kept = long[~(long["participant_id"].isin(gone) & (long["visit"] != "baseline"))]
    kept.assign(status="ok").to_csv(seg / "measurements.csv", index=False)
    people[["trial", "participant_id", "arm"]].to_csv(seg / "participants.csv", index=False)
    (seg / "cardiometa.json").write_text("{}")
    flow = {"trials": {"sought": 6, "obtained": 4}, "participants": {"sought": 600}}
    (seg / "flow.json").write_text(json.dumps(flow))
    more = tmp_path / "more.csv"
    more.write_text("trial,estimate,se,n\nOLD,2.5,1.1,80\nOLDER,1.5,1.3,60\n")
    done = run(
        seg,
        "--out",
        tmp_path / "o",
        "--outcome",
        "lv_ef_percent",
        *TWO_STAGE,
        "--also-summaries",
        more,
    )
    assert done.exit_code == 0, done.output
    page = page_text(tmp_path / "o")
    for words in (
        "Individual participant data sought 6 trials 600 participants",
        "Not provided 2 trials 340 participants",
        "Individual participant data provided 4 trials 260 participants",
        "There is no usable scan at the follow-up: 25",
        "participants' data: 4 trials, 235 participants",
        "published effects: 2 trials, 140 participants",
    ):
        assert words in page, words
    (seg / "flow.json").unlink()
    again = run(seg, "--out", tmp_path / "p", "--outcome", "lv_ef_percent", *TWO_STAGE)
    assert again.exit_code == 0
    assert "Individual participant data sought not stated" in page_text(tmp_path / "p")


def test_a_few_left_out_are_not_counted_in_the_flow(tmp_path):
    wide = simulate_wide(3, people=50)
    wide.loc[wide.index[:14], "lv_ef_percent"] = None
    wide.loc[wide.index[:3], "arm"] = None
    wide.to_csv(tmp_path / "t.csv", index=False)
    out = tmp_path / "o"
    done = run(
        tmp_path / "t.csv",
        "--out",
        out,
        "--outcome",
        "lv_ef_percent",
        "--baseline",
        "lv_ef_baseline",
        *TWO_STAGE,
    )
    assert done.exit_code == 0, done.output
    page = page_text(out)
    assert "The arm is not known: <10" in page
    assert "The outcome is missing at the follow-up: –" in page  # 14 less 11 would tell
    assert ": 11" not in page
