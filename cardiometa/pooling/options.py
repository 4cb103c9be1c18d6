"""The options of pooling: declared, grouped and checked once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isfinite
from pathlib import Path
from re import fullmatch
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from ..options import (
    CompareReported,
    Conflict,
    Needs,
    Option,
    Options,
    is_given,
    is_in,
    is_not,
    options_of,
)

DIFFERENCES = ("mean-difference", "change", "follow-up")
STANDARDISED = "standardised-mean-difference"
WIN_ODDS: Final = "win-odds"  # the effect of the worst-rank estimand
RATIOS = ("odds-ratio", "risk-ratio", "hazard-ratio", WIN_ODDS)
ALIASES = {"age": "age_years"}
# Of participants' rows these need an event, yes or no; no scan, and no baseline.
EVENTS = ("odds-ratio", "risk-ratio", "risk-difference", "hazard-ratio")
# What a site's summary is computed with, and pooling has to follow.
MODEL_FIELDS = (
    "outcome",
    "effect",
    "baseline_visit",
    "followup_visit",
    "followup_day",
    "window",
    "baseline_column",
    "adjust",
    "by",
    "age_bands",
    "control",
    "missing_baseline",
    "status",
)

_ENDPOINT, _MISSING, _MODIFIERS = "Endpoint", "Missing data", "Effect modifiers"
_PRESENTATION: Final = "Presentation"
_MODEL, _INTERVALS, _SENSITIVITY = "Model", "Intervals", "Sensitivity and output"
_FROM_TABLES = "it is estimated from 2 x 2 tables"
_LOGISTIC = "Use --effect odds-ratio: logistic models."


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolingOptions(Options):
    """The options of `pool-trials` that decide its result (contract, section 6).

    ``outcome`` is empty for a table of summaries. ``ci`` None is ``hksj``, or ``wald`` where
    ``tau2`` is ``fe``: a common-effect model has no between-trial spread to learn an SE from.
    ``prespecified`` are the modifiers named in the plan.
    """

    outcome: Annotated[str, Option(help="Measure to pool, such as lv_ef_percent.")] = ""
    effect: Annotated[
        Literal[
            "mean-difference",
            "change",
            "follow-up",
            "standardised-mean-difference",
            "odds-ratio",
            "risk-ratio",
            "risk-difference",
            "hazard-ratio",
            "win-odds",
        ],
        Option(
            help="Effect measure; mean-difference is ANCOVA, the ratios and risk-difference are "
            "of events."
        ),
    ] = "mean-difference"
    baseline_visit: Annotated[str, Option(help="Long format: baseline visit.")] = "baseline"
    followup_visit: Annotated[
        str | None, Option(help="Long format: follow-up visit (default: the only other one).")
    ] = None
    followup_day: Annotated[
        float | None, Option(help="Scan nearest to this day, within --window.", group=_ENDPOINT)
    ] = None
    window: Annotated[
        float | None,
        Option(help="Days on either side of --followup-day.", group=_ENDPOINT, minimum=0),
    ] = None
    baseline_column: Annotated[
        str | None, Option(flag="--baseline", help="Wide format: column of the baseline value.")
    ] = None
    time: Annotated[
        str | None,
        Option(help="hazard-ratio: column of days to event or censoring.", group=_ENDPOINT),
    ] = None
    event: Annotated[
        str | None, Option(help="hazard-ratio: column of the event indicator.", group=_ENDPOINT)
    ] = None
    competing: Annotated[
        str | None,
        Option(
            help="hazard-ratio: column (1/0) of an event that ended the follow-up and excludes the "
            "other, such as death: adds cumulative incidence.",
            group=_ENDPOINT,
        ),
    ] = None
    rmst: Annotated[
        float | None,
        Option(
            help="hazard-ratio: also the difference in mean time free of the event up to this "
            "time, in the unit of --time.",
            group=_ENDPOINT,
            minimum=0,
        ),
    ] = None
    adjust: Annotated[
        tuple[str, ...], Option(help="Covariates of each trial's model: age,sex,…")
    ] = ()
    cluster: Annotated[
        str | None,
        Option(
            help="Unit of randomisation in cluster trials (ward, hospital); empty for individually "
            "randomised trials.",
            group=_ENDPOINT,
        ),
    ] = None
    estimand: Annotated[
        Literal["while-alive", "worst-rank", "hypothetical"],
        Option(help="Deaths before the scan.", group=_ENDPOINT),
    ] = "while-alive"
    worse: Annotated[
        Literal["lower", "higher"] | None,
        Option(
            help="worst-rank: which outcomes are worse (known for LV and RV measures).",
            group=_ENDPOINT,
        ),
    ] = None
    by: Annotated[
        tuple[str, ...],
        Option(help="Effect modifiers: sex,ethnicity,age,… (interactions, then effects by level)."),
    ] = ()
    spline: Annotated[
        Literal[0, 3, 4, 5],
        Option(
            help="Knots of a restricted cubic spline for continuous modifiers; 0: linear.",
            group=_MODIFIERS,
        ),
    ] = 0
    meta_regression: Annotated[
        tuple[str, ...],
        Option(
            help="Trial-level covariates for meta-regression: age,sex,year,… (mean, proportion or "
            "category per trial; ecological).",
            group=_MODIFIERS,
        ),
    ] = ()
    compare_reported: CompareReported = False
    age_bands: Annotated[
        tuple[float, ...],
        Option(help="Age bands for --by age; the last is open.", group=_MODIFIERS),
    ] = (18.0, 30.0, 40.0, 50.0, 60.0, 70.0)
    prespecified: tuple[str, ...] = ()
    model: Annotated[
        Literal["two-stage", "one-stage", "both"],
        Option(help="Meta-analysis model; one-stage needs participants' rows."),
    ] = "both"
    residual: Annotated[
        Literal["by-trial", "common", "by-trial-and-arm"],
        Option(help="One-stage: residual variance.", group=_MODEL),
    ] = "by-trial"
    random_effects: Annotated[
        Literal["effect", "intercept", "correlated"],
        Option(
            help="One-stage: random effect with stratified trial intercepts (effect), with a "
            "random intercept, or both correlated.",
            group=_MODEL,
        ),
    ] = "effect"
    ci_one_stage: Annotated[
        Literal["kenward-roger", "satterthwaite", "wald"],
        Option(help="One-stage headline interval.", group=_INTERVALS),
    ] = "kenward-roger"
    tau2: Annotated[
        Literal["reml", "ml", "dl", "pm", "eb", "he", "hs", "sj", "fe"],
        Option(help="Estimator of τ²; fe is the common-effect model.", group=_MODEL),
    ] = "reml"
    ci: Annotated[
        Literal["hksj", "wald"] | None,
        Option(
            help="Two-stage headline interval (default: hksj; wald with --tau2 fe).",
            group=_INTERVALS,
        ),
    ] = None
    hksj_adhoc: Annotated[
        bool,
        Option(
            flag="--hksj-adhoc/--no-hksj-adhoc",
            help="Headline HKSJ interval with a variance ratio of at least 1.",
            group=_INTERVALS,
        ),
    ] = True
    pi_df: Annotated[
        Literal["k-1", "k-2"],
        Option(help="Degrees of freedom of the prediction interval.", group=_INTERVALS),
    ] = "k-1"
    control: Annotated[str, Option(help="Reference arm.")] = "control"
    missing_baseline: Annotated[
        Literal["mean", "complete"],
        Option(help="Mean of the trial over both arms, or complete cases.", group=_MISSING),
    ] = "mean"
    missing_outcome: Annotated[
        Literal["complete", "impute"],
        Option(
            help="Complete cases, or imputation within trial and arm (Rubin's rules).",
            group=_MISSING,
        ),
    ] = "complete"
    imputations: Annotated[
        int, Option(help="Data sets of --missing-outcome impute.", group=_MISSING, minimum=2)
    ] = 20
    seed: Annotated[int, Option(help="Random seed.", group=_MISSING)] = 1
    status: Annotated[
        Literal["all", "ok"],
        Option(help="Scans to use; ok excludes those marked for review.", group=_MISSING),
    ] = "all"
    min_cell: Annotated[
        int, Option(help="Suppress counts below this number.", group=_SENSITIVITY, minimum=0)
    ] = 10
    leave_one_out: Annotated[
        bool,
        Option(
            flag="--leave-one-out/--no-leave-one-out",
            help="The pooled effect without each trial in turn.",
            group=_SENSITIVITY,
        ),
    ] = True
    level: Annotated[
        float, Option(help="Confidence level of all intervals, percent.", group=_INTERVALS)
    ] = 95.0

    RULES: ClassVar[tuple[Conflict | Needs, ...]] = (
        Conflict({"effect": is_in(WIN_ODDS)}, {"estimand": is_not("worst-rank")}),
        Conflict(
            {"estimand": is_in("worst-rank")},
            {"adjust": is_given, "by": is_given, "model": is_in("one-stage")},
            why="it compares ranks in each trial",
        ),
        Conflict(
            {"effect": is_in("risk-ratio", "risk-difference")},
            {"by": is_given, "adjust": is_given},
            why=_FROM_TABLES,
            hint=_LOGISTIC,
        ),
        Needs({"spline": is_given}, ("by",), hint="For example --by age --spline 3."),
        Conflict({"followup_day": is_given}, {"followup_visit": is_given}),
        Needs(
            {"followup_day": is_given},
            ("window",),
            hint="For example --followup-day 365 --window 60.",
        ),
        Needs(
            {"window": lambda days: days is not None},
            ("followup_day",),
            hint="For example --followup-day 365 --window 60.",
        ),
        Conflict(
            {"effect": is_in(*EVENTS)},
            {"estimand": is_not("while-alive")},
            hint="Leave --estimand out: events are known for all participants, scanned or not.",
        ),
        Conflict(
            {"effect": is_in(*EVENTS)},
            {"random_effects": is_not("effect"), "residual": is_not("by-trial")},
            hint="One-stage models of events have an intercept or a baseline of each trial.",
        ),
        Conflict(
            {"effect": is_not("hazard-ratio")},
            {"time": is_given, "event": is_given, "competing": is_given, "rmst": is_given},
        ),
        Needs(
            {"effect": is_in("hazard-ratio"), "time": is_given},
            ("event",),
            hint="Name the column of the event indicator: --event mace.",
        ),
        Needs(
            {"effect": is_in("hazard-ratio"), "event": is_given},
            ("time",),
            hint="Name the column of days to event or censoring: --time mace_day.",
        ),
        Conflict(
            {"missing_outcome": is_in("impute")},
            {
                "effect": is_not(*DIFFERENCES),
                "estimand": is_in("worst-rank"),
                "model": is_in("one-stage"),
                "by": is_given,
            },
            hint="Provide imputations made elsewhere in a column .imp, or omit one of them.",
        ),
        Conflict(
            {"effect": is_in(STANDARDISED)},
            {"by": is_given, "model": is_in("one-stage"), "estimand": is_in("worst-rank")},
        ),
        Conflict(
            {"cluster": is_given},
            {
                "effect": is_not(*DIFFERENCES),
                "estimand": is_in("worst-rank"),
                "model": is_in("one-stage"),
                "by": is_given,
                "missing_outcome": is_in("impute"),
                "compare_reported": is_given,
            },
            hint="Cluster-randomised trials give differences of a measured outcome, two-stage.",
        ),
    )

    def other_problems(self) -> list[str]:
        """Levels and age bands."""
        problems = []
        if not 50 <= self.level < 100:
            problems.append(f"--level {self.level:g} is not between 50 and 100.")
        bands = self.age_bands
        if len(bands) < 2 or any(b <= a for a, b in pairwise(bands)):
            problems.append(
                "--age-bands must be two or more increasing ages. For example 18,40,60,70."
            )
        return problems

    def renamed(self, name_of: Callable[[str], str]) -> Self:
        """The same options with other names for the columns of the table."""
        lists = ("adjust", "by", "meta_regression", "prespecified")
        names = ("outcome", "baseline_column", "time", "event", "competing", "cluster")
        changed: dict[str, Any] = {n: tuple(map(name_of, getattr(self, n))) for n in lists}
        changed |= {n: name_of(value) for n in names if (value := getattr(self, n))}
        return replace(self, **changed)

    @property
    def adjust_columns(self) -> tuple[str, ...]:
        """The columns of ``--adjust`` by their full names."""
        return tuple(ALIASES.get(name, name) for name in self.adjust)

    @property
    def by_columns(self) -> tuple[str, ...]:
        """The columns of ``--by`` by their full names, each once."""
        return tuple(dict.fromkeys(ALIASES.get(name, name) for name in self.by))

    @property
    def regression_columns(self) -> tuple[str, ...]:
        """The columns of ``--meta-regression`` by their full names, each once."""
        return tuple(dict.fromkeys(ALIASES.get(name, name) for name in self.meta_regression))

    @property
    def prespecified_columns(self) -> tuple[str, ...]:
        """The modifiers that the plan named beforehand."""
        return tuple(ALIASES.get(name, name) for name in self.prespecified)

    @property
    def headline_choice(self) -> str:
        """``hksj`` or ``wald``."""
        return self.ci or ("wald" if self.tau2 == "fe" else "hksj")

    @property
    def headline_ci(self) -> str:
        """The ``ci_method`` whose row is the headline where there are two trials or more."""
        if self.headline_choice == "wald":
            return "wald"
        return "hksj-truncated" if self.hksj_adhoc else "hksj"

    @property
    def event_column(self) -> str:
        """The column of the event: ``--event`` of a hazard ratio, else the outcome."""
        return self.event or self.outcome

    @property
    def needs_baseline(self) -> bool:
        """True where the effect cannot be defined without a baseline."""
        return self.effect in ("mean-difference", "change")

    def document(self) -> dict[str, Any]:
        """Plain values of all options, for ``cardiometa.json``."""
        return {name: getattr(self, name) for name in self.__slots__} | {"ci": self.headline_choice}


# ------------------------------------------------------------------ presentation


@dataclass(frozen=True, slots=True, kw_only=True)
class Presentation(Options):
    """How page and forest plot name and show a result; no number changes but its decimals.

    ``favours`` are the texts below the axis on the side of lower and of higher values.
    """

    label: Annotated[
        str | None, Option(help="Name of the outcome in the report.", group=_PRESENTATION)
    ] = None
    unit: Annotated[
        str | None, Option(help="Unit of an outcome of your own.", group=_PRESENTATION)
    ] = None
    title: Annotated[str | None, Option(help="Title of the report.", group=_PRESENTATION)] = None
    digits: Annotated[
        int | None,
        Option(help="Decimals of effects (default: from the SE).", group=_PRESENTATION, minimum=0),
    ] = None
    forest_order: Annotated[
        Literal["table", "name", "effect", "weight"],
        Option(help="Order of the trials.", group=_PRESENTATION),
    ] = "table"
    forest_labels: Annotated[
        tuple[str, ...],
        Option(help="Names of trials in the plot: TRIAL=NAME,…", group=_PRESENTATION),
    ] = ()
    forest_columns: Annotated[
        tuple[Literal["n", "mean-sd", "events", "weight", "none"], ...],
        Option(help="Columns of the plot (default: all that apply).", group=_PRESENTATION),
    ] = ()
    favours: Annotated[
        tuple[str, ...],
        Option(
            help="The two texts below the axis, left,right: Favours drug,Favours control.",
            group=_PRESENTATION,
        ),
    ] = ()
    forest_width: Annotated[
        float,
        Option(help="Least width of the plot, mm (a journal's column).", group=_PRESENTATION),
    ] = 180.0
    forest_one_stage: Annotated[
        bool,
        Option(
            flag="--forest-one-stage/--no-forest-one-stage",
            help="Also the diamond of the one-stage model.",
            group=_PRESENTATION,
        ),
    ] = True
    forest_colour: Annotated[
        str | None, Option(help="Colour of the squares: #3b6ea5.", group=_PRESENTATION)
    ] = None

    def other_problems(self) -> list[str]:
        """Texts and colours that cannot be drawn."""
        colour, found = self.forest_colour, []
        if len(self.favours) not in (0, 2):
            found.append("--favours needs two texts: Favours drug,Favours control.")
        if colour is not None and not fullmatch("#[0-9a-fA-F]{6}", colour):
            found.append(f"--forest-colour {colour} is not a colour such as #3b6ea5.")
        wrong = [one for one in self.forest_labels if not one.partition("=")[2].strip()]
        if wrong:
            found.append(f"--forest-labels {wrong[0]} is not TRIAL=NAME.")
        if not 85 <= self.forest_width <= 400:
            found.append(f"--forest-width {self.forest_width:g} is not between 85 and 400 mm.")
        if self.digits is not None and self.digits > 6:
            found.append(f"--digits {self.digits} is more than 6.")
        return found

    @property
    def trial_names(self) -> dict[str, str]:
        """The names in the plot, by trial."""
        pairs = (one.partition("=") for one in self.forest_labels)
        return {trial.strip(): name.strip() for trial, _, name in pairs}

    def document(self) -> dict[str, Any]:
        """What was asked for, for ``cardiometa.json``; empty where nothing was."""
        values = {one.field: getattr(self, one.field) for one in options_of(type(self))}
        return {} if self == type(self)() else {"presentation": values}


# ------------------------------------------------------------------ plan


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions(Options):
    """What is assumed of a planned pooled analysis."""

    difference: Annotated[
        float | None, Option(help="Assumed treatment effect, in the outcome's unit.")
    ] = None
    tau: Annotated[
        float | None,
        Option(
            help="SD of the effect between trials (default: the table's column tau, or that of "
            "the output).",
            minimum=0,
        ),
    ] = None
    effect: Annotated[
        Literal["mean-difference", "change", "follow-up"],
        Option(help="Analysis of each trial; of an output its own."),
    ] = "mean-difference"
    interaction: Annotated[
        float | None,
        Option(help="Assumed change of the effect per unit (or between levels) of the modifier."),
    ] = None
    tau_interaction: Annotated[
        float, Option(help="SD of the interaction between trials.", minimum=0)
    ] = 0.0
    error_sd: Annotated[
        float | None,
        Option(
            help="SD of the model's error of one measurement, not in the table's sd: power with "
            "and without it.",
            group="Error of the model",
            minimum=0,
        ),
    ] = None
    level: Annotated[float, Option(help="Confidence level, percent.")] = 95.0
    simulate: Annotated[
        int, Option(help="Pooled analyses to simulate.", group="Simulation", minimum=0)
    ] = 0
    seed: Annotated[int, Option(help="Random seed.", group="Simulation")] = 1

    RULES: ClassVar[tuple[Conflict | Needs, ...]] = (
        Needs({"tau_interaction": is_given}, ("interaction",)),
    )

    def other_problems(self) -> list[str]:
        """The level, and a difference to find."""
        found = []
        if not 50 <= self.level < 100:
            found.append(f"--level {self.level:g} is not between 50 and 100.")
        for flag, value in (("difference", self.difference), ("interaction", self.interaction)):
            if value is not None and (value == 0 or not isfinite(value)):
                found.append(
                    f"--{flag} {value:g}: power is that of finding an effect that is not 0."
                )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanInput(Options):
    """What is read besides the table or output."""

    add: Annotated[
        Path | None,
        Option(
            help="With an output: table of planned trials (default: one more like the median).",
            exists="file",
            metavar="FILE",
        ),
    ] = None
    arm: Annotated[
        str | None, Option(help="With an output of several active arms: the one planned for.")
    ] = None
    by: Annotated[
        str | None, Option(help="With an output: its modifier that --interaction is of.")
    ] = None
    error_from: Annotated[
        Path | None,
        Option(
            help="The model's error from evaluation.json, or a table with MEASURE_sd.",
            group="Error of the model",
            exists="file",
            metavar="FILE",
        ),
    ] = None
    measure: Annotated[
        str | None,
        Option(help="Measure that --error-from is of.", group="Error of the model"),
    ] = None
    accept: Annotated[
        tuple[Literal["modified-input"], ...],
        Option(help="Continue with an output that was changed by hand."),
    ] = ()

    RULES: ClassVar[tuple[Conflict | Needs, ...]] = (
        Needs({"error_from": is_given}, ("measure",), hint="For example --measure lv_ef_percent."),
        Needs({"measure": is_given}, ("error_from",)),
    )
