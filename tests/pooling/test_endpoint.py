"""Which rows are taken, who is analysed, and what is refused."""

from dataclasses import replace

import pandas as pd
import pytest

from cardiometa.cohort.analysis_table import read_analysis_table
from cardiometa.cohort.models import TableOptions
from cardiometa.errors import EstimationError, TableError, UsageError
from cardiometa.pooling.first_stage.first_stage import first_stage
from cardiometa.pooling.methods import methods_of_rows
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import pool_trials
from cardiometa.records import Exclusion, severity
from tests.kit.pooling_tables import cohort_table, simulate_wide, to_long

WIDE = PoolingOptions(outcome="lv_ef_percent", baseline_column="lv_ef_baseline", model="two-stage")
SAID = {"several": True, "worst_rank": False}
LONG = PoolingOptions(outcome="lv_ef_percent", model="two-stage")


def long_options(**changes):
    return PoolingOptions(outcome="lv_ef_percent", **changes)


def codes(stage):
    people = stage.people.set_index(["trial", "participant_id"])["code"]
    return people[people != ""].to_dict()


def test_long_and_wide_form_give_the_same():
    wide = simulate_wide(3)
    one = first_stage(cohort_table(wide), WIDE).studies["active"]
    two = first_stage(cohort_table(to_long(wide)), LONG).studies["active"]
    assert one == two


def test_several_followups_are_refused_with_the_list():
    wide = simulate_wide(2)
    long = pd.concat([to_long(wide), to_long(wide, "followup_6m").query("visit != 'baseline'")])
    with pytest.raises(TableError) as caught:
        first_stage(cohort_table(long), LONG)
    text = str(caught.value)
    assert "followup_12m" in text
    assert "followup_6m" in text
    assert "--followup-visit" in text
    chosen = first_stage(cohort_table(long), long_options(followup_visit="followup_6m"))
    assert chosen.endpoint.followup == "followup_6m"


def test_the_nearest_day_is_taken_and_ties_go_to_the_earlier():
    wide = simulate_wide(1, people=30)
    base = to_long(wide).query("visit == 'baseline'")
    later = [
        to_long(wide, f"v{day}").query("visit != 'baseline'").assign(visit_day=day)
        for day in (330, 370, 400)
    ]
    later[0]["lv_ef_percent"] += 1000
    rows = cohort_table(pd.concat([base, *later]))
    stage = first_stage(rows, long_options(followup_day=350, window=30))
    assert set(stage.people["visit"]) == {"v330"}
    stage = first_stage(rows, long_options(followup_day=390, window=30))
    assert set(stage.people["visit"]) == {"v400"}
    with pytest.raises(TableError, match="within 5 days"):
        first_stage(rows, long_options(followup_day=200, window=5))


def test_without_a_baseline_follow_up_is_suggested():
    rows = cohort_table(simulate_wide(2).drop(columns="lv_ef_baseline"))
    with pytest.raises(TableError, match="--effect follow-up"):
        first_stage(rows, LONG)
    assert first_stage(rows, long_options(effect="follow-up")).arms == ("active",)


def test_no_arm_column_and_no_two_arms():
    wide = simulate_wide(2)
    with pytest.raises(TableError, match="no column arm"):
        first_stage(cohort_table(wide.drop(columns="arm")), WIDE)
    with pytest.raises(TableError) as caught:
        first_stage(cohort_table(wide.assign(arm=None)), WIDE)
    assert "column arm" in str(caught.value)
    assert {p.where for p in caught.value.problems} == {"trial T1", "trial T2"}
    with pytest.raises(TableError) as caught:
        first_stage(cohort_table(wide.assign(arm="active")), WIDE)
    assert "'active'" in caught.value.problems[0].what


def test_a_control_by_another_name_is_not_guessed():
    wide = simulate_wide(2)
    wide["arm"] = wide["arm"].replace({"control": "placebo"})
    with pytest.raises(TableError) as caught:
        first_stage(cohort_table(wide), WIDE)
    assert [p.where for p in caught.value.problems] == ["trial T1", "trial T2"]
    assert "active, placebo" in caught.value.problems[1].what


@pytest.mark.parametrize("arms", [("low", "high"), ("placebo", "active"), ("a", "b", "c")])
def test_a_trial_without_the_control_of_the_others_is_left_out_with_a_serious_warning(arms):
    wide = simulate_wide(3)
    third = wide["trial"] == "T3"
    wide.loc[third, "arm"] = [arms[i % len(arms)] for i in range(third.sum())]
    result = pool_trials(cohort_table(wide), WIDE)
    (warning,) = [w for w in result.warnings if "no arm is called" in w]
    assert severity(warning) == "serious"
    assert f"T3 ({', '.join(sorted(arms))})" in warning
    assert {e.code for e in result.exclusions} == {"no-control"}
    assert len(result.exclusions) == third.sum()
    without = pool_trials(cohort_table(wide[~third]), WIDE)
    assert result.headline("active").estimate == without.headline("active").estimate
    assert result.arms == ("active",)


def test_every_participant_has_one_reason_and_the_account_closes():
    wide = simulate_wide(3)
    wide["randomised"] = True
    wide.loc[0, "randomised"] = False
    wide.loc[1, "arm"] = None
    wide.loc[2, "lv_ef_percent"] = None
    wide.loc[3, "lv_ef_baseline"] = None
    wide.loc[wide["trial"] == "T3", "arm"] = "control"
    keys = [tuple(wide.loc[i, ["trial", "participant_id"]]) for i in range(4)]
    stage = first_stage(cohort_table(wide), WIDE)
    found = codes(stage)
    assert [found.get(key) for key in keys] == ["not-randomised", "no-arm", "no-outcome", None]
    assert set(stage.people.query("trial == 'T3'")["code"]) == {"one-arm-trial"}
    account = stage.accounting()
    assert account.participants == len(wide)
    assert account.analysed + sum(account.excluded.values()) == account.participants
    change = first_stage(
        cohort_table(wide),
        PoolingOptions(outcome="lv_ef_percent", baseline_column="lv_ef_baseline", effect="change"),
    )
    assert codes(change)[keys[3]] == "no-baseline"


def test_failed_scans_and_the_roster_are_counted():
    wide = simulate_wide(2)
    long = to_long(wide)
    gone = long[long["visit"] != "baseline"].iloc[0]
    long = long.drop(index=gone.name)
    failed = Exclusion(
        stage="scan",
        trial=gone["trial"],
        participant_id=gone["participant_id"],
        visit=gone["visit"],
        code="failed",
        sentence="",
    )
    roster = wide[["trial", "participant_id", "arm"]]
    extra = pd.DataFrame({"trial": ["T1"], "participant_id": ["never"], "arm": ["active"]})
    stage = first_stage(cohort_table(long, exclusions=(failed,)), LONG, pd.concat([roster, extra]))
    assert codes(stage) == {
        (gone["trial"], gone["participant_id"]): "no-followup",
        ("T1", "never"): "no-followup",
    }
    people = stage.people.set_index(["trial", "participant_id"])
    assert people.loc[(gone["trial"], gone["participant_id"]), "came"]
    assert not people.loc[("T1", "never"), "came"]


def test_review_rows_go_with_status_ok():
    long = to_long(simulate_wide(2)).assign(status="ok")
    where = long.index[long["visit"] != "baseline"][:5]
    long.loc[where, "status"] = "review"
    assert first_stage(cohort_table(long), LONG).accounting().excluded == {}
    stage = first_stage(cohort_table(long), long_options(status="ok"))
    assert stage.accounting().excluded == {"no-followup": 5}
    assert {item.code for item in stage.endpoint.exclusions} == {"review"}


def test_an_arm_that_changes_and_repeated_rows_are_refused():
    long = to_long(simulate_wide(2))
    crossed = long.copy()
    crossed.loc[0, "arm"] = "active" if crossed.loc[0, "arm"] == "control" else "control"
    with pytest.raises(TableError, match="arm changes"):
        first_stage(cohort_table(crossed), LONG)
    with pytest.raises(TableError, match="several rows"):
        first_stage(cohort_table(pd.concat([long, long.iloc[:3]])), LONG)


def test_a_covariate_after_randomisation_is_never_used():
    long = to_long(simulate_wide(2))
    long["rate"] = range(len(long))
    stage = first_stage(cohort_table(long), long_options(adjust=("rate",)))
    before = long[long["visit"] == "baseline"].set_index(["trial", "participant_id"])["rate"]
    people = stage.people.set_index(["trial", "participant_id"])["covariate rate"]
    assert people.astype(float).to_dict() == before.astype(float).to_dict()
    later = long.assign(rate=long["rate"].where(long["visit"] != "baseline"))
    later = pd.concat([later, later.query("visit != 'baseline'").assign(visit="v2", rate=9)])
    options = long_options(adjust=("rate",), followup_visit="followup_12m")
    with pytest.raises(TableError, match="before randomisation"):
        first_stage(cohort_table(later), options)


def test_missing_signs_of_a_covariate_are_no_category():
    wide = simulate_wide(2)
    plain = wide.assign(site=wide["sex"])
    marked = plain.copy()
    marked["site"] = marked["site"].astype(object)
    marked.loc[[0, 1], "site"] = "NA"
    plain.loc[[0, 1], "site"] = None
    options = PoolingOptions(
        outcome="lv_ef_percent", baseline_column="lv_ef_baseline", adjust=("site",)
    )
    first = first_stage(cohort_table(plain), options).studies
    assert first_stage(cohort_table(marked), options).studies == first


def test_a_trial_that_cannot_be_estimated_keeps_its_row_with_the_reason():
    wide = simulate_wide(3)
    wide.loc[wide["trial"] == "T2", "lv_ef_percent"] = 55.1
    few = (wide["trial"] == "T3") & (wide.groupby("trial").cumcount() > 1)
    wide.loc[few, "lv_ef_percent"] = None
    stage = first_stage(cohort_table(wide), WIDE)
    by_trial = {study.trial: study for study in stage.studies["active"]}
    assert by_trial["T1"].estimable
    assert by_trial["T2"].estimate is None
    assert "does not vary" in by_trial["T2"].note
    assert by_trial["T3"].estimate is None
    account = stage.accounting()
    assert account.analysed == (wide["trial"] == "T1").sum()
    assert account.analysed + sum(account.excluded.values()) == len(wide)
    only = wide[wide["trial"] == "T2"]
    with pytest.raises(EstimationError, match="does not vary"):
        first_stage(cohort_table(only), WIDE)


def test_a_covariate_that_is_the_arm_leaves_no_effect():
    wide = simulate_wide(1).assign(twin=lambda d: (d["arm"] == "active").astype(float))
    options = PoolingOptions(
        outcome="lv_ef_percent", baseline_column="lv_ef_baseline", adjust=("twin",)
    )
    with pytest.raises(EstimationError, match="explain this arm"):
        first_stage(cohort_table(wide), options)


def test_an_outcome_of_words_is_refused_with_the_cells():
    wide = simulate_wide(1).astype({"lv_ef_percent": object})
    wide.loc[3, "lv_ef_percent"] = "good"
    with pytest.raises(TableError) as caught:
        first_stage(cohort_table(wide), WIDE)
    assert "'good'" in caught.value.problems[0].what


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"effect": "mean"}, "mean-difference"),
        ({"tau2": "x"}, "reml"),
        ({"ci": "kr"}, "hksj"),
        ({"pi_df": "k"}, "k-1"),
        ({"missing_baseline": "locf"}, "complete"),
        ({"followup_day": 300.0}, "--window"),
        ({"followup_day": 300.0, "window": -1.0}, "less than 0"),
        ({"followup_day": 300.0, "window": 10.0, "followup_visit": "v"}, "cannot be combined"),
        ({"level": 100.0}, "between"),
        ({"min_cell": -1}, "less than 0"),
    ],
)
def test_unknown_options_list_the_known(changes, words):
    with pytest.raises(UsageError, match=words):
        PoolingOptions(outcome="y", **changes)


def test_patients_without_arms_are_told_so_before_their_visits():
    """A table of `segment` without randomised people: one visit, an empty column arm."""
    long = to_long(simulate_wide(2)).query("visit == 'baseline'")
    for arm, words in (("", "no participant has a value in the column arm"), ("a", "only arm")):
        with pytest.raises(TableError, match="No trial has two randomised arms") as caught:
            first_stage(cohort_table(long.assign(arm=arm)), LONG)
        assert [words in str(problem) for problem in caught.value.problems] == [True, True]


def test_who_has_only_failed_scans_keeps_the_arm(tmp_path):
    long = to_long(simulate_wide(2)).assign(status="ok")
    person = long["participant_id"] == "01-003"
    assert person.sum() == 2
    long.loc[person, ["status", "lv_ef_percent"]] = ["failed", None]
    path = tmp_path / "long.csv"
    long.to_csv(path, index=False)
    table = read_analysis_table(path, TableOptions())
    result = pool_trials(table, replace(LONG, min_cell=0))
    mine = [item for item in result.exclusions if item.participant_id == "01-003"]
    assert [(item.stage, item.code) for item in mine] == [
        ("scan", "failed"),
        ("scan", "failed"),
        ("participant", "no-followup"),
    ]
    assert sum(row.randomised or 0 for row in result.by_arm) == long["participant_id"].nunique()
    assert sum(row.scanned or 0 for row in result.by_arm) == long["participant_id"].nunique()
    assert sum(row.analysed or 0 for row in result.by_arm) == result.accounting.analysed


def test_a_trial_without_any_baseline_is_not_called_imputed():
    wide = simulate_wide(3)
    wide.loc[wide["trial"] == "T2", "lv_ef_baseline"] = None
    stage = first_stage(cohort_table(wide), WIDE)
    assert [dict(trial.imputed) for trial in stage.trials] == [{}, {}, {}]
    note = next(s.note for s in stage.studies["active"] if s.trial == "T2")
    assert "not adjusted for baseline" in note
    assert "replaced by the mean" not in methods_of_rows(
        stage, WIDE, several=True, worst_rank=False
    )
    wide.loc[wide.index[:4], "lv_ef_baseline"] = None
    stage = first_stage(cohort_table(wide), WIDE)
    assert stage.trials[0].imputed == {"baseline": 4}
    assert "replaced by the mean" in methods_of_rows(stage, WIDE, **SAID)


def test_a_covariate_of_one_value_is_not_said_to_be_adjusted_for():
    wide = simulate_wide(3).assign(sex="male")
    options = replace(WIDE, adjust=("age", "sex"))
    result = pool_trials(cohort_table(wide), options)
    assert "adjusted for age_years (linear), by ordinary" in result.methods
    assert any(w.startswith("sex has a single value") for w in result.warnings)
    two = pool_trials(cohort_table(simulate_wide(3)), options)
    assert "adjusted for age_years (linear), sex (as categories), by" in two.methods
    assert not any("one value alone" in w for w in two.warnings)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda age: age.astype(str).where(age.index > 0, "65 y"), "mixes numbers and words"),
        (lambda age: age.astype(str).str.replace(".", ",", regex=False), "too many categories"),
    ],
)
def test_numbers_written_wrongly_do_not_become_categories(change, words):
    wide = simulate_wide(2)
    wide["pulse"] = change(wide["age_years"])
    options = PoolingOptions(
        outcome="lv_ef_percent", baseline_column="lv_ef_baseline", adjust=("pulse",)
    )
    with pytest.raises(TableError, match=words):
        first_stage(cohort_table(wide), options)


@pytest.mark.parametrize("cell", ["1_000", "infinity", "1e999", "12 mL"])
def test_what_is_no_finite_number_is_refused_as_the_cohort_does(cell):
    wide = simulate_wide(2)
    wide["lv_ef_percent"] = wide["lv_ef_percent"].astype(object)
    wide.loc[3, "lv_ef_percent"] = cell
    with pytest.raises(TableError, match="must be numbers") as caught:
        first_stage(cohort_table(wide), WIDE)
    assert cell in str(caught.value.problems[0])
