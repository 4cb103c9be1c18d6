"""What a user asks of pooling, checked in one place."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..errors import UsageError
from ..statistics.meta import METHODS as TAU2_METHODS
from ..statistics.mixed.trial_contrasts import RESIDUALS

DIFFERENCES = ("mean-difference", "change", "follow-up")
STANDARDISED = "standardised-mean-difference"
WIN_ODDS = "win-odds"  # the effect of the worst-rank estimand
RATIOS = ("odds-ratio", "risk-ratio", "hazard-ratio", WIN_ODDS)
ALIASES = {"age": "age_years"}
# Of participants' rows these need an event, yes or no; no scan, and no baseline.
EVENTS = ("odds-ratio", "risk-ratio", "risk-difference", "hazard-ratio")
ESTIMANDS = ("while-alive", "worst-rank", "hypothetical")
WORSE_CHOICES = ("lower", "higher")
MODELS = ("two-stage", "one-stage", "both")
CI_CHOICES = ("hksj", "wald")
CI_ONE_STAGE_CHOICES = ("kenward-roger", "satterthwaite", "wald")
RANDOM_CHOICES = ("effect", "intercept", "correlated")
RANDOM_CHOICES = ("effect", "intercept", "correlated")
PI_DF_CHOICES = ("k-1", "k-2")
BASELINE_CHOICES = ("mean", "complete")
OUTCOME_CHOICES = ("complete", "impute")
SPLINE_CHOICES = (0, 3, 4, 5)
STATUS_CHOICES = ("all", "ok")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolingOptions:
    """The options of `pool-trials` that decide its result (contract, section 6).

    ``outcome`` is empty for a table of summaries. ``ci`` None is ``hksj``, or ``wald`` where
    ``tau2`` is ``fe``: a common-effect model has no between-trial spread to learn an SE from.
    """

    outcome: str = ""
    effect: str = "mean-difference"
    baseline_visit: str = "baseline"
    followup_visit: str | None = None
    followup_day: float | None = None
    window: float | None = None
    baseline_column: str | None = None
    time: str | None = None
    event: str | None = None
    adjust: tuple[str, ...] = ()
    cluster: str | None = None
    estimand: str = "while-alive"
    worse: str | None = None
    by: tuple[str, ...] = ()
    spline: int = 0
    meta_regression: tuple[str, ...] = ()
    compare_reported: bool = False
    age_bands: tuple[float, ...] = (18.0, 30.0, 40.0, 50.0, 60.0, 70.0)
    prespecified: tuple[str, ...] = ()
    model: str = "both"
    residual: str = "by-trial"
    random_effects: str = "effect"
    ci_one_stage: str = "kenward-roger"
    tau2: str = "reml"
    ci: str | None = None
    hksj_adhoc: bool = True
    pi_df: str = "k-1"
    control: str = "control"
    missing_baseline: str = "mean"
    missing_outcome: str = "complete"
    imputations: int = 20
    seed: int = 1
    status: str = "all"
    min_cell: int = 10
    leave_one_out: bool = True
    level: float = 95.0

    def __post_init__(self) -> None:
        """Refuse values that are not known; UsageError lists the allowed ones."""
        for name, value, allowed in (
            ("--effect", self.effect, self._effects),
            ("--estimand", self.estimand, ESTIMANDS),
            ("--worse", self.worse or "lower", WORSE_CHOICES),
            ("--model", self.model, MODELS),
            ("--residual", self.residual, RESIDUALS),
            ("--random-effects", self.random_effects, RANDOM_CHOICES),
            ("--ci-one-stage", self.ci_one_stage, CI_ONE_STAGE_CHOICES),
            ("--tau2", self.tau2, TAU2_METHODS),
            ("--ci", self.headline_choice, CI_CHOICES),
            ("--pi-df", self.pi_df, PI_DF_CHOICES),
            ("--missing-outcome", self.missing_outcome, OUTCOME_CHOICES),
            ("--missing-baseline", self.missing_baseline, BASELINE_CHOICES),
            ("--status", self.status, STATUS_CHOICES),
        ):
            if value not in allowed:
                raise UsageError(f"{name} {value} is not known.", hint=f"One of {_list(allowed)}.")
        if not 50 <= self.level < 100:
            raise UsageError(f"--level {self.level:g} is not between 50 and 100.")
        if self.min_cell < 0:
            raise UsageError(f"--min-cell {self.min_cell} is negative.")
        if self.by and self.effect in ("risk-ratio", "risk-difference"):
            raise UsageError(
                f"--by does not go with --effect {self.effect}: it comes from 2 x 2 tables.",
                hint="Use --effect odds-ratio: logistic models with interactions.",
            )
        if self.spline not in SPLINE_CHOICES:
            raise UsageError(f"--spline {self.spline} is not a number of knots.", hint="3, 4 or 5.")
        if self.spline and not self.by:
            raise UsageError("--spline needs --by.", hint="For example --by age --spline 3.")
        bands = self.age_bands
        if len(bands) < 2 or any(b <= a for a, b in pairwise(bands)):
            raise UsageError(
                "--age-bands must be two or more rising ages.", hint="For example 18,40,60,70."
            )
        self._check_followup()
        self._check_event()
        self._check_imputation()
        self._check_standardised()
        self._check_cluster()

    @property
    def _effects(self) -> tuple[str, ...]:
        ranked = (WIN_ODDS,) if self.estimand == "worst-rank" else ()
        return (*DIFFERENCES, STANDARDISED, *EVENTS, *ranked)

    def _check_cluster(self) -> None:
        """A trial of clusters has its own mixed model of a measured outcome, and no more."""
        if self.cluster is None:
            return
        refused = {
            f"--effect {self.effect}": self.effect not in DIFFERENCES,
            f"--estimand {self.estimand}": self.estimand == "worst-rank",
            "--model one-stage": self.model == "one-stage",
            "--by": bool(self.by),
            "--missing-outcome impute": self.missing_outcome == "impute",
            "--compare-reported": self.compare_reported,
        }
        asked = [name for name, given in refused.items() if given]
        if asked:
            raise UsageError(
                f"--cluster does not go with {asked[0]} in this version.",
                hint="Cluster-randomised trials give differences of a measured outcome, two-stage.",
            )

    def _check_standardised(self) -> None:
        if self.effect != STANDARDISED:
            return
        refused = {
            "--by": bool(self.by),
            "--model one-stage": self.model == "one-stage",
            f"--estimand {self.estimand}": self.estimand == "worst-rank",
        }
        asked = [name for name, given in refused.items() if given]
        if asked:
            raise UsageError(f"{asked[0]} does not go with --effect {STANDARDISED}.")

    def _check_imputation(self) -> None:
        if self.imputations < 2:
            raise UsageError(f"--imputations {self.imputations} is fewer than two.")
        if self.missing_outcome == "complete":
            return
        refused = {
            f"--effect {self.effect}": self.effect not in DIFFERENCES,
            "--estimand worst-rank": self.estimand == "worst-rank",
            "--model one-stage": self.model == "one-stage",
            "--by": bool(self.by),
        }
        asked = [name for name, given in refused.items() if given]
        if asked:
            raise UsageError(
                f"--missing-outcome impute does not go with {asked[0]}.",
                hint="Give imputations made elsewhere in a column .imp, or leave one of them out.",
            )

    def _check_event(self) -> None:
        if self.effect in EVENTS and self.estimand != "while-alive":
            raise UsageError(
                f"--estimand {self.estimand} is of a measured outcome, not of an event.",
                hint="Leave it out: an event is known of everyone, scanned or not.",
            )
        if self.effect != "hazard-ratio" and (self.time or self.event):
            raise UsageError("--time and --event belong to --effect hazard-ratio.")
        if bool(self.time) != bool(self.event):
            raise UsageError(
                "--effect hazard-ratio needs --time and --event together.",
                hint="Name the columns of the days to the event or to the end of follow-up, and "
                "of whether it happened: --time mace_day --event mace.",
            )
        if self.adjust and self.effect in ("risk-ratio", "risk-difference"):
            raise UsageError(
                f"--adjust does not go with --effect {self.effect}: it comes from 2 x 2 tables.",
                hint="Use --effect odds-ratio for an adjusted (logistic) analysis.",
            )

    def _check_followup(self) -> None:
        if (self.followup_day is None) != (self.window is None):
            raise UsageError(
                "--followup-day and --window belong together.",
                hint="For example --followup-day 365 --window 60.",
            )
        if self.followup_day is not None and self.followup_visit is not None:
            raise UsageError("Give --followup-visit or --followup-day, not both.")
        if self.window is not None and self.window < 0:
            raise UsageError(f"--window {self.window:g} is negative.")

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


def _list(values: tuple[str, ...]) -> str:
    return ", ".join(values)
