"""What a run of reference ranges is asked for, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from ..errors import UsageError

Factor = Literal["sex", "ethnicity", "age"]
LimitsRule = Literal[
    "nonparametric",
    "nonparametric-ranks",
    "parametric",
    "prediction",
    "log",
    "boxcox",
    "robust",
]
Method = Literal["strata", "lms", "gaussian", "linear", "quantile", "fractional-polynomial", "meta"]
MetaRule = Literal["frequentist", "empirical"]
TrialEffect = Literal["auto", "random", "fixed", "none", "random-kept"]
Sided = Literal["two", "lower", "upper"]
OutlierRule = Literal["list", "tukey", "none"]
StatusRule = Literal["ok", "all"]

FACTORS: tuple[Factor, ...] = ("sex", "ethnicity", "age")
LIMITS: tuple[LimitsRule, ...] = (
    "nonparametric",
    "nonparametric-ranks",
    "parametric",
    "prediction",
    "log",
    "boxcox",
    "robust",
)
METHODS: tuple[Method, ...] = (
    "strata",
    "lms",
    "gaussian",
    "linear",
    "quantile",
    "fractional-polynomial",
    "meta",
)
META_RULES: tuple[MetaRule, ...] = ("frequentist", "empirical")
TRIAL_EFFECTS: tuple[TrialEffect, ...] = ("auto", "random", "fixed", "none")
AGE_BANDS = (18.0, 30.0, 40.0, 50.0, 60.0, 70.0)

NONPARAMETRIC_MIN_N = 120  # EP28-A3c: 120 people a partition
NOT_A_REFERENCE = "population distribution, not a reference interval"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceOptions:
    """The options of ``reference-ranges`` that decide the result.

    ``measures`` and ``by`` are None where the user left them to us: what is absent from the table
    is then left out with a warning, where naming it is an error. ``limits`` None is the default
    rule (nonparametric, robust below 120 people); a name is that method for every n ≥ ``min_n``.
    ``method`` None gives strata and, where there are ages, LMS curves; ``at_ages`` None is every 5
    years inside the observed ages; ``trial_effect`` is how trials enter a curve.
    ``repeated`` keeps every scan of a person, and intervals resample people.
    ``quick`` is for refits that only count people. ``level`` and ``ci_level`` are percentages;
    ``age_bands`` are the lower ends in years, the last band is open; ``healthy_rule`` is printed
    with the ranges; ``status`` ``ok`` leaves out scans that ask for review.
    """

    measures: tuple[str, ...] | None = None
    by: tuple[Factor, ...] | None = None
    age_bands: tuple[float, ...] = AGE_BANDS
    method: Method | None = None
    limits: LimitsRule | None = None
    meta: tuple[MetaRule, ...] = META_RULES
    at_ages: tuple[float, ...] | None = None
    trial_effect: TrialEffect = "auto"
    level: float = 95.0
    ci_level: float = 90.0
    sided: Sided = "two"
    healthy_only: bool = True
    healthy_rule: str = ""
    use_visit: str | None = None
    repeated: bool = False
    status: StatusRule = "all"
    min_n: int = 40
    min_cell: int = 10
    outliers: OutlierRule = "list"
    bootstrap: int = 1000
    seed: int = 1
    internal: bool = False
    quick: bool = False

    def __post_init__(self) -> None:
        """Refuse values that no analysis can have; raises UsageError."""
        for name, value in (("--level", self.level), ("--ci-level", self.ci_level)):
            if not (math.isfinite(value) and 50 <= value < 100):
                raise UsageError(f"{name} {value:g} is not a percentage from 50 to below 100.")
        bands = self.age_bands
        if not bands or any(not math.isfinite(b) or b < 0 for b in bands):
            raise UsageError(
                "--age-bands needs ages in years.", hint="For example --age-bands 18,30,40,50."
            )
        if any(b <= a for a, b in pairwise(bands)):
            raise UsageError("--age-bands must rise.", hint="For example --age-bands 18,30,40,50.")
        if self.at_ages is not None and (
            not self.at_ages or any(not (math.isfinite(a) and a > 0) for a in self.at_ages)
        ):
            raise UsageError("--at-ages needs ages in years.", hint="For example 30,40,50.")
        if self.method == "quantile" and self.trial_effect == "random":
            raise UsageError(
                "--method quantile has no random trial effect.",
                hint="Trials are kept fixed there: --trial-effect fixed, or another method.",
            )
        if self.method == "meta" and self.limits not in (None, "parametric", "log"):
            raise UsageError(
                f"--method meta has no --limits {self.limits}.",
                hint="It takes people for normal (parametric), or for log-normal (log).",
            )
        if not self.meta or any(rule not in META_RULES for rule in self.meta):
            raise UsageError(
                f"--meta {','.join(self.meta)} is not known.",
                hint=f"Use {' and '.join(META_RULES)}, or one of them.",
            )
        if self.repeated and self.use_visit is not None:
            raise UsageError("--repeated keeps every visit, --use-visit one: say one of them.")
        if self.repeated and self.method not in (None, "strata"):
            raise UsageError(
                f"--method {self.method} takes one scan a person.",
                hint="--repeated resamples people, which --method strata does.",
            )
        if self.min_cell < 1 or self.min_n < 10:
            raise UsageError("--min-cell must be at least 1 and --min-n at least 10.")
        if self.bootstrap < 200:
            raise UsageError("--bootstrap needs at least 200 samples for the ends of an interval.")
        if self.seed < 0:
            raise UsageError("--seed must be 0 or more.")

    @property
    def smallest_n(self) -> int:
        """People a cell needs to get a limit."""
        return max(self.min_n, self.min_cell)

    def below(self, n: int) -> int | None:
        """The least number that so few participants miss: of a count, else of a limit."""
        bound = self.min_cell if n < self.min_cell else self.smallest_n
        return bound if n < bound else None

    @property
    def centiles(self) -> tuple[float, ...]:
        """The centiles to give: 2.5, 50, 97.5 at level 95; ``upper`` at 95 gives 50 and 95."""
        outside = 100 - self.level
        if self.sided == "lower":
            return (outside, 50.0)
        if self.sided == "upper":
            return (50.0, self.level)
        return (outside / 2, 50.0, 100 - outside / 2)
