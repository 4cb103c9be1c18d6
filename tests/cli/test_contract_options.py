"""Every option of the contract exists, with its default, choices and place on the help page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cardiometa.cli.app import _COMMANDS
from cardiometa.cli.main import app
from cardiometa.cli.outputs import ReviewOptions
from cardiometa.cohort.models import CohortOptions, TableOptions
from cardiometa.evaluation.options import EvaluationOptions
from cardiometa.options import Export, Options, Output, options_of
from cardiometa.pipeline.options import DicomOutput, SegmentOptions
from cardiometa.pooling.options import PlanInput, PlanOptions, PoolingOptions
from cardiometa.reference.options import ReferenceOptions, ScoreOptions
from cardiometa.segmentation.options import TrainOptions

RECORDS = (
    PoolingOptions,
    PlanOptions,
    PlanInput,
    ReferenceOptions,
    ScoreOptions,
    EvaluationOptions,
    SegmentOptions,
    DicomOutput,
    TrainOptions,
    ReviewOptions,
    CohortOptions,
    TableOptions,
    Export,
    Output,
)
BANDS = "18,30,40,50,60,70"
# Command: option and default, None where the contract's default is "not given".
CONTRACT: dict[str, dict[str, Any]] = {
    "segment": {
        "out": None,
        "device": "auto",
        "batch": 0,
        "workers": 0,
        "frames": "all",
        "model": None,
        "allow-mixed-models": False,
        "bsa": "mosteller",
        "corrections": None,
        "reader": None,
        "pseudonymise": None,
        "ids-are-pseudonyms": False,
        "series-regex": None,
        "timeout": 600.0,
        "restart": False,
        "dry-run": False,
        "trial": None,
        "participant": None,
        "log-file": None,
        "shard": None,
        "scheduler": None,
        "root": None,
        "trial-id": None,
        "participant-id": None,
        "visit-id": None,
        "dicom-seg": False,
        "dicom-identity": "scrub",
    },
    "reference-ranges": {
        "out": None,
        "export": None,
        "measure": None,
        "by": None,
        "age-bands": BANDS,
        "method": None,
        "limits": None,
        "meta": "frequentist,empirical",
        "at-ages": None,
        "level": 95.0,
        "ci-level": 90.0,
        "sided": "two",
        "healthy-only": True,
        "healthy-rule": "",
        "use-visit": None,
        "repeated": False,
        "trial-effect": "auto",
        "min-n": 40,
        "min-cell": 10,
        "outliers": "list",
        "bootstrap": 1000,
        "seed": 1,
        "status": "all",
        "internal": False,
    },
    "pool-trials": {
        "out": None,
        "export": None,
        "outcome": "",
        "baseline-visit": "baseline",
        "followup-visit": None,
        "followup-day": None,
        "window": None,
        "baseline": None,
        "effect": "mean-difference",
        "time": None,
        "event": None,
        "rmst": None,
        "model": "both",
        "adjust": None,
        "tau2": "reml",
        "ci": None,
        "hksj-adhoc": True,
        "ci-one-stage": "kenward-roger",
        "pi-df": "k-1",
        "by": None,
        "age-bands": BANDS,
        "missing-outcome": "complete",
        "missing-baseline": "mean",
        "imputations": 20,
        "estimand": "while-alive",
        "worse": None,
        "control": "control",
        "also-summaries": None,
        "error-model": None,
        "compare-reported": False,
        "leave-one-out": True,
        "level": 95.0,
        "seed": 1,
        "status": "all",
        "min-cell": 10,
        "cluster": None,
        "spline": 0,
        "meta-regression": None,
        "residual": "by-trial",
        "random-effects": "effect",
    },
    "summarise": {
        "out": None,
        "outcome": None,
        "effect": "mean-difference",
        "baseline-visit": "baseline",
        "by": None,
        "adjust": None,
        "control": "control",
        "min-cell": 10,
        "ledger": None,
    },
    "plan": {
        "out": None,
        "difference": None,
        "tau": None,
        "effect": "mean-difference",
        "interaction": None,
        "tau-interaction": 0.0,
        "add": None,
        "arm": None,
        "by": None,
        "error-sd": None,
        "error-from": None,
        "measure": None,
        "level": 95.0,
        "simulate": 0,
        "seed": 1,
    },
    "score": {
        "out": None,
        "kind": "marginal",
        "limits-of": "own",
        "same-conventions": False,
        "measure": None,
    },
    "adapt": {
        "out": None,
        "measure": None,
        "healthy-rule": "",
        "use-visit": None,
        "status": "all",
        "same-conventions": False,
    },
    "compare-limits": {
        "against": None,
        "preset": None,
        "out": None,
        "kind": "marginal",
        "same-conventions": False,
    },
    "evaluate": {
        "out": None,
        "against": None,
        "labels": None,
        "label-order": "cardiometa",
        "repeat-visits": None,
        "margin": None,
        "age-bands": BANDS,
        "min-cell": 10,
        "bootstrap": 2000,
        "seed": 1,
        "export-for-reading": None,
        "cohort": None,
        "key": None,
        "share": 5.0,
        "without-masks": False,
        "import-reading": None,
        "internal": False,
    },
    "check": {"root": None, "ids-are-pseudonyms": False, "pseudonymise": None},
    "init": {"out": None},
    "demo": {"out": Path("cardiometa-demo"), "seed": 1, "workers": 0, "examples": None},
    "merge": {},
    "withdraw": {
        "participant": None,
        "keep-data": False,
        "derived": None,
        "pseudonymise": None,
    },
    "show": {"verify": False, "cohort": None, "model": None, "input": None},
    "doctor": {},
    "review": {
        "cohort": None,
        "reader": "reader-1",
        "blind": False,
        "measure": "lv_ef_percent",
        "port": 0,
        "host": "127.0.0.1",
        "pseudonymise": None,
    },
}
COLUMNS = ("trial", "participant", "age", "sex", "ethnicity", "visit", "visit-day")
JSON = tuple(name for name in CONTRACT if name not in ("init", "review"))
CONFIG = (
    "segment",
    "reference-ranges",
    "pool-trials",
    "plan",
    "summarise",
    "score",
    "adapt",
    "evaluate",
)
OVERWRITE = (*CONFIG, "compare-limits")


def parameters(command: str) -> dict[str, Any]:
    """The options of a command by flag, as Typer has them."""
    group: Any = typer.main.get_command(app)
    built = group.get_command(typer.Context(group), command)
    found = {}
    for parameter in built.params:
        for flag in (*parameter.opts, *parameter.secondary_opts):
            found[flag.removeprefix("--")] = parameter
    return found


@pytest.mark.parametrize("command", CONTRACT)
def test_the_contract_s_options_exist_with_their_defaults(command: str) -> None:
    found = parameters(command)
    for name, default in CONTRACT[command].items():
        assert name in found, f"{command} --{name}"
        assert found[name].default == default, f"{command} --{name}"
    if command in ("reference-ranges", "pool-trials", "summarise", "score"):
        for name in COLUMNS:
            assert found[name].default is None, f"{command} --{name}"
    assert ("json" in found) == (command in JSON)
    assert ("config" in found) == (command in CONFIG)
    assert ("overwrite" in found) == (command in OVERWRITE)
    assert "verbose" in found
    assert "-v" in found


def test_the_table_above_has_every_command() -> None:
    assert set(CONTRACT) | {"model"} == set(_COMMANDS)


@pytest.mark.parametrize(
    ("command", "option", "choices"),
    [
        ("pool-trials", "tau2", "reml, ml, dl, pm, eb, he, hs, sj, fe"),
        ("pool-trials", "model", "two-stage, one-stage, both"),
        ("pool-trials", "ci-one-stage", "kenward-roger, satterthwaite, wald"),
        ("pool-trials", "spline", "0, 3, 4, 5"),
        ("reference-ranges", "sided", "two, lower, upper"),
        ("reference-ranges", "trial-effect", "auto, random, fixed, none"),
        ("segment", "device", "auto, cpu, cuda, mps"),
        ("segment", "frames", "all, ed-es"),
        ("score", "kind", "population, marginal, conditional"),
        ("evaluate", "label-order", "cardiometa, acdc"),
    ],
)
def test_choices_are_shown_and_others_refused(command: str, option: str, choices: str) -> None:
    assert f"One of: {choices}." in parameters(command)[option].help
    done = CliRunner().invoke(app, [command, f"--{option}", "wrong"])
    assert done.exit_code == 2
    assert f"--{option} wrong is not known. Use one of {choices}." in done.stderr


def test_the_choices_are_those_of_the_methods() -> None:
    from cardiometa.segmentation.training_data import LABEL_ORDERS
    from cardiometa.statistics.meta import METHODS
    from cardiometa.statistics.mixed.sufficient_statistics import RESIDUALS

    def choices(record: type[Options], field: str) -> set[Any]:
        return set(next(one.choices for one in options_of(record) if one.field == field))

    assert choices(PoolingOptions, "tau2") == set(METHODS)
    assert choices(PoolingOptions, "residual") == set(RESIDUALS)
    assert choices(TrainOptions, "label_order") == set(LABEL_ORDERS)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_option_has_a_plain_help_and_a_group(record: type[Options]) -> None:
    for one in options_of(record):
        assert one.option.help[0].isupper() or one.option.help.split(":")[0] in HELP_STARTS
        assert one.option.help.endswith((".", ")", "…"))
        assert one.option.group
        assert one.name == one.flag.removeprefix("--").replace("-", "_")
    assert len({one.name for one in options_of(record)}) == len(options_of(record))


HELP_STARTS = (
    "hazard-ratio",
    "worst-rank",
    "own",
    "list keeps outliers, tukey removes them, none ignores them.",
    "cardiometa",
)


@pytest.mark.parametrize("command", [*CONTRACT, "model"])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_has_an_example_and_few_options_first(command: str, flag: str) -> None:
    done = CliRunner().invoke(app, [command, flag], env={"COLUMNS": "120", "TERMINAL_WIDTH": "120"})
    assert done.exit_code == 0
    assert "Usage:" in done.stdout
    assert f"Example: cardiometa {command}" in done.stdout
    if command != "model":
        first = [p for p in parameters(command).values() if not getattr(p, "rich_help_panel", None)]
        assert len({p.name for p in first if p.param_type_name == "option"}) <= 13


@pytest.mark.parametrize(
    ("command", "panels"),
    [
        ("pool-trials", ("Endpoint", "Model", "Intervals", "Columns of the table", "Output")),
        ("reference-ranges", ("Strata", "Limits", "Columns of the table", "Output")),
        ("segment", ("Speed and cluster", "Images and ids", "DICOM output", "Output")),
        ("evaluate", ("Blinded reading", "Analysis", "Output")),
    ],
)
def test_options_are_grouped_with_output_last(command: str, panels: tuple[str, ...]) -> None:
    page = CliRunner().invoke(app, [command, "--help"]).stdout
    places = [page.index(f"─ {panel}") for panel in ("Options", *panels)]
    assert places[0] == min(places)
    assert places[-1] == max(places)


def test_the_first_page_has_two_panels_and_no_old_name() -> None:
    page = CliRunner().invoke(app, ["--help"]).stdout
    main, utilities = page.index("Main commands"), page.index("Utilities")
    assert main < page.index("pool-trials") < utilities < page.index("compare-limits")
    for old in ("gather", "verify"):
        assert f"│ {old} " not in page
    assert "not a medical device" in page
    assert "--show-completion" in page
