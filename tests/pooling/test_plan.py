"""Power and width of a planned analysis: against known formulas, the engine, and bad input."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import nct, norm, t
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.commands.plan import make_plan
from cardiometa.errors import InputError, TableError, UsageError
from cardiometa.files import canonical_json
from cardiometa.pooling.options import PlanInput, PlanOptions
from cardiometa.pooling.plan import PlannedTrial, expected_width, plan_rows
from cardiometa.statistics.measurement_error import (
    KEY,
    MeasureError,
    line_of,
)
from tests.kit.evaluations import evaluation_of
from tests.kit.pooling_tables import simulate_wide

OPTIONS = PlanOptions(difference=2.0)
TABLE = """trial,n_control,n_active,sd,correlation,modifier_sd,modifier_share,tau
ALPHA,130,130,8,0.8,1.0,,1
BETA,90,90,8,0.8,1.0,,1
GAMMA,60,120,8,0.8,,0.4,1
DELTA,40,40,9,0.75,,,1
EPSILON,100,100,8,0.8,1.1,,1
"""


def trials_of(sizes, **changes):
    base = {"sd": 8.0, "correlation": 0.7, "modifier_variance": 1.0, **changes}
    return [
        PlannedTrial(trial=f"T{i}", n_control=n, n_active=n, **base) for i, n in enumerate(sizes)
    ]


def table(tmp_path, text=TABLE):
    path = tmp_path / "trials.csv"
    path.write_text(text)
    return path


def planned(source, read=None, **changes):
    options = PlanOptions(**{"difference": 2.0, **changes})
    return make_plan(source, options, read or PlanInput())


# ------------------------------------------------------------------ against formulas


@pytest.mark.parametrize("ci", ["wald", "hksj-truncated", "kenward-roger"])
@pytest.mark.parametrize("k", [3, 6, 20])
def test_with_much_between_equal_trials_power_is_that_of_a_t_test(k, ci):
    """The truncation never binds: the trials' effects are k draws of one normal distribution."""
    tau, difference = 10.0, 14.0
    width = expected_width(np.full(k, 1e-4), tau, ci)
    ncp = difference / tau * math.sqrt(k)
    limit = t.ppf(0.975, k - 1) if ci != "wald" else norm.ppf(0.975)
    exact = nct.sf(limit, k - 1, ncp) + nct.cdf(-limit, k - 1, ncp)
    assert width.power(difference) == pytest.approx(exact, abs=2e-3)


def test_without_error_of_the_spread_power_is_that_of_a_z_test():
    """Many equal trials and no tau: the classical formula of one large trial."""
    v = np.full(400, 4.0)
    width = expected_width(v, 0.0, "wald")
    assert width.se == pytest.approx(0.1)
    classical = norm.cdf(0.28 / 0.1 - norm.ppf(0.975))
    assert width.power(0.28) == pytest.approx(classical, abs=0.015)
    assert width.power(width.detectable()) == pytest.approx(0.8, abs=1e-9)


@pytest.mark.parametrize(
    ("effect", "without", "with_error"),
    [
        ("follow-up", 64.0, 73.0),
        ("change", 2 * 64 * 0.3, 2 * 64 * 0.3 + 18.0),
        ("mean-difference", 64 * 0.51, 73 - (0.7 * 64) ** 2 / 73),
    ],
)
def test_residual_variance_with_and_without_the_models_error(effect, without, with_error):
    (trial,) = trials_of([100])
    assert trial.residual_variance(effect, 0.0) == pytest.approx(without)
    assert trial.residual_variance(effect, 3.0) == pytest.approx(with_error)


def test_an_interaction_has_the_variance_over_that_of_the_modifier():
    (trial,) = trials_of([100], modifier_variance=0.25)
    options = PlanOptions(difference=2.0, effect="follow-up")
    main = trial.variance("treatment", options, 0.0)
    assert main == pytest.approx(64 * 2 / 100)
    interaction = trial.variance("treatment:modifier", options, 0.0)
    assert interaction == pytest.approx(4 * main, rel=0.04)
    # Effects of 4 per unit of a modifier of SD 1/2 add 4 to the variance of the active arm.
    changed = PlanOptions(difference=2.0, interaction=4.0, effect="follow-up")
    assert trial.variance("treatment", changed, 0.0) == pytest.approx(66 * 2 / 100)
    assert trial.variance("treatment:modifier", changed, 0.0) == interaction


@pytest.mark.parametrize("share", [False, True])
def test_small_trials_estimate_their_variances(share):
    """Of 20 an arm: E(1/chi² on 19 df) = 1/17 for a modifier's sum of squares; then chi² on 35."""
    changes = {"modifier_variance": 0.21, "is_share": True} if share else {}
    (trial,) = trials_of([20], **changes)
    main, interaction = (
        trial.drawn(term, 1.0, "mean-difference", np.random.default_rng(3))
        for term in ("treatment", "treatment:modifier")
    )
    assert np.all(main[0] == 1.0)
    assert main[1].std() == pytest.approx(math.sqrt(2 / 37), rel=0.05)
    assert interaction[0].mean() == pytest.approx(1.071 if share else 19 / 17, rel=0.02)
    assert (interaction[1] / interaction[0]).std() == pytest.approx(math.sqrt(2 / 35), rel=0.05)
    v = np.full(12, 2.7)
    draws = [np.stack([one] * 12, axis=1) for one in interaction]
    power = expected_width(2.7 * draws[0], 0.6, "wald", estimated=2.7 * draws[1]).power(1.5)
    assert power < expected_width(v, 0.6, "wald").power(1.5)


def test_more_of_everything_that_helps_helps():
    base = plan_rows(trials_of([60] * 6), 1.0, OPTIONS)[0]
    assert plan_rows(trials_of([60] * 9), 1.0, OPTIONS)[0].power_percent > base.power_percent
    assert plan_rows(trials_of([90] * 6), 1.0, OPTIONS)[0].power_percent > base.power_percent
    assert plan_rows(trials_of([60] * 6), 2.0, OPTIONS)[0].power_percent < base.power_percent
    noisy = plan_rows(trials_of([60] * 6), 1.0, PlanOptions(difference=2.0, error_sd=4.0))
    with_error = next(r for r in noisy if r.error == "with")
    assert with_error.power_percent < base.power_percent
    assert with_error.width > base.width
    back = plan_rows(trials_of([60] * 6), 1.0, PlanOptions(difference=-2.0))[0]
    assert back.power_percent == pytest.approx(base.power_percent)


def test_simulated_through_the_engine_it_is_near():
    """120 analyses: three standard errors of a share are 13 points."""
    options = PlanOptions(difference=2.0, interaction=1.2, simulate=120, error_sd=3.0)
    rows = plan_rows(trials_of([40, 50, 60, 70, 80]), 1.0, options)
    assert {row.error for row in rows} == {"with", "without"}
    for row in rows:
        assert row.simulations == 120
        assert row.power_percent == pytest.approx(row.simulated_power_percent, abs=13.5)
        assert row.width == pytest.approx(row.simulated_width, rel=0.15)
    assert any(row.ci_method == "kenward-roger" for row in rows)
    again = plan_rows(trials_of([40, 50, 60, 70, 80]), 1.0, options)
    assert again == rows


def test_below_five_trials_kenward_roger_is_not_planned_with():
    rows = plan_rows(trials_of([60] * 4), 1.0, OPTIONS)
    assert {row.ci_method for row in rows} == {"hksj-truncated", "wald"}
    assert [row.ci_method for row in rows if row.headline] == ["hksj-truncated"]


# ------------------------------------------------------------------ from a table


def test_the_command_writes_table_page_and_json(tmp_path):
    command = ["plan", str(table(tmp_path)), "--out", str(tmp_path / "out"), "--difference", "2"]
    command += ["--interaction", "0.8", "--error-sd", "3"]
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    rows = pd.read_csv(tmp_path / "out" / "plan.csv")
    assert document["tau"] == 1.0
    assert len(document["plan"]) == len(rows)
    main = rows[(rows["term"] == "treatment") & rows["headline"]].set_index("error")
    assert main.loc["without", "power_percent"] > main.loc["with", "power_percent"]
    assert set(rows.loc[rows["term"] == "treatment:modifier", "k"]) == {4}
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"{main.loc['with', 'power_percent']:.1f}" in page
    assert "DELTA tell nothing of the interaction" in page
    each = pd.read_csv(tmp_path / "out" / "plan_trials.csv")
    assert each.groupby(["term", "error"])["weight_percent"].sum().to_numpy() == pytest.approx(100)
    text = CliRunner().invoke(app, [*command, "--overwrite"]).stdout
    assert f"{main.loc['without', 'power_percent']:.1f}" in text
    other = CliRunner().invoke(app, [*command, "--tau", "2"])
    assert other.exit_code == 2


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("BETA,90", "ALPHA,90", ["trial ALPHA is there twice"]),
        ("BETA,90,90", "BETA,many,2.5", ["n_control is 'many'", "n_active is 2.5"]),
        ("BETA,90,90,8,0.8", "BETA,90,90,-8,1.8", ["sd is -8", "correlation is 1.8"]),
        ("BETA,90,90,8,0.8,1.0,,1", "BETA,90,90,8,0.8,1.0,0.5,3",
         ["modifier_sd and modifier_share are both given", "tau is 1, 3"]),
        ("0.4,1", "1.4,1", ["modifier_share is 1.4"]),
        ("ALPHA,130,130,8,0.8,1.0", ",130,130,8,0.8,0", ["trial is empty", "modifier_sd is 0"]),
    ],
)  # fmt: skip
def test_all_problems_of_a_table_are_listed(tmp_path, old, new, words):
    with pytest.raises(TableError) as error:
        planned(table(tmp_path, TABLE.replace(old, new, 1)))
    listed = [str(problem) for problem in error.value.problems]
    for text in words:
        assert any(text in problem for problem in listed), listed


def test_columns_and_tau_that_are_missing_are_named(tmp_path):
    with pytest.raises(TableError, match="no column n_active, correlation"):
        planned(table(tmp_path, "trial,n_control,sd\nA,50,8\nB,60,8\n"))
    one = TABLE.replace(",tau", "").replace(",1\n", "\n")
    with pytest.raises(UsageError, match="differs between trials"):
        planned(table(tmp_path, one))
    with pytest.raises(TableError) as error:
        planned(table(tmp_path, "\n".join(TABLE.splitlines()[:2]) + "\n"))
    assert "fewer than two trials" in str(error.value.problems[0])
    bare = "trial,n_control,n_active,sd,correlation\nA,50,50,8,0.5\nB,60,60,8,0.5\n"
    with pytest.raises(TableError) as error:
        planned(table(tmp_path, bare), tau=1.0, interaction=1.0)
    assert "modifier_share" in str(error.value.problems[0])


def test_wrong_use_is_listed_together(tmp_path):
    command = ["plan", str(table(tmp_path)), "--out", str(tmp_path / "out"), "--tau", "-1"]
    done = CliRunner().invoke(app, [*command, "--level", "3", "--measure", "lv_ef_percent"])
    assert done.exit_code == 2
    for words in ("Missing: --difference", "--tau -1", "--level 3", "--error-from"):
        assert words in done.stderr, done.stderr
    with pytest.raises(UsageError, match="--difference 0"):
        PlanOptions.of({"difference": 0.0})
    with pytest.raises(UsageError, match="--arm need an output folder"):
        planned(table(tmp_path), PlanInput(arm="active"))


# ------------------------------------------------------------------ from an output


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    rows = simulate_wide(5, 3, people=70, tau=1.0)
    rows.to_csv(folder / "wide.csv", index=False)
    command = ["pool-trials", str(folder / "wide.csv"), "--out", str(folder / "out")]
    command += ["--outcome", "lv_ef_percent", "--baseline", "lv_ef_baseline", "--by", "sex,age"]
    command += ["--model", "two-stage", "--no-leave-one-out", "--quiet"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    return folder / "out"


def test_an_output_says_what_one_more_trial_would_add(output):
    plan = planned(output, PlanInput(by="age_years"), interaction=1.0)
    effects = pd.read_csv(output / "effects.csv")
    pooled = effects[(effects["analysis"] == "pooled") & effects["headline"]].iloc[0]
    assert plan.tau == pytest.approx(math.sqrt(pooled["tau2"]))
    now, more = (
        next(r for r in plan.rows if (r.set, r.term, r.headline) == (name, "treatment", True))
        for name in ("existing", "existing and planned")
    )
    assert (now.k, more.k) == (5, 6)
    own = effects[(effects["analysis"] == "trial") & (effects["source"] == "harmonised")]
    weight = 1 / (own["se"] ** 2 + pooled["tau2"])
    assert now.se == pytest.approx(weight.sum() ** -0.5)
    assert more.power_percent > now.power_percent
    assert more.width < now.width
    interaction = [r for r in plan.rows if r.term == "treatment:modifier" and r.headline]
    assert [r.k for r in interaction] == [5, 6]
    assert plan.contrast == "age_years, per 10 years"


def test_without_the_models_error_finished_trials_would_say_more(output):
    rows = planned(output, error_sd=2.0).rows
    main = {(r.set, r.error): r for r in rows if r.headline}
    for name in ("existing", "existing and planned"):
        assert main[name, "without"].width < main[name, "with"].width
    assert main["existing", "with"].se == planned(output).rows[0].se
    with pytest.raises(InputError, match="larger than what is left"):
        planned(output, error_sd=30.0)


def test_planned_trials_are_added_to_an_output(output, tmp_path):
    add = table(tmp_path)
    plan = planned(output, PlanInput(add=add))
    assert {r.k for r in plan.rows} == {5, 10}
    add.write_text(TABLE.replace("ALPHA", "T1"))
    with pytest.raises(TableError) as error:
        planned(output, PlanInput(add=add))
    assert "T1 is there twice" in str(error.value.problems[0])


def test_what_an_output_cannot_say_is_refused(output, tmp_path):
    with pytest.raises(UsageError, match="one modifier with one contrast") as error:
        planned(output, interaction=1.0)
    assert "age_years, sex" in error.value.hint
    with pytest.raises(UsageError, match="Which arm"):
        planned(output, PlanInput(arm="high"))
    (tmp_path / "cardiometa.json").write_text('{"command": "segment", "options": {}}')
    with pytest.raises(InputError, match="not an output of pool-trials"):
        planned(tmp_path)


# ------------------------------------------------------------------ the model's error


def test_the_error_comes_from_an_evaluation_or_from_the_scans(tmp_path):
    draw = np.random.default_rng(2)
    reader = draw.normal(55, 9, 60)
    line = line_of(1.02 * reader + draw.normal(0, 3, 60), reader, np.arange(60))
    errors = MeasureError(measure="lv_ef_percent", unit="%", scope="labels", lines=(line,))
    document = evaluation_of(errors, model_sha256="0" * 64).document()
    path = tmp_path / "evaluation.json"
    path.write_text(canonical_json({KEY: document}))
    read = PlanInput(error_from=path, measure="lv_ef_percent")
    assert planned(table(tmp_path), read).options.error_sd == pytest.approx(line.residual_sd)
    scans = tmp_path / "measurements.csv"
    scans.write_text("lv_ef_percent_sd\n3\n4\n\n")
    read = PlanInput(error_from=scans, measure="lv_ef_percent")
    assert planned(table(tmp_path), read).options.error_sd == pytest.approx(math.sqrt(12.5))
    with pytest.raises(InputError, match="no error of rv_edv_ml"):
        planned(table(tmp_path), PlanInput(error_from=scans, measure="rv_edv_ml"))
    with pytest.raises(UsageError, match="use one"):
        planned(table(tmp_path), read, error_sd=2.0)
