"""Which rows are taken, who is analysed, and what is refused."""

import pandas as pd
import pytest

from cardiometa.errors import EstimationError, TableError, UsageError
from cardiometa.pooling.first_stage import first_stage
from cardiometa.pooling.options import PoolingOptions
from cardiometa.records import Exclusion
from tests.kit.pooling_tables import cohort_table, simulate_wide, to_long

WIDE = PoolingOptions(outcome="lv_ef_percent", baseline_column="lv_ef_baseline")
LONG = PoolingOptions(outcome="lv_ef_percent")


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
    wide.loc[wide["trial"] == "T2", "arm"] = wide["arm"].replace({"control": "placebo"})
    with pytest.raises(TableError) as caught:
        first_stage(cohort_table(wide), WIDE)
    assert [p.where for p in caught.value.problems] == ["trial T2"]
    assert "active, placebo" in caught.value.problems[0].what


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
        ({"followup_day": 300.0, "window": -1.0}, "negative"),
        ({"followup_day": 300.0, "window": 10.0, "followup_visit": "v"}, "not both"),
        ({"level": 100.0}, "between"),
        ({"min_cell": -1}, "negative"),
    ],
)
def test_unknown_options_list_the_known(changes, words):
    with pytest.raises(UsageError, match=words):
        PoolingOptions(outcome="y", **changes)
