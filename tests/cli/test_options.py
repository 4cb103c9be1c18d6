"""Option records: what a field becomes, what is checked, and how combinations are refused."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
import typer
from typer.testing import CliRunner

from cardiometa.cli.command import Only, command
from cardiometa.cohort.models import CohortOptions
from cardiometa.errors import UsageError
from cardiometa.evaluation.options import EvaluationOptions
from cardiometa.options import (
    Conflict,
    Needs,
    Option,
    Options,
    is_given,
    is_in,
    is_not,
    options_of,
    split,
)
from cardiometa.pipeline.options import DicomOutput, SegmentOptions
from cardiometa.pooling.options import PoolingOptions
from cardiometa.reference.options import ReferenceOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Example(Options):
    table: Annotated[Path, Option(help="Table.")]
    method: Annotated[Literal["a", "b"], Option(help="Method.", group="Model")] = "a"
    knots: Annotated[Literal[0, 3], Option(help="Knots.")] = 0
    ages: Annotated[tuple[float, ...], Option(help="Ages.")] = (20.0, 30.5)
    names: Annotated[tuple[str, ...] | None, Option(flag="--name", help="N.", repeat=True)] = None
    count: Annotated[int, Option(help="Count.", minimum=2)] = 5
    fast: Annotated[bool, Option(flag="--fast/--slow", help="Fast.")] = True
    hidden: int = 7

    RULES: ClassVar[tuple[Conflict | Needs, ...]] = (
        Conflict({"method": is_in("b")}, {"knots": is_given}, why="b is linear", hint="Use a."),
        Needs({"fast": is_in(False)}, ("names",)),
    )


TABLE = Path("t.csv")


def test_fields_are_declared_in_their_order() -> None:
    flags = [one.flag for one in options_of(Example)]
    assert flags == ["--table", "--method", "--knots", "--ages", "--name", "--count", "--fast"]
    by_name = {one.name: one for one in options_of(Example)}
    assert by_name["table"].default is MISSING
    assert by_name["method"].choices == ("a", "b")
    assert by_name["knots"].kind is int
    assert by_name["ages"].is_list
    assert by_name["name"].optional
    assert by_name["fast"].kind is bool


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"ages": "18, 40,65"}, "ages", (18.0, 40.0, 65.0)),
        ({"ages": [18, 40]}, "ages", (18.0, 40.0)),
        ({"name": ["x", "y"]}, "names", ("x", "y")),
        ({"name": "x"}, "names", ("x",)),
        ({"name": None}, "names", None),
        ({"knots": "3"}, "knots", 3),
        ({"knots": 3}, "knots", 3),
        ({"table": "other.csv"}, "table", Path("other.csv")),
        ({"count": 2.0}, "count", 2),
        ({"fast": True}, "fast", True),
    ],
)
def test_text_and_python_values_are_the_same(given: dict, field: str, value: object) -> None:
    record = Example.of({"table": TABLE, **given})
    assert getattr(record, field) == value
    assert type(getattr(record, field)) is type(value)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"method": "c"}, "--method c is not known. Use one of a, b."),
        ({"knots": 4}, "--knots 4 is not known. Use one of 0, 3."),
        ({"knots": "three"}, "--knots three is not known. Use one of 0, 3."),
        ({"ages": "18,old"}, "--ages old is not a number."),
        ({"count": 1}, "--count 1 is less than 2."),
        ({"count": 2.5}, "--count 2.5 is not a whole number."),
        ({"count": True}, "--count True is not a whole number."),
        ({"fast": "yes"}, "--fast yes is not true or false."),
        ({"table": 3}, "--table 3 is not a path."),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(given: dict, sentence: str) -> None:
    with pytest.raises(UsageError) as raised:
        Example.of({"table": TABLE, **given})
    assert str(raised.value) == sentence


def test_combinations_are_checked_and_all_reported() -> None:
    with pytest.raises(UsageError) as raised:
        Example(table=TABLE, method="b", knots=3, fast=False)
    message = raised.value.message
    assert "--method b cannot be combined with --knots 3: b is linear." in message
    assert "--fast needs --name." in message
    assert raised.value.hint == "Use a."
    Example(table=TABLE, method="b", fast=False, names=("x",))


@pytest.mark.parametrize("value", [None, False, "", (), 0])
def test_absent_values(value: object) -> None:
    assert not is_given(value)
    assert is_given("x")
    assert is_not("a")(value)


def test_unknown_names_are_suggested() -> None:
    with pytest.raises(UsageError, match=r"no option tau\. Did you mean 'tau2'"):
        split((PoolingOptions, ReferenceOptions), {"tau": "reml"})
    first, second = split((PoolingOptions, ReferenceOptions), {"tau2": "dl", "sided": "two"})
    assert (first, second) == ({"tau2": "dl"}, {"sided": "two"})


# ------------------------------------------------------------------ the records of the commands

POOLING = {"outcome": "y"}


@pytest.mark.parametrize(
    ("record", "options", "words"),
    [
        (PoolingOptions, {"effect": "risk-ratio", "by": ("sex",)}, "--by"),
        (PoolingOptions, {"effect": "risk-difference", "adjust": ("age",)}, "--adjust"),
        (PoolingOptions, {"effect": "win-odds"}, "--estimand while-alive"),
        (PoolingOptions, {"spline": 3}, "needs --by"),
        (PoolingOptions, {"followup_day": 30.0}, "needs --window"),
        (PoolingOptions, {"window": 0.0}, "needs --followup-day"),
        (
            PoolingOptions,
            {"followup_day": 30.0, "window": 5.0, "followup_visit": "v"},
            "cannot be combined with --followup-visit",
        ),
        (PoolingOptions, {"effect": "odds-ratio", "estimand": "worst-rank"}, "--estimand"),
        (PoolingOptions, {"time": "day"}, "--time"),
        (PoolingOptions, {"effect": "hazard-ratio", "time": "day"}, "needs --event"),
        (PoolingOptions, {"effect": "hazard-ratio", "event": "mace"}, "needs --time"),
        (PoolingOptions, {"missing_outcome": "impute", "by": ("sex",)}, "--by"),
        (PoolingOptions, {"missing_outcome": "impute", "model": "one-stage"}, "one-stage"),
        (PoolingOptions, {"missing_outcome": "impute", "effect": "odds-ratio"}, "odds-ratio"),
        (
            PoolingOptions,
            {"effect": "standardised-mean-difference", "model": "one-stage"},
            "--model one-stage",
        ),
        (PoolingOptions, {"cluster": "ward", "by": ("sex",)}, "--cluster cannot be combined"),
        (PoolingOptions, {"cluster": "ward", "compare_reported": True}, "--compare-reported"),
        (PoolingOptions, {"cluster": "ward", "effect": "hazard-ratio"}, "hazard-ratio"),
        (PoolingOptions, {"level": 100.0}, "--level 100"),
        (PoolingOptions, {"age_bands": (40.0, 30.0)}, "increasing ages"),
        (PoolingOptions, {"imputations": 1}, "--imputations 1 is less than 2"),
        (ReferenceOptions, {"method": "quantile", "trial_effect": "random"}, "--trial-effect"),
        (ReferenceOptions, {"method": "meta", "limits": "robust"}, "--limits robust"),
        (ReferenceOptions, {"repeated": True, "use_visit": "v"}, "--use-visit"),
        (ReferenceOptions, {"repeated": True, "method": "lms"}, "--method lms"),
        (ReferenceOptions, {"meta": ("x",)}, "--meta x is not known"),
        (ReferenceOptions, {"meta": ()}, "--meta needs"),
        (ReferenceOptions, {"by": ("sex", "height")}, "--by height is not known"),
        (ReferenceOptions, {"level": float("nan")}, "--level nan"),
        (ReferenceOptions, {"at_ages": ()}, "--at-ages needs ages"),
        (ReferenceOptions, {"age_bands": (30.0, 30.0)}, "--age-bands must increase"),
        (ReferenceOptions, {"bootstrap": 100}, "--bootstrap 100 is less than 200"),
        (ReferenceOptions, {"min_cell": 0}, "--min-cell 0 is less than 1"),
        (EvaluationOptions, {"repeat_visits": ("a", "a")}, "not two visits"),
        (EvaluationOptions, {"age_bands": ()}, "increasing ages"),
        (DicomOutput, {"dicom_identity": "keep"}, "--dicom-identity keep needs --dicom-seg"),
        (CohortOptions, {"roots": ("ALPHA",)}, "--root ALPHA is not TRIAL=DIR"),
        (SegmentOptions, {"timeout_s": -1.0}, "--timeout -1.0 is less than 0"),
        (SegmentOptions, {"frames": "ed"}, "--frames ed is not known"),
    ],
)
def test_what_the_commands_refuse(record: type[Options], options: dict, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        record(**options)
    assert words in str(raised.value)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"effect": "hazard-ratio", "time": "day", "event": "mace", "by": ("sex",)},
        {"effect": "hazard-ratio"},  # of a table of summaries
        {"estimand": "worst-rank", "worse": "lower", "effect": "win-odds"},
        {"cluster": "ward", "adjust": ("age",)},
        {"by": ("age",), "spline": 4},
        {"followup_day": 365.0, "window": 60.0},
        {"effect": "odds-ratio", "by": ("sex",), "adjust": ("age",)},
        {"tau2": "fe", "ci": "wald", "pi_df": "k-2", "model": "two-stage"},
    ],
)
def test_what_pooling_accepts(options: dict) -> None:
    assert set(PoolingOptions(**options).document()) >= {"tau2", "effect", "min_cell"}


def test_settings_of_the_program_are_not_choices_of_the_user() -> None:
    assert ReferenceOptions(trial_effect="random-kept").trial_effect == "random-kept"
    one = next(o for o in options_of(ReferenceOptions) if o.field == "trial_effect")
    assert "random-kept" not in one.choices
    margins = EvaluationOptions(margin=("lv_ef_percent=3", "lv_edv_ml=5%")).margins
    assert margins["lv_ef_percent"].value == 3
    assert margins["lv_edv_ml"].percent
    with pytest.raises(UsageError, match="unknown measure"):
        _ = EvaluationOptions(margin=("height=3",)).margins


def test_roots_and_identity() -> None:
    assert CohortOptions(roots=("A=/x", "B=/y=z")).root_overrides == {
        "A": Path("/x"),
        "B": Path("/y=z"),
    }
    assert DicomOutput().identity is None
    assert DicomOutput(dicom_seg=True).identity == "scrub"
    shard = SegmentOptions(shard_text="2/4").shard
    assert shard is not None
    assert (shard.number, shard.of) == (2, 4)


# ------------------------------------------------------------------ from records to a command


def small_app(seen: list[Any]) -> typer.Typer:
    made = typer.Typer()

    @made.command()
    @command
    def go(
        source: Annotated[Path, typer.Argument(help="Source.", metavar="SOURCE")],
        example: Example,
        cohort: Annotated[CohortOptions, Only("trial_id", required=("trial_id",))],
        note: Annotated[str | None, typer.Option(help="Note.")],
        deep: Annotated[bool, typer.Option("--deep", help="Deep.")],
    ) -> None:
        seen.append((source, example, cohort, note, deep))

    return made


def invoke(*words: str) -> tuple[Any, list[Any]]:
    seen: list[Any] = []
    return CliRunner().invoke(small_app(seen), list(words)), seen


def test_a_command_gets_filled_records() -> None:
    words = ["src", "--table", "t.csv", "--trial-id", "T1", "--ages", "18,40", "--name", "x"]
    done, seen = invoke(*words, "--name", "y", "--slow", "--knots", "3")
    assert done.exit_code == 0, done.output
    ((source, example, cohort, note, deep),) = seen
    assert source == Path("src")
    assert example == Example(table=TABLE, ages=(18.0, 40.0), names=("x", "y"), fast=False, knots=3)
    assert cohort == CohortOptions(trial_id="T1")
    assert (note, deep) == (None, False)


def test_defaults_are_those_of_the_record() -> None:
    done, seen = invoke("src", "--table", "t.csv", "--trial-id", "T1")
    assert done.exit_code == 0, done.output
    assert seen[0][1] == Example(table=TABLE)


def test_everything_missing_and_wrong_is_reported_at_once() -> None:
    done, seen = invoke("--method", "c", "--count", "1")
    assert (done.exit_code, seen) == (2, [])
    assert "Missing: SOURCE, --table, --trial-id." in done.stderr
    done, _ = invoke("src", "--table", "t.csv", "--method", "c", "--count", "1")
    assert "Missing: --trial-id." in done.stderr
    assert "--method c is not known" in done.stderr
    assert "--count 1 is less than 2" in done.stderr


def test_options_outside_the_chosen_part_do_not_exist() -> None:
    done, _ = invoke("src", "--table", "t.csv", "--trial-id", "T1", "--visit-id", "v")
    assert done.exit_code == 2
    assert "No such option: --visit-id" in done.stderr
